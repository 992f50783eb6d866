"""Default slopes of smooth functions, in plain floats: guesses, of which any is sound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from specs.enclosure import FloatArray

Map = Callable[[FloatArray], FloatArray]
Slopes = tuple[FloatArray, FloatArray]
Signs = npt.NDArray[np.int64]
Index = npt.NDArray[np.int64]

NEITHER = 2
STEPS = 60
SAMPLES = 16
"""Intervals between the samples from which slopes are taken where there is no rule."""


class Shape(Protocol):
    """What the choice of slopes looks at: see :class:`proofs.curves.Curve`."""

    @property
    def bends(self) -> tuple[float, ...]: ...

    @property
    def corners(self) -> tuple[float, ...]: ...

    @property
    def curvatures(self) -> tuple[int | None, ...]: ...

    @property
    def value(self) -> Map: ...

    @property
    def derivative(self) -> Map: ...


def up_to(limit: float, hints: FloatArray) -> FloatArray:
    """Hints with NaN made 0 and what is beyond a limit made that limit."""
    known = np.nan_to_num(hints, nan=0.0, posinf=limit, neginf=-limit)
    return np.asarray(np.clip(known, -limit, limit), dtype=np.float64)


def default_slopes(shape: Shape, lower: FloatArray, upper: FloatArray) -> Slopes:
    """Slopes of the line below and the line above on ``[lower, upper]``.

    Convex functions: the tangent at the middle and the chord.  Functions with one
    inflection inside: the chord, or the tangent through the end on the other side, but
    no farther out than at the middle.  Others: the hull of samples, at the middle.
    """
    below, above = np.zeros(lower.shape), np.zeros(lower.shape)
    turns, runs = _turns(shape)
    corners = np.array(shape.corners)
    run = np.searchsorted(turns, lower, "right")
    inside = np.searchsorted(turns, upper, "left") - run
    sharp = np.searchsorted(corners, upper, "left") > np.searchsorted(corners, lower, "right")
    first = runs[run]
    second = runs[np.minimum(run + 1, runs.size - 1)]
    finite = np.isfinite(lower) & np.isfinite(upper)
    point = finite & ~(lower < upper)
    smooth = finite & ~point & (inside <= 0) & (first != NEITHER)
    bent = finite & ~point & (inside == 1) & ~sharp & (first * second == -1)
    other = finite & ~point & ~smooth & ~bent
    with np.errstate(all="ignore"):
        for mask, rule in ((point, _points), (smooth, _smooth), (bent, _bent), (other, _hull)):
            if mask.any():
                bend = turns[run[mask]] if rule is _bent else lower[mask]
                slopes = rule(shape, lower[mask], upper[mask], first[mask], bend)
                below[mask], above[mask] = slopes
    return below, above


def _turns(shape: Shape) -> tuple[FloatArray, Signs]:
    """The bends at which one shape ends and another begins, and the shapes in between."""
    turns, runs = [], [shape.curvatures[0]]
    for bend, after in zip(shape.bends, shape.curvatures[1:], strict=True):
        before = runs[-1]
        if bend in shape.corners or after is None or before is None or after * before < 0:
            turns.append(bend)
            runs.append(after)
        else:  # a linear piece goes with its neighbour
            runs[-1] = after or before
    return np.array(turns), np.array([NEITHER if run is None else run for run in runs])


def _points(shape: Shape, low: FloatArray, high: FloatArray, sign: Signs, _: FloatArray) -> Slopes:
    slope = shape.derivative(low)
    return slope, slope


def _smooth(shape: Shape, low: FloatArray, high: FloatArray, sign: Signs, _: FloatArray) -> Slopes:
    tangent = shape.derivative(0.5 * low + 0.5 * high)
    chord = (shape.value(high) - shape.value(low)) / (high - low)
    return np.where(sign >= 0, tangent, chord), np.where(sign > 0, chord, tangent)


def _bent(shape: Shape, low: FloatArray, high: FloatArray, sign: Signs, bend: FloatArray) -> Slopes:
    middle = 0.5 * low + 0.5 * high
    right = _touched(shape, low, np.maximum(bend, middle), high, -sign)
    left = _touched(shape, high, np.minimum(bend, middle), low, sign)
    return np.where(sign > 0, left, right), np.where(sign > 0, right, left)


def _touched(
    shape: Shape, anchor: FloatArray, start: FloatArray, end: FloatArray, sign: Signs
) -> FloatArray:
    """Slope of a line on the side where the function is curved by ``sign`` beyond ``start``.

    The chord from ``anchor`` to ``end``, or the tangent through ``anchor`` if it touches
    between ``start`` and ``end``, or the tangent at ``start``.
    """

    def excess(x: FloatArray, anchor: FloatArray) -> FloatArray:
        return shape.value(x) - shape.value(anchor) - shape.derivative(x) * (x - anchor)

    chord = (shape.value(end) - shape.value(anchor)) / (end - anchor)
    touching = sign * excess(end, anchor) < 0
    early = sign * excess(start, anchor) <= 0
    solve = touching & ~early
    place = start.copy()
    if solve.any():
        own = anchor[solve]
        place[solve] = root(lambda x, k: excess(x, own[k]), start[solve], end[solve])
    return np.where(touching, shape.derivative(place), chord)


def _hull(shape: Shape, low: FloatArray, high: FloatArray, sign: Signs, _: FloatArray) -> Slopes:
    share = np.arange(SAMPLES + 1) / SAMPLES
    step = (high - low) / SAMPLES
    y = shape.value(low[:, None] + (high - low)[:, None] * share)
    return _support(y) / step, -_support(-y) / step


def _support(y: FloatArray) -> FloatArray:
    """Slope, per sample, of the lower convex hull of samples at their middle."""
    middle = SAMPLES // 2
    left, right = y[:, :middle, None], y[:, None, middle + 1 :]
    back = np.arange(middle, 0, -1)[None, :]
    ahead = np.arange(1, SAMPLES - middle + 1)[None, :]
    chords = (left * ahead[:, None, :] + right * back[:, :, None]) / (
        back[:, :, None] + ahead[:, None, :]
    )
    least = np.minimum(chords.min(axis=(1, 2)), y[:, middle])[:, None]
    steepest = ((least - y[:, :middle]) / back).max(axis=1)
    flattest = ((y[:, middle + 1 :] - least) / ahead).min(axis=1)
    return 0.5 * steepest + 0.5 * flattest


def root(
    function: Callable[[FloatArray, Index], FloatArray], start: FloatArray, end: FloatArray
) -> FloatArray:
    """Where a function changes its sign between ``start`` and ``end``, elementwise.

    Inverse quadratic interpolation where it may be relied on, else bisection (Chandrupatla
    1997); in long intervals of the inverse hyperbolic sine of the argument.

    Args:
        function: of arguments, and of the places in the array that they belong to.
        start, end: ``(N,)``.
    """
    long = np.abs(end - start) > 8.0
    x = np.stack([np.where(long, np.arcsinh(part), part) for part in (start, end, start)])
    f = np.stack([function(part, np.arange(start.size)) for part in (start, end, start)])
    place, found, step = np.arange(start.size), end.copy(), np.full(start.size, 0.5)
    for _ in range(STEPS):
        new = x[0] + step * (x[1] - x[0])
        at_new = function(np.where(long, np.sinh(new), new), place)
        same = (at_new > 0) == (f[0] > 0)
        x[2], f[2] = np.where(same, x[0], x[1]), np.where(same, f[0], f[1])
        x[1], f[1] = np.where(same, x[1], x[0]), np.where(same, f[1], f[0])
        x[0], f[0] = new, at_new
        nearer = np.abs(f[0]) <= np.abs(f[1])
        best = np.where(nearer, x[0], x[1])
        found[place] = np.where(long, np.sinh(best), best)
        share = 2.0**-52 * np.abs(best) / np.abs(x[1] - x[0])
        going = (share < 0.5) & (np.minimum(np.abs(f[0]), np.abs(f[1])) > 0)
        if not going.any():
            break
        x, f, place, long, share = x[:, going], f[:, going], place[going], long[going], share[going]
        step = np.clip(_interpolated(x, f), share, 1.0 - share)
    return found


def _interpolated(x: FloatArray, f: FloatArray) -> FloatArray:
    """The next step as a share of the interval; half where the quadratic is not monotone."""
    xi, phi = (x[0] - x[1]) / (x[2] - x[1]), (f[0] - f[1]) / (f[2] - f[1])
    inverse = f[0] / (f[1] - f[0]) * f[2] / (f[1] - f[2])
    inverse += (x[2] - x[0]) / (x[1] - x[0]) * f[0] / (f[2] - f[0]) * f[1] / (f[2] - f[1])
    good = (phi * phi < xi) & ((1.0 - phi) ** 2 < 1.0 - xi)
    return np.where(good, inverse, 0.5)
