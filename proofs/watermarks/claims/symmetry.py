"""Symmetry: permutations and factors are hints, the parameters are compared exactly."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np

from proofs.watermarks.check import Decided, Tick
from proofs.watermarks.evidence import HOLDS, MarkEvidence
from proofs.watermarks.symmetry import Symmetry, apart, deviation, factors_of, fault_of
from specs.watermarks.claims.symmetry import SameNetwork

PRINTED = 6
"""Digits."""
LARGE = 10**6


def decide(claim: SameNetwork, evidence: MarkEvidence, tick: Tick) -> Decided:
    """Compare the suspect with the owner's network, moved as the hints say.

    Arrays: ``order`` (int64) and ``factor`` (float64), each with an entry for every unit of every
    layer but the last, layer by layer.
    """
    evidence.only("order", "factor")
    if evidence.claims != HOLDS:
        return Decided(False, "that no symmetry makes two models one is not shown by any evidence")
    sizes = [layer.units for layer in claim.owner.layers[:-1]]
    order = evidence.integers("order", sum(sizes))
    factor = evidence.floats("factor", sum(sizes))
    ends = np.cumsum([0, *sizes])
    parts = [slice(int(start), int(stop)) for start, stop in pairwise(ends)]
    symmetry = Symmetry(
        tuple(order[part] for part in parts),
        tuple(factors_of(factor[part].tolist()) for part in parts),
    )
    fault = fault_of(claim.owner, claim.suspect, symmetry)
    if fault is not None:
        return Decided(False, fault)
    found = deviation(claim.owner, claim.suspect, symmetry, tick)
    moved = sum(int(np.any(own != np.arange(own.size))) for own in symmetry.orders)
    scaled = sum(any(factor != 1 for factor in own) for own in symmetry.factors)
    facts: tuple[tuple[str, str], ...] = (
        ("layers with permuted units", str(moved)),
        ("layers with factors", str(scaled)),
        ("relative deviation of weights", _shown(found.weights)),
        ("relative deviation of biases", _shown(found.biases)),
        ("largest at", found.where),
    )
    most = found.most
    if most is None:
        return Decided(False, f"{found.where}: one parameter is 0, or has another sign", facts)
    reason = "equal, exactly" if most == 0 else f"equal but for a relative {_shown(most)}"
    reason = f"after the symmetry all parameters are {reason}"
    if claim.relative is not None and most > claim.relative:
        return Decided(False, reason, facts)
    if claim.within is not None:
        gap = apart(claim.owner, found, max(map(abs, claim.inputs)), tick)
        facts += (("outputs apart", _shown(gap)),)
        reason += f"; outputs are apart by {_shown(gap)}"
        return Decided(gap <= claim.within, reason, facts)
    return Decided(True, reason, facts)


def _shown(number: Fraction | None) -> str:
    """Rounded up."""
    if number is None or number > LARGE:
        return "unbounded" if number is None else f"more than {LARGE}"
    return "0" if number == 0 else f"at most {float(number) * (1 + 10.0**-PRINTED):.{PRINTED}g}"
