"""Projections of stars to one or two outputs: intervals and polygons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verifier.stars.corners import FloatArray
from verifier.stars.lp import Infeasible, SolverError
from verifier.stars.sets import Solver, Star, at_points, zonotope

DIRECTIONS = 200
"""Linear programs that one polygon may cost."""
FINE = 1e-4
"""Of a polygon's size: corners that stick out less are left out."""


@dataclass(frozen=True, eq=False)
class Projection:
    """A star's projection to ``d`` outputs, one or two.

    Where the star's corners are known both descriptions are of the same set.

    Attributes:
        corners: ``(k, d)`` points of the projection: the ends of an interval, or the corners
            of a polygon against the clock; fewer where it has no area.
        rows: ``(m, d + 1)`` half-spaces ``(g, h)`` that contain it, ``g y <= h``.
    """

    corners: FloatArray
    rows: FloatArray


def projected(star: Star, tensor: int, axes: tuple[int, ...], solver: Solver) -> Projection:
    """A star's projection to one or two entries of a tensor.

    Where its corners are not known, linear programs find those that stick out furthest,
    until no other sticks out by more than ``FINE`` or so many have been asked.  Where the
    solver has no answer, or no time, the corners are members that are known anyway, and the
    rows those of a box.
    """
    image = star.image(tensor)[:, list(axes)]
    known = at_points(image, star.predicates.points)
    if star.predicates.cornered:
        corners = _outline(known)
        return Projection(corners, half_spaces(corners))
    try:
        return _extreme(star, image, solver)
    except SolverError:
        least, most = zonotope(image, star.predicates)
        unit = np.eye(len(axes))
        sides = np.concatenate([-unit, unit])
        rows = np.concatenate([sides, np.concatenate([-least, most])[:, None]], axis=1)
        return Projection(_outline(known), rows)


def _outline(points: FloatArray) -> FloatArray:
    if points.shape[1] == 1 and len(points):
        return np.array([[points.min()], [points.max()]])
    return hull(points) if len(points) else points


def _extreme(star: Star, image: FloatArray, solver: Solver) -> Projection:
    """A projection in one or two dimensions, by directions."""
    rows: list[FloatArray] = []

    def furthest(direction: FloatArray) -> FloatArray | None:
        found = solver.minimise(star.predicates, -(image[1:] @ direction))
        if isinstance(found, Infeasible):
            return None
        most = float(image[0] @ direction) - found.bound
        rows.append(np.append(direction, most))
        return at_points(image, found.point[None])[0]

    size = image.shape[1]
    ends = [furthest(sign * axis) for axis in np.eye(size) for sign in (1.0, -1.0)]
    known = [end for end in ends if end is not None]
    points = _outline(np.array([*known, *at_points(image, star.predicates.points)]))
    settled: set[bytes] = set()
    while size == 2 and len(points) > 1 and len(rows) < DIRECTIONS:
        fresh = []
        spread = float(np.ptp(points, axis=0).max())
        for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
            key = a.tobytes() + b.tobytes()
            if key in settled or len(rows) >= DIRECTIONS:
                continue
            settled.add(key)
            outward = np.array([b[1] - a[1], a[0] - b[0]]) / float(np.hypot(*(b - a)))
            found = furthest(outward)
            if found is not None and outward @ (found - a) > FINE * spread:
                fresh.append(found)
        if not fresh:
            break
        points = hull(np.concatenate([points, fresh]))
    return Projection(points, np.array(rows).reshape(-1, size + 1))


def hull(points: FloatArray) -> FloatArray:
    """The corners ``(k, 2)`` of the convex hull of points, against the clock.

    Andrew 1979, "Another efficient algorithm for convex hulls in two dimensions".
    """
    order = points[np.lexsort((points[:, 1], points[:, 0]))]
    listed: list[list[float]] = order.tolist()  # floats: faster than arrays of two
    chains = []
    for given in (listed, listed[::-1]):
        chain: list[list[float]] = []
        for point in given:
            x, y = point
            while len(chain) > 1:
                (a, b), (c, d) = chain[-2], chain[-1]
                if (c - a) * (y - b) > (d - b) * (x - a):
                    break
                chain.pop()
            if not chain or chain[-1] != point:
                chain.append(point)
        chains.append(chain[:-1] if len(chain) > 1 else chain)
    corners = chains[0] + chains[1]
    return np.array(corners if len(corners) > 2 or corners[0] != corners[-1] else corners[:1])


def area(corners: FloatArray) -> float:
    """The area of a polygon, or the length of an interval."""
    if corners.shape[1] == 1:
        return float(np.ptp(corners))
    x, y = (corners - corners.mean(axis=0)).T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def half_spaces(corners: FloatArray) -> FloatArray:
    """Rows ``(g, h)``, ``(k, 1 + dimensions)``: the projection is where every ``g y <= h``.

    A polygon of no area is given by its edge's two sides and its bounding box.
    """
    if corners.shape[1] == 1:
        return np.array([[-1.0, -corners.min()], [1.0, corners.max()]])
    box = np.array(
        [
            [-1.0, 0.0, -corners[:, 0].min()],
            [1.0, 0.0, corners[:, 0].max()],
            [0.0, -1.0, -corners[:, 1].min()],
            [0.0, 1.0, corners[:, 1].max()],
        ]
    )
    if len(corners) == 1:
        return box
    edge = np.roll(corners, -1, axis=0) - corners
    normal = np.stack([edge[:, 1], -edge[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    rows = np.concatenate([normal, (normal * corners).sum(axis=1, keepdims=True)], axis=1)
    return rows if len(corners) > 2 else np.concatenate([rows, box])


def covered(polygons: Sequence[FloatArray], cells: int = 256) -> float:
    """The area of a union of polygons, counted on a grid; of intervals its length.

    Args:
        polygons: ``(k, 2)`` each, or ``(2, 1)`` intervals.
        cells: of the grid along an axis, over the bounding box.

    Returns:
        The area of the cells whose centre lies in some polygon.
    """
    polygons = [polygon for polygon in polygons if len(polygon)]
    if not polygons:
        return 0.0
    if polygons[0].shape[1] == 1:
        return _length(polygons)
    low = np.min([p.min(axis=0) for p in polygons], axis=0)
    high = np.max([p.max(axis=0) for p in polygons], axis=0)
    step = (high - low) / cells
    if not np.all(step > 0):
        return 0.0
    # By column of the grid how many polygons begin, less those that end, before a cell.
    turns = np.zeros((cells, cells + 1), dtype=np.int64)
    for polygon in polygons:
        first, last = (
            int(np.ceil((end - low[0]) / step[0] - 0.5))
            for end in (polygon[:, 0].min(), polygon[:, 0].max())
        )
        columns = np.arange(max(first, 0), min(last, cells))
        bottom, top = _heights(polygon, low[0] + (columns + 0.5) * step[0])
        begin, end = (
            np.ceil((y - low[1]) / step[1] - 0.5).clip(0, cells).astype(np.int64)
            for y in (bottom, top)
        )
        turns[columns, begin] += 1
        turns[columns, np.maximum(begin, end)] -= 1
    seen = np.cumsum(turns, axis=1)[:, :cells] > 0
    return float(np.count_nonzero(seen)) * float(np.prod(step))


def _heights(polygon: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The least and the greatest second coordinate of a polygon at first coordinates."""
    start, edge = polygon, np.roll(polygon, -1, axis=0) - polygon
    with np.errstate(divide="ignore", invalid="ignore"):
        y = start[:, 1] + (x[:, None] - start[:, 0]) * (edge[:, 1] / edge[:, 0])
    # Against the clock the edges below go right.
    below = np.where(edge[:, 0] > 0, y, -np.inf).max(axis=1, initial=-np.inf)
    above = np.where(edge[:, 0] < 0, y, np.inf).min(axis=1, initial=np.inf)
    return below, above


def _length(intervals: Sequence[FloatArray]) -> float:
    total, reached = 0.0, -np.inf
    for low, high in sorted((float(p.min()), float(p.max())) for p in intervals):
        total += max(0.0, high - max(low, reached))
        reached = max(reached, high)
    return total
