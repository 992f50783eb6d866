"""Functions with finitely many bends, smooth in between: what they share.

A curve is cut at its bends into pieces; on each it has an analytic formula and is convex,
concave, linear or neither.  What follows from that is in ``proofs/extremes.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.arithmetic import Arithmetic, Interval, Numbers
from proofs.domains import Mask, everywhere, from_zero
from proofs.extremes import Extremes, Guess, Piece, finite
from proofs.slopes import Map, default_slopes, root, up_to
from specs.enclosure import FloatArray
from specs.errors import EvidenceError

AWAY = 2.0**-100


@dataclass(frozen=True, eq=False)
class Curve:
    """A function in pieces.  See :class:`proofs.functions.Function`.

    Attributes:
        formulas: by piece, each analytic on its closed piece; or one for all.
        curvatures: by piece: 1 convex, -1 concave, 0 linear, ``None`` neither.
        value, derivative: in plain floats, for guesses.
        bends: where pieces meet, ascending.
        corners: the bends where the derivative jumps so that neither side's shape goes on.
        range: what all values lie between.
        defined: whether the function is defined on intervals; at 1 every one is.
        touching: guesses where, between two floats, the derivative has a given value.
        slack: where bends are known only up to ``e``, at least ``e ** 2`` times the third
            derivative near them.  Within ``e`` of a piece's two ends the second derivative may
            have the wrong sign and is at most ``e`` times the third, so its integral there is
            at most ``slack``, and bounds that rest on the shape fail by no more than ``slack``
            times the piece's width.
    """

    formulas: tuple[Analytic, ...]
    curvatures: tuple[int | None, ...]
    value: Map
    derivative: Map
    bends: tuple[float, ...] = ()
    corners: tuple[float, ...] = ()
    range: tuple[float, float] = (-math.inf, math.inf)
    defined: Callable[[Numbers, Numbers], Mask] = everywhere
    touching: Guess | None = None
    slack: float = 0.0

    homogeneous = False

    def usable_slopes(self, hints: FloatArray) -> FloatArray:
        """Any finite slope up to ``2 ** 60``; a NaN becomes 0."""
        return up_to(2.0**60, hints)

    def default_slopes(self, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Tangents and chords; see ``proofs/slopes.py``."""
        defined = self.defined(lower, upper)
        slopes = default_slopes(self, np.where(defined, lower, 1.0), np.where(defined, upper, 1.0))
        return self.usable_slopes(slopes[0]), self.usable_slopes(slopes[1])

    def unstable(self, arithmetic: Arithmetic, lower: Numbers, upper: Numbers) -> Mask:
        """Wherever an interval is neither a point nor inside a linear piece."""
        stable = ~np.asarray(lower < upper, dtype=bool)
        for start, end, curvature in self._spans(arithmetic):
            if curvature == 0:
                stable |= np.asarray((lower >= start) & (upper <= end), dtype=bool)
        return ~stable

    def image(self, arithmetic: Arithmetic, lower: Numbers, upper: Numbers) -> Interval:
        """The least and the greatest value; unbounded where it may be undefined."""
        return self._bounds(arithmetic, lower, upper, None, None)

    def intercepts(
        self, arithmetic: Arithmetic, below: Numbers, above: Numbers, lower: Numbers, upper: Numbers
    ) -> Interval:
        """Infinite where an end is, or where the function may be undefined."""
        return self._bounds(arithmetic, lower, upper, below, above)

    def at_point(
        self, centre: Numbers, radius: Numbers | None, unit: int
    ) -> tuple[Numbers, Numbers | None]:
        """Enclosed in balls, at a precision that fits the unit."""
        reach = centre * 0 if radius is None else radius
        if not np.all(self.defined(centre - reach, centre + reach)):
            raise EvidenceError("a function is not defined at the witness")
        middle, spread = np.empty_like(centre), np.empty_like(centre)
        for place in np.ndindex(centre.shape):
            low, high = self._within(int(centre[place]), int(reach[place]), unit)
            middle[place] = (low + high) >> 1
            spread[place] = high - middle[place]
        return middle, spread

    def _within(self, centre: int, radius: int, unit: int) -> tuple[int, int]:
        low, high = Fraction(centre - radius, unit), Fraction(centre + radius, unit)
        first = sum(low > bend for bend in self.bends)
        last = sum(high > bend for bend in self.bends)
        used = dict.fromkeys(self._by_piece()[first : last + 1])
        bounds = [formula.within(centre, radius, unit) for formula in used]
        return min(low for low, _ in bounds), max(high for _, high in bounds)

    def _bounds(
        self,
        arithmetic: Arithmetic,
        lower: Numbers,
        upper: Numbers,
        below: Numbers | None,
        above: Numbers | None,
    ) -> Interval:
        """Bounds of ``f(x) - s x``, of ``f(x)`` where slopes are ``None``."""
        low, high = lower.reshape(-1), upper.reshape(-1)
        slopes = [None if s is None else s.reshape(-1) for s in (below, above)]
        defined = np.asarray(self.defined(low, high), dtype=bool)
        bounded = defined & finite(low) & finite(high)
        one = arithmetic.lift_down(np.ones(1))[0]
        low, high = np.where(bounded, low, one), np.where(bounded, high, one)
        extremes = self._extremes(arithmetic)
        found = extremes.between(low, high, slopes[0], slopes[1])
        lines = []
        for value, slope, end, none in zip(
            found, slopes, (extremes.least, extremes.greatest), (-math.inf, math.inf), strict=True
        ):
            level = defined if slope is None else defined & (slope == 0)
            outside = np.where(level, np.full_like(value, end), none)
            lines.append(np.where(bounded, value, outside).reshape(lower.shape))
        return lines[0], lines[1]

    def _extremes(self, arithmetic: Arithmetic) -> Extremes:
        pieces = [
            Piece(*span, formula, partial(self._guess, span[2] or 1))
            for span, formula in zip(self._spans(arithmetic), self._by_piece(), strict=True)
        ]
        least, greatest = (_lifted(arithmetic, end) for end in self.range)
        slack = arithmetic.lift_up(np.array([self.slack]))[0]
        return Extremes(arithmetic, pieces, least, greatest, slack)

    def _by_piece(self) -> tuple[Analytic, ...]:
        alike = len(self.formulas) == 1
        return self.formulas * len(self.curvatures) if alike else self.formulas

    def _spans(self, arithmetic: Arithmetic) -> list[tuple[Any, Any, int | None]]:
        borders = [-math.inf, *(_lifted(arithmetic, bend) for bend in self.bends), math.inf]
        return list(zip(borders, borders[1:], self.curvatures, strict=False))

    def _guess(self, sign: int, wanted: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
        """Where the derivative is nearest to ``wanted``, with ``sign`` times it increasing."""
        with np.errstate(all="ignore"):
            start = sign * (self.derivative(np.nextafter(a, b)) - wanted)
            end = sign * (self.derivative(np.nextafter(b, a)) - wanted)
            guess = np.where(start >= 0, a, b)
            inside = (start < 0) & (end > 0)
            if inside.any():
                solve = self.touching or self._solve
                found = solve(wanted[inside], a[inside], b[inside])
                guess[inside] = np.clip(found, a[inside], b[inside])
        if self.defined is from_zero:  # no derivative at 0
            guess = np.maximum(guess, np.minimum(AWAY, b))
        return np.where(np.isnan(guess), a, guess)

    def _solve(self, wanted: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
        return root(lambda x, k: self.derivative(x) - wanted[k], a, b)


def _lifted(arithmetic: Arithmetic, value: float) -> Any:
    return value if math.isinf(value) else arithmetic.lift_down(np.array([value]))[0]
