"""Corners of a polytope of few dimensions, kept while half-spaces cut it.

With all corners at hand the ends of any linear form are the ends over the corners, and no
linear program is needed.  A cell of a network's arrangement of hyperplanes has few of them:
in ``p`` dimensions ``2^p`` on average, as a box has, since the cells of a simple
arrangement have no more.  Which facets a corner lies on says which corners an edge joins
(Fukuda and Prodon 1996, "Double description method revisited", Proposition 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

ON = 1e-10
"""Corners this near to a plane lie on it, where coordinates are of size 1 and so are the
plane's coefficients."""


@dataclass(frozen=True, eq=False)
class Corners:
    """All corners of a full-dimensional polytope.

    Attributes:
        points: ``(k, p)``.
        facets: ``(k, f)`` the facets that each corner lies on.
    """

    points: FloatArray
    facets: BoolArray


def box_corners(lower: FloatArray, upper: FloatArray) -> Corners:
    """The corners of a box; ``(p,)`` each, the lower end truly lower."""
    size = lower.size
    high = (np.arange(1 << size)[:, None] >> np.arange(size)) & 1 == 1
    points = np.where(high, upper, lower)
    return Corners(points, np.concatenate([~high, high], axis=1))


def divide(corners: Corners, heights: FloatArray) -> tuple[Corners | None, Corners | None]:
    """The parts of a polytope where an affine form is at most, and at least, 0.

    Args:
        corners: of the polytope.
        heights: ``(k,)`` the form at the corners.

    Returns:
        Each part, or ``None`` where it has no interior.
    """
    above, below = heights > ON, heights < -ON
    if not above.any():
        return (corners if below.any() else None), None
    if not below.any():
        return None, corners
    (high,), (low,), (flat,) = np.nonzero(above), np.nonzero(below), np.nonzero(~(above | below))
    first, second, shared = _edges(corners, low, high)
    share = heights[first] / (heights[first] - heights[second])
    start = corners.points[first]
    fresh = start + share[:, None] * (corners.points[second] - start)
    parts = []
    for side in (low, high):
        old = np.concatenate([side, flat])
        points = np.concatenate([corners.points[old], fresh])
        plane = np.ones(len(points), dtype=bool)
        plane[: side.size] = False
        facets = np.concatenate([corners.facets[old], shared])
        facets = np.concatenate([facets, plane[:, None]], axis=1)
        # A facet of a polytope in p dimensions has at least p corners.
        kept = facets.sum(axis=0) >= points.shape[1]
        parts.append(Corners(points, facets[:, kept]))
    return parts[0], parts[1]


def _edges(
    corners: Corners, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], BoolArray]:
    """Edges from one set of corners to another: their ends, and the facets they lie on."""
    dimensions = corners.points.shape[1]
    counted = corners.facets.astype(np.float32)
    common = counted[low] @ counted[high].T
    i, j = np.nonzero(common >= dimensions - 1)
    first, second = low[i], high[j]
    shared = corners.facets[first] & corners.facets[second]
    # Two corners are neighbours if nobody else lies on all the facets that they share.
    asked = shared.astype(np.float32)
    present = asked @ counted.T == asked.sum(axis=1)[:, None]
    edge = present.sum(axis=1) == 2
    return first[edge], second[edge], shared[edge]
