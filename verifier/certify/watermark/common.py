"""What the answers of ``[watermark]`` share: the marked model, and claims as files."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from proofs.format import read_evidence, replacing, write_mark
from proofs.watermarks.check import check_mark
from proofs.watermarks.evidence import MarkEvidence
from specs.errors import EvidenceError
from specs.network import Network
from specs.onnx_reader import read_model
from specs.query import ModelFile
from specs.watermarks.mark import Mark
from specs.watermarks.question import MarkQuestion, load_mark_question
from specs.watermarks.samples import Labelled, read_samples
from verifier.certify.delivery import WORDS
from verifier.certify.faults.common import Faults
from verifier.certify.faults.stand import labels_at
from verifier.certify.question_files import keep_content, model_file, question_path, write_text
from verifier.certify.section import Place, Setting
from verifier.certify.table import Table
from verifier.toml import document

FILES = ("file", "points", "triggers", "samples", "others")
"""Keys of marks and claims that name files."""

Facts = Mapping[str, str]
Claim = Mapping[str, Any]
"""The table ``[claim]``, as it is written."""


@dataclass(frozen=True, eq=False)
class Marked:
    """A model, and the mark that it is said to carry.

    Attributes:
        setting: of the configuration.
        table: ``[watermark]``.
        name, path: of the model.
        mark: ``None``: the table states none.
        stated: what the table says of it, as it stands.
    """

    setting: Setting
    table: Table
    name: str
    path: Path
    mark: Mark | None
    stated: Mapping[str, Any]

    @cached_property
    def model(self) -> ModelFile:
        """The file."""
        return read_model(self.path)[1]

    def other(self, name: str) -> ModelFile:
        """Another model of the configuration."""
        return read_model(self.setting.models[name])[1]

    def network(self, name: str) -> Network:
        """What another model of the configuration computes."""
        return read_model(self.setting.models[name])[0]

    @property
    def text(self) -> str:
        """What results depend on."""
        mark = self.mark
        stated = "" if mark is None else f"{mark.text} {mark.commitment.hash} {mark.null}"
        return f"{self.model.digest} {stated} {sorted(self.stated)} {self.setting.timeout}"

    @property
    def known(self) -> Mark:
        """The mark.

        Raises:
            QuestionError: there is none.
        """
        return self.need(self.table)

    def need(self, table: Table) -> Mark:
        """The mark.

        Raises:
            QuestionError: there is none.
        """
        if self.mark is None:
            raise self.table.error("", f"[{table.name}] needs a mark: [watermark] scheme = ...")
        return self.mark


@dataclass(frozen=True, eq=False)
class Asked:
    """What became of a claim.

    Attributes:
        answer: ``"unsat"``: it holds; ``"sat"``: it does not; ``"unknown"``.
        reason: in words.
        facts: that the check computed.
        assumed: by the claim, in sentences.
        theorem: what it says, in sentences.
        seconds: it took.
        evidence: files below the evidence folder.
    """

    answer: str
    reason: str
    facts: Facts
    assumed: tuple[str, ...]
    theorem: tuple[str, ...]
    seconds: float
    evidence: tuple[str, ...]

    @property
    def values(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "answer": self.answer,
            "reason": self.reason,
            "facts": dict(self.facts),
            "assumed": list(self.assumed),
            "theorem": list(self.theorem),
            "seconds": self.seconds,
            "evidence": list(self.evidence),
        }


Search = Callable[[MarkQuestion], Sequence[MarkEvidence]]
"""What may decide a claim; none of it is believed."""


def at_once(question: MarkQuestion) -> Sequence[MarkEvidence]:
    """Evidence for claims that the kernel decides without hints, both ways."""
    return [MarkEvidence(question.digest, claims) for claims in ("unsat", "sat")]


def ask_claim(
    place: Place,
    models: Mapping[str, ModelFile],
    mark: Marked | None,
    claim: Claim,
    search: Search = at_once,
) -> Asked:
    """Decide a claim; of an answer, the question and the evidence are kept.

    Evidence that lies there already stands, if the kernel accepts it.

    Args:
        place: where.
        models: by the names that the claim knows.
        mark: whose mark the claim speaks of; ``None``: of none.
        claim: the table.
        search: finds evidence.

    Raises:
        InputError: the claim makes no sense.
    """
    start = time.perf_counter()
    question = stated(place, models, mark, claim)
    text, kept = _text(place, models, mark, claim, place.evidence)
    digests = " ".join(file.digest for file in models.values())
    path = question_path(place, f"{digests}\n", text)
    proof = path.with_suffix(".farkas")
    answer, reason, facts = "unknown", "no evidence was found", {}
    for made in _candidates(question, proof, search):
        checked, computed = check_mark(question, made)
        reason = checked.reason
        if checked.valid:
            write_text(path, text)
            write_mark(proof, made)
            if not path.is_file():  # another process has tidied up, for want of evidence
                write_text(path, text)
            answer, facts = made.claims, dict(computed)
            break
    asked = question.claim
    return Asked(
        answer,
        reason,
        facts,
        tuple(asked.assumed()),
        tuple(asked.theorem()),
        time.perf_counter() - start,
        () if answer == "unknown" else (path.name, proof.name, *kept),
    )


def stated(
    place: Place, models: Mapping[str, ModelFile], mark: Marked | None, claim: Claim
) -> MarkQuestion:
    """A claim as it is read from a file that nobody else writes: what a search is about.

    Raises:
        InputError: the claim makes no sense.
    """
    with TemporaryDirectory(dir=place.scratch) as own:
        path = Path(own) / "claim.toml"
        write_text(path, _text(place, models, mark, claim, Path(own))[0])
        return load_mark_question(path)


def _text(
    place: Place,
    models: Mapping[str, ModelFile],
    mark: Marked | None,
    claim: Claim,
    beside: Path,
) -> tuple[str, list[str]]:
    """A claim as a file of the folder ``beside``, and the files that it names.

    These are copied below the evidence folder.
    """
    files = {name: model_file(place, file) for name, file in models.items()}
    kept = [os.path.relpath(file, beside) for file in files.values()]
    tables: dict[str, Mapping[str, Any]] = {"models": dict(zip(files, kept, strict=True))}
    if mark is not None and mark.mark is not None:
        folder = mark.table.document.folder
        tables["watermark"] = dict(_keys(place, folder, mark.stated, beside, kept))
    tables["claim"] = dict(_keys(place, Path(), claim, beside, kept))
    return document(tables), kept


def _candidates(question: MarkQuestion, file: Path, search: Search) -> Iterator[MarkEvidence]:
    """What lies there, then what is found."""
    if file.is_file():
        try:
            found = read_evidence(file)
            if isinstance(found, MarkEvidence) and found.question == question.digest:
                yield found
        except EvidenceError:
            pass
        file.unlink(missing_ok=True)
    yield from search(question)


def _keys(
    place: Place, folder: Path, table: Mapping[str, Any], beside: Path, kept: list[str]
) -> Iterator[tuple[str, Any]]:
    """A table; files that it names are copied below the evidence folder."""
    for key, value in table.items():
        if key in FILES:
            content = (folder / str(value)).read_bytes()
            name = hashlib.sha256(content).hexdigest()[:16] + Path(str(value)).suffix
            copy = place.evidence / "models" / name
            keep_content(copy, content)
            value = os.path.relpath(copy, beside)
            kept.append(value)
        yield key, value


def plain(marked: Marked) -> Faults:
    """The model without faults, as questions about what it computes take it."""
    return Faults(marked.setting, marked.table, marked.path, None, {})


def triggers_of(marked: Marked, table: Table) -> Labelled:
    """The triggers that an answer speaks of: those of ``samples``, or of the mark.

    Of a mark whose answers are clusters of classes, a trigger's label is what the model answers.

    Raises:
        QuestionError: there are none, or they do not fit the model.
    """
    network = plain(marked).plain.network
    name = table.text("samples")
    if name is not None:
        found: Labelled = table.placed(
            "samples", lambda: read_samples(table.document.folder / name)
        )
    else:
        points, labels = (getattr(marked.mark, key, None) for key in ("points", "labels"))
        if points is None:
            raise table.error("", f"[{table.name}] needs triggers: 'samples', or a mark of some")
        if labels is None:
            known = labels_at(network, points)
            labels = np.array([-1 if label is None else label for label in known])
            points, labels = points[labels >= 0], labels[labels >= 0]
        found = Labelled(points, labels)
    if found.points.shape[1] != network.input_size:
        raise table.error(
            "samples",
            f"triggers of {found.points.shape[1]} numbers for {network.input_size} inputs",
        )
    if not len(found.points) or found.labels.max() >= network.output_size:
        raise table.error("samples", f"labels beyond the {network.output_size} outputs, or none")
    return found


def stored_triggers(triggers: Labelled, place: Place) -> Path:
    """Triggers as a file that a claim can name."""
    path = (place.scratch / "triggers.npz").resolve()
    with replacing(path) as stream:
        np.savez(stream, points=triggers.points, labels=triggers.labels)
    return path


def in_words(answer: str) -> str:
    """An answer for people."""
    return WORDS.get(answer, "undecided")
