"""Apart: all distances are computed exactly; there is nothing to hint."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from proofs.watermarks.check import Decided, Tick
from proofs.watermarks.evidence import HOLDS, MarkEvidence
from specs.watermarks.claims.apart import Apart


def decide(claim: Apart, evidence: MarkEvidence, tick: Tick) -> Decided:
    """Compare the least distance with the radius."""
    evidence.only()
    pairs = []
    for number, point in enumerate(claim.triggers.points):
        tick()
        distance, other = nearest(point, claim.others.points)
        pairs.append((distance, number, other))
    least, number, other = min(pairs)
    facts = (("least distance", f"{least} (trigger {number}, other sample {other})"),)
    shown = (least > claim.radius) == (evidence.claims == HOLDS)
    return Decided(shown, f"the least distance is {float(least):.6g}", facts)


def nearest(
    point: np.ndarray[tuple[int], np.dtype[np.float64]],
    others: np.ndarray[tuple[int, int], np.dtype[np.float64]],
) -> tuple[Fraction, int]:
    """The least of the largest differences of entries, exactly, and which sample has it.

    Floats rule out all samples whose distance surely exceeds another's: a difference is off by
    at most a relative ``2**-53``, and the smallest numbers of all.
    """
    with np.errstate(over="ignore", under="ignore"):
        about = np.max(np.abs(others - point), axis=1, initial=0.0)
        near = np.flatnonzero(about <= about.min() * (1 + 2.0**-50) + 2.0**-1000)
    return min((_distance(point.tolist(), others[k].tolist()), int(k)) for k in near)


def _distance(one: list[float], other: list[float]) -> Fraction:
    """The largest difference of entries."""
    return max(abs(Fraction(a) - Fraction(b)) for a, b in zip(one, other, strict=True))
