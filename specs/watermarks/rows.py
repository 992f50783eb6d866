"""Marks that are read linearly: bit ``j`` of a tensor ``w`` is 1 exactly if ``B_j w > 0``.

NeuralMark (a filtered average, times a secret matrix) and Uchida et al., *Embedding watermarks
into deep neural networks* (2017; a mean over output channels, times one) are of this kind.  Both
multiply many weights by the same column, which is stored once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from specs.enclosure import FloatArray
from specs.errors import QuestionError
from specs.linear import IndexArray
from specs.watermarks.key import BoolArray
from specs.watermarks.mark import LinearSystem

LARGEST = 2.0**20
"""Entries of rows: sums of products of them are exact in floats."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The matrix ``B``, ``(n, N)``, up to a positive factor: only the signs of ``B w`` matter.

    Attributes:
        columns: ``(n, K)`` the different columns, whole numbers of at most 20 bits.
        column_of: ``(N,)`` which column multiplies each weight; -1: none, no bit depends on it.

    Raises:
        QuestionError: shapes do not fit, an entry is no such number, or a column is not there.
    """

    columns: FloatArray
    column_of: IndexArray

    def __post_init__(self) -> None:
        if self.columns.ndim != 2 or self.column_of.ndim != 1 or not self.columns.shape[0]:
            shapes = f"{self.columns.shape} and {self.column_of.shape}"
            raise QuestionError(f"rows of a mark have columns and an index, not arrays of {shapes}")
        whole = np.all(np.rint(self.columns) == self.columns) and self.columns.dtype == np.float64
        if not (whole and np.all(np.abs(self.columns) <= LARGEST)):
            raise QuestionError(f"rows of a mark hold whole numbers of at most {LARGEST:.0f}")
        if self.column_of.dtype != np.int64:
            raise QuestionError("columns of a mark are counted in int64")
        if np.any(self.column_of < -1) or np.any(self.column_of >= self.columns.shape[1]):
            raise QuestionError("rows of a mark name a column that is not there")

    @property
    def bits(self) -> int:
        """``n``, how many bits are read."""
        return int(self.columns.shape[0])

    @property
    def size(self) -> int:
        """``N``, entries of the tensor."""
        return self.column_of.size

    def expanded(self, start: int, stop: int) -> FloatArray:
        """``(stop - start, N)``: some of the rows, one entry for each weight."""
        return spread(self.columns[start:stop], self.column_of)


def spread(columns: FloatArray, column_of: IndexArray) -> FloatArray:
    """``(r, N)``: columns ``(r, K)`` at the weights that they multiply; 0 where there is none."""
    padded = np.concatenate([columns, np.zeros((columns.shape[0], 1))], axis=1)
    return np.asarray(padded[:, column_of], dtype=np.float64)  # -1 is the column of zeros


def rows_of_system(system: LinearSystem, size: int) -> Rows:
    """Rows over all ``size`` entries of the tensor of which a system reads some."""
    read = rows_of(system.rows)
    column_of = np.full(size, -1, dtype=np.int64)
    column_of[system.positions] = read.column_of
    return Rows(read.columns, column_of)


def rows_of(matrix: npt.ArrayLike) -> Rows:
    """Rows of a plain matrix ``(n, N)`` of whole numbers, equal columns stored once.

    >>> found = rows_of([[1.0, 2.0, 1.0, 0.0]])
    >>> found.columns.tolist(), found.column_of.tolist()
    ([[1.0, 2.0]], [0, 1, 0, -1])
    """
    dense = np.asarray(matrix, dtype=np.float64)
    if dense.ndim != 2:
        raise QuestionError(f"rows of a mark are a matrix, not an array of {dense.shape}")
    used = np.flatnonzero(np.any(dense != 0.0, axis=0))
    kept = np.ascontiguousarray(dense[:, used].T) + 0.0  # -0.0 becomes 0.0: bytes are compared
    column_of = np.full(dense.shape[1], -1, dtype=np.int64)
    if not used.size:
        return Rows(np.zeros((dense.shape[0], 0)), column_of)
    keys = kept.view(f"V{kept.shape[1] * kept.itemsize}").reshape(-1)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    column_of[used] = inverse.reshape(-1)
    return Rows(np.ascontiguousarray(kept[first].T), column_of)


@dataclass(frozen=True, eq=False)
class Demand:
    """What a changed tensor is asked to do: at least ``least`` of its bits read as ``bits``.

    A mark is lost where enough bits read the opposite of the committed ones; a second key is
    written where enough bits read its own.

    Attributes:
        rows: how the bits are read.
        bits: ``(n,)`` of the values that count.
        least: how many, at least 1.
    """

    rows: Rows
    bits: BoolArray
    least: int

    def __post_init__(self) -> None:
        if self.bits.shape != (self.rows.bits,) or self.bits.dtype != np.bool_:
            raise QuestionError(f"{self.rows.bits} bits are read, and {self.bits.size} were given")
        if self.least < 1:
            raise QuestionError(f"a demand for {self.least} bits holds anyway")

    @property
    def signs(self) -> FloatArray:
        """``(n,)``: 1 for a bit 1, -1 for a bit 0."""
        return np.where(self.bits, 1.0, -1.0)


def lost(rows: Rows, committed: BoolArray, threshold: int) -> Demand:
    """The demand that a change must meet to bring fewer than ``threshold`` bits to match.

    Raises:
        QuestionError: ``threshold`` is not within 1 to ``n``.
    """
    if not 1 <= threshold <= rows.bits:
        raise QuestionError(f"a threshold of {threshold} matches, for {rows.bits} bits")
    return Demand(rows, ~committed, rows.bits - threshold + 1)
