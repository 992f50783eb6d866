"""Is the evidence about a claim good?  Everything is decided in exact arithmetic."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from proofs.check import Checked
from proofs.tree import DeadlineError
from proofs.watermarks.claims import rule
from proofs.watermarks.evidence import HOLDS, MarkEvidence
from proofs.workers import cpu_seconds
from specs.errors import EvidenceError
from specs.watermarks.question import MarkQuestion

Tick = Callable[[], None]


@dataclass(frozen=True)
class Decided:
    """What a rule makes of evidence.

    Attributes:
        shown: whether the evidence shows what it claims.
        reason: in words.
        facts: what was computed on the way, for people and programs; numbers as text.
    """

    shown: bool
    reason: str
    facts: tuple[tuple[str, str], ...] = ()


class Rule(Protocol):
    """``decide`` of a module of ``proofs.watermarks.claims``."""

    def __call__(self, claim: Any, evidence: MarkEvidence, tick: Tick) -> Decided:
        """Does the evidence show that the claim holds, or that it does not?

        ``evidence.claims`` says which; ``tick()`` is to be called now and then, it raises
        ``DeadlineError`` when time is up.

        Raises:
            EvidenceError: the arrays are not such as the rule knows.
        """
        ...


def decide(question: MarkQuestion, evidence: MarkEvidence, tick: Tick = lambda: None) -> Decided:
    """Apply the rule for a question's kind of claim.

    Raises:
        EvidenceError: the evidence is malformed, or made for another question.
    """
    if evidence.question != question.digest:
        raise EvidenceError("the evidence was made for another question")
    found: Decided = rule(question.claim.kind).decide(question.claim, evidence, tick)
    return found


def check_mark(
    question: MarkQuestion, evidence: MarkEvidence, deadline: float | None = None
) -> tuple[Checked, tuple[tuple[str, str], ...]]:
    """Check evidence for a claim; with what was computed on the way.

    Args:
        deadline: a ``time.monotonic()`` value.
    """
    started = cpu_seconds()
    verdict, reason = "unreadable", ""
    facts: tuple[tuple[str, str], ...] = ()

    def tick() -> None:
        if deadline is not None and time.monotonic() > deadline:
            raise DeadlineError("the time limit is over")

    try:
        found = decide(question, evidence, tick)
        verdict = f"valid {evidence.claims}" if found.shown else "invalid"
        reason, facts = found.reason, found.facts
    except DeadlineError:
        verdict, reason = "incomplete", "the time limit came first"
    except EvidenceError as error:
        reason = str(error)
        if evidence.question == question.digest:
            verdict = "invalid"
    checked = Checked(
        verdict,
        reason,
        question.digest,
        "exact",
        leaves=int(evidence.claims == HOLDS),
        cpu_seconds=cpu_seconds() - started,
        ended=verdict != "incomplete",
    )
    return checked, facts
