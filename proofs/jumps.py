"""Step functions: constant between jumps, and never falling.

On ``[l, u]`` the values of ``f(x) - s x`` lie between its values at ``l`` and ``u``, its
limits from the left at jumps in ``(l, u]`` and those from the right at jumps in ``[l, u)``.
Jumps are evenly spaced and equally high, so either kind of limit is linear in the number
of the jump: only the first and the last count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from proofs.arithmetic import Arithmetic, Interval, Numbers
from proofs.domains import Mask
from proofs.extremes import finite
from proofs.slopes import Map, up_to
from specs.enclosure import FloatArray

WHOLE = 2.0**50
"""Beyond it floats do not hold every half, and a step is all that is known."""


@dataclass(frozen=True, eq=False)
class Jumps:
    """A step function.  See :class:`proofs.functions.Function`.

    Attributes:
        value: in floats.
        at: the value at finite numbers, exactly (below ``WHOLE`` where there are many jumps).
        at_rational: the value at a rational.
        offset: jumps lie at whole numbers (0) or halfway between (1/2), and the value is
            within 1 of the argument; ``None``: the only jump is at 0, and the value within
            1 of 0.
        before, after: limits at a jump, less its place.
    """

    value: Map
    at: Callable[[Arithmetic, Numbers], Numbers]
    at_rational: Callable[[Fraction], int]
    offset: float | None
    before: float
    after: float

    homogeneous = False

    def derivative(self, x: FloatArray) -> FloatArray:
        """0, wherever there is one."""
        return np.zeros(x.shape)

    def usable_slopes(self, hints: FloatArray) -> FloatArray:
        """Any finite slope up to ``2 ** 60``; a NaN becomes 0."""
        return up_to(2.0**60, hints)

    def unstable(self, arithmetic: Arithmetic, lower: Numbers, upper: Numbers) -> Mask:
        """Where the values at the ends differ, or are not known."""
        below, above = self.image(arithmetic, lower, upper)
        return ~np.asarray(below == above, dtype=bool)

    def image(self, arithmetic: Arithmetic, lower: Numbers, upper: Numbers) -> Interval:
        """The values at the ends."""
        return self._enclose(arithmetic, lower)[0], self._enclose(arithmetic, upper)[1]

    def intercepts(
        self, arithmetic: Arithmetic, below: Numbers, above: Numbers, lower: Numbers, upper: Numbers
    ) -> Interval:
        """From the ends, and the first and the last jump; infinite where an end is."""
        ends = [(x, self._enclose(arithmetic, x)) for x in (lower, upper)]
        lowest = [(x, down) for x, (down, _) in ends]
        highest = [(x, -up) for x, (_, up) in ends]
        floor = self._least(arithmetic, 1, below, lowest)
        return floor, -self._least(arithmetic, -1, -above, highest)

    def at_point(
        self, centre: Numbers, radius: Numbers | None, unit: int
    ) -> tuple[Numbers, Numbers | None]:
        """The values at both ends."""
        reach = centre * 0 if radius is None else radius
        value = np.frompyfunc(lambda x: self.at_rational(Fraction(int(x), unit)) * unit, 1, 1)
        low, high = value(centre - reach), value(centre + reach)
        middle = (low + high) >> 1
        return middle, high - middle

    def default_slopes(self, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Those of the convex hull of the graph, over the middle of the interval."""
        with np.errstate(all="ignore"):
            if self.offset is None:
                past, at = (np.where(c, 0.0, np.inf) for c in (lower < 0, lower <= 0))
                until, before = (np.where(c, 0.0, -np.inf) for c in (upper >= 0, upper > 0))
            else:
                low, high = lower - self.offset, upper - self.offset
                past, at = np.floor(low) + 1.0 + self.offset, np.ceil(low) + self.offset
                until, before = np.floor(high) + self.offset, np.ceil(high) - 1.0 + self.offset
            below = self._hull(lower, upper, past, until, self.before)
            above = self._hull(lower, upper, at, before, self.after)
        return up_to(2.0**60, below), up_to(2.0**60, above)

    def _hull(
        self, low: FloatArray, high: FloatArray, first: FloatArray, last: FloatArray, limit: float
    ) -> FloatArray:
        """Slope at the middle of the hull of the ends and of limits at jumps."""
        middle = 0.5 * low + 0.5 * high
        grows = 0.0 if self.offset is None else 1.0
        chord = (self.value(high) - self.value(low)) / (high - low)
        start = (grows * first + limit - self.value(low)) / (first - low)
        end = (self.value(high) - grows * last - limit) / (high - last)
        inner = np.where(first < last, 1.0, chord)
        slope = np.where(middle < first, start, np.where(middle > last, end, inner))
        return np.where(first <= last, slope, chord)

    def _enclose(self, arithmetic: Arithmetic, x: Numbers) -> Interval:
        """Bounds of the value at numbers, infinite ones among them."""
        known = self._known(arithmetic, x)
        value = self.at(arithmetic, np.where(known, x, 0))
        if self.offset is None:
            one = arithmetic.lift_down(np.ones(x.shape))
            return np.where(known, value, -one), np.where(known, value, one)
        near = np.where(finite(x), x, 0)
        one = arithmetic.lift_down(np.ones(x.shape))
        down, up = arithmetic.add_down(near, -one), arithmetic.add_up(near, one)
        down, up = np.where(finite(x), down, -math.inf), np.where(finite(x), up, math.inf)
        return np.where(known, value, down), np.where(known, value, up)

    def _known(self, arithmetic: Arithmetic, x: Numbers) -> Mask:
        if self.offset is None:
            return finite(x)
        (limit,) = arithmetic.lift_down(np.array([WHOLE]))
        return np.asarray((x >= -limit) & (x <= limit), dtype=bool)

    def _least(
        self,
        arithmetic: Arithmetic,
        sign: int,
        slope: Numbers,
        ends: list[tuple[Numbers, Numbers]],
    ) -> Numbers:
        """At most the least of ``sign * f(x) - slope * x`` on intervals.

        ``ends`` are their ends, with what ``sign * f`` is at least there.
        """

        def line(x: Numbers, value: Numbers) -> Numbers:
            return arithmetic.add_down(value, arithmetic.multiply_down(-slope, x))

        (lower, low), (upper, high) = ends
        bounded = finite(lower) & finite(upper)
        a, b = np.where(bounded, lower, 0), np.where(bounded, upper, 0)
        least = np.minimum(line(a, np.where(bounded, low, 0)), line(b, np.where(bounded, high, 0)))
        known = self._known(arithmetic, a) & self._known(arithmetic, b)
        near, far = np.where(known, a, 0), np.where(known, b, 0)
        before, after = arithmetic.lift_down(np.array([self.before, self.after]))
        for jump, limit, left in (
            (-self._last(arithmetic, -near, True), before, True),
            (self._last(arithmetic, far, False), before, True),
            (-self._last(arithmetic, -near, False), after, False),
            (self._last(arithmetic, far, True), after, False),
        ):
            inside = (jump > near) & (jump <= far) if left else (jump >= near) & (jump < far)
            inside = known & np.asarray(inside, dtype=bool)
            place = np.where(inside, jump, near)
            height = place + limit if self.offset is not None else place * 0 + limit
            least = np.where(inside, np.minimum(least, line(place, sign * height)), least)
        if self.offset is not None:  # within 1 of the argument: linear, so at the ends
            one = arithmetic.lift_down(np.ones(a.shape))
            crude = [line(x, arithmetic.add_down(sign * x, -one)) for x in (a, b)]
            least = np.where(known, least, np.minimum(*crude))
        flat = np.where(slope == 0, np.minimum(low, high), -math.inf)
        return np.where(bounded, least, flat)

    def _last(self, arithmetic: Arithmetic, x: Numbers, strict: bool) -> Numbers:
        """The last jump at most (where strict: below) ``x``; minus infinity where none is."""
        if self.offset is None:
            passed = np.asarray(x > 0 if strict else x >= 0, dtype=bool)
            return np.where(passed, x * 0, -math.inf)
        one, offset = arithmetic.lift_down(np.array([1.0, self.offset]))
        jump = arithmetic.floor(x) + offset
        beyond = np.asarray(jump >= x if strict else jump > x, dtype=bool)
        return np.where(beyond, jump - one, jump)
