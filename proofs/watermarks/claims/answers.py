"""Answers: the network is evaluated exactly at every input; there is nothing to hint."""

from __future__ import annotations

from proofs.watermarks.answers import answers
from proofs.watermarks.check import Decided, Tick
from proofs.watermarks.evidence import HOLDS, MarkEvidence
from specs.watermarks.claims.answers import Answers


def decide(claim: Answers, evidence: MarkEvidence, tick: Tick) -> Decided:
    """Count the answers that match; those that nobody knows count for neither side."""
    evidence.only()
    found = answers(claim.network, claim.mark.points, tick)
    known = [0 if answer is None else answer for answer in found]
    right = claim.mark.matching(known)
    count = sum(same for same, answer in zip(right, found, strict=True) if answer is not None)
    unknown = found.count(None)
    facts = (
        ("matches", f"{count} of {len(found)}"),
        ("answers", " ".join("-" if answer is None else str(answer) for answer in found)),
        ("ties, or too close to tell", str(unknown)),
    )
    if evidence.claims == HOLDS:
        shown = count >= claim.at_least
    else:
        shown = count + unknown < claim.at_least
    return Decided(shown, f"{count} of {len(found)} answers match", facts)
