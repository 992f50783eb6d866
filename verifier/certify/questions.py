"""Questions of a configuration as files: asked, answered, and kept with their evidence.

What is asked of the search is what the file in the evidence folder says, so that
``farkas check FOLDER`` checks the same theorem again.  Questions left open are not kept there.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from proofs.check import read_and_check
from proofs.format import replacing, write_proof, write_witness
from proofs.proof import Proof
from proofs.witness import Witness
from specs.builders import ball
from specs.onnx_reader import read_model
from specs.query import ModelFile, Query
from specs.question import load_question
from verifier.certify.section import Place
from verifier.options import Options
from verifier.toml import toml
from verifier.verify import verify

Found = tuple[str, str, Proof | Witness | None]
"""An answer, the reason in words, and the evidence."""

Box = tuple[tuple[Fraction, ...], tuple[Fraction, ...]]
"""Lower and upper bounds of the inputs."""


@dataclass(frozen=True, eq=False)
class Question:
    """What a question file says, but for the model.

    Attributes:
        box: of the inputs.
        statement: the table ``[statement]``.
        faults: the table ``[faults]``; ``None``: there is none.
        semantics: of the network.
    """

    box: Box
    statement: Mapping[str, Any]
    faults: Mapping[str, Any] | None = None
    semantics: str = "real"

    def text(self, model: str) -> str:
        """The file.

        Raises:
            QuestionError: a number is no decimal.
        """
        return "\n".join(self._lines(model)) + "\n"

    def _lines(self, model: str) -> Iterator[str]:
        if self.semantics != "real":
            yield f"semantics = {toml(self.semantics)}"
        yield from ("[models]", f"net = {toml(model)}")
        if self.faults is not None:
            yield "[faults]"
            yield from (f"{key} = {toml(value)}" for key, value in self.faults.items())
        lower, upper = self.box
        yield from ("[region]", f"lower = {toml(list(lower))}", f"upper = {toml(list(upper))}")
        yield "[statement]"
        yield from (f"{key} = {toml(value)}" for key, value in self.statement.items())


@dataclass(frozen=True, eq=False)
class Answered:
    """An answer.

    Attributes:
        answer: ``"unsat"``, ``"sat"``, ``"unknown"`` or ``"timeout"``.
        reason: in words.
        seconds: it took.
        evidence: files below the evidence folder.
        witness: of ``sat``.
    """

    answer: str
    reason: str
    seconds: float
    evidence: tuple[str, ...] = ()
    witness: Witness | None = None

    @property
    def values(self) -> dict[str, Any]:
        """As plain data."""
        point = None if self.witness is None else [str(x) for x in self.witness.point]
        return {
            "answer": self.answer,
            "reason": self.reason,
            "seconds": self.seconds,
            "evidence": list(self.evidence),
            **({} if point is None else {"witness": point}),
        }


def ask(place: Place, model: ModelFile, question: Question, timeout: float) -> Answered:
    """Answer a question; of an answer, the question and the evidence are kept.

    Evidence that another task found for the same question stands, if the kernel accepts it.

    Args:
        place: where.
        model: what is asked about.
        question: the rest of it.
        timeout: in seconds.

    Raises:
        InputError: the question makes no sense.
    """
    start = time.perf_counter()
    file = model_file(place, model)
    text = question.text(os.path.relpath(file, place.evidence))
    name = hashlib.sha256((model.digest + text).encode()).hexdigest()[:16]
    path = place.evidence / f"{name}.toml"
    with replacing(path) as stream:
        stream.write(text.encode())
    kept: list[str] = []
    try:
        query = load_question(path)
        answer, reason, evidence = _known(query, path, timeout) or _searched(query, path, timeout)
        if evidence is not None:
            kept = [path.name, _evidence_of(path)[answer].name]
    finally:
        if not kept and not any(file.exists() for file in _evidence_of(path).values()):
            path.unlink(missing_ok=True)
    witness = evidence if isinstance(evidence, Witness) else None
    seconds = time.perf_counter() - start
    models = [os.path.relpath(file, place.evidence)] if kept else []
    return Answered(answer, reason, seconds, tuple(kept + models), witness)


def _evidence_of(path: Path) -> dict[str, Path]:
    """By answer, where the evidence for a question file lies."""
    return {"unsat": path.with_suffix(".farkas"), "sat": path.with_suffix(".witness.json")}


def _known(query: Query, path: Path, timeout: float) -> Found | None:
    """What evidence that lies there already says, checked; what the kernel refuses is removed."""
    for answer, file in _evidence_of(path).items():
        if not file.is_file():
            continue
        checked, evidence = read_and_check(query, file, deadline=time.monotonic() + timeout)
        if checked.verdict == f"valid {answer}":
            return answer, checked.reason, evidence
        if checked.verdict != "incomplete":
            file.unlink()
    return None


def _searched(query: Query, path: Path, timeout: float) -> Found:
    """What the search finds; its evidence is written."""
    verdict = verify(query, Options(timeout))
    evidence, file = verdict.evidence, _evidence_of(path).get(verdict.answer)
    if isinstance(evidence, Proof) and file is not None:
        write_proof(file, evidence, pack=True)
    elif isinstance(evidence, Witness) and file is not None:
        write_witness(file, evidence)
    return verdict.answer, verdict.reason, evidence


def box_around(
    point: Sequence[float], radius: Fraction, clip: tuple[Fraction, Fraction] | None
) -> Box:
    """The box around a sample.

    Raises:
        QuestionError: the clip leaves nothing of it.
    """
    low, high = (None, None) if clip is None else clip
    return ball(len(point), [Fraction(float(x)) for x in point], radius, low, high)


def model_file(place: Place, model: ModelFile) -> Path:
    """A copy of the model below the evidence folder; its own path where it has external data."""
    if hashlib.sha256(model.content).hexdigest() != model.digest and model.path is not None:
        return model.path
    folder = place.evidence / "models"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{hashlib.sha256(model.content).hexdigest()[:16]}.onnx"
    if not file.is_file() or file.read_bytes() != model.content:
        with replacing(file) as stream:
            stream.write(model.content)
    return file


def in_memory(content: bytes, place: Place) -> ModelFile:
    """A model that was made here, as a file below the evidence folder.

    Raises:
        ModelError: it cannot be read.
    """
    made = ModelFile(None, content, hashlib.sha256(content).hexdigest())
    return read_model(model_file(place, made))[1]
