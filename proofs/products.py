"""Products of two tensors: interval propagation, and the rule Relax with McCormick's planes.

On a box ``[a, b] x [c, d]`` the product lies above ``c x + a y - a c`` and ``d x + b y - b d``
and below ``d x + a y - a d`` and ``c x + b y - b c`` (McCormick 1976), so also above and
below any mixture of the two.  A hint is the first plane's weight.  Whatever slopes come of
it, after rounding, the intercept is found anew: ``x y - p x - q y`` is bilinear, so its
extremes over the box lie at the corners.

Bounds of ``s = x + t y`` and ``r = x - t y`` give planes as well, as ``4 t x y = s^2 - r^2``:
below, a tangent of ``s^2`` and the chord of ``r^2``; above, the other way round.  Where they
leave less between them and the product, they are taken, and a hint says where between the
ends the tangent touches.  ``4 t (x y - p x - q y)`` is a function of ``s`` plus one of ``r``,
each with its least value, which gives an intercept for any slopes; the better one counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Arithmetic, Interval, Numbers, bounded
from specs.enclosure import FloatArray

STEEPEST = 2.0**60

NARROWER = 0.9
"""Planes of squares are taken where they leave this much of what McCormick's leave."""


@dataclass(frozen=True, eq=False)
class Squared:
    """Bounds ``(B, n)`` of ``s = x + t y`` and ``r = x - t y``; ``t (n,)``, positive."""

    total: Interval
    difference: Interval
    scale: FloatArray

    def where(self, inside: npt.NDArray[np.bool_]) -> Squared:
        """The same with bounds 0 elsewhere."""
        return Squared(_where(inside, self.total), _where(inside, self.difference), self.scale)

    def mirrored(self) -> Squared:
        """With ``-x`` for ``x``: ``x + t y`` becomes ``-(x - t y)``, and the other way round."""
        total, difference = ((-high, -low) for low, high in (self.difference, self.total))
        return Squared(total, difference, self.scale)


def product_image(arithmetic: Arithmetic, left: Interval, right: Interval) -> Interval:
    """An interval that contains the products of numbers from two intervals."""
    finite = bounded(left, right)
    if not finite.all():
        left, right = _where(finite, left), _where(finite, right)
        low, high = product_image(arithmetic, left, right)
        return np.where(finite, low, -np.inf), np.where(finite, high, np.inf)
    down = [arithmetic.multiply_down(x, y) for x in left for y in right]
    up = [arithmetic.multiply_up(x, y) for x in left for y in right]
    lower, upper = down[0], up[0]
    for low, high in zip(down[1:], up[1:], strict=True):
        lower, upper = np.minimum(lower, low), np.maximum(upper, high)
    return lower, upper


def planes(
    arithmetic: Arithmetic,
    left: Interval,
    right: Interval,
    below: FloatArray | None,
    above: FloatArray | None,
    squared: Squared | None = None,
) -> tuple[tuple[Numbers, Numbers], Numbers, tuple[Numbers, Numbers], Numbers]:
    """Slopes in both factors and intercepts, of a plane below and of a plane above.

    Args:
        arithmetic: of the bounds.
        left, right: bounds of the factors, ``(B, n)``.
        below, above: hints in [0, 1]; where NaN or ``None``, 1/2.  The weight of the first
            of McCormick's planes, or where between its ends a square's tangent touches.
        squared: bounds of the two forms, if any.
    """
    finite = bounded(left, right)
    if squared is not None and np.any(finite & ~bounded(squared.total, squared.difference)):
        return planes(arithmetic, left, right, below, above)
    if not finite.all():
        left, right = _where(finite, left), _where(finite, right)
        within = None if squared is None else squared.where(finite)
        under, floor, over, ceiling = planes(arithmetic, left, right, below, above, within)
        return under, np.where(finite, floor, -np.inf), over, np.where(finite, ceiling, np.inf)
    slopes = _slopes(arithmetic, left, right, below, above, squared)
    lower, upper = ((arithmetic.lift_down(p), arithmetic.lift_down(q)) for p, q in slopes)
    floor = _extreme(arithmetic, lower, left, right)
    # The greatest of x y - p x - q y is minus the least for -x.
    negated, mirrored = (-left[1], -left[0]), (upper[0], -upper[1])
    least = _extreme(arithmetic, mirrored, negated, right)
    if squared is not None:
        floor = np.maximum(floor, _separate(arithmetic, lower, squared))
        least = np.maximum(least, _separate(arithmetic, mirrored, squared.mirrored()))
    return lower, floor, upper, -least


def _floats(arithmetic: Arithmetic, interval: Interval) -> tuple[FloatArray, FloatArray]:
    return arithmetic.floats_down(interval[0]), arithmetic.floats_up(interval[1])


def _slopes(
    arithmetic: Arithmetic,
    left: Interval,
    right: Interval,
    below: FloatArray | None,
    above: FloatArray | None,
    squared: Squared | None,
) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """Slopes of the planes below and above; nothing depends on what they are.

    Squares are taken where their planes leave less on average, over the box.  McCormick's
    leave a quarter of the area; a tangent in the middle of an interval of width ``w`` leaves
    ``w^2 / 12`` of the square, a chord ``w^2 / 6``.
    """
    (a, b), (c, d) = _floats(arithmetic, left), _floats(arithmetic, right)
    first, second = _weight(below, a), _weight(above, a)
    under = _mixed(d, c, first), _mixed(b, a, first)
    over = _mixed(c, d, second), _mixed(b, a, second)
    if squared is None:
        return under, over
    (e, f), (g, h) = _floats(arithmetic, squared.total), _floats(arithmetic, squared.difference)
    t, total, difference = squared.scale, (f - e) ** 2, (h - g) ** 2
    most = NARROWER * 12.0 * t * (b - a) * (d - c)
    s, r = _mixed(e, f, first), (g + h) * 0.5
    taken = total + 2.0 * difference < most
    under = _chosen(taken, ((s - r) * 0.5 / t, (s + r) * 0.5), under)
    s, r = (e + f) * 0.5, _mixed(g, h, second)
    taken = difference + 2.0 * total < most
    return under, _chosen(taken, ((s - r) * 0.5 / t, (s + r) * 0.5), over)


def _chosen(
    taken: npt.NDArray[np.bool_],
    ours: tuple[FloatArray, FloatArray],
    others: tuple[FloatArray, FloatArray],
) -> tuple[FloatArray, FloatArray]:
    p, q = (np.where(taken, _usable(a), b) for a, b in zip(ours, others, strict=True))
    return p, q


def _where(finite: npt.NDArray[np.bool_], interval: Interval) -> Interval:
    return np.where(finite, interval[0], 0), np.where(finite, interval[1], 0)


def _weight(hint: FloatArray | None, like: FloatArray) -> FloatArray:
    if hint is None:
        return np.full(like.shape, 0.5)
    return np.clip(np.where(np.isnan(hint), 0.5, hint), 0.0, 1.0)


def _mixed(start: FloatArray, end: FloatArray, weight: FloatArray) -> FloatArray:
    """A number from ``start`` (weight 0) to ``end`` (weight 1), finite."""
    return _usable(start * (1.0 - weight) + end * weight)


def _usable(slopes: FloatArray) -> FloatArray:
    finite = np.nan_to_num(slopes, nan=0.0, posinf=STEEPEST, neginf=-STEEPEST)
    return np.clip(finite, -STEEPEST, STEEPEST)


def _extreme(
    arithmetic: Arithmetic, slopes: tuple[Numbers, Numbers], left: Interval, right: Interval
) -> Numbers:
    """At most the least of ``x y - p x - q y`` over boxes."""
    least: Numbers | None = None
    for x in left:
        for y in right:
            value = arithmetic.multiply_down(x, y)
            for slope, end in zip(slopes, (x, y), strict=True):
                value = arithmetic.add_down(value, arithmetic.multiply_down(-slope, end))
            least = value if least is None else np.minimum(least, value)
    return np.asarray(least)


def _separate(arithmetic: Arithmetic, slopes: tuple[Numbers, Numbers], squared: Squared) -> Numbers:
    """At most the least of ``x y - p x - q y`` for bounds of ``s = x + t y``, ``r = x - t y``.

    Times ``4 t`` it is ``s^2 - 2 (t p + q) s`` plus ``-r^2 - 2 (t p - q) r``.  The first is
    convex, so above its tangent at any point; the second is least at an end.
    """
    total, difference, scale = squared.total, squared.difference, squared.scale
    doubled = arithmetic.lift_down(-2.0 * scale)
    ways = (arithmetic.multiply_down, arithmetic.multiply_up)
    steep = [multiply(slopes[0], doubled) for multiply in ways]
    flat = -2 * slopes[1]
    low, high = _floats(arithmetic, total)
    middle = -0.5 * (arithmetic.floats_down(steep[0]) + arithmetic.floats_down(flat))
    point = arithmetic.lift_down(_usable(np.clip(middle, low, high)))

    def least(end: Numbers, own: Numbers, last: Numbers) -> Numbers:
        """Of ``(own + steep + last) end``, at an end of an interval."""
        leaning = np.minimum(*(arithmetic.multiply_down(part, end) for part in steep))
        rest = (arithmetic.multiply_down(part, end) for part in (own, last))
        return arithmetic.add_down(leaning, arithmetic.add_down(*rest))

    convex = np.minimum(*(least(end, 2 * point, flat) for end in total))
    convex = arithmetic.add_down(convex, -arithmetic.multiply_up(point, point))
    concave = np.minimum(*(least(end, -end, -flat) for end in difference))
    both = arithmetic.add_down(convex, concave)
    return -arithmetic.divide_up(-both, arithmetic.lift_down(4.0 * scale))
