"""Demands on linear marks in floats, for searches; the kernel has them exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from proofs.watermarks.persistence import stack
from specs.enclosure import FloatArray
from specs.linear import IndexArray
from specs.watermarks.rows import Demand


@dataclass(frozen=True, eq=False)
class Problem:
    """What a change would have to do: ``forms @ d`` must reach ``margins`` for enough rows.

    Attributes:
        demands: exactly.
        weights: ``(N,)``.
        signs: ``(n,)`` by which rows were multiplied.
        forms: ``(n, K)`` the different columns, signs applied.
        column_of: ``(N,)`` which of them each weight has; -1: none.
        counts: ``(K,)`` how many weights have each.
        margins: ``(n,)``.
        least: of each demand: how many, of which rows.
    """

    demands: tuple[Demand, ...]
    weights: FloatArray
    signs: FloatArray
    forms: FloatArray
    column_of: IndexArray
    counts: FloatArray
    margins: FloatArray
    least: tuple[tuple[int, range], ...]

    @property
    def used(self) -> IndexArray:
        """Weights that some bit depends on."""
        return np.flatnonzero(self.column_of >= 0)


def problem(demands: Sequence[Demand], weights: FloatArray) -> Problem:
    """Demands on marks of the same weights."""
    stacked = stack(demands, weights)
    rows = stacked.rows
    used = rows.column_of[rows.column_of >= 0]
    counts = np.bincount(used, minlength=rows.columns.shape[1]).astype(np.float64)
    margins = np.array([float(margin) for margin in stacked.margins])
    return Problem(
        tuple(demands),
        weights,
        stacked.signs,
        rows.columns * stacked.signs[:, None],
        rows.column_of,
        counts,
        margins,
        stacked.least,
    )
