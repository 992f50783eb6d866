"""A check of a partition for people and for files; ``docs/probability.md`` describes both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofs.arrays import array_lines
from proofs.certificate import FORMAT, SCHEMA, evidence_of_claim
from proofs.check import Checked
from proofs.format import Evidence, read_evidence
from proofs.partitions.check import PartitionQuestion, Replayed, check_partition
from proofs.partitions.evidence import PartitionEvidence
from proofs.statement import made_for, statement
from specs import lipschitz
from specs.document import read_document
from specs.errors import EvidenceError
from specs.probability import load_probability_question

PROVED, MEASURED = "proved", "measured"


@dataclass(frozen=True, eq=False)
class PartitionAudit:
    """A check of one file, and what was computed on the way.

    Attributes:
        evidence: ``None`` where the file is no partition.
    """

    question: PartitionQuestion
    path: Path
    found: Replayed
    evidence: PartitionEvidence | None

    @property
    def checked(self) -> Checked:
        """The verdict."""
        return self.found.checked


def load_partition_question(path: str | Path) -> PartitionQuestion:
    """The question of a file.

    Raises:
        InputError: the file is at fault.
    """
    if lipschitz.TABLE in read_document(Path(path)).tables:
        return lipschitz.load_lipschitz_question(path)
    return load_probability_question(path)


def audit_claim(
    question: str | Path,
    evidence: str | Path,
    timeout: float | None = None,
    arithmetic: str = "outward",
    progress: Callable[[int], None] = lambda _: None,
) -> PartitionAudit:
    """Check a file of evidence against a question file.

    Args:
        timeout: in seconds.

    Raises:
        InputError: the question is at fault.
    """
    stated = load_partition_question(question)
    try:
        read = read_evidence(evidence)
        if not isinstance(read, PartitionEvidence):
            raise EvidenceError("it is no partition; it was made for another question")
    except EvidenceError as error:
        refused = Checked("unreadable", str(error), stated.digest, arithmetic)
        return PartitionAudit(stated, Path(evidence), Replayed(refused), None)
    deadline = None if timeout is None else time.monotonic() + timeout
    found = check_partition(
        stated, read, arithmetic=arithmetic, deadline=deadline, progress=progress
    )
    return PartitionAudit(stated, Path(evidence), found, read)


def nature(found: Replayed) -> str | None:
    """Whether a claim is proved or rests on samples; ``None``: nothing is established."""
    if not found.checked.valid:
        return None
    return MEASURED if found.statistical else PROVED


def established(found: Replayed) -> str:
    """What follows, as a sentence."""
    verdict, reason = found.checked.verdict, found.checked.reason
    if nature(found) is None:
        return f"nothing is established: {reason}"
    says = "the claim holds" if verdict == "valid unsat" else "the claim is wrong"
    if found.statistical:
        return f"STATISTICAL, not proved ({says}, with the stated confidence): {reason}"
    return f"proved ({says}): {reason}"


def lines_of(found: PartitionAudit) -> list[str]:
    """What is printed below the verdict."""
    return [
        established(found.found),
        *_stated(found.question),
        *(f"{name}: {value}" for name, value in found.found.facts),
        f"question: {found.question.digest}",
    ]


def _stated(question: PartitionQuestion) -> list[str]:
    return [
        *question.theorem(),
        *statement(question.query)[:-1],
        *(f"assumed: {line}" for line in question.assumed()),
    ]


def claim_shown(question: str | Path, evidence: Evidence | None) -> list[str]:
    """What a question file claims, and what is in evidence that is said to decide it.

    Raises:
        InputError: the question is at fault.
    """
    stated = load_partition_question(question)
    lines = _stated(stated)
    if evidence is None:
        return lines
    lines += ["", made_for(stated.digest, evidence)]
    return lines + (array_lines(evidence) if isinstance(evidence, PartitionEvidence) else [])


def claim_certificate(found: PartitionAudit) -> dict[str, Any]:
    """The certificate of a check, as plain data."""
    question, checked, evidence = found.question, found.checked, found.evidence
    return {
        "format": FORMAT,
        "version": SCHEMA,
        "verdict": checked.verdict,
        "nature": nature(found.found),
        "established": established(found.found),
        "theorem": question.theorem(),
        "question": {
            "digest": question.digest,
            "assumed": question.assumed(),
            "property": question.query.property_digest,
            "models": [
                {
                    "file": None if file.path is None else file.path.name,
                    "sha256": file.digest,
                }
                for file in question.query.models
            ],
        },
        "facts": dict(found.found.facts),
        "check": {
            "arithmetic": checked.arithmetic,
            "leaves": checked.leaves,
            "cpu_seconds": checked.cpu_seconds,
        },
        **evidence_of_claim(found.path, evidence, "partition"),
    }
