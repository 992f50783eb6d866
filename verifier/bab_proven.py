"""Multipliers that closed boxes: those of one box often close its neighbours as well.

What closes with known multipliers need not be optimised, and a proof whose leaves share hints
is smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verifier.alpha import Multipliers
from verifier.bab_tree import LeafHint

KEPT = 4
"""Multipliers of a disjunct that are tried on its other boxes, the latest ones."""


@dataclass(frozen=True, eq=False)
class Row:
    """Multipliers that closed a box, as a proof stores them.

    Attributes:
        alpha: ``(P,)``; ``weights``: ``(k,)`` of the disjunct's constraints; ``region``:
            ``(q,)`` or ``None``; see ``Multipliers``.
        hint: the same for the proof.
    """

    alpha: Tensor
    weights: Tensor
    region: Tensor | None
    hint: LeafHint

    @staticmethod
    def of(stored: Multipliers, row: int, length: int, hint: LeafHint) -> Row:
        """A row of a disjunct with so many constraints, of which the last may be repeated."""
        weights = stored.alpha.new_ones(1)
        if stored.weights is not None:
            weights = stored.weights[row, :length].clone()
            weights[-1] += stored.weights[row, length:].sum()
        region = None if stored.region is None else stored.region[row]
        return Row(stored.alpha[row], weights, region, hint)


class Proven:
    """Rows that closed boxes, by the number of their disjunct."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Row]] = {}

    def add(self, disjunct: int, row: Row) -> None:
        """Note a row; the oldest one is forgotten."""
        known = self._rows.setdefault(disjunct, [])
        known.insert(0, row)
        del known[KEPT:]

    def of(self, disjuncts: Sequence[int], rank: int) -> list[Row | None]:
        """For each disjunct its latest row but ``rank`` others, if there is one."""
        found = {d: self._rows.get(d, [])[rank : rank + 1] for d in set(disjuncts)}
        return [found[d][0] if found[d] else None for d in disjuncts]


def stacked(rows: Sequence[Row], width: int) -> Multipliers:
    """Rows as multipliers of a problem whose rows have ``width`` constraints."""
    weights = None
    if width > 1:
        weights = torch.stack(
            [torch.nn.functional.pad(row.weights, (0, width - len(row.weights))) for row in rows]
        )
    regions = [row.region for row in rows if row.region is not None]
    region = torch.stack(regions) if regions else None
    return Multipliers(torch.stack([row.alpha for row in rows]), None, weights, region)
