"""Stars: affine images of a polytope of predicates.

A tensor's *image* is an array ``(1 + p, n)``: its centre and, for each of ``p`` predicates,
its basis in the tensor's own layout, so that a linear map is applied to all of them in one
batch (an ImageStar: Tran et al. 2020).  Several tensors of one star share their predicates;
that keeps what a residual connection adds up correlated.

Beside the rows a star keeps bounds of its predicates, whose image is a zonotope that
contains the star and needs no linear program; and members of its polytope, which decide
many questions without one.  Where predicates are few the members are all the corners, and
decide everything.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from specs.enclosure import Enclosure
from specs.linear import LinearMap
from verifier.stars.corners import Corners, FloatArray, box_corners, divide
from verifier.stars.lp import Infeasible, Mark, Optimum, Program, SolverTimeoutError

CORNERED = 6
"""Predicates up to which all corners are kept."""
MOST_CORNERS = 600
"""Corners beyond which they are given up."""
MEMBERS = 200
"""Points that are kept where they are not all the corners."""


class Why(Enum):
    """What a row or a predicate of a star stands for."""

    REGION = "a constraint of the case's region; for a predicate, an input"
    BELOW = "the neuron's input is at most the split point"
    ABOVE = "the neuron's input is at least the split point"
    FLOOR = "the neuron's output is above a line"
    CEILING = "the neuron's output is below a line"
    ERROR = "how far the neuron's output is from a multiple of its inputs"
    CUT = "a half-space that a caller gave"


@dataclass(frozen=True)
class Origin:
    """Where a row or a predicate comes from.

    Attributes:
        tensor, entry: the neuron by the tensor that is split, or that is relaxed; of a
            region's constraint, 0 and its number; of a predicate for an input, its tensor
            and entry among all inputs.
        lines: slopes of the line for a floor or a ceiling: one per tensor read.
        intercept: of that line.
    """

    why: Why
    tensor: int = 0
    entry: int = 0
    lines: tuple[float, ...] = ()
    intercept: float = 0.0


@dataclass(frozen=True, eq=False)
class Predicates:
    """The polytope ``rows a <= limits``, ``lower <= a <= upper``.

    Attributes:
        lower, upper: ``(p,)`` finite; the box that belongs to the definition.
        rows, limits: ``(m, p)`` and ``(m,)``; every row's largest coefficient is 1 in size.
        low, high: ``(p,)`` bounds of the predicates: the box, contracted by the rows.
        points: ``(k, p)`` members of the polytope, up to rounding.
        corners: the points again, where they are all the corners.
        origins, columns: what the rows and the predicates stand for.
        parent: the polytope that rows or predicates were added to.
    """

    lower: FloatArray
    upper: FloatArray
    rows: FloatArray
    limits: FloatArray
    low: FloatArray
    high: FloatArray
    points: FloatArray
    corners: Corners | None
    origins: tuple[Origin, ...] = ()
    columns: tuple[Origin, ...] = ()
    parent: Predicates | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """How many predicates there are."""
        return self.lower.size

    @property
    def cornered(self) -> bool:
        """Whether ``points`` are all the corners."""
        return self.corners is not None

    def alone(self) -> Predicates:
        """The same without its history."""
        return replace(self, parent=None)

    def divided(
        self, row: FloatArray, limit: float, below: Origin, above: Origin
    ) -> tuple[Predicates | None, Predicates | None]:
        """The parts where ``row a <= limit`` and where ``row a >= limit``.

        ``None`` where a part certainly has no interior; where corners are not at hand a part
        may be empty without being ``None``, and then has no points.
        """
        size = float(np.abs(row).max(initial=0.0))
        if size == 0.0:
            return (self if limit >= 0 else None), (self if limit <= 0 else None)
        row, limit = row / size, limit / size
        heights = self.points @ row - limit
        if self.corners is None:
            return (
                self._cut(row, limit, below, self.points[heights <= 0], None),
                self._cut(-row, -limit, above, self.points[heights >= 0], None),
            )
        parts = divide(self.corners, heights)
        made: list[Predicates | None] = []
        for part, sign, why in zip(parts, (1.0, -1.0), (below, above), strict=True):
            if part is None or part is self.corners:
                made.append(None if part is None else self)
                continue
            kept = part if len(part.points) <= MOST_CORNERS else None
            made.append(self._cut(sign * row, sign * limit, why, part.points, kept))
        return made[0], made[1]

    def cut(self, row: FloatArray, limit: float, why: Origin) -> Predicates | None:
        """The part where ``row a <= limit``; see :meth:`divided`."""
        return self.divided(row, limit, why, why)[0]

    def on(self, row: FloatArray, limit: float, why: Origin) -> Predicates:
        """The face where ``row a == limit``, as two rows."""
        size = float(np.abs(row).max(initial=0.0)) or 1.0
        row, limit = row / size, limit / size
        near = np.abs(self.points @ row - limit) <= 1e-9
        below = self._cut(row, limit, why, self.points[near], None)
        return below._cut(-row, -limit, why, below.points, None)

    def _cut(
        self,
        row: FloatArray,
        limit: float,
        why: Origin,
        points: FloatArray,
        corners: Corners | None,
    ) -> Predicates:
        if corners is None:
            low, high = _contracted(row, limit, self.low, self.high)
        else:
            low, high = points.min(axis=0), points.max(axis=0)
        # Not by replace(), which takes as long as all the rest.
        return Predicates(
            self.lower,
            self.upper,
            np.concatenate([self.rows, row[None]]),
            np.concatenate([self.limits, [limit]]),
            low,
            high,
            points,
            corners,
            (*self.origins, why),
            self.columns,
            self,
        )

    def extended(
        self,
        lower: FloatArray,
        upper: FloatArray,
        rows: FloatArray,
        limits: FloatArray,
        values: FloatArray,
        origins: tuple[Origin, ...],
        columns: tuple[Origin, ...],
    ) -> Predicates:
        """With more predicates, and rows that speak of them.

        Args:
            lower, upper: ``(e,)`` bounds of the predicates added.
            rows, limits: ``(m, p + e)`` and ``(m,)``.
            values: ``(k, e)`` their values at the points.
            origins, columns: what rows and predicates stand for.
        """
        scale = np.abs(rows).max(axis=1, initial=0.0)
        scale = np.where(scale > 0, scale, 1.0)
        padded = np.concatenate([self.rows, np.zeros((len(self.rows), lower.size))], axis=1)
        return Predicates(
            np.concatenate([self.lower, lower]),
            np.concatenate([self.upper, upper]),
            np.concatenate([padded, rows / scale[:, None]]),
            np.concatenate([self.limits, limits / scale]),
            np.concatenate([self.low, lower]),
            np.concatenate([self.high, upper]),
            np.concatenate([self.points, values], axis=1)[-MEMBERS:],
            None,
            self.origins + origins,
            self.columns + columns,
            self,
        )

    def within(self, low: FloatArray, high: FloatArray) -> Predicates:
        """With bounds of the predicates that linear programs have found."""
        low, high = np.maximum(self.low, low), np.minimum(self.high, high)
        return replace(self, low=np.minimum(low, high), high=high)

    def with_points(self, points: FloatArray) -> Predicates:
        """With more members; nothing changes where all corners are known."""
        if self.cornered or not len(points):
            return self
        return replace(self, points=np.concatenate([self.points, points])[-MEMBERS:])


def box(lower: FloatArray, upper: FloatArray, columns: tuple[Origin, ...] = ()) -> Predicates:
    """A box of predicates.

    Args:
        lower, upper: ``(p,)``, the lower end truly lower.
        columns: what the predicates stand for.
    """
    size = lower.size
    corners = box_corners(lower, upper) if size <= CORNERED else None
    points = 0.5 * (lower + upper)[None] if corners is None else corners.points
    none = np.zeros((0, size))
    return Predicates(lower, upper, none, np.zeros(0), lower, upper, points, corners, (), columns)


def _contracted(
    row: FloatArray, limit: float, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """A box cut down by one row: each predicate against the others' best."""
    least = np.minimum(row * low, row * high)
    spare = max(limit - float(least.sum()), 0.0)  # negative: the part is empty
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        step = spare / np.abs(row)
        up = np.where(row > 0, np.minimum(high, low + step), high)
        down = np.where(row < 0, np.maximum(low, high - step), low)
    return down, up


@dataclass(frozen=True, eq=False)
class Star:
    """Tensors as affine images of the same predicates.

    Attributes:
        predicates: the polytope.
        images: by tensor ``(1 + q, n)``, ``q <= p``: later predicates do not touch it.
        exact: whether nothing was relaxed on the way.
    """

    predicates: Predicates
    images: Mapping[int, FloatArray]
    exact: bool = True

    def image(self, tensor: int) -> FloatArray:
        """``(1 + p, n)``: centre and basis."""
        return padded(self.images[tensor], 1 + self.predicates.size)

    def with_image(self, tensor: int, image: FloatArray, dead: Iterable[int] = ()) -> Star:
        """With another tensor, and without those that nobody reads any more."""
        images = {**self.images, tensor: image}
        for gone in dead:
            images.pop(gone, None)
        return Star(self.predicates, images, self.exact)

    def affine(self, terms: Iterable[tuple[int, LinearMap]], offset: Enclosure) -> FloatArray:
        """The image of a linear node: the sum of maps of tensors, and an offset.

        Constants that are enclosures count as their midpoints.
        """
        pairs = list(terms)
        count = max((len(self.images[source]) for source, _ in pairs), default=1)
        total = np.zeros((count, offset.value.size))
        total[0] = offset.value
        for source, term in pairs:
            weight = None if term.weight is None else term.weight.value
            image = self.images[source]
            total[: len(image)] += term.forward(image, weight, np.matmul)
        return total

    def cut(self, tensor: int, row: FloatArray, limit: float, why: Origin) -> Star | None:
        """The part where ``row y <= limit`` of a tensor ``y``; see :meth:`Predicates.cut`."""
        values = self.image(tensor) @ row
        kept = self.predicates.cut(values[1:], limit - float(values[0]), why)
        return None if kept is None else replace(self, predicates=kept)


def padded(image: FloatArray, count: int) -> FloatArray:
    """An image with rows of zeros for predicates that do not touch it."""
    if len(image) == count:
        return image
    return np.concatenate([image, np.zeros((count - len(image), image.shape[1]))])


def at_points(image: FloatArray, points: FloatArray) -> FloatArray:
    """The values ``(k, n)`` of a tensor at members of the polytope."""
    used = len(image) - 1
    return image[0] + points[:, :used] @ image[1:]


def zonotope(image: FloatArray, predicates: Predicates) -> tuple[FloatArray, FloatArray]:
    """Bounds ``(n,)`` of a tensor from the predicates' bounds alone."""
    used = len(image) - 1
    low, high = predicates.low[:used], predicates.high[:used]
    centre = image[0] + (0.5 * (low + high)) @ image[1:]
    radius = (0.5 * (high - low)) @ np.abs(image[1:])
    return centre - radius, centre + radius


class Solver:
    """One warm linear program for stars that share most of their rows.

    Going from a star to another takes rows and predicates away down to what both come from,
    and adds the rest.

    Args:
        deadline: when to stop, by the monotonic clock.

    Attributes:
        solves: how many programs were solved.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self._deadline = deadline
        self._program: Program | None = None
        self._loaded: list[tuple[Predicates, Mark]] = []
        self.solves = 0

    def minimise(self, predicates: Predicates, objective: FloatArray) -> Optimum | Infeasible:
        """The least value of ``objective``, ``(q,)`` with ``q <= p``, over a polytope.

        Raises:
            SolverTimeoutError: the deadline has passed.
            SolverError: see :meth:`verifier.stars.lp.Program.minimise`.
        """
        program = self._load(predicates)
        if self._deadline is not None:
            program.seconds = self._deadline - time.monotonic()
            if program.seconds <= 0:
                raise SolverTimeoutError("no time is left for a linear program")
        costs = np.zeros(predicates.size)
        costs[: objective.size] = objective
        self.solves += 1
        return program.minimise(costs)

    def feasible(self, predicates: Predicates) -> Optimum | Infeasible:
        """A member of a polytope, or multipliers that refute it."""
        return self.minimise(predicates, np.zeros(0))

    def contracted(self, predicates: Predicates) -> Predicates:
        """The polytope with the ends of every predicate found by linear programs.

        Raises:
            SolverError: see :meth:`verifier.stars.lp.Program.minimise`.
        """
        low, high, points = predicates.low.copy(), predicates.high.copy(), []
        for k in range(predicates.size):
            for sign, ends in ((1.0, low), (-1.0, high)):
                found = self.minimise(predicates, np.append(np.zeros(k), sign))
                if isinstance(found, Optimum):
                    ends[k] = sign * found.bound
                    points.append(found.point)
        return predicates.within(low, high).with_points(np.array(points))

    def _load(self, target: Predicates) -> Program:
        wanted: list[Predicates] = []
        # Polytopes with the same rows share the array, whatever points or bounds they carry.
        known = {id(node.limits): depth for depth, (node, _) in enumerate(self._loaded)}
        node: Predicates | None = target
        while node is not None and id(node.limits) not in known:
            wanted.append(node)
            node = node.parent
        keep = 0 if node is None else known[id(node.limits)] + 1
        program = self._program
        if keep == 0 or program is None:
            root = wanted.pop()
            program = Program(root.lower, root.upper)
            program.add_rows(root.rows, root.limits)
            self._program = program
            self._loaded = [(root, program.mark())]
        elif keep < len(self._loaded):
            program.restore(self._loaded[keep - 1][1])
            del self._loaded[keep:]
        for node in reversed(wanted):
            first = program.rows
            if node.size > program.columns:
                program.add_columns(node.lower[program.columns :], node.upper[program.columns :])
            if node.limits.size > first:
                program.add_rows(node.rows[first:], node.limits[first:])
            self._loaded.append((node, program.mark()))
        return program
