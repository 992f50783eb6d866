"""The rules Bound, Relax and Assume: interval propagation and substituting back.

Side conditions (``soundness.md``) are named where they are obeyed.  Everything here is
computed for a batch of ``B`` domains at once; a row of coefficients belongs to one domain,
its owner, and is relaxed with that domain's bounds only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Arithmetic, Interval, Numbers, usable_slopes
from proofs.functions import function
from proofs.outward import check_magnitude
from proofs.proof import Side
from specs.enclosure import FloatArray
from specs.errors import EvidenceError
from specs.linear import Conv, Sparse
from specs.network import Input, Linear, Network, Univariate

IndexArray = npt.NDArray[np.int64]
Hints = Mapping[tuple[int, Side], FloatArray]
"""Slopes by univariate tensor and side, ``(B, n)``; NaN where the default is to be taken."""


class Frame:
    """What all domains of a case share: the network, the arithmetic, and magnitudes.

    A magnitude bounds the absolute value of a tensor entry over the whole case, so it
    holds on every path below, and errors charged through it are paid for every leaf.
    """

    def __init__(self, network: Network, arithmetic: Arithmetic) -> None:
        self.network = network
        self.arithmetic = arithmetic
        self.preactivations = tuple(sorted({network.nodes[i].source for i in network.univariates}))  # type: ignore[union-attr]
        self._magnitude: list[Numbers | None] = [None] * len(network.nodes)
        self._cost: dict[int, tuple[Numbers, Any]] = {}
        self._readers: list[list[int]] = [[] for _ in network.nodes]
        for number, node in enumerate(network.nodes):
            if isinstance(node, Linear):
                for term in node.terms:
                    self._readers[term.source].append(number)
        self._input_start = dict(
            zip(network.inputs, _starts([network.sizes[i] for i in network.inputs]), strict=True)
        )
        self.work = max(1, *(_work(network, i) for i in range(len(network.nodes))))

    def record(self, tensor: int, interval: Interval) -> None:
        """Take a new magnitude for a tensor from an interval that holds over the case."""
        lower, upper = interval
        magnitude = np.maximum(np.abs(lower[0]), np.abs(upper[0]))
        check_magnitude(self.arithmetic.floats_up(magnitude))
        self._magnitude[tensor] = magnitude
        for stale in (tensor, *self._readers[tensor]):
            self._cost.pop(stale, None)

    def magnitude(self, tensor: int) -> Numbers:
        """The magnitude of a tensor, ``(n,)``."""
        known = self._magnitude[tensor]
        if known is None:
            raise EvidenceError("a magnitude is used before intervals were propagated")
        return known

    def cost(self, tensor: int) -> tuple[Numbers, Any]:
        """What a row pays for passing the node of a tensor, per unit of coefficient and flat.

        Covers one rounding of each coefficient of the tensor itself; for a linear node
        also the rounding of its adjoint, the radii of its coefficients and of its offset.
        """
        known = self._cost.get(tensor)
        if known is not None:
            return known
        arithmetic, node = self.arithmetic, self.network.nodes[tensor]
        vector = arithmetic.rounding(self.magnitude(tensor))
        flat = arithmetic.rounding_scalar(self.magnitude(tensor))
        if isinstance(node, Linear):
            for term in node.terms:
                extra, scalar = arithmetic.adjoint_cost(term.map, self.magnitude(term.source))
                vector, flat = arithmetic.add_up(vector, extra), arithmetic.add_up(flat, scalar)
            offset = arithmetic.offset(node.offset)
            if offset is not None:
                vector = arithmetic.add_up(vector, offset[1])
        self._cost[tensor] = (vector, flat)
        return vector, flat

    def box_columns(self, tensor: int) -> slice:
        """Where the entries of an input tensor stand among all inputs."""
        start = self._input_start[tensor]
        return slice(start, start + self.network.sizes[tensor])


@dataclass(eq=False)
class Batch:
    """Bounds of ``B`` domains.

    Attributes:
        lower, upper: the boxes, ``(B, input_size)``, floats in both arithmetics.
        bounds: of each pre-activation tensor, ``(B, n)`` below and above.
        empty: domains whose bounds contradict each other.
    """

    lower: FloatArray
    upper: FloatArray
    bounds: dict[int, Interval]
    empty: npt.NDArray[np.bool_]

    def pick(self, owner: IndexArray) -> Batch:
        """The batch whose ``k``-th domain is domain ``owner[k]`` of this one."""
        bounds = {t: (low[owner], high[owner]) for t, (low, high) in self.bounds.items()}
        return Batch(self.lower[owner], self.upper[owner], bounds, self.empty[owner])

    def cut(self, places: IndexArray, lower: FloatArray, upper: FloatArray) -> None:
        """Intersect the boxes of some domains with others, ``(P, input_size)``."""
        self.lower, self.upper = self.lower.copy(), self.upper.copy()
        self.lower[places] = np.maximum(self.lower[places], lower)
        self.upper[places] = np.minimum(self.upper[places], upper)
        self.empty = self.empty | (self.lower > self.upper).any(axis=1)

    def improve(self, tensor: int, lower: Numbers, upper: Numbers) -> None:
        """Intersect the stored bounds of a tensor with others that hold as well."""
        known = self.bounds.get(tensor)
        if known is not None:
            lower = np.where(lower > known[0], lower, known[0])
            upper = np.where(upper < known[1], upper, known[1])
        self.bounds[tensor] = (lower, upper)
        self.empty = self.empty | np.asarray(lower > upper, dtype=bool).any(axis=1)


@dataclass(frozen=True, eq=False)
class Rows:
    """``R`` linear functions of tensor entries, to be bounded from below.

    Attributes:
        owner: the domain of each row.
        constant: numbers, at most the constant parts.
        entries: by tensor: rows, entries and coefficients; each (row, entry) once.
    """

    owner: IndexArray
    constant: Numbers
    entries: Mapping[int, tuple[IndexArray, IndexArray, Numbers]]

    def slice(self, start: int, stop: int) -> Rows:
        """Rows ``start`` to ``stop``."""
        parts = {}
        for tensor, (row, entry, value) in self.entries.items():
            kept = (row >= start) & (row < stop)
            if kept.any():
                parts[tensor] = (row[kept] - start, entry[kept], value[kept])
        return Rows(self.owner[start:stop], self.constant[start:stop], parts)


@dataclass(frozen=True, eq=False)
class Affine:
    """Linear functions of the input, ``matrix @ x + constant``.

    Attributes:
        matrix: ``(R, input_size)`` exact coefficients.
        constant: ``(R,)``.
    """

    matrix: Numbers
    constant: Numbers


@dataclass(frozen=True, eq=False)
class Lines:
    """Two lines that enclose a univariate node on each domain's bounds, ``(B, n)`` each."""

    below: Numbers
    floor: Numbers
    above: Numbers
    ceiling: Numbers


@dataclass(eq=False)
class Relaxations:
    """The lines of every univariate node, made when first asked for."""

    frame: Frame
    batch: Batch
    hints: Hints = field(default_factory=dict)
    _made: dict[int, Lines] = field(default_factory=dict)

    def lines(self, tensor: int) -> Lines:
        """Lines for the univariate node that defines ``tensor``."""
        if tensor not in self._made:
            self._made[tensor] = self._lines(tensor)
        return self._made[tensor]

    def _lines(self, tensor: int) -> Lines:
        arithmetic, node = self.frame.arithmetic, self.frame.network.nodes[tensor]
        if not isinstance(node, Univariate):
            raise EvidenceError("lines are asked for of a node that is not univariate")
        rule = function(node.function)
        lower, upper = self.batch.bounds[node.source]
        slopes = rule.default_slopes(arithmetic.floats_down(lower), arithmetic.floats_up(upper))
        used = []
        for side, default in zip(Side, slopes, strict=True):
            hint = self.hints.get((tensor, side))
            chosen = default if hint is None else np.where(np.isnan(hint), default, hint)
            used.append(arithmetic.lift_down(usable_slopes(chosen)))
        floor, ceiling = rule.intercepts(arithmetic, used[0], used[1], lower, upper)
        return Lines(used[0], floor, used[1], ceiling)


def unstable(frame: Frame, tensor: int, bounds: Interval) -> npt.NDArray[np.bool_]:
    """Entries of a pre-activation that some reader is not linear on, ``(B, n)``."""
    mask = np.zeros(bounds[0].shape, dtype=bool)
    for reader in frame.network.univariates:
        node = frame.network.nodes[reader]
        if isinstance(node, Univariate) and node.source == tensor:
            mask |= np.asarray(function(node.function).unstable(*bounds), dtype=bool)
    return mask


def propagate(
    frame: Frame,
    batch: Batch,
    *,
    refine: Callable[[int], None] | None = None,
    record: bool = False,
    last: int | None = None,
) -> None:
    """Propagate intervals forward and intersect them with the stored bounds.

    Args:
        frame: the case's.
        batch: changed in place.
        refine: called for each pre-activation as soon as its bounds are stored.
        record: take magnitudes from the intervals (for a single domain, a case's root).
        last: tensor at which to stop.
    """
    network, arithmetic = frame.network, frame.arithmetic
    intervals: list[Interval] = []
    for tensor, node in enumerate(network.nodes):
        if isinstance(node, Input):
            columns = frame.box_columns(tensor)
            box = batch.lower[:, columns], batch.upper[:, columns]
            interval = arithmetic.lift_down(box[0]), arithmetic.lift_up(box[1])
        elif isinstance(node, Linear):
            interval = arithmetic.linear_interval(node, [intervals[t.source] for t in node.terms])
            if len(interval[0]) != len(batch.lower):  # a node without terms
                interval = _repeat(interval, len(batch.lower))
        else:
            interval = function(node.function).image(arithmetic, *intervals[node.source])
        if record:
            frame.record(tensor, interval)
        if tensor in frame.preactivations:
            batch.improve(tensor, *interval)
            if refine is not None:
                refine(tensor)
            interval = batch.bounds[tensor]
            if record:
                frame.record(tensor, interval)
        intervals.append(interval)
        if tensor == last:
            return


def sweep(
    frame: Frame, batch: Batch, *, record: bool = False, tick: Callable[[], None] = lambda: None
) -> None:
    """Bound every unstable neuron anew, layer by layer, with default slopes."""
    relaxations = Relaxations(frame, batch)

    def refine(tensor: int) -> None:
        owner, entry = np.nonzero(
            unstable(frame, tensor, batch.bounds[tensor]) & ~batch.empty[:, None]
        )
        bound_neurons(frame, batch, relaxations, tensor, owner, entry, tuple(Side), tick=tick)

    propagate(frame, batch, refine=refine, record=record)


def bound_neurons(
    frame: Frame,
    batch: Batch,
    relaxations: Relaxations,
    tensor: int,
    owner: IndexArray,
    entry: IndexArray,
    sides: tuple[Side, ...],
    stop: int | None = None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Bound entries of a pre-activation by substituting back, and store what is better."""
    if not owner.size:
        return
    arithmetic = frame.arithmetic
    lower, upper = (part.copy() for part in batch.bounds[tensor])
    for side in sides:
        sign = 1.0 if side is Side.LOWER else -1.0
        values = arithmetic.lift_down(np.full(owner.size, sign))
        place = (np.arange(owner.size), entry, values)
        rows = Rows(owner, arithmetic.zeros((owner.size,)), {tensor: place})
        found = substitute(frame, batch, relaxations, rows, stop, tick)
        if side is Side.LOWER:
            lower[owner, entry] = found
        else:
            upper[owner, entry] = -found
    batch.improve(tensor, lower, upper)


def substitute(
    frame: Frame,
    batch: Batch,
    relaxations: Relaxations,
    rows: Rows,
    stop: int | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Numbers:
    """Lower bounds of linear functions over the owners' domains, ``(R,)``.

    Substitutes each node by its definition or its lines, in reverse order, until only
    inputs (or the tensor ``stop``) are left.  A node with several readers is visited once
    all their coefficients are added up.

    Args:
        frame, batch, relaxations: of the domains.
        rows: the functions.
        stop: a pre-activation or univariate tensor at which stored bounds are used.
        tick: called between chunks of rows; may raise to stop at a deadline.
    """
    count = rows.owner.size
    size = max(1, frame.arithmetic.entry_budget // frame.work)
    parts = [np.asarray(rows.constant[:0])]
    for start in range(0, count, size):
        tick()
        chunk = rows.slice(start, min(count, start + size))
        parts.append(_Substitution(frame, batch, relaxations, chunk).run(stop))
    return np.concatenate(parts)


def linearize(
    frame: Frame,
    batch: Batch,
    relaxations: Relaxations,
    rows: Rows,
    tick: Callable[[], None] = lambda: None,
) -> Affine:
    """Linear functions of the input that bound rows from below over the owners' domains."""
    size = max(1, frame.arithmetic.entry_budget // frame.work)
    columns = sum(frame.network.sizes[i] for i in frame.network.inputs)
    matrices, constants = [frame.arithmetic.zeros((0, columns))], [np.asarray(rows.constant[:0])]
    for start in range(0, rows.owner.size, size):
        tick()
        chunk = rows.slice(start, min(rows.owner.size, start + size))
        work = _Substitution(frame, batch, relaxations, chunk)
        affine = work.linear()
        matrices.append(affine.matrix)
        constants.append(affine.constant)
    return Affine(np.concatenate(matrices), np.concatenate(constants))


class _Substitution:
    """Coefficients on their way back, for one chunk of rows."""

    def __init__(self, frame: Frame, batch: Batch, relaxations: Relaxations, rows: Rows) -> None:
        self._frame, self._batch, self._relaxations = frame, batch, relaxations
        self._arithmetic = frame.arithmetic
        self._rows = rows
        self._constant = rows.constant.copy()
        self._coefficients: dict[int, Numbers] = {}
        self._count = rows.owner.size
        self._at_inputs: dict[int, Numbers] | None = None
        domains = len(batch.lower)
        self._shared = domains == 1
        self._aligned = domains == self._count and bool(
            np.array_equal(rows.owner, np.arange(domains))
        )

    def linear(self) -> Affine:
        """The rows as functions of the input."""
        network = self._frame.network
        found: dict[int, Numbers] = {}
        self._at_inputs = found
        self.run(None)
        zeros = self._arithmetic.zeros
        missing = {i: zeros((self._count, network.sizes[i])) for i in network.inputs}
        columns = [found.get(i, missing[i]) for i in network.inputs]
        return Affine(np.concatenate(columns, axis=1), self._constant)

    def run(self, stop: int | None) -> Numbers:
        """Substitute back to the inputs or to ``stop``, and insert the bounds there."""
        start = max([*self._rows.entries, 0])
        for tensor in range(start, -1, -1):
            given = self._rows.entries.get(tensor)
            if given is not None and tensor not in self._coefficients:
                if tensor != stop and self._select(tensor, given):
                    continue
                shape = (self._count, self._frame.network.sizes[tensor])
                self._coefficients[tensor] = self._arithmetic.zeros(shape)
            rows = self._coefficients.pop(tensor, None)
            if rows is None:
                continue
            if given is not None:
                rows = self._add_entries(tensor, rows, given)
            self._visit(tensor, rows, stop)
        return self._constant

    def _visit(self, tensor: int, rows: Numbers, stop: int | None) -> None:
        arithmetic, node = self._arithmetic, self._frame.network.nodes[tensor]
        vector, flat = self._frame.cost(tensor)
        self._charge(arithmetic.add_up(arithmetic.cost(rows, vector), flat))
        if tensor == stop:
            lower, upper = self._stored(tensor)
            self._gain(arithmetic.box_down(rows, self._own(lower), self._own(upper)))
        elif isinstance(node, Input) and self._at_inputs is not None:
            self._at_inputs[tensor] = rows
        elif isinstance(node, Input):
            columns = self._frame.box_columns(tensor)
            lower = arithmetic.lift_down(self._batch.lower[:, columns])
            upper = arithmetic.lift_up(self._batch.upper[:, columns])
            self._gain(arithmetic.box_down(rows, self._own(lower), self._own(upper)))
        elif isinstance(node, Linear):
            offset = arithmetic.offset(node.offset)
            if offset is not None:
                self._gain(arithmetic.dot_down(rows, offset[0]))
            for term in node.terms:
                self._accumulate(term.source, arithmetic.adjoint(term.map, rows))
        else:
            lines = self._relaxations.lines(tensor)
            positive = np.asarray(rows > 0, dtype=bool)
            slope = np.where(positive, self._own(lines.below), self._own(lines.above))
            intercept = np.where(positive, self._own(lines.floor), self._own(lines.ceiling))
            self._gain(arithmetic.dot_down(rows, intercept))
            self._accumulate(node.source, arithmetic.scale(rows, slope))

    def _select(self, tensor: int, given: tuple[IndexArray, IndexArray, Numbers]) -> bool:
        """Pass a dense layer by looking up its rows, when each row starts as one neuron."""
        arithmetic, node = self._arithmetic, self._frame.network.nodes[tensor]
        row, entry, value = given
        if not isinstance(node, Linear) or len(node.terms) != 1 or row.size != self._count:
            return False
        unit = arithmetic.lift_down(np.ones(1))[0]
        if not np.all((value == unit) | (value == -unit)):
            return False
        picked = arithmetic.select(node.terms[0].map, entry)
        if picked is None:
            return False
        order = np.argsort(row)
        if not np.array_equal(row[order], np.arange(self._count)):
            return False  # some row has several entries, another none
        negative = np.asarray(value < 0, dtype=bool)[order]
        rows = np.where(negative[:, None], -picked[order], picked[order])
        vector, flat = self._frame.cost(tensor)
        self._charge(arithmetic.add_up(vector[entry][order], flat))
        offset = arithmetic.offset(node.offset)
        if offset is not None:  # the radius is part of the cost
            own = offset[0][entry][order]
            self._gain(np.where(negative, -own, own))
        self._accumulate(node.terms[0].source, rows)
        return True

    def _add_entries(
        self, tensor: int, rows: Numbers, given: tuple[IndexArray, IndexArray, Numbers]
    ) -> Numbers:
        row, entry, value = given
        arithmetic = self._arithmetic
        before = rows[row, entry]
        # What was there may carry a rounding of its own, paid now; the sum's at the visit.
        unit = arithmetic.rounding(self._frame.magnitude(tensor))[entry]
        paid = arithmetic.multiply_up(np.abs(before), unit)
        for place in range(row.size):
            if paid[place]:
                self._constant[row[place]] = arithmetic.add_down(
                    self._constant[row[place]], -paid[place]
                )
        self._charge(arithmetic.rounding_scalar(self._frame.magnitude(tensor)))
        rows = rows.copy()
        rows[row, entry] = arithmetic.accumulate(before, value)
        return rows

    def _accumulate(self, tensor: int, rows: Numbers) -> None:
        known = self._coefficients.get(tensor)
        if known is None:
            self._coefficients[tensor] = rows
            return
        arithmetic, magnitude = self._arithmetic, self._frame.magnitude(tensor)
        unit, flat = arithmetic.rounding(magnitude), arithmetic.rounding_scalar(magnitude)
        for part in (known, rows):  # each may carry a rounding; the sum's is paid later
            self._charge(arithmetic.add_up(arithmetic.cost(part, unit), flat))
        self._coefficients[tensor] = arithmetic.accumulate(known, rows)

    def _stored(self, tensor: int) -> Interval:
        node = self._frame.network.nodes[tensor]
        if tensor in self._batch.bounds:
            return self._batch.bounds[tensor]
        if isinstance(node, Univariate):
            bounds = self._batch.bounds[node.source]
            return function(node.function).image(self._arithmetic, *bounds)
        raise EvidenceError(f"substitution cannot stop at '{node.name}': no bounds are stored")

    def _own(self, values: Numbers) -> Numbers:
        if self._shared or self._aligned:
            return values
        return values[self._rows.owner]

    def _gain(self, amount: Numbers) -> None:
        self._constant = self._arithmetic.add_down(self._constant, amount)

    def _charge(self, amount: Numbers) -> None:
        self._constant = self._arithmetic.add_down(self._constant, -amount)


def _starts(sizes: list[int]) -> Iterator[int]:
    start = 0
    for size in sizes:
        yield start
        start += size


def _repeat(interval: Interval, count: int) -> Interval:
    return np.repeat(interval[0], count, axis=0), np.repeat(interval[1], count, axis=0)


def _work(network: Network, tensor: int) -> int:
    """Entries of the largest array that one row makes when it passes a node."""
    node, size = network.nodes[tensor], network.sizes[tensor]
    if isinstance(node, Linear):
        for term in node.terms:
            taps = math.prod(term.map.weight.shape[2:]) if isinstance(term.map, Conv) else 1
            size = max(size, taps * max(term.map.source_size, term.map.target_size))
            if isinstance(term.map, Sparse):
                size = max(size, term.map.weight.value.size)
    return size
