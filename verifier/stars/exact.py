"""Exact splitting of stars by functions that are piecewise linear.

A neuron whose input takes values on both sides of a break of its function splits the star
in two, each with one more row, and its output is affine on either part.  Most neurons are
decided without a linear program: the zonotope shows that no break is inside, or two members
lie on different sides of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from verifier.stars.corners import FloatArray
from verifier.stars.lp import Infeasible
from verifier.stars.sets import Origin, Predicates, Solver, Star, Why, at_points, zonotope

TOLERANCE = 1e-9
"""How far inside its range a break must lie to split a star, relative to the size of the
numbers that are added up: less is rounding."""

IndexArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """A piecewise linear function of one number; all elementwise.

    Attributes:
        inside: a break ``low < b < high``, near the middle if there are many; NaN if none.
        value: the function.
        slope: its slope between breaks.
    """

    inside: Callable[[FloatArray, FloatArray], FloatArray]
    value: Callable[[FloatArray], FloatArray]
    slope: Callable[[FloatArray], FloatArray]

    @property
    def jumps(self) -> bool:
        """Whether it is constant between its breaks."""
        return self.slope is np.zeros_like


def _at_zero(low: FloatArray, high: FloatArray) -> FloatArray:
    return np.where((low < 0) & (high > 0), 0.0, np.nan)


def _whole(low: FloatArray, high: FloatArray) -> FloatArray:
    first, last = np.floor(low) + 1, np.ceil(high) - 1
    return np.where(first <= last, np.clip(np.rint(0.5 * (low + high)), first, last), np.nan)


def _half(low: FloatArray, high: FloatArray) -> FloatArray:
    return _whole(low - 0.5, high - 0.5) + 0.5


PIECEWISE = {
    "relu": Pieces(_at_zero, lambda x: np.maximum(x, 0.0), lambda x: (x > 0).astype(np.float64)),
    "sign": Pieces(_at_zero, np.sign, np.zeros_like),
    "floor": Pieces(_whole, np.floor, np.zeros_like),
    "round": Pieces(_half, np.rint, np.zeros_like),
}
"""The project's piecewise linear functions; others are relaxed."""


@dataclass(frozen=True, eq=False)
class Pending:
    """A star whose neurons of one layer are done but for some.

    Attributes:
        star: without the layer's output.
        image: ``(1 + p, n)`` the output, right where it is done.
        entries: the neurons left, the widest first.
        breaks: a break of each, inside its range.
        low, high: bounds of their inputs that splits have set; infinite if none.
    """

    star: Star
    image: FloatArray
    entries: IndexArray
    breaks: FloatArray
    low: FloatArray
    high: FloatArray


def begin(star: Star, source: int, pieces: Pieces, solver: Solver) -> list[Pending]:
    """Decide what can be decided of a layer.

    Returns:
        The star; and, of functions that jump, faces of it where a neuron's input is just a
        value at which the function takes another value than beside it.

    Raises:
        SolverError: a linear program has no answer.
    """
    image = star.images[source]
    size = image.shape[1]
    infinite = np.full(size, np.inf)
    start = Pending(
        star, np.zeros_like(image), np.arange(size), np.full(size, np.nan), -infinite, infinite
    )
    return _decided(start, source, pieces, solver)


def split(pending: Pending, source: int, pieces: Pieces, solver: Solver) -> list[Pending]:
    """Split at the first neuron that is left, and decide what that decides.

    Raises:
        SolverError: a linear program has no answer.
    """
    entry, at = int(pending.entries[0]), float(pending.breaks[0])
    image = pending.star.images[source]
    used = len(image) - 1
    row = np.zeros(pending.star.predicates.size)
    row[:used] = image[1:, entry]
    why = [Origin(kind, source, entry, (), at) for kind in (Why.BELOW, Why.ABOVE)]
    limit = at - float(image[0, entry])
    parts = pending.star.predicates.divided(row, limit, why[0], why[1])
    made = []
    for k, part in enumerate(parts):
        if part is None or not _inhabited(part, solver):
            continue
        low, high = pending.low.copy(), pending.high.copy()
        (high if k == 0 else low)[0] = at
        star = Star(part, pending.star.images, pending.star.exact)
        left = Pending(star, pending.image, pending.entries, pending.breaks, low, high)
        made += _decided(left, source, pieces, solver)
    if pieces.jumps and _uncovered(pieces, at):
        made += _face(pending, source, pieces, entry, at, solver)
    return made


def _face(
    pending: Pending,
    source: int,
    pieces: Pieces,
    entry: int,
    at: float,
    solver: Solver,
    again: tuple[int, ...] = (),
) -> list[Pending]:
    """The part where a neuron's input is just a value; nothing where that cannot be.

    ``again`` are neurons that are to be decided anew.
    """
    image = pending.star.images[source]
    row = np.zeros(pending.star.predicates.size)
    row[: len(image) - 1] = image[1:, entry]
    why = Origin(Why.BELOW, source, entry, (), at)
    part = pending.star.predicates.on(row, at - float(image[0, entry]), why)
    if not _inhabited(part, solver):
        return []
    output = pending.image.copy()
    output[:, entry] = 0.0
    output[0, entry] = pieces.value(np.array([at]))[0]
    others = pending.entries != entry
    fresh = np.array([k for k in again if k != entry], dtype=np.int64)
    infinite = np.full(fresh.size, np.inf)
    left = Pending(
        Star(part, pending.star.images, pending.star.exact),
        output,
        np.concatenate([pending.entries[others], fresh]),
        np.concatenate([pending.breaks[others], infinite]),
        np.concatenate([pending.low[others], -infinite]),
        np.concatenate([pending.high[others], infinite]),
    )
    return _decided(left, source, pieces, solver)


def _uncovered(pieces: Pieces, at: float) -> bool:
    """Whether the function's value at a break is that of neither piece beside it."""
    before, value, after = pieces.value(np.array([at - 0.25, at, at + 0.25]))
    return bool(value not in (before, after))


def _inhabited(predicates: Predicates, solver: Solver) -> bool:
    """Whether a polytope has a member."""
    if len(predicates.points):
        return True
    return not isinstance(solver.feasible(predicates), Infeasible)


def _decided(pending: Pending, source: int, pieces: Pieces, solver: Solver) -> list[Pending]:
    """Write the outputs of neurons whose input has no break inside; order the others.

    With the faces of the part; see :func:`begin`.
    """
    star = pending.star
    predicates = star.predicates
    image = star.images[source][:, pending.entries]
    values = at_points(image, predicates.points)
    low = values.min(axis=0, initial=np.inf)
    high = values.max(axis=0, initial=-np.inf)
    if predicates.cornered:
        margin = _margin(image, low, high)
        low, high = np.maximum(low, pending.low), np.minimum(high, pending.high)
        breaks = pieces.inside(low + margin, high - margin)
    else:
        outer = zonotope(image, predicates)
        margin = _margin(image, *outer)
        outer = np.maximum(outer[0], pending.low), np.minimum(outer[1], pending.high)
        low, high, breaks, points = _by_programs(
            image, predicates, pieces, solver, (low, high), outer, margin
        )
        star = replace(star, predicates=predicates.with_points(points))
    done = np.isnan(breaks)
    output = pending.image.copy()
    entries = pending.entries[done]
    middle = 0.5 * (low[done] + high[done])
    slope = pieces.slope(middle)
    output[:, entries] = image[:, done] * slope
    if pieces.jumps:
        # What is equal to a break up to rounding is taken to be equal.
        nearest = np.rint(2 * middle) / 2
        equal = (high[done] - low[done] <= 2 * margin[done]) & (
            np.abs(middle - nearest) <= 2 * margin[done]
        )
        output[0, entries] = pieces.value(np.where(equal, nearest, middle))
    (left,) = np.nonzero(~done)
    order = np.argsort(-np.minimum(breaks[left] - low[left], high[left] - breaks[left]))
    left = left[order]
    made = Pending(
        star,
        output,
        pending.entries[left],
        breaks[left],
        pending.low[left],
        pending.high[left],
    )
    parts = [made]
    if pieces.jumps:
        ends = low[done], high[done]
        # Where a split has put an end, the other side has the face.
        free = pending.low[done] < ends[0], pending.high[done] > ends[1]
        faces = _faces(pieces, entries, ends, free, margin[done])
        for k, (entry, at) in enumerate(faces):
            # Where two faces meet both neurons have values of their own.
            others = tuple(dict.fromkeys(other for other, _ in faces[k + 1 :]))
            parts += _face(made, source, pieces, entry, at, solver, others)
    return parts


def _margin(image: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    size = np.abs(image[0]) + np.maximum(np.abs(low), np.abs(high))
    return TOLERANCE * np.maximum(size, 1e-3)


def _faces(
    pieces: Pieces,
    entries: IndexArray,
    ends: tuple[FloatArray, FloatArray],
    free: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
    margin: FloatArray,
) -> list[tuple[int, float]]:
    """Neurons whose input ends at a value where the function takes another than beside it."""
    low, high = ends
    found = []
    beside = pieces.value(0.5 * (low + high))
    for end, counts in zip(ends, free, strict=True):
        nearest = np.rint(2 * end) / 2
        touching = counts & (np.abs(end - nearest) <= margin) & (high - low > 2 * margin)
        other = touching & (pieces.value(nearest) != beside)
        found += [(int(entries[k]), float(nearest[k])) for k in np.flatnonzero(other)]
    return found


def _by_programs(
    image: FloatArray,
    predicates: Predicates,
    pieces: Pieces,
    solver: Solver,
    inner: tuple[FloatArray, FloatArray],
    outer: tuple[FloatArray, FloatArray],
    margin: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Breaks inside the ranges of neurons, by linear programs where nothing else decides.

    Returns:
        The ends of each range as far as they were needed, breaks, and points found.
    """
    least, most = outer[0].copy(), outer[1].copy()
    # Without a point the inner range is empty.
    low, high = np.minimum(inner[0], most), np.maximum(inner[1], least)
    breaks = pieces.inside(low + margin, high - margin)
    possible = pieces.inside(least + margin, most - margin)
    points = []
    for k in np.flatnonzero(np.isnan(breaks) & ~np.isnan(possible)):
        for sign in (-1.0, 1.0):  # the upper end first
            if not np.isnan(breaks[k]):
                break
            # Of use where a break lies between what is known to be reached and what may be.
            part = slice(k, k + 1)
            ends = (
                (high - 2 * margin, most - margin)
                if sign < 0
                else (least + margin, low + 2 * margin)
            )
            if np.isnan(pieces.inside(ends[0][part], ends[1][part])[0]):
                continue
            found = solver.minimise(predicates, sign * image[1:, k])
            if isinstance(found, Infeasible):
                continue
            points.append(found.point)
            seen = at_points(image, found.point[None])[0]
            low, high = np.minimum(low, seen), np.maximum(high, seen)
            if sign < 0:
                most[k] = min(most[k], image[0, k] - found.bound)
            else:
                least[k] = max(least[k], image[0, k] + found.bound)
            breaks = np.where(np.isnan(breaks), pieces.inside(low + margin, high - margin), breaks)
    split = ~np.isnan(breaks)
    low, high = np.where(split, low, least), np.where(split, high, np.maximum(least, most))
    return low, high, breaks, np.array(points).reshape(-1, predicates.size)
