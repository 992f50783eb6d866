"""Questions of a configuration as files: asked, answered, and kept with their evidence.

What is asked of the search is what the file in the evidence folder says, so that
``farkas check FOLDER`` checks the same theorem again.  Questions left open are not kept there.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from proofs.check import read_and_check
from proofs.format import read_evidence, write_proof, write_witness
from proofs.proof import Proof
from proofs.witness import Witness
from specs.builders import ball
from specs.errors import EvidenceError
from specs.property import Property
from specs.query import ModelFile, Query
from specs.question import load_question
from specs.vnnlib_writer import vnnlib
from verifier.certify.divided import BEFORE, Divided, waiting
from verifier.certify.question_files import (
    keep_content,
    model_file,
    property_name,
    question_path,
    write_text,
)
from verifier.certify.section import Place
from verifier.options import Options
from verifier.toml import document
from verifier.verdict import Verdict
from verifier.verify import verify

SEARCHED, KEPT, REUSED, MENDED = "searched", "kept", "reused", "mended"
"""Where evidence is from: a search; the same question, asked before; the proof of another model,
as it is; and such a proof, some of whose leaves were searched again."""


@dataclass(frozen=True, eq=False)
class Found:
    """What came of a question.

    Attributes:
        answer, reason: as of a verdict.
        evidence: of it.
        origin: where the evidence is from.
        check_seconds: of the kernel's last check.
        before: seconds that went before, see :mod:`verifier.certify.divided`.
    """

    answer: str
    reason: str
    evidence: Proof | Witness | None
    origin: str
    check_seconds: float
    before: float = 0.0


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

    @property
    def beside(self) -> bytes | None:
        """A property file that the question names; ``None``: it needs none."""
        return None

    def text(self, model: str) -> str:
        """The file.

        Raises:
            QuestionError: a number is no decimal.
        """
        top = {} if self.semantics == "real" else {"": {"semantics": self.semantics}}
        return document({**top, "models": {"net": model}}) + self._rest

    @cached_property
    def _rest(self) -> str:
        """All but the model; exact decimals take a while to write."""
        lower, upper = self.box
        faults = {} if self.faults is None else {"faults": self.faults}
        region = {"lower": lower, "upper": upper}
        return document({**faults, "region": region, "statement": self.statement})


@dataclass(frozen=True, eq=False)
class Stated:
    """A question whose region and statement stand in a property file of its own.

    Such a file holds what a question file does not: quotients, and regions with constraints.

    Attributes:
        beside: the content of the property file.
    """

    beside: bytes

    @classmethod
    def of(cls, stated: Property) -> Stated:
        """The question of a property.

        Raises:
            PropertyError: no file of VNN-LIB 1.0 states it.
        """
        return cls(vnnlib(stated).encode())

    def text(self, model: str) -> str:
        """The question file."""
        region = {"file": property_name(self.beside)}
        return document({"models": {"net": model}, "region": region})


@dataclass(frozen=True, eq=False)
class Answered:
    """An answer.

    Attributes:
        answer: ``"unsat"``, ``"sat"``, ``"unknown"`` or ``"timeout"``.
        reason: in words.
        seconds: it took.
        evidence: files below the evidence folder.
        witness: of ``sat``.
        origin: where the evidence is from.
        bytes: of the proof or the witness as a file; 0: there is none.
        check_seconds: of the kernel's last check of it.
    """

    answer: str
    reason: str
    seconds: float
    evidence: tuple[str, ...] = ()
    witness: Witness | None = None
    origin: str = SEARCHED
    bytes: int = 0
    check_seconds: float = 0.0

    @property
    def values(self) -> dict[str, Any]:
        """As plain data."""
        point = None if self.witness is None else [str(x) for x in self.witness.point]
        return {
            "answer": self.answer,
            "reason": self.reason,
            "seconds": self.seconds,
            "evidence": list(self.evidence),
            "origin": self.origin,
            "bytes": self.bytes,
            "check_seconds": self.check_seconds,
            **({} if point is None else {"witness": point}),
        }


def ask(
    place: Place,
    model: ModelFile,
    question: Question | Stated,
    timeout: float,
    device: str = "cpu",
) -> Answered:
    """Answer a question; of an answer, the question and the evidence are kept.

    Evidence that another task found for the same question stands, if the kernel accepts it.
    Otherwise the hints of the latest proof for the same question of another model are tried
    first, as ``farkas verify --reuse`` does.

    Args:
        place: where.
        model: what is asked about.
        question: the rest of it.
        timeout: in seconds.
        device: where the search runs.

    Raises:
        InputError: the question makes no sense.
        NotYetError: it is divided; other processes go on with it first.
    """
    start = time.perf_counter()
    file = model_file(place, model)
    beside = _beside(place, question)
    text = question.text(os.path.relpath(file, place.evidence))
    path = question_path(place, model.digest, text)
    write_text(path, text)
    name = path.stem
    hints = _Hints.of(place, question)
    kept: list[str] = []
    size = 0
    try:
        query = load_question(path)
        found = _known(query, path, timeout)
        if found is None:
            options, old = Options(timeout, device=device), hints.proof(name)
            if place.dividing is None:
                verdict = _searched(query, options, old)
            else:
                question = Divided(place.scratch, name, query, options, place.dividing)
                verdict = question.verdict(lambda chosen: _searched(query, chosen, old))
            found = _kept(verdict, path)
        if found.evidence is not None:
            evidence = _evidence_of(path)[found.answer]
            kept, size = [path.name, evidence.name], evidence.stat().st_size
            if not path.is_file():  # another process, left without an answer, has removed it
                write_text(path, text)
    finally:
        answered = kept or any(file.exists() for file in _evidence_of(path).values())
        if not answered and not waiting(place.scratch.parent, name):
            path.unlink(missing_ok=True)
    if isinstance(found.evidence, Proof) and len(found.evidence.arrays["case_number"]):
        hints.keep(name)  # the empty proof is tried in any case
    witness = found.evidence if isinstance(found.evidence, Witness) else None
    named = [os.path.relpath(file, place.evidence), *beside] if kept else []
    return Answered(
        found.answer,
        found.reason,
        time.perf_counter() - start + found.before,
        tuple(kept + named),
        witness,
        found.origin,
        size,
        found.check_seconds,
    )


def _beside(place: Place, question: Question | Stated) -> list[str]:
    """Write the property file of a question, if it has one; its name."""
    content = question.beside
    if content is None:
        return []
    name = property_name(content)
    keep_content(place.evidence / name, content)
    return [name]


def _evidence_of(path: Path) -> dict[str, Path]:
    """By answer, where the evidence for a question file lies."""
    return {"unsat": path.with_suffix(".farkas"), "sat": path.with_suffix(".witness.json")}


def _known(query: Query, path: Path, timeout: float) -> Found | None:
    """What evidence that lies there already says, checked; what the kernel refuses is removed."""
    for answer, file in _evidence_of(path).items():
        if not file.is_file():
            continue
        start = time.perf_counter()
        checked, evidence = read_and_check(query, file, deadline=time.monotonic() + timeout)
        if checked.verdict == f"valid {answer}":
            return Found(answer, checked.reason, evidence, KEPT, time.perf_counter() - start)
        if checked.verdict != "incomplete":
            file.unlink()
    return None


def _searched(query: Query, options: Options, old: Proof | None) -> Verdict:
    """What the search finds.

    With an old proof half of the time is for going on with it: a tree that fits another model
    may be a poor start, and what it leaves open is searched anew.
    """
    start = time.monotonic()
    limit = options.timeout or math.inf
    first = options if old is None else replace(options, timeout=limit / 2, reuse=old)
    verdict = verify(query, first)
    if old is not None and verdict.evidence is None and verdict.unfinished is None:
        left = max(limit / 2, limit + start - time.monotonic())
        verdict = verify(query, replace(options, timeout=left))
    return verdict


def _kept(verdict: Verdict, path: Path) -> Found:
    """What was found; its evidence is written."""
    evidence, file = verdict.evidence, _evidence_of(path).get(verdict.answer)
    if isinstance(evidence, Proof) and file is not None:
        write_proof(file, evidence, pack=True)
    elif isinstance(evidence, Witness) and file is not None:
        write_witness(file, evidence)
    origin = SEARCHED
    if verdict.reused is not None and isinstance(evidence, Proof) and not verdict.reused.why_not:
        origin = MENDED if verdict.reused.added else REUSED
    checks = [stage.wall for stage in verdict.stages if stage.name in ("reuse", "kernel", "check")]
    seconds = checks[-1] if checks and isinstance(evidence, Proof) else 0.0
    before, _ = verdict.seconds(BEFORE) if verdict.stages else (0.0, 0.0)
    return Found(verdict.answer, verdict.reason, evidence, origin, seconds, before)


@dataclass(frozen=True)
class _Hints:
    """Where the name of the latest proof for a question is noted, whatever the model.

    Attributes:
        note: the file; ``None``: nothing is noted.
        evidence: the folder of proofs.
    """

    note: Path | None
    evidence: Path

    @classmethod
    def of(cls, place: Place, question: Question | Stated) -> _Hints:
        if place.hints is None:
            return cls(None, place.evidence)
        asked = hashlib.sha256(question.text("").encode()).hexdigest()
        return cls(place.hints / asked[:2] / asked[2:24], place.evidence)

    def proof(self, name: str) -> Proof | None:
        """The proof, if it is of another question file than ``name``, and there."""
        if self.note is None or not self.note.is_file():
            return None
        noted = self.note.read_text().strip()
        file = self.evidence / f"{noted}.farkas"
        if noted == name or re.fullmatch(r"[0-9a-f]{16}", noted) is None or not file.is_file():
            return None
        try:
            found = read_evidence(file)
        except EvidenceError:
            return None
        return found if isinstance(found, Proof) else None

    def keep(self, name: str) -> None:
        """Note a proof."""
        if self.note is not None:
            self.note.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.note, name)


def box_around(
    point: Sequence[float], radius: Fraction, clip: tuple[Fraction, Fraction] | None
) -> Box:
    """The box around a sample.

    Raises:
        QuestionError: the clip leaves nothing of it.
    """
    low, high = (None, None) if clip is None else clip
    return ball(len(point), [Fraction(float(x)) for x in point], radius, low, high)
