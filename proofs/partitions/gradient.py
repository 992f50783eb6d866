"""Norms of gradients on boxes, enclosed.

A Relu's derivative passes or stops what comes from behind, and whichever it does, the product
lies in the convex hull of both.  That is what McCormick's planes leave at the weight at which the
derivative's own slope vanishes, so the gradient is substituted back through the graph of the
derivative alone, as Shi et al. (2022) do; the network itself says which Relus are undecided.

The sum of the entries' magnitudes is the largest of all sums with signs.  Signs that are open are
tried both ways while they are few; the other magnitudes, and squares, lie below their chords.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from proofs.arithmetic import Arithmetic, Interval, Numbers, bounded
from proofs.bounds import bound_rows, sweep
from proofs.domains import Mask
from proofs.frame import Batch, Frame, IndexArray, Relaxations, Rows, unstable
from proofs.functions import function
from proofs.partitions.prover import Boxes
from proofs.proof import Side
from proofs.substitution import substitute
from specs.enclosure import FloatArray
from specs.lipschitz import LipschitzQuestion
from specs.network import Product, Univariate

SIGNS = 5
"""Of entries whose sign is open, as many as this are tried both ways."""


class Hints(Mapping[tuple[int, Side], FloatArray]):
    """Where products with derivatives of Relus have their planes, on a batch's bounds.

    Args:
        gates: products by tensor, with the sign that each rests on.
    """

    def __init__(self, frame: Frame, batch: Batch, gates: Mapping[int, int]) -> None:
        self._frame, self._batch, self._gates = frame, batch, gates
        self._signs = frozenset(gates.values())

    def __getitem__(self, key: tuple[int, Side]) -> FloatArray:
        tensor, _ = key
        nodes, arithmetic = self._frame.network.nodes, self._frame.arithmetic
        if tensor in self._signs:
            (source,) = nodes[tensor].sources
            return np.zeros(self._batch.bounds[source][0].shape)
        if tensor not in self._gates:
            raise KeyError(key)
        lower, upper = self._batch.bounds[nodes[tensor].sources[0]]
        low, high = arithmetic.floats_down(lower), arithmetic.floats_up(upper)
        with np.errstate(all="ignore"):
            return np.clip(high / (high - low), 0.0, 1.0)

    def __iter__(self) -> Iterator[tuple[int, Side]]:
        nodes = self._frame.network.nodes
        for tensor in (*self._signs, *self._gates):
            if nodes[tensor].sources[0] in self._batch.bounds:
                yield from ((tensor, side) for side in Side)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Gradients(Boxes):
    """Looks at boxes of a question about gradients.

    Args:
        question: its region is a box.
        arithmetic: to bound in.
        tick: called between pieces of work; may raise to stop at a deadline.
    """

    def __init__(
        self,
        question: LipschitzQuestion,
        arithmetic: Arithmetic,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        made = question.gradients
        super().__init__(made.network, question.case, arithmetic, tick)
        self._gates, self._norm = made.gates, question.norm
        most = question.at_most**2 if question.norm == "l2" else question.at_most
        self._most = arithmetic.fraction_down(most)

    def tighten(self, batch: Batch, *, record: bool = False) -> None:
        """Bound every unstable neuron anew, and what comes to Relus that are undecided."""
        sweep(
            self.frame,
            batch,
            record=record,
            tick=self.tick,
            hints=self._hints(batch),
            wanted=lambda tensor: self._wanted(batch, tensor),
        )

    def at_most(self, batch: Batch) -> Mask:
        """``(B,)``: no gradient's norm is above the question's constant, proved."""
        return np.asarray(self.above(batch) <= self._most, dtype=bool) & ~batch.empty

    def over(self, batch: Batch) -> Mask:
        """``(B,)``: some function's gradient has a larger norm everywhere, proved."""
        return np.asarray(self.below(batch) > self._most, dtype=bool) & ~batch.empty

    def above(self, batch: Batch) -> Numbers:
        """``(B,)``: at least the norms of all gradients; of "l2" their squares."""
        return self._largest(batch, self._highest)

    def below(self, batch: Batch) -> Numbers:
        """``(B,)``: at most the norm of some function's gradient; of "l2" its square."""
        return self._largest(batch, self._lowest)

    def _largest(
        self, batch: Batch, bound: Callable[[Relaxations, int, Interval], Numbers]
    ) -> Numbers:
        lines = Relaxations(self.frame, batch, self._hints(batch))
        found = [
            bound(lines, tensor, self._entries(lines, tensor))
            for tensor in self.frame.network.outputs
        ]
        return np.asarray(np.max(found, axis=0))

    def _hints(self, batch: Batch) -> Hints:
        return Hints(self.frame, batch, self._gates)

    def _wanted(self, batch: Batch, tensor: int) -> Mask:
        frame, nodes, bounds = self.frame, self.frame.network.nodes, batch.bounds[tensor]
        readers = frame.network.readers[tensor]
        mask = unstable(frame, tensor, bounds, [r for r in readers if r not in self._gates])
        for reader in readers:
            gate = nodes[reader]
            if reader in self._gates and isinstance(gate, Product) and gate.left == tensor:
                sign = nodes[self._gates[reader]]
                if isinstance(sign, Univariate):
                    rule = function(sign.function, sign.parameters)
                    mask |= rule.unstable(frame.arithmetic, *batch.bounds[sign.source])
        return mask & np.asarray(bounds[0] < bounds[1], dtype=bool)

    def _entries(self, lines: Relaxations, tensor: int) -> Interval:
        """Bounds of a gradient's entries, ``(B, n)``."""
        count, size = len(lines.batch.empty), self.frame.network.sizes[tensor]
        owner, entry = np.repeat(np.arange(count), size), np.tile(np.arange(size), count)
        found = bound_rows(self.frame, lines, tensor, owner, entry, tick=self.tick)
        lower, upper = (found[side].reshape(count, size) for side in Side)
        return lower, upper

    def _highest(self, lines: Relaxations, tensor: int, entries: Interval) -> Numbers:
        """At least the norm of one gradient."""
        arithmetic = self.frame.arithmetic
        ends = (
            self._size(entries[0], arithmetic.multiply_up),
            self._size(entries[1], arithmetic.multiply_up),
        )
        largest = np.maximum(*ends)
        if self._norm == "l1":
            return np.asarray(largest.max(axis=1))
        known = np.asarray(bounded(entries).all(axis=1), dtype=bool)
        total = np.full(known.shape, np.inf, dtype=largest.dtype)
        total[known] = -_sum_down(arithmetic, -largest[known])
        places = np.flatnonzero(known)
        if not places.size:
            return total
        low, high, first, second = (part[places] for part in (*entries, *ends))
        place, rows, constant = self._chords((low, high), (first, second))
        count, size = rows.shape
        row, entry = np.repeat(np.arange(count), size), np.tile(np.arange(size), count)
        start = {tensor: (row, entry, -rows.reshape(-1))}
        made = Rows(places[place], -constant, start)
        found = -substitute(self.frame, lines.batch, lines, made, tick=self.tick)
        worst = np.full(known.shape, -np.inf, dtype=largest.dtype)
        np.maximum.at(worst, places[place], found)
        return np.where(known, np.minimum(total, worst), total)

    def _chords(self, entries: Interval, sizes: Interval) -> tuple[IndexArray, Numbers, Numbers]:
        """Linear functions of entries; at any input one of a box's is at least the norm.

        Args:
            entries: their bounds, ``(B, n)``.
            sizes: at least their magnitudes, or squares, at these bounds.

        Returns:
            The boxes ``(R,)``, coefficients ``(R, n)`` and constants ``(R,)``.
        """
        arithmetic, absolute = self.frame.arithmetic, self._norm == "linf"
        a, b = arithmetic.floats_down(entries[0]), arithmetic.floats_up(entries[1])
        steep = a + b
        if absolute:
            with np.errstate(all="ignore"):
                steep = np.where(a >= 0, 1.0, np.where(b <= 0, -1.0, steep / (b - a)))
        slopes = arithmetic.lift_down(np.nan_to_num(steep, nan=0.0, posinf=0.0, neginf=0.0))
        above = (  # magnitude and square are convex, so most above a line at an end
            arithmetic.add_up(size, arithmetic.multiply_up(-slopes, end))
            for size, end in zip(sizes, entries, strict=True)
        )
        extra = np.maximum(*above)
        lost = np.where((a < 0) & (b > 0), np.minimum(-a, b), 0.0)
        tried = np.minimum((lost > 0).sum(axis=1), SIGNS if absolute else 0)
        order = np.argsort(-lost, axis=1, kind="stable")
        parts = []
        for count in np.unique(tried).tolist():
            place = np.flatnonzero(tried == count)
            signs = np.array(list(itertools.product((-1.0, 1.0), repeat=count)))
            signs = np.tile(signs.reshape(2**count, count), (place.size, 1))
            place = np.repeat(place, 2**count)
            at, chosen = np.arange(place.size)[:, None], order[place, :count]
            rows, rest = slopes[place], extra[place]
            rows[at, chosen], rest[at, chosen] = arithmetic.lift_down(signs), 0
            parts.append((place, rows, -_sum_down(arithmetic, -rest)))
        place, rows, constant = (np.concatenate(part) for part in zip(*parts, strict=True))
        return place, rows, constant

    def _lowest(self, lines: Relaxations, tensor: int, entries: Interval) -> Numbers:
        """At most the norm of one gradient."""
        arithmetic = self.frame.arithmetic
        low, high = entries
        ends = [self._size(end, arithmetic.multiply_down) for end in entries]
        apart = np.asarray((low > 0) | (high < 0), dtype=bool)
        least = np.where(apart, np.minimum(*ends), 0)
        if self._norm == "l1":
            return np.asarray(least.max(axis=1))
        return _sum_down(arithmetic, least)

    def _size(self, values: Numbers, multiply: Callable[[Numbers, Numbers], Numbers]) -> Numbers:
        """Magnitudes, of "l2" squares, rounded by what multiplies."""
        magnitude = np.abs(values)
        return multiply(magnitude, magnitude) if self._norm == "l2" else np.asarray(magnitude)


def _sum_down(arithmetic: Arithmetic, values: Numbers) -> Numbers:
    """At most the sums of rows."""
    return arithmetic.dot_down(arithmetic.lift_down(np.ones(values.shape)), values)
