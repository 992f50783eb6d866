"""The rules Bound and Relax: substituting linear functions back to the input.

Side conditions (``soundness.md``) are named where they are obeyed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from proofs.arithmetic import Interval, Numbers, bounded
from proofs.faulty import Bill, reads
from proofs.frame import (
    Affine,
    Batch,
    Frame,
    IndexArray,
    Relaxations,
    Rows,
    Stop,
    bounds_of,
    image,
    shares_of,
)
from proofs.sparse import ROWS, pass_back
from specs.errors import EvidenceError
from specs.network import Faulty, Input, Linear, Nonlinear, Perturbed


def substitute(
    frame: Frame,
    batch: Batch,
    relaxations: Relaxations,
    rows: Rows,
    stop: Stop | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Numbers:
    """Lower bounds of linear functions over the owners' domains, ``(R,)``.

    Substitutes each node by its definition or its lines, in reverse order, until only inputs
    (or what ``stop`` does not pass on) are left.  A node with several readers is visited
    once all their coefficients are added up.

    Args:
        frame, batch, relaxations: of the domains.
        rows: the functions.
        stop: a tensor at whose entries stored bounds are used, all or some.
        tick: called between chunks of rows; may raise to stop at a deadline.

    Returns:
        Minus infinity for rows that cannot be passed back.
    """
    if not frame.passes(rows.entries):
        return np.full(rows.owner.size, -np.inf, dtype=rows.constant.dtype)
    parts = [np.asarray(rows.constant[:0])]
    for chunk in chunks(frame, batch, relaxations, rows, stop, tick):
        parts.append(Backward(frame, batch, relaxations, chunk).run(stop))
    return np.concatenate(parts)


def chunks(
    frame: Frame,
    batch: Batch,
    relaxations: Relaxations,
    rows: Rows,
    stop: Stop | None,
    tick: Callable[[], None],
) -> Iterator[Rows]:
    """Rows passed back while they are sparse, a few at a time, in their order."""
    end = None if stop is None else stop.tensor
    for first in range(0, rows.owner.size, ROWS):
        tick()
        some = rows.slice(first, min(rows.owner.size, first + ROWS))
        some = pass_back(frame, batch, relaxations, some, end)
        size = max(1, frame.arithmetic.entry_budget // frame.work_from(some.entries))
        for start in range(0, some.owner.size, size):
            tick()
            yield some.slice(start, min(some.owner.size, start + size))


def linearize(
    frame: Frame,
    batch: Batch,
    relaxations: Relaxations,
    rows: Rows,
    stop: Stop | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Affine:
    """Linear functions of the input that bound rows from below over the owners' domains.

    What ``stop`` does not pass on becomes part of their constants.

    Raises:
        EvidenceError: rows cannot be passed back; see ``Frame.passes``.
    """
    matrices = [frame.arithmetic.zeros((0, frame.input_size))]
    constants = [np.asarray(rows.constant[:0])]
    for chunk in chunks(frame, batch, relaxations, rows, stop, tick):
        affine = Backward(frame, batch, relaxations, chunk).linear(stop)
        matrices.append(affine.matrix)
        constants.append(affine.constant)
    return Affine(np.concatenate(matrices), np.concatenate(constants))


class Backward:
    """Coefficients on their way back, for one chunk of rows."""

    def __init__(self, frame: Frame, batch: Batch, relaxations: Relaxations, rows: Rows) -> None:
        self._frame, self._batch, self._relaxations = frame, batch, relaxations
        self._arithmetic = frame.arithmetic
        self._rows = rows
        self._amounts: list[Any] = [rows.constant]  # of each row or, as numbers, of all
        self._coefficients: dict[int, Numbers] = {}
        self._count = rows.owner.size
        self._bill: Bill | None = None
        self._owners, self._place = batch, rows.owner  # of the bill's rows
        self._at_inputs: dict[int, Numbers] | None = None
        domains = len(batch.lower)
        self._shared = domains == 1
        aligned = domains == self._count and np.array_equal(rows.owner, np.arange(domains))
        self._taken = None if self._shared or aligned else rows.owner

    def linear(self, stop: Stop | None) -> Affine:
        """The rows as functions of the input."""
        found: dict[int, Numbers] = {}
        self._at_inputs = found
        constant = self.run(stop)
        matrix = self._arithmetic.zeros((self._count, self._frame.input_size))
        for tensor, rows in found.items():
            matrix[:, self._frame.box_columns(tensor)] = rows
        return Affine(matrix, constant)

    def run(self, stop: Stop | None) -> Numbers:
        """Substitute back to the inputs or to ``stop``, and insert the bounds there."""
        end = None if stop is None else stop.tensor
        start = max([*self._rows.entries, 0])
        for tensor in range(start, -1, -1):
            given = self._rows.entries.get(tensor)
            if given is not None:
                alone = tensor not in self._coefficients
                if alone and tensor != end and self._select(tensor, given):
                    continue
                row, entry, value = given
                part = self._arithmetic.zeros((self._count, self._frame.network.sizes[tensor]))
                part[row, entry] = value
                self._accumulate(tensor, part)
            rows = self._coefficients.pop(tensor, None)
            if rows is None:
                continue
            self._pay(tensor, rows)
            if stop is not None and tensor == end:
                rows = self._stopped(stop, rows)
                if not stop.kept.size:
                    continue
            if rows.any():  # what became 0 is paid for
                self._visit(tensor, rows)
        if self._bill is not None:
            self._charge(self._bill.total())
        return self._arithmetic.sum_down(self._amounts, self._count)

    def _pay(self, tensor: int, rows: Numbers) -> None:
        vector, flat = self._frame.cost(tensor)
        self._charge(self._arithmetic.cost(rows, vector), flat)

    def _stopped(self, stop: Stop, rows: Numbers) -> Numbers:
        """Insert bounds for all entries but those kept; the coefficients of the latter."""
        left = np.ones(rows.shape[1], dtype=bool)
        left[stop.kept] = False
        if left.any():
            lower, upper = (end[:, left] for end in self._stored(stop.tensor))
            self._gain(self._arithmetic.box_down(rows[:, left], lower, upper, self._taken))
        rest = self._arithmetic.zeros(rows.shape)
        rest[:, stop.kept] = rows[:, stop.kept]
        return rest

    def _visit(self, tensor: int, rows: Numbers) -> None:
        arithmetic, node = self._arithmetic, self._frame.network.nodes[tensor]
        if isinstance(node, Input) and self._at_inputs is not None:
            self._at_inputs[tensor] = rows
        elif isinstance(node, Input):
            columns = self._frame.box_columns(tensor)
            lower = arithmetic.lift_down(self._batch.lower[:, columns])
            upper = arithmetic.lift_up(self._batch.upper[:, columns])
            self._gain(arithmetic.box_down(rows, lower, upper, self._taken))
        elif isinstance(node, Linear):
            offset = arithmetic.offset(node.offset)
            if offset is not None:
                self._gain(arithmetic.dot(rows, offset[0]))  # its rounding is part of the cost
            for term in node.terms:
                self._accumulate(term.source, arithmetic.adjoint(term.map, rows))
        elif isinstance(node, Perturbed):  # an error of rounding is part of the cost
            if isinstance(node.error, Faulty):
                self._strike(node.error, tensor, rows)
            self._accumulate(node.source, rows)
        else:
            lines = self._relaxations.lines(tensor)
            found, gain = arithmetic.relax(
                rows,
                list(zip(lines.below, lines.above, strict=True)),
                None if lines.resting else lines.floor,
                lines.ceiling,
                self._taken,
            )
            self._gain(gain)
            for source, coefficients in zip(node.sources, found, strict=True):
                self._accumulate(source, coefficients)

    def _strike(self, error: Faulty, tensor: int, rows: Numbers) -> None:
        """Note what faulty words may take; paid for once all nodes are passed."""
        if self._bill is None:
            shares = shares_of(self._frame, self._batch)
            self._bill = Bill(self._arithmetic, shares, self._rows.owner)
            owners, self._place = np.unique(self._rows.owner, return_inverse=True)
            self._owners = self._batch if self._shared else self._batch.pick(owners)
        if not self._bill.concerns(error):
            return
        read = []
        for source in reads(self._frame.network, tensor):
            ends = bounds_of(self._frame, self._owners, source)
            if not bounded(ends).all():
                raise EvidenceError("what a faulty node reads is unbounded")
            low, high = ends if self._shared else (end[self._place] for end in ends)
            read.append((low, high))
        self._bill.add(error, rows, read)

    def _select(self, tensor: int, given: tuple[IndexArray, IndexArray, Numbers]) -> bool:
        """Pass a dense layer by looking up its rows, when each row starts as one neuron."""
        arithmetic, node = self._arithmetic, self._frame.network.nodes[tensor]
        row, entry, value = given
        if not isinstance(node, Linear) or len(node.terms) != 1 or row.size != self._count:
            return False
        unit = arithmetic.lift_down(np.ones(1))[0]
        if not np.all((value == unit) | (value == -unit)):
            return False
        every = np.arange(self._count)
        if not np.array_equal(row, every):
            order = np.argsort(row)
            if not np.array_equal(row[order], every):
                return False  # some row has several entries, another none
            entry, value = entry[order], value[order]
        picked = arithmetic.select(node.terms[0].map, entry)
        if picked is None:
            return False
        vector, flat = self._frame.cost(tensor)
        self._charge(vector[entry], flat)
        offset = arithmetic.offset(node.offset)
        if offset is not None:  # the radius is part of the cost
            self._gain(arithmetic.scale(offset[0][entry], value))  # exact, as is the next
        self._accumulate(node.terms[0].source, arithmetic.scale(picked, value[:, None]))
        return True

    def _accumulate(self, tensor: int, rows: Numbers) -> None:
        known = self._coefficients.get(tensor)
        if known is None:
            self._coefficients[tensor] = rows
            return
        arithmetic, magnitude = self._arithmetic, self._frame.magnitude(tensor)
        unit, flat = arithmetic.rounding(magnitude), arithmetic.rounding_scalar(magnitude)
        for part in (known, rows):  # each may carry a rounding; the sum's is paid later
            self._charge(arithmetic.cost(part, unit), flat)
        self._coefficients[tensor] = arithmetic.accumulate(known, rows)

    def _stored(self, tensor: int) -> Interval:
        node = self._frame.network.nodes[tensor]
        if tensor in self._batch.bounds:
            return self._batch.bounds[tensor]
        if isinstance(node, Nonlinear):
            return image(self._arithmetic, node, [self._batch.bounds[s] for s in node.sources])
        raise EvidenceError(f"substitution cannot stop at '{node.name}': no bounds are stored")

    def _gain(self, amount: Numbers) -> None:
        self._amounts.append(amount)

    def _charge(self, *amounts: Any) -> None:
        self._amounts += [-amount for amount in amounts]
