"""Products of two tensors: interval propagation, and the rule Relax with McCormick's planes.

On a box ``[a, b] x [c, d]`` the product lies above ``c x + a y - a c`` and ``d x + b y - b d``
and below ``d x + a y - a d`` and ``c x + b y - b c`` (McCormick 1976), so also above and
below any mixture of the two.  A hint is the first plane's weight.  Whatever slopes come of
it, after rounding, the intercept is found anew: ``x y - p x - q y`` is bilinear, so its
extremes over the box lie at the corners.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Arithmetic, Interval, Numbers, bounded
from specs.enclosure import FloatArray

STEEPEST = 2.0**60


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
) -> tuple[tuple[Numbers, Numbers], Numbers, tuple[Numbers, Numbers], Numbers]:
    """Slopes in both factors and intercepts, of a plane below and of a plane above.

    Args:
        arithmetic: of the bounds.
        left, right: bounds of the factors, ``(B, n)``.
        below, above: weights of the first of the two planes, in [0, 1]; where NaN or
            ``None``, 1/2, with which the planes are tangent in the middle of the box.
    """
    finite = bounded(left, right)
    if not finite.all():
        left, right = _where(finite, left), _where(finite, right)
        under, floor, over, ceiling = planes(arithmetic, left, right, below, above)
        return under, np.where(finite, floor, -np.inf), over, np.where(finite, ceiling, np.inf)
    (a, b), (c, d) = (
        (arithmetic.floats_down(low), arithmetic.floats_up(high)) for low, high in (left, right)
    )
    first, second = _weight(below, a), _weight(above, a)
    under = (_slope(arithmetic, d, c, first), _slope(arithmetic, b, a, first))
    over = (_slope(arithmetic, c, d, second), _slope(arithmetic, b, a, second))
    floor = _extreme(arithmetic, under, left, right)
    negated = (-left[1], -left[0])  # the greatest of x y - p x - q y: minus the least for -x
    ceiling = -_extreme(arithmetic, (over[0], -over[1]), negated, right)
    return under, floor, over, ceiling


def _where(finite: npt.NDArray[np.bool_], interval: Interval) -> Interval:
    return np.where(finite, interval[0], 0), np.where(finite, interval[1], 0)


def _weight(hint: FloatArray | None, like: FloatArray) -> FloatArray:
    if hint is None:
        return np.full(like.shape, 0.5)
    return np.clip(np.where(np.isnan(hint), 0.5, hint), 0.0, 1.0)


def _slope(
    arithmetic: Arithmetic, start: FloatArray, end: FloatArray, weight: FloatArray
) -> Numbers:
    """A number from ``start`` (weight 0) to ``end`` (weight 1), finite."""
    mixed = start * (1.0 - weight) + end * weight
    clipped = np.nan_to_num(mixed, nan=0.0, posinf=STEEPEST, neginf=-STEEPEST)
    return arithmetic.lift_down(np.clip(clipped, -STEEPEST, STEEPEST))


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
