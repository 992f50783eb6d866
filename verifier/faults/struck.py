"""What a change of one stored parameter does to the sum that it stands in.

Each entry of a parameter that stands at one place of a network moves that node's tensor along a
direction of its own: by ``(new constant - old constant) * d``, where ``d`` is made of the node's
sources for coefficients and of ones for offsets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from proofs.outward import TINY, UNIT
from specs.enclosure import FloatArray
from specs.faults.placed import at_place, linear, weighted
from specs.linear import IndexArray, MatMul
from specs.network import Linear, Univariate
from specs.reader import rounding
from specs.reader.parameters import Place
from verifier.faults.floats import UP, Floats, Tensor

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Steps:
    """By how much constants change, one for each fault.

    Attributes:
        step: ``(n,)`` new less old constant.
        error: ``(n,)`` of it.
    """

    step: FloatArray
    error: FloatArray

    @property
    def none(self) -> BoolArray:
        """``(n,)`` those that change nothing."""
        return np.asarray((self.step == 0.0) & (self.error == 0.0))


@dataclass(frozen=True, eq=False)
class Behind:
    """A dense layer behind a Relu behind a node.

    Attributes:
        relu, layer: the tensors that they define.
        map: the layer's.
    """

    relu: int
    layer: int
    map: MatMul


@dataclass(frozen=True, eq=False)
class Struck:
    """A parameter that stands at a single place of a network, and there once in each product.

    Attributes:
        floats: the evaluator of the network with the stored values.
        place: where it stands.
        values: ``(size,)`` the stored values.
    """

    floats: Floats
    place: Place
    values: FloatArray

    @cached_property
    def node(self) -> Linear:
        """The sum that it stands in."""
        return linear(self.floats.network.nodes[self.place.node])

    @property
    def source(self) -> int | None:
        """The tensor that coefficients multiply; ``None``: an offset."""
        return None if self.place.term is None else self.node.terms[self.place.term].source

    @cached_property
    def _products(self) -> tuple[IndexArray, IndexArray, IndexArray]:
        """Where the products of each entry start in two lists, of their targets and sources."""
        held = np.flatnonzero(self.place.entries >= 0)
        which, target, source = np.arange(held.size), held, held * 0
        if self.place.term is not None:
            which, target, source = weighted(self.node.terms[self.place.term]).uses(held)
        entry = self.place.entries[held[which]]
        order = np.lexsort((target, entry))
        starts = np.searchsorted(entry[order], np.arange(self.values.size + 1))
        return starts, target[order], source[order]

    def products(self, entries: IndexArray) -> tuple[IndexArray, IndexArray, IndexArray]:
        """For each product of some entries the place in ``entries``, target and source."""
        starts, target, source = self._products
        counts = starts[entries + 1] - starts[entries]
        which = np.repeat(np.arange(entries.size), counts)
        within = np.arange(which.size) - np.repeat(np.cumsum(counts) - counts, counts)
        at = starts[entries[which]] + within
        return which, target[at], source[at]

    @cached_property
    def _first(self) -> IndexArray:
        """``(size,)`` a position of the place at which each entry stands; -1: at none."""
        first = np.full(self.values.size, -1, dtype=np.int64)
        held = np.flatnonzero(self.place.entries >= 0)[::-1]
        first[self.place.entries[held]] = held
        return first

    @cached_property
    def simple(self) -> bool:
        """Whether an entry has one factor wherever it stands, and no target twice."""
        held = np.flatnonzero(self.place.entries >= 0)
        first = self._first[self.place.entries[held]]
        for constants in (self.place.factor, self.place.rest):
            if constants is None:
                continue
            if np.any(constants.value[held] != constants.value[first]):
                return False
            radius = constants.radius
            if radius is not None and np.any(radius[held] != radius[first]):
                return False
        starts, target, _ = self._products
        again = target[1:] == target[:-1]
        again[starts[1:-1][(starts[1:-1] > 0) & (starts[1:-1] < target.size)] - 1] = False
        return not again.any()

    def summed(self, rows: FloatArray) -> FloatArray:
        """``(K, n) -> (K, size)``: numbers for positions added up for entries."""
        held = np.flatnonzero(self.place.entries >= 0)
        entries = self.place.entries[held]
        total = np.zeros((len(rows), self.values.size))
        if self._once:
            total[:, entries] = rows[:, held]
        else:
            for row, into in zip(rows, total, strict=True):
                into += np.bincount(entries, row[held], minlength=into.size)
        return total

    @cached_property
    def _once(self) -> bool:
        """Whether each entry stands at one position at most."""
        entries = self.place.entries[self.place.entries >= 0]
        return np.unique(entries).size == entries.size

    def steps(self, entry: IndexArray, value: FloatArray) -> Steps:
        """What becomes of constants when entries have other values, ``(n,)`` each.

        The values are numbers that the network is defined with.
        """
        first = self._first[entry]
        new, _ = at_place(self.place, np.maximum(first, 0), value)
        old, _ = at_place(self.place, np.maximum(first, 0), self.values[entry])
        change = rounding.subtract(new, old)
        error = np.zeros(change.shape) if change.radius is None else change.radius
        return Steps(np.where(first >= 0, change.value, 0.0), np.where(first >= 0, error, 0.0))

    def directions(
        self, tensors: Mapping[int, Tensor], source: IndexArray
    ) -> tuple[FloatArray, FloatArray]:
        """``d`` of products at one point, and the error of each."""
        if self.source is None:
            return np.ones(source.shape), np.zeros(source.shape)
        read = tensors[self.source]
        error = np.broadcast_to(read.error, read.value.shape)
        return read.value[0, source], error[0, source]

    def moved(self, tensors: Mapping[int, Tensor], entry: IndexArray, steps: Steps) -> Tensor:
        """The node's tensor at one point, a row for each fault."""
        base = tensors[self.place.node]
        value = np.repeat(base.value, entry.size, axis=0)
        error = np.repeat(np.broadcast_to(base.error, base.value.shape), entry.size, axis=0)
        which, target, source = self.products(entry)
        direction, loose = self.directions(tensors, source)
        with np.errstate(all="ignore"):
            change, wide = shifts(steps, which, direction, loose)
            made = value[which, target] + change
            value[which, target] = made
            error[which, target] = (error[which, target] + wide + np.abs(made) * UNIT) * UP + TINY
        return Tensor(value, error)

    @cached_property
    def behind(self) -> Behind | None:
        """The Relu that alone reads the node, and the dense layer that alone reads the Relu.

        Where an entry of the parameter moves one entry of the node's tensor, that layer's
        tensor moves along a row of its matrix.
        """
        network = self.floats.network
        starts = self._products[0]
        if np.any(np.diff(starts) > 1) or self.place.node in network.outputs:
            return None
        relu = _only(network.readers[self.place.node])
        if relu is None or relu in network.outputs:
            return None
        node = network.nodes[relu]
        if not isinstance(node, Univariate) or node.function != "relu":
            return None
        layer = _only(network.readers[relu])
        found = None if layer is None else network.nodes[layer]
        if layer is None or not isinstance(found, Linear) or len(found.terms) != 1:
            return None
        mover = found.terms[0].map
        if not isinstance(mover, MatMul) or mover.rows != 1 or not mover.weight.exact:
            return None
        return Behind(relu, layer, mover)


def shifts(
    steps: Steps, which: IndexArray, direction: FloatArray, loose: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """``step * d`` of products, and its error."""
    step, error = steps.step[which], steps.error[which]
    change = step * direction
    wide = error * (np.abs(direction) + loose) + np.abs(step) * loose + np.abs(change) * UNIT
    return change, wide * UP + TINY


def _only(readers: tuple[int, ...]) -> int | None:
    return readers[0] if len(readers) == 1 else None
