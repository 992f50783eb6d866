"""Relu, ``max(x, 0)``.  Intercepts are exact: the extremes lie at the ends or at 0."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Arithmetic, Interval, Numbers, usable_slopes
from proofs.extremes import finite
from specs.enclosure import FloatArray


class Relu:
    """See :class:`proofs.functions.Function`."""

    homogeneous = True

    def value(self, x: FloatArray) -> FloatArray:
        return np.maximum(x, 0.0)

    def derivative(self, x: FloatArray) -> FloatArray:
        return np.where(x > 0, 1.0, 0.0)

    def usable_slopes(self, hints: FloatArray) -> FloatArray:
        """On a grid on which ``1 - s`` is exact."""
        return usable_slopes(hints)

    def unstable(
        self, arithmetic: Arithmetic, lower: Numbers, upper: Numbers
    ) -> npt.NDArray[np.bool_]:
        """Where 0 lies inside."""
        return np.asarray((lower < 0) & (upper > 0), dtype=bool)

    def image(self, arithmetic: Arithmetic, lower: Numbers, upper: Numbers) -> Interval:
        """Relu is monotone."""
        return np.maximum(lower, 0), np.maximum(upper, 0)

    def default_slopes(self, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The chord above; below 0 or 1, whichever leaves the smaller area (Zhang et al., CROWN).

        The choice below is made on bounds rounded to float32, so that both arithmetics and
        every matrix product choose alike.
        """
        inactive, active = upper <= 0, lower >= 0
        with np.errstate(all="ignore"):
            chord = upper / (upper - lower)
            steep = upper.astype(np.float32) > (-lower).astype(np.float32)
        below = np.where(active | (steep & ~inactive), 1.0, 0.0)
        above = np.where(active, 1.0, np.where(inactive, 0.0, chord))
        return below, above

    def intercepts(
        self, arithmetic: Arithmetic, below: Numbers, above: Numbers, lower: Numbers, upper: Numbers
    ) -> Interval:
        """``relu(x) - s x`` is piecewise linear: look at both ends, and at 0 where inside.

        Where an end is infinite only slopes 0 have a finite intercept.
        """
        bounded = finite(lower) & finite(upper)
        if not bounded.all():
            ends = (np.where(bounded, end, 0) for end in (lower, upper))
            found = self._intercepts(arithmetic, below, above, *ends)
            least, greatest = self.image(arithmetic, lower, upper)
            floor = np.where(below == 0, least, -math.inf)
            ceiling = np.where(above == 0, greatest, math.inf)
            return np.where(bounded, found[0], floor), np.where(bounded, found[1], ceiling)
        return self._intercepts(arithmetic, below, above, lower, upper)

    def _intercepts(
        self, arithmetic: Arithmetic, below: Numbers, above: Numbers, lower: Numbers, upper: Numbers
    ) -> Interval:
        one = arithmetic.lift_down(np.ones(1))
        inside = (lower < 0) & (upper > 0)

        def at(
            x: Numbers, slope: Numbers, multiply: Callable[[Numbers, Numbers], Numbers]
        ) -> Numbers:
            return multiply(np.where(x > 0, one - slope, -slope), x)

        down, up = arithmetic.multiply_down, arithmetic.multiply_up
        ceiling = np.maximum(at(lower, above, up), at(upper, above, up))
        ceiling = np.where(inside, np.maximum(ceiling, 0), ceiling)
        # relu(x) >= s x for 0 <= s <= 1, with equality at 0, or where s is its slope.
        if ((below >= 0) & (below <= one) & (inside | (below == one * (lower >= 0)))).all():
            return below * 0, ceiling
        floor = np.minimum(at(lower, below, down), at(upper, below, down))
        return np.where(inside, np.minimum(floor, 0), floor), ceiling

    def at_point(
        self, centre: Numbers, radius: Numbers | None, unit: int
    ) -> tuple[Numbers, Numbers | None]:
        """Relu commutes with positive scaling and moves no two points apart.

        What is negative for certain becomes 0 for certain.
        """
        if radius is not None:
            radius = np.where(centre + radius <= 0, centre * 0, radius)
        return np.maximum(centre, 0), radius


def rule() -> Relu:
    """The function has no parameters."""
    return Relu()
