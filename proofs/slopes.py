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

NEITHER = 2
STEPS = 60
PATIENCE = 5
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
        place[solve] = root(lambda x: excess(x, own), start[solve], end[solve])
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


def root(function: Map, start: FloatArray, end: FloatArray) -> FloatArray:
    """Where a function changes its sign between ``start`` and ``end``, elementwise.

    Regula falsi in the Illinois variant, with every third step a bisection.
    """
    a, b = start, end
    at_a, at_b = function(a), function(b)
    best, at_best = b, np.abs(at_b)
    idle = 0
    for step in range(STEPS):
        falsi, middle = b - at_b * ((b - a) / (at_b - at_a)), _middle(a, b)
        inside = (falsi >= np.minimum(a, b)) & (falsi <= np.maximum(a, b))
        x = np.where(inside & (step % 3 < 2), falsi, middle)
        at_x = function(x)
        better = np.abs(at_x) < at_best
        idle = 0 if better.any() else idle + 1
        if idle > PATIENCE:
            break
        best, at_best = np.where(better, x, best), np.where(better, np.abs(at_x), at_best)
        crossed = (at_x > 0) != (at_b > 0)
        a, at_a = np.where(crossed, b, a), np.where(crossed, at_b, 0.5 * at_a)
        b, at_b = x, at_x
    return best


def _middle(a: FloatArray, b: FloatArray) -> FloatArray:
    """Halfway; in a long interval halfway on a logarithmic scale."""
    long = np.abs(b - a) > 8.0
    return np.where(long, np.sinh(0.5 * np.arcsinh(a) + 0.5 * np.arcsinh(b)), 0.5 * a + 0.5 * b)
