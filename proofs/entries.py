"""Rows of coefficients kept as their entries, where they have few."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]
IndexArray = npt.NDArray[np.int64]


class Entries(NamedTuple):
    """Coefficients ``value (E,)`` of rows ``row`` at entries ``entry`` of one tensor."""

    row: IndexArray
    entry: IndexArray
    value: Numbers

    def combined(self, size: int) -> Entries:
        """Sorted by row and entry, each place once; equal places are added up."""
        key = self.row * size + self.entry
        if np.all(key[1:] > key[:-1]):
            return self
        order = np.argsort(key, kind="stable")
        key = key[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        key, value = key[starts], np.add.reduceat(self.value[order], starts)
        return Entries(key // size, key % size, value)

    def sums(self, terms: Numbers, count: int) -> Numbers:
        """Sums ``(count,)`` of a number for each entry, row by row; rows are sorted."""
        if terms.dtype == np.float64:
            return np.bincount(self.row, terms, count)
        out = np.zeros(count, dtype=terms.dtype)
        starts = np.flatnonzero(np.diff(self.row, prepend=-1))
        if starts.size:
            out[self.row[starts]] = np.add.reduceat(terms, starts)
        return out

    @property
    def longest(self) -> int:
        """The largest number of entries of a row."""
        return int(np.bincount(self.row).max(initial=0))
