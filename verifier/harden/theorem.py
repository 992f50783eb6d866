"""The theorem behind certified restrictions: a question, and its proof.

The question's model is the original one with the restricted tensors as its outputs; unsafe is
an output beyond its bound.  Once that is refuted over a domain, no restriction ever changes a
value there: in the order of the graph, each of them receives what the original network computes,
and gives it back.  Then both networks have the same outputs for every input of the domain.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from proofs.check import check_proof
from proofs.proof import Proof, ProofBuilder
from specs.builders import out_of_range
from specs.network import Network
from specs.onnx_reader import read_model
from specs.perturbation import REAL, rounding_of
from specs.property import Case, Conjunction, Property
from specs.query import ModelFile, Query
from specs.question import load_question
from specs.vnnlib_writer import vnnlib
from verifier.harden.surgery import SMOOTH, FloatArray, Restriction, with_outputs
from verifier.options import Options
from verifier.progress import Progress
from verifier.verify import verify

TOGETHER = 64
"""Bounds that one search is asked about, or one of its cases: it keeps a row for each pair."""

Box = tuple[tuple[Fraction, ...], tuple[Fraction, ...]]


@dataclass(frozen=True, eq=False)
class Probe:
    """The original model with the tensors to be restricted as outputs.

    Attributes:
        content: of the model file.
        network, file: as read under some semantics.
        tensors: the outputs, in order.
        shapes: of each.
    """

    content: bytes
    network: Network
    file: ModelFile
    tensors: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def edges(self) -> list[int]:
        """Where the entries of each tensor begin among the outputs; the end stands last."""
        sizes = [math.prod(shape) for shape in self.shapes]
        return [0, *np.cumsum(sizes, dtype=int).tolist()]

    def split(self, values: FloatArray) -> list[FloatArray]:
        """Numbers for all outputs, by tensor; the last axis is split."""
        return np.split(values, self.edges[1:-1], axis=-1)


def probe(content: bytes, tensors: Sequence[str], semantics: str = REAL) -> Probe:
    """Read a model with tensors as outputs.

    Raises:
        ModelError: a tensor is not there, or the model cannot be read.
    """
    made = with_outputs(content, tensors)
    with TemporaryDirectory() as folder:
        path = Path(folder, "bounds.onnx")
        path.write_bytes(made)
        network, file = read_model(path, rounding_of(semantics))
    shapes = tuple(network.nodes[number].shape for number in network.outputs)
    return Probe(made, network, file, tuple(tensors), shapes)


def beyond(probe: Probe, restrictions: Sequence[Restriction]) -> list[Conjunction]:
    """What is unsafe: an entry strictly beyond a bound; in the order of outputs.

    Args:
        probe: its tensors are those of the restrictions, in their order.
        restrictions: none of them smooth, which have no bound that leaves values as they are.
    """
    found: list[Conjunction] = []
    count = probe.network.output_size
    for number, each in enumerate(restrictions):
        if each.action == SMOOTH:
            raise ValueError(f"the smooth restriction of '{each.tensor}' has no exact bounds")
        shape = probe.shapes[number]
        sides = {n: np.broadcast_to(s, shape).reshape(-1).tolist() for n, s in each.sides.items()}
        for entry in range(math.prod(shape)):
            minimum = sides["lower"][entry] if "lower" in sides else None
            output = probe.edges[number] + entry
            found += out_of_range(count, output, minimum, sides["upper"][entry])
    return found


def stated(probe: Probe, unsafe: Sequence[Conjunction], boxes: Sequence[Box]) -> Property:
    """None of these conjunctions holds anywhere in these boxes; for the search, not for files.

    The conjunctions are shared out to several cases of each box, which no VNN-LIB file says.
    """
    cases = tuple(
        Case(low, high, tuple(unsafe[start : start + TOGETHER]))
        for low, high in boxes
        for start in range(0, len(unsafe), TOGETHER)
    )
    return Property(probe.network.input_size, probe.network.output_size, cases)


def query_of(probe: Probe, property: Property, title: str = "range restrictions") -> Query:
    """The question in memory."""
    format = rounding_of(probe.network.semantics)
    perturbations = () if format is None else (format,)
    return Query(probe.network, property, (probe.file,), property.digest, perturbations, title)


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a theorem: the text of its property, and a proof that the kernel finds valid."""

    text: str
    proof: Proof


@dataclass(frozen=True, eq=False)
class Theorem:
    """Questions about one model, and their proofs; together they say what is to be said.

    Attributes:
        model: the file that the questions are about.
        semantics: that they are asked under.
        parts: one question each.
    """

    model: bytes
    semantics: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Answer:
    """What became of a question: ``unsat``, ``sat``, ``unknown`` or ``timeout``, and evidence."""

    answer: str
    proof: Proof | None = None
    reason: str = ""


def answer(query: Query, seconds: float, progress: Progress | None = None) -> Answer:
    """The kernel alone where it suffices, else the search.

    Args:
        query: the question.
        seconds: how long; 0 or less: the kernel alone.
        progress: where to report.
    """
    checked = check_proof(query, None)
    if checked.valid:
        return Answer("unsat", ProofBuilder(query).finish())
    if seconds <= 0:
        return Answer("unknown", None, checked.reason)
    verdict = verify(query, Options(timeout=seconds, proof_effort="none"), progress=progress)
    proof = verdict.evidence if isinstance(verdict.evidence, Proof) else None
    return Answer(verdict.answer, proof, verdict.reason)


def proved(
    probe: Probe,
    unsafe: Sequence[Conjunction],
    boxes: Sequence[Box],
    remarks: Sequence[str],
    seconds: float,
    easy: Sequence[bool] | None = None,
) -> Theorem | Answer:
    """That none of the conjunctions holds in any of the boxes, as files with proofs.

    One question, where the kernel alone proves it; otherwise what is easy is one question, and
    the rest are several, so that no search has too many rows at once.

    Args:
        probe: the model.
        unsafe: conjunctions over its outputs.
        boxes: of its inputs.
        remarks: for the heads of the files.
        seconds: for all searches together.
        easy: by conjunction, whether the kernel alone is expected to refute it.

    Returns:
        The theorem; or, of the first question that was not proved, why not.
    """
    deadline = time.monotonic() + seconds
    first = _part(probe, unsafe, boxes, remarks, 0.0)
    if isinstance(first, Part):
        return Theorem(probe.content, probe.network.semantics, (first,))
    easy = [False] * len(unsafe) if easy is None else easy
    hard = [c for c, known in zip(unsafe, easy, strict=True) if not known]
    groups = [[c for c, known in zip(unsafe, easy, strict=True) if known]]
    groups += [hard[i : i + TOGETHER] for i in range(0, len(hard), TOGETHER)]
    parts = []
    for group in groups:
        if group:
            part = _part(probe, group, boxes, remarks, max(0.0, deadline - time.monotonic()))
            if not isinstance(part, Part):
                return part
            parts.append(part)
    return Theorem(probe.content, probe.network.semantics, tuple(parts))


def _part(
    probe: Probe,
    unsafe: Sequence[Conjunction],
    boxes: Sequence[Box],
    remarks: Sequence[str],
    seconds: float,
) -> Part | Answer:
    size = probe.network.input_size, probe.network.output_size
    cases = tuple(Case(low, high, tuple(unsafe)) for low, high in boxes)
    text = vnnlib(Property(*size, cases), tuple(remarks))
    with TemporaryDirectory() as folder:
        files = Path(folder, "bounds.onnx"), Path(folder, "bounds.vnnlib")
        files[0].write_bytes(probe.content)
        files[1].write_text(text)
        query = load_question(*files, semantics=probe.network.semantics)
        found = answer(query, seconds)
        if found.proof is None:
            return found
        checked = check_proof(query, found.proof)
        if not checked.valid:
            return Answer("unknown", None, checked.reason)
    return Part(text, found.proof)
