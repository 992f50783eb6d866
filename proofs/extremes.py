"""The least of ``f(x) - s x`` on an interval, for a function that comes in pieces.

It is the least over the pieces.  On a piece ``[a, b]`` where ``f`` is

* concave or linear, it lies at the ends;
* convex, ``f(x) - s x >= f(p) - s p + (f'(p) - s) (x - p)`` for every ``p`` of the piece, and
  the right side is linear in ``x``, so least at an end.  Any ``p`` is sound; where
  ``f'(p) = s`` it is the least itself, so a guess of that place makes it tight;
* neither, ``f`` is at least the least value it has anywhere.

All is computed from enclosures of ``f`` and ``f'`` with directed rounding, so it holds for
the reals.  In both arithmetics an infinite bound is a float.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.analytic import Analytic
from proofs.arithmetic import Arithmetic, Interval, Numbers
from specs.enclosure import FloatArray

Guess = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
"""Where the derivative has a given value, between two floats."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A function between two numbers, where it has one shape.

    Attributes:
        start, end: numbers of an arithmetic, or infinite floats.
        curvature: 1 convex, -1 concave, 0 linear, ``None`` neither.
        formula: analytic on the closed piece.
        guess: see ``Guess``.
    """

    start: Any
    end: Any
    curvature: int | None
    formula: Analytic
    guess: Guess


@dataclass(frozen=True, eq=False)
class Extremes:
    """The greatest lower and the least upper bounds that the pieces give.

    Attributes:
        arithmetic: of all numbers.
        pieces: in ascending order; together they are the line.
        least, greatest: numbers between which all values lie, or infinite.
        slack: what ``f`` on a piece may be off by, per unit of width, from a function of the
            piece's shape.
    """

    arithmetic: Arithmetic
    pieces: Sequence[Piece]
    least: Any
    greatest: Any
    slack: Any

    def between(
        self, lower: Numbers, upper: Numbers, below: Numbers | None, above: Numbers | None
    ) -> Interval:
        """Bounds of ``f(x) - s x`` for the slopes ``below`` and ``above``; 0 where ``None``.

        All arrays ``(N,)``, the ends finite and in the function's domain.
        """
        ends = [(end, self._values(end)) for end in (lower, upper)]
        floor = self._least(1, ends, below)
        ceiling = self._least(-1, ends, None if above is None else -above)
        if below is None:
            floor = np.maximum(floor, self.least)
        return floor, -ceiling if above is not None else np.minimum(-ceiling, self.greatest)

    def _values(self, x: Numbers) -> Interval:
        formulas = {piece.formula for piece in self.pieces}
        if len(formulas) == 1:
            return self._enclose(self.pieces[0], x, 0)
        down, up = np.empty_like(x), np.empty_like(x)
        for piece in self.pieces:
            own = np.flatnonzero((x >= piece.start) & (x <= piece.end))
            if own.size:
                down[own], up[own] = self._enclose(piece, x[own], 0)
        return down, up

    def _enclose(self, piece: Piece, x: Numbers, order: int) -> Interval:
        down, up = self.arithmetic.enclose(piece.formula, x, order)
        if order:
            return down, up
        return np.maximum(down, self.least), np.minimum(up, self.greatest)

    def _least(
        self, sign: int, ends: Sequence[tuple[Numbers, Interval]], slope: Numbers | None
    ) -> Numbers:
        """At most the least of ``sign * f(x) - slope * x``, infinite where nothing is known."""
        (lower, _), (upper, _) = ends
        found = [self._line(x, _directed(sign, values)[0], slope) for x, values in ends]
        least = np.minimum(*found)
        if not lower.size:
            return least
        bottom, top = lower.min(), upper.max()
        for piece in self.pieces:
            if bottom >= piece.end or top <= piece.start:
                continue
            place = np.flatnonzero((lower < piece.end) & (upper > piece.start))
            a, b = np.maximum(lower[place], piece.start), np.minimum(upper[place], piece.end)
            own = None if slope is None else slope[place]
            if piece.curvature is None:
                value = self._bounded(sign, own, a, b)
            elif piece.curvature * sign > 0:
                value = self._tangent(piece, sign, own, a, b)
            else:
                value = np.minimum(*(self._border(piece, sign, own, x, a, b) for x in (a, b)))
            value = np.minimum(least[place], value)
            if self.slack:
                width = self.arithmetic.add_up(b, -a)
                cost = self.arithmetic.multiply_up(width * 0 + self.slack, width)
                value = self._sum(value, -cost)
            least[place] = value
        return np.where(least == least, least, -math.inf)

    def _border(
        self, piece: Piece, sign: int, slope: Numbers | None, x: Numbers, a: Numbers, b: Numbers
    ) -> Numbers:
        """The value at an end of a piece, where that is a bend; elsewhere it is known."""
        value = np.full_like(x, math.inf)
        for bend in (piece.start, piece.end):
            own = np.flatnonzero(x == bend)
            if own.size:
                down, _ = _directed(sign, self._enclose(piece, x[own[:1]], 0))
                known = np.repeat(down, own.size)
                value[own] = self._line(x[own], known, None if slope is None else slope[own])
        return value

    def _tangent(
        self, piece: Piece, sign: int, slope: Numbers | None, a: Numbers, b: Numbers
    ) -> Numbers:
        """The least of a tangent at a guessed place of a convex piece."""
        arithmetic = self.arithmetic
        wanted = np.zeros(a.shape) if slope is None else sign * arithmetic.floats_down(slope)
        guess = piece.guess(wanted, arithmetic.floats_down(a), arithmetic.floats_up(b))
        p = np.minimum(np.maximum(arithmetic.lift_down(guess), a), b)
        value, _ = _directed(sign, self._enclose(piece, p, 0))
        gentle, steep = _directed(sign, self._enclose(piece, p, 1))
        known = finite(value) & finite(gentle) & finite(steep)
        value, gentle, steep = (np.where(known, part, 0) for part in (value, gentle, steep))
        if slope is not None:
            gentle = arithmetic.add_down(gentle, -slope)
            steep = arithmetic.add_up(steep, -slope)
        ahead = arithmetic.multiply_down(gentle, arithmetic.add_up(b, -p))
        back = arithmetic.multiply_down(-steep, arithmetic.add_up(p, -a))
        fall = np.minimum(np.where(p == b, 0, ahead), np.where(p == a, 0, back))
        found = self._line(p, value, slope)
        found = np.where(fall >= 0, found, self._sum(found, fall))
        return np.where(known, found, -math.inf)

    def _bounded(self, sign: int, slope: Numbers | None, a: Numbers, b: Numbers) -> Numbers:
        """What the range alone says."""
        least = self.least if sign > 0 else -self.greatest
        ends = [self._line(x, np.full_like(x, least), slope) for x in (a, b)]
        return np.minimum(*ends)

    def _line(self, x: Numbers, value: Numbers, slope: Numbers | None) -> Numbers:
        """At most ``value - slope * x``."""
        if slope is None:
            return value
        return self._sum(value, self.arithmetic.multiply_down(-slope, x))

    def _sum(self, a: Numbers, b: Numbers) -> Numbers:
        """At most ``a + b``, where ``a`` may be infinite."""
        known = finite(a)
        return np.where(known, self.arithmetic.add_down(np.where(known, a, 0), b), a)


def _directed(sign: int, interval: Interval) -> Interval:
    return interval if sign > 0 else (-interval[1], -interval[0])


def finite(numbers: Numbers) -> npt.NDArray[np.bool_]:
    """Where numbers are neither infinite nor NaN."""
    return np.asarray((numbers > -math.inf) & (numbers < math.inf), dtype=bool)
