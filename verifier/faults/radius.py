"""How large a box the network without faults is certified on."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from proofs.check import check_proof
from specs import builders
from specs.faults.struck import WordFaults
from specs.property import Case, Property
from specs.query import Query

SMALLEST = -6
"""No smaller radius than 10 to this power is tried."""


def robust_region(
    faults: WordFaults,
    centre: Sequence[Fraction],
    label: int,
    radius: Fraction,
    clip: tuple[Fraction | None, Fraction | None] = (None, None),
) -> Property:
    """That ``label`` exceeds every other output within a radius of a centre, cut by a box."""
    size, outputs = faults.intact.input_size, faults.intact.output_size
    low, high = builders.ball(size, list(centre), radius, *clip)
    unsafe = builders.misclassified(outputs, label=label)
    return Property(size, outputs, (Case(low, high, unsafe),))


def certified_radius(
    faults: WordFaults,
    centre: Sequence[Fraction],
    label: int,
    clip: tuple[Fraction | None, Fraction | None] = (None, None),
    most: Fraction = Fraction(1),
) -> Fraction:
    """The largest radius, of two significant digits, that the empty proof certifies.

    The network is the one with the stored values, without faults.  Bounds are those of one sweep
    with default slopes, without splits; they are taken to grow with the radius.

    Args:
        faults: which network.
        centre: of the boxes.
        label: the prediction at the centre.
        clip: what boxes are cut by.
        most: no larger radius is tried.

    Returns:
        0 where not even the smallest radius is certified.
    """

    def certified(radius: Fraction) -> bool:
        stated = robust_region(faults, centre, label, radius, clip)
        query = Query(faults.intact, stated, (faults.placed.model,), stated.digest)
        return check_proof(query, None, processes=1).verdict == "valid unsat"

    power = SMALLEST
    if not certified(Fraction(10) ** power):
        return Fraction(0)
    while Fraction(10) ** (power + 1) <= most and certified(Fraction(10) ** (power + 1)):
        power += 1
    unit = Fraction(10) ** (power - 1)
    low, high = 10, min(100, int(most / unit) + 1)  # certified, and not (or too large)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if certified(middle * unit) else (low, middle)
    return low * unit
