"""A check of a claim for people and for files; ``docs/watermarks.md`` describes both."""

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
from proofs.statement import made_for
from proofs.watermarks.check import check_mark
from proofs.watermarks.evidence import MarkEvidence
from specs.errors import EvidenceError
from specs.watermarks.question import MarkQuestion, load_mark_question


@dataclass(frozen=True, eq=False)
class ClaimAudit:
    """A check of one file, and what was computed on the way.

    Attributes:
        evidence: ``None`` where the file is no evidence about a watermark.
        facts: names and values, as text.
    """

    question: MarkQuestion
    path: Path
    checked: Checked
    evidence: MarkEvidence | None
    facts: tuple[tuple[str, str], ...] = ()


def audit_claim(
    question: str | Path,
    evidence: str | Path,
    timeout: float | None = None,
    arithmetic: str = "exact",
    progress: Callable[[int], None] = lambda _: None,
) -> ClaimAudit:
    """Check a file of evidence against a question file.

    Args:
        timeout: in seconds.
        arithmetic, progress: of no use here: claims about parameters are decided exactly, and
            without leaves.

    Raises:
        InputError: the question is at fault.
    """
    stated = load_mark_question(question)
    try:
        read = read_evidence(evidence)
        if not isinstance(read, MarkEvidence):
            raise EvidenceError(
                "it is evidence about inputs and outputs, made for another question"
            )
    except EvidenceError as error:
        checked = Checked("unreadable", str(error), stated.digest, "exact")
        return ClaimAudit(stated, Path(evidence), checked, None)
    deadline = None if timeout is None else time.monotonic() + timeout
    checked, facts = check_mark(stated, read, deadline)
    return ClaimAudit(stated, Path(evidence), checked, read, facts)


def established(found: ClaimAudit) -> str:
    """What follows, as a sentence."""
    verdict, reason = found.checked.verdict, found.checked.reason
    if verdict == "valid unsat":
        return f"proved, in exact arithmetic: {reason}"
    if verdict == "valid sat":
        return f"refuted, in exact arithmetic: {reason}"
    return f"nothing is established: {reason}"


def lines_of(found: ClaimAudit) -> list[str]:
    """What is printed below the verdict."""
    return [
        established(found),
        *_stated(found.question),
        *(f"{name}: {value}" for name, value in found.facts),
        f"question: {found.question.digest}",
    ]


def _stated(question: MarkQuestion) -> list[str]:
    return [
        *question.claim.theorem(),
        *(
            f"model {name}: {file.path.name if file.path else 'built'} (sha256 {file.digest})"
            for name, file in question.models.items()
        ),
        *(f"assumed: {line}" for line in question.claim.assumed()),
    ]


def claim_shown(question: str | Path, evidence: Evidence | None) -> list[str]:
    """What a question file claims, and what is in evidence that is said to decide it.

    Raises:
        InputError: the question is at fault.
    """
    stated = load_mark_question(question)
    lines = _stated(stated)
    if evidence is None:
        return lines
    lines += ["", made_for(stated.digest, evidence)]
    return lines + (array_lines(evidence) if isinstance(evidence, MarkEvidence) else [])


def claim_certificate(found: ClaimAudit) -> dict[str, Any]:
    """The certificate of a check, as plain data."""
    question, checked, evidence = found.question, found.checked, found.evidence
    mark = question.mark
    return {
        "format": FORMAT,
        "version": SCHEMA,
        "verdict": checked.verdict,
        "established": established(found),
        "theorem": question.claim.theorem(),
        "question": {
            "digest": question.digest,
            "claim": question.claim.kind,
            "assumed": question.claim.assumed(),
            "models": [
                {
                    "name": name,
                    "file": None if file.path is None else file.path.name,
                    "sha256": file.digest,
                }
                for name, file in question.models.items()
            ],
            "watermark": None
            if mark is None
            else {
                "scheme": mark.scheme,
                "text": mark.text,
                "commitment": mark.commitment.hash,
                "commitment_stated": mark.commitment.stated is not None,
                "time_stated": mark.commitment.time,
            },
        },
        "facts": dict(found.facts),
        "check": {"arithmetic": "exact", "cpu_seconds": checked.cpu_seconds},
        **evidence_of_claim(found.path, evidence, "watermark"),
    }
