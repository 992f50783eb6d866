"""Extraction: bits are read exactly; there is nothing to hint."""

from __future__ import annotations

from proofs.watermarks.check import Decided, Tick
from proofs.watermarks.evidence import HOLDS, MarkEvidence
from proofs.watermarks.signs import forms, margins, matching
from specs.watermarks.claims.extraction import Extraction


def decide(claim: Extraction, evidence: MarkEvidence, tick: Tick) -> Decided:
    """Count the bits that match."""
    evidence.only()
    values = forms(claim.system, claim.weights)
    found = matching(values, claim.system.bits)
    count = sum(found)
    least = min(
        (m for m, same in zip(margins(values, claim.system.bits), found, strict=True) if same),
        default=None,
    )
    facts = (
        ("matches", f"{count} of {len(found)}"),
        ("bits", "".join(str(int(value > 0)) for value in values)),
        ("key", "".join(str(int(bit)) for bit in claim.system.bits)),
        ("least margin of a match", "none" if least is None else f"{float(least):.6g}"),
    )
    shown = (count >= claim.at_least) == (evidence.claims == HOLDS)
    return Decided(shown, f"{count} of {len(found)} bits match", facts)
