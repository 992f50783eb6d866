"""Changed weights: hints for the rules of ``proofs.watermarks.persistence``, or a change."""

from __future__ import annotations

import numpy as np

from proofs.watermarks.check import Decided, Tick
from proofs.watermarks.evidence import HOLDS, MarkEvidence
from proofs.watermarks.persistence import (
    Corners,
    Ellipsoid,
    Shown,
    forms_at,
    met,
    proved,
    refuted,
)
from specs.errors import EvidenceError
from specs.watermarks.claims.persistence import ChangedWeights

ELLIPSOID = ("widths", "centre", "inverse", "tilt")
CORNERS = ("corner_weights", "corner_slopes")
PRICES = "prices"
CHANGE = "change"


def decide(claim: ChangedWeights, evidence: MarkEvidence, tick: Tick) -> Decided:
    """Apply the rules, or try the change.

    Arrays of a proof: ``widths``, ``centre`` (one for each row of the demands), ``inverse`` (one
    for each weight) and ``tilt`` (one for each row), of which the last two may be left out;
    ``corner_weights`` and ``corner_slopes``; ``prices``.  Each of these groups may be left out.
    That of a counterexample: ``change``, one for each weight; left out, nothing changes.
    """
    weights = claim.weights
    counts = [met(each, forms_at(each.rows, weights)) for each in claim.demands]
    facts = tuple(
        (name, f"{count} of {each.rows.bits}; a change must bring about {each.least}")
        for name, count, each in zip(claim.names, counts, claim.demands, strict=True)
    )
    if evidence.claims == HOLDS:
        found = _proved(claim, evidence, tick)
    else:
        evidence.only(CHANGE)
        change = evidence.floats(CHANGE)
        if change.size not in (0, weights.size):
            raise EvidenceError(f"a change of {change.size} of {weights.size} weights")
        moved = change if change.size else np.zeros(weights.size)
        if claim.sets or not moved.any():
            found = refuted(claim.demands, claim.sets, weights, moved)
        else:
            found = Shown(False, "no change is allowed")
    return Decided(found.holds, found.reason, facts)


def _proved(claim: ChangedWeights, evidence: MarkEvidence, tick: Tick) -> Shown:
    evidence.only(*ELLIPSOID, *CORNERS, PRICES)
    weights = claim.weights
    if not claim.sets:
        evidence.only()
        met_as_they_are = refuted(claim.demands, (), weights, np.zeros(weights.size))
        return Shown(not met_as_they_are.holds, "the weights are read as they stand")
    given = {name: evidence.floats(name) for name in (*ELLIPSOID, *CORNERS)}
    ellipsoid = corners = None
    if any(name in evidence.arrays for name in ELLIPSOID):
        ellipsoid = Ellipsoid(*(given[name] for name in ELLIPSOID))
    if any(name in evidence.arrays for name in CORNERS):
        corners = Corners(*(given[name] for name in CORNERS))
    prices = evidence.floats(PRICES) if PRICES in evidence.arrays else None
    return proved(claim.demands, claim.sets, weights, ellipsoid, corners, prices, tick)
