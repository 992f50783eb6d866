"""The linear maps that linear nodes are made of; convolutions are in ``convolution.py``.

A map acts on flat tensors.  Its two methods define its meaning once for everyone:
``forward`` is the map itself and ``adjoint`` its transpose, both on the last axis of a
batch.  Either can be computed with another array in place of the stored coefficients
(their magnitudes, their radii, big integers), which is how interval propagation and
error bounds are obtained from the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from specs.enclosure import Enclosure
from specs.errors import ModelError

Array = npt.NDArray[Any]
IndexArray = npt.NDArray[np.int64]
_ROUNDS = 64
MatrixProduct = Callable[[Array, Array], Array]
"""Product of two matrices, ``(r, k), (k, c) -> (r, c)``."""

Coefficients = tuple[IndexArray, IndexArray, IndexArray | None]


class LinearMap(Protocol):
    """A linear map between flat tensors.

    Attributes:
        source_size: number of entries of the argument.
        target_size: number of entries of the result.
        weight: the coefficients, or ``None`` for maps whose coefficients are 0 and 1.
        fan_in: the largest number of products summed for one entry by ``forward``.
        fan_out: the same for ``adjoint``.
    """

    @property
    def source_size(self) -> int: ...
    @property
    def target_size(self) -> int: ...
    @property
    def weight(self) -> Enclosure | None: ...
    @property
    def fan_in(self) -> int: ...
    @property
    def fan_out(self) -> int: ...

    def forward(self, values: Array, weight: Array | None, product: MatrixProduct) -> Array:
        """``(batch, source_size) -> (batch, target_size)``."""
        ...

    def adjoint(self, rows: Array, weight: Array | None, product: MatrixProduct) -> Array:
        """``(batch, target_size) -> (batch, source_size)``."""
        ...

    def entries(self, targets: IndexArray) -> Coefficients | None:
        """The coefficients of some rows of the map's matrix, where they are few.

        Returns:
            For each of ``K`` coefficients the position in ``targets`` of its row, its
            source, and its flat position in ``weight`` (``None``: all are 1); a place may
            occur several times and means the sum.  ``None`` where rows are dense.
        """
        ...


Uses = tuple[IndexArray, IndexArray, IndexArray]


class WeightedMap(LinearMap, Protocol):
    """A linear map with coefficients.

    ``rows . map(values)`` is linear in each of rows, coefficients and values: ``forward``,
    ``adjoint`` and ``gradient`` are what it multiplies by each of the three.
    """

    @property
    def weight(self) -> Enclosure: ...

    def gradient(self, rows: Array, values: Array, product: MatrixProduct) -> Array:
        """What coefficients are multiplied by in ``rows . map(values)``, row by row.

        ``(batch, target_size), (batch, source_size) -> (batch, *weight.shape)``.  A coefficient
        that is used several times is multiplied by the sum over its uses.
        """
        ...

    def uses(self, positions: IndexArray) -> Uses:
        """The products that some coefficients, by flat positions, take part in.

        Returns:
            For each of ``K`` products the place in ``positions``, its target and its source.
        """
        ...


@dataclass(frozen=True, eq=False)
class Identity:
    """The identity on ``size`` entries."""

    size: int
    weight: None = None
    fan_in: int = 1
    fan_out: int = 1

    @property
    def source_size(self) -> int:
        return self.size

    @property
    def target_size(self) -> int:
        return self.size

    def forward(self, values: Array, weight: Array | None, product: MatrixProduct) -> Array:
        return values

    def adjoint(self, rows: Array, weight: Array | None, product: MatrixProduct) -> Array:
        return rows

    def entries(self, targets: IndexArray) -> Coefficients | None:
        return np.arange(targets.size), targets, None


@dataclass(frozen=True, eq=False)
class Gather:
    """``y[i] = x[index[i]]``, and 0 where ``index[i]`` is -1.

    Slices, transpositions, padding with zeros, concatenation and broadcasts are of
    this kind.
    """

    index: IndexArray
    source_size: int
    weight: None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", _checked_index(self.index, self.source_size))

    @property
    def target_size(self) -> int:
        return int(self.index.size)

    @property
    def fan_in(self) -> int:
        return 1

    @cached_property
    def _sums(self) -> _Sums:
        return _Sums.of(self.index, self.source_size)

    @property
    def fan_out(self) -> int:
        return self._sums.most

    def forward(self, values: Array, weight: Array | None, product: MatrixProduct) -> Array:
        return _take(values, self.index)

    def adjoint(self, rows: Array, weight: Array | None, product: MatrixProduct) -> Array:
        return self._sums.add_up(rows)

    def entries(self, targets: IndexArray) -> Coefficients | None:
        source = self.index[targets]
        kept = np.flatnonzero(source >= 0)
        return kept, source[kept], None


@dataclass(frozen=True, eq=False)
class Scatter:
    """``y[index[j]] += x[j]``; entries with index -1 are dropped.

    The adjoint of :class:`Gather`; sums over axes are of this kind.
    """

    index: IndexArray
    target_size: int
    weight: None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", _checked_index(self.index, self.target_size))

    @property
    def source_size(self) -> int:
        return int(self.index.size)

    @cached_property
    def _sums(self) -> _Sums:
        return _Sums.of(self.index, self.target_size)

    @property
    def fan_in(self) -> int:
        return self._sums.most

    @property
    def fan_out(self) -> int:
        return 1

    def forward(self, values: Array, weight: Array | None, product: MatrixProduct) -> Array:
        return self._sums.add_up(values)

    def adjoint(self, rows: Array, weight: Array | None, product: MatrixProduct) -> Array:
        return _take(rows, self.index)

    def entries(self, targets: IndexArray) -> Coefficients | None:
        which, source = self._sums.entries_of(targets)
        return which, source, None


@dataclass(frozen=True, eq=False)
class Scale:
    """``y[i] = weight[i] * x[i]``."""

    weight: Enclosure
    fan_in: int = 1
    fan_out: int = 1

    @property
    def source_size(self) -> int:
        return int(self.weight.value.size)

    @property
    def target_size(self) -> int:
        return int(self.weight.value.size)

    def forward(self, values: Array, weight: Array | None, product: MatrixProduct) -> Array:
        return values * given(weight)

    def adjoint(self, rows: Array, weight: Array | None, product: MatrixProduct) -> Array:
        return rows * given(weight)

    def entries(self, targets: IndexArray) -> Coefficients | None:
        return np.arange(targets.size), targets, targets

    def gradient(self, rows: Array, values: Array, product: MatrixProduct) -> Array:
        return np.asarray(rows * values)

    def uses(self, positions: IndexArray) -> Uses:
        return np.arange(positions.size), positions, positions


@dataclass(frozen=True, eq=False)
class MatMul:
    """``x`` viewed as ``(rows, m)``, times ``weight`` of shape ``(m, n)``."""

    weight: Enclosure
    rows: int = 1

    @property
    def source_size(self) -> int:
        return self.rows * self.weight.shape[0]

    @property
    def target_size(self) -> int:
        return self.rows * self.weight.shape[1]

    @property
    def fan_in(self) -> int:
        return self.weight.shape[0]

    @property
    def fan_out(self) -> int:
        return self.weight.shape[1]

    def forward(self, values: Array, weight: Array | None, product: MatrixProduct) -> Array:
        matrix = given(weight)
        flat = values.reshape(len(values) * self.rows, matrix.shape[0])
        return product(flat, matrix).reshape(len(values), self.target_size)

    def adjoint(self, rows: Array, weight: Array | None, product: MatrixProduct) -> Array:
        matrix = given(weight)
        flat = rows.reshape(len(rows) * self.rows, matrix.shape[1])
        return product(flat, matrix.T).reshape(len(rows), self.source_size)

    def entries(self, targets: IndexArray) -> Coefficients | None:
        return None

    def gradient(self, rows: Array, values: Array, product: MatrixProduct) -> Array:
        inner, columns = self.weight.shape
        left = values.reshape(len(values), self.rows, inner)
        right = rows.reshape(len(rows), self.rows, columns)
        return product(np.swapaxes(left, 1, 2), right)

    def uses(self, positions: IndexArray) -> Uses:
        inner, columns = self.weight.shape
        row, which = np.divmod(np.arange(self.rows * positions.size), max(1, positions.size))
        source, target = np.divmod(positions[which], columns)
        return which, row * columns + target, row * inner + source


@dataclass(frozen=True, eq=False)
class Sparse:
    """A matrix by its entries: ``y[target[k]] += weight[k] * x[source[k]]``."""

    weight: Enclosure
    source: IndexArray
    target: IndexArray
    source_size: int
    target_size: int

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            index = _checked_index(getattr(self, name), getattr(self, f"{name}_size"))
            if index.size != self.weight.value.size or (index.size and index.min() < 0):
                raise ModelError("the entries of a sparse matrix do not fit its indices")
            object.__setattr__(self, name, index)

    @cached_property
    def _by_target(self) -> _Sums:
        return _Sums.of(self.target, self.target_size)

    @cached_property
    def _by_source(self) -> _Sums:
        return _Sums.of(self.source, self.source_size)

    @property
    def fan_in(self) -> int:
        return self._by_target.most

    @property
    def fan_out(self) -> int:
        return self._by_source.most

    def forward(self, values: Array, weight: Array | None, product: MatrixProduct) -> Array:
        return self._by_target.add_up(values, self.source, given(weight))

    def adjoint(self, rows: Array, weight: Array | None, product: MatrixProduct) -> Array:
        return self._by_source.add_up(rows, self.target, given(weight))

    def entries(self, targets: IndexArray) -> Coefficients | None:
        which, place = self._by_target.entries_of(targets)
        return which, self.source[place], place

    def gradient(self, rows: Array, values: Array, product: MatrixProduct) -> Array:
        return np.asarray(rows[:, self.target] * values[:, self.source])

    def uses(self, positions: IndexArray) -> Uses:
        return np.arange(positions.size), self.target[positions], self.source[positions]

    def rows(self, targets: IndexArray, weight: Array) -> Array:
        """Rows of the matrix, ``(len(targets), source_size)``, with the given coefficients."""
        row, place = self._by_target.entries_of(targets)
        out = np.zeros((len(targets), self.source_size), dtype=weight.dtype)
        np.add.at(out, (row, self.source[place]), weight[place])
        return out


def given(weight: Array | None) -> Array:
    """The coefficients of a map that has some.

    Raises:
        ModelError: there are none.
    """
    if weight is None:
        raise ModelError("a map with coefficients was applied without them")
    return weight


def _checked_index(index: Any, size: int) -> IndexArray:
    out = np.array(index, dtype=np.int64).reshape(-1)
    if out.size and (out.min() < -1 or out.max() >= size):
        raise ModelError("an index map points outside its tensor")
    out.flags.writeable = False
    return out


def _largest_multiplicity(index: IndexArray) -> int:
    used = index[index >= 0]
    return int(np.bincount(used).max()) if used.size else 1


def _take(values: Array, index: IndexArray) -> Array:
    if index.size and index.min() >= 0:
        return np.take(values, index, axis=1)
    out = np.zeros((len(values), index.size), dtype=values.dtype)
    kept = index >= 0
    out[:, kept] = np.take(values, index[kept], axis=1)
    return out


@dataclass(frozen=True, eq=False)
class _Sums:
    """``out[:, index[j]] += values[:, j]``: which entries add up to each result.

    Few entries a result are added up one after the other for all results at once, which
    takes a fraction of the time of a general scatter.  ``np.take`` keeps rows next to each
    other in memory; indexing of columns would make an array of columns, slow to add to rows.

    Attributes:
        order, targets: the entries that count, and the result of each, ascending.
        most: the largest number of entries of a result.
    """

    size: int
    order: IndexArray
    targets: IndexArray
    most: int

    @staticmethod
    def of(index: IndexArray, size: int) -> _Sums:
        """For entries with these results; those with result -1 are dropped."""
        kept = np.flatnonzero(index >= 0)
        order = kept[np.argsort(index[kept], kind="stable")]
        return _Sums(size, order, index[order], _largest_multiplicity(index))

    def entries_of(self, results: IndexArray) -> tuple[IndexArray, IndexArray]:
        """Entries that add up to some results: the position of the result, and the entry."""
        starts = self._starts[results]
        counts = self._starts[results + 1] - starts
        which = np.repeat(np.arange(results.size), counts)
        step = np.arange(which.size) - np.repeat(np.cumsum(counts) - counts, counts)
        return which, self.order[starts[which] + step]

    @cached_property
    def _starts(self) -> IndexArray:
        """Where in ``targets`` the entries of each result start, and where the last ones end."""
        return np.searchsorted(self.targets, np.arange(self.size + 1))

    @cached_property
    def _rounds(self) -> list[tuple[IndexArray, IndexArray]]:
        """First, second, ... entries of the results that have so many, and these results."""
        place = np.arange(self.order.size) - np.searchsorted(self.targets, self.targets)
        return [(self.order[place == k], self.targets[place == k]) for k in range(self.most)]

    def add_up(self, values: Array, source: IndexArray | None = None, weight: Any = None) -> Array:
        """``(R, m) -> (R, size)``; entry ``j`` is ``weight[j] * values[:, source[j]]``."""

        def parts(entries: IndexArray) -> Array:
            taken = np.take(values, entries if source is None else source[entries], axis=1)
            return taken if weight is None else taken * weight[entries]

        total = np.zeros((len(values), self.size), dtype=values.dtype)
        if self.most > _ROUNDS:
            results, starts = np.unique(self.targets, return_index=True)
            total[:, results] = np.add.reduceat(parts(self.order), starts, axis=1)
            return total
        for entries, results in self._rounds:
            if results.size == self.size:
                total += parts(entries)
            else:
                total[:, results] += parts(entries)
        return total
