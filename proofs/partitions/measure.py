"""How much of a box's probability lies in a part of it: exactly, or enclosed.

A uniform side has rational shares.  The share of a normal that is cut at the ends of its side is
a quotient of differences of the normal's distribution function, from balls (flint's ``arb``); it
is enclosed between multiples of ``2 ** -BITS``, and so are products of such shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import NormalDist

import numpy as np
from flint import arb, fmpq

from proofs.balls import PRECISIONS, working
from specs.enclosure import FloatArray
from specs.errors import EvidenceError
from specs.probability import NORMAL, ProbabilityQuestion

BITS = 192
"""Enclosures of shares of normals are multiples of ``2 ** -BITS``."""

Share = tuple[Fraction, Fraction]
"""A number between two rationals."""


@dataclass(eq=False)
class Measure:
    """Probabilities of parts of a question's box.

    Args:
        question: states box and distribution.
    """

    question: ProbabilityQuestion
    _sides: dict[tuple[int, float, float], Share] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._low, self._high = self.question.case.box()
        self._normal = self.question.distribution.kind == NORMAL

    def ends(self, axis: int, low: float, high: float) -> tuple[Fraction, Fraction]:
        """The part of a side between two floats; those of the whole box stand for its own ends."""
        case = self.question.case
        return (
            Fraction(case.lower[axis]) if low == self._low[axis] else Fraction(low),
            Fraction(case.upper[axis]) if high == self._high[axis] else Fraction(high),
        )

    def side(self, axis: int, low: float, high: float) -> Share:
        """The share of a part of a side.

        Raises:
            EvidenceError: it is empty, or a point.
        """
        key = (axis, low, high)
        found = self._sides.get(key)
        if found is None:
            found = self._sides[key] = self._side(axis, *self.ends(axis, low, high))
        return found

    def _side(self, axis: int, low: Fraction, high: Fraction) -> Share:
        case = self.question.case
        first, last = Fraction(case.lower[axis]), Fraction(case.upper[axis])
        if not first <= low < high <= last:
            raise EvidenceError(f"a part of input {axis} is not inside its side, or is a point")
        if not self._normal:
            share = (high - low) / (last - first)
            return share, share
        distribution = self.question.distribution
        mean, deviation = distribution.means[axis], distribution.deviations[axis]
        ends = [(end - mean) / deviation for end in (low, high, first, last)]
        return normal_share(ends[0], ends[1], ends[2], ends[3])

    def boxes(self, lower: FloatArray, upper: FloatArray) -> list[Share]:
        """The probabilities of boxes, ``(n, inputs)``, whose ends come from splits."""
        split = (lower != self._low) | (upper != self._high)
        found = []
        for row, low, high in zip(split, lower, upper, strict=True):
            axes = np.flatnonzero(row).tolist()
            found.append(product([self.side(i, float(low[i]), float(high[i])) for i in axes]))
        return found


def product(shares: Sequence[Share]) -> Share:
    """A product of shares, of enclosed ones rounded outward to multiples of ``2 ** -BITS``."""
    below, above = Fraction(1), Fraction(1)
    exact = all(low == high for low, high in shares)
    for low, high in shares:
        below *= low
        above = below if exact else -_down(-above * high)
        below = below if exact else _down(below)
    return below, above


def _down(value: Fraction) -> Fraction:
    return Fraction((value.numerator << BITS) // value.denominator, 1 << BITS)


def normal_share(low: Fraction, high: Fraction, first: Fraction, last: Fraction) -> Share:
    """``P(low <= Z <= high | first <= Z <= last)`` of a standard normal ``Z``, enclosed.

    Raises:
        EvidenceError: the side is so far from the mean that it has no computable probability.
    """
    if (low, high) == (first, last):
        return Fraction(1), Fraction(1)
    for precision in PRECISIONS:
        with working(max(precision, 2 * BITS)):
            part, whole = mass(low, high), mass(first, last)
            share = part / whole
            if not share.is_finite() or whole.contains(0):
                continue
            scaled = share * arb(2) ** BITS
            below = int(scaled.lower().floor().unique_fmpz() or 0)
            above = int(scaled.upper().ceil().unique_fmpz() or 1 << BITS)
            unit = 1 << BITS
            if above - below <= 2 or precision == PRECISIONS[-1]:
                return Fraction(max(0, below), unit), Fraction(min(above, unit), unit)
    raise EvidenceError("a side lies too far from the mean of its normal to have a probability")


def mass(low: Fraction, high: Fraction) -> arb:
    """A ball around ``P(low <= Z <= high)``; in the tails as a difference of small numbers."""
    half = arb(2).sqrt()
    a, b = (arb(fmpq(end.numerator, end.denominator)) / half for end in (low, high))
    if low > 0:
        return (a.erfc() - b.erfc()) / 2
    if high < 0:
        return ((-b).erfc() - (-a).erfc()) / 2
    return (b.erf() - a.erf()) / 2


def quantiles(
    measure: Measure, axis: int, low: float, high: float, part: int, bits: int
) -> tuple[Fraction, Fraction]:
    """The ends of one of ``2 ** bits`` parts of a side with the same probability, or around it."""
    case = measure.question.case
    if case.lower[axis] == case.upper[axis]:
        return Fraction(case.lower[axis]), Fraction(case.upper[axis])
    first, last = measure.ends(axis, low, high)
    count = 1 << bits
    if measure.question.distribution.kind != NORMAL:
        width = (last - first) / count
        return first + part * width, first + (part + 1) * width
    distribution = measure.question.distribution
    mean, deviation = distribution.means[axis], distribution.deviations[axis]
    standard = ((first - mean) / deviation, (last - mean) / deviation)
    below = normal_quantile(Fraction(part, count), *standard)[0]
    above = normal_quantile(Fraction(part + 1, count), *standard)[1]
    return max(first, mean + deviation * below), min(last, mean + deviation * above)


def normal_quantile(share: Fraction, low: Fraction, high: Fraction) -> Share:
    """Around the number below which a standard normal cut at two ends lies with probability share.

    The guess is libm's and not believed: both ends move outward until they are proved.
    """
    if low > 0:  # by symmetry, where differences keep their digits
        below, above = normal_quantile(1 - share, -high, -low)
        return -above, -below
    guess = _guess(float(share), float(low), float(high))
    ends = [low, high]
    for up in (False, True):
        step = Fraction(1, 1 << 44)
        while low < (end := guess + step if up else guess - step) < high:
            below, above = normal_share(low, end, low, high)
            if (below >= share) if up else (above <= share):
                ends[up] = end
                break
            step *= 16
    return ends[0], ends[1]


def _guess(share: float, low: float, high: float) -> Fraction:
    normal = NormalDist()
    wanted = normal.cdf(low) + share * (normal.cdf(high) - normal.cdf(low))
    if not 0 < wanted < 1:
        return Fraction(low + share * (high - low))
    return Fraction(min(max(normal.inv_cdf(wanted), low), high))
