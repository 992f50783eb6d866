"""Weights of a conjunction's constraints: which combination of them excludes a box.

Each constraint ``g_i <= 0`` has a linear bound ``g_i(x) >= A_i x + c_i`` on the box.  For
weights ``w >= 0`` the least value of ``sum(w_i (A_i x + c_i))`` over the box is a concave
function of ``w``; where it is positive no point of the box is unsafe (Farkas' lemma).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verifier.bounds_spec import Goal

GRID = 64


@dataclass(frozen=True, eq=False)
class Combination:
    """The best combination found for ``B`` boxes.

    Attributes:
        weights: ``(B, m)`` multiples of ``1 / GRID``; all zero where there is none.
        value: ``(B,)`` the combination's least value over its box.
        matrix: ``(B, I)`` its coefficients.
    """

    weights: Tensor
    value: Tensor
    matrix: Tensor


def by_column(values: Tensor, goal: Goal) -> Tensor:
    """Values of rows ``(R,)`` as a row for each domain, ``(B, m)``, padded with zeros."""
    column = _column(goal)
    out = values.new_zeros(goal.domains, int(column.max()) + 1)
    out[goal.owner, column] = values
    return out


def _column(goal: Goal) -> Tensor:
    """The position of each row among those of its domain, ``(R,)``."""
    count = torch.bincount(goal.owner, minlength=goal.domains)
    first = torch.cumsum(count, 0) - count
    return torch.arange(len(goal.owner), device=goal.owner.device) - first[goal.owner]


def combine(
    matrix: Tensor, constant: Tensor, goal: Goal, low: Tensor, high: Tensor, rounds: int = 16
) -> Combination:
    """Combinations for domains with a single disjunct, by subgradient ascent on a simplex.

    Args:
        matrix, constant: ``(R, I)`` and ``(R,)`` linear bounds of the goal's rows.
        low, high: ``(B, I)`` the boxes.
    """
    column = _column(goal)
    width = int(column.max()) + 1
    center, radius = (low + high) * 0.5, (high - low) * 0.5
    at_center = constant + (matrix * center[goal.owner]).sum(-1)
    reach = matrix.new_zeros(goal.domains, width, matrix.shape[1])
    reach[goal.owner, column] = matrix * radius[goal.owner]
    middle = matrix.new_full((goal.domains, width), -1e30)
    middle[goal.owner, column] = at_center
    scale = reach.abs().sum(-1).amax(1).clamp(min=1e-30)[:, None]
    present = middle > -1e29

    def value(weights: Tensor) -> tuple[Tensor, Tensor]:
        mixed = torch.einsum("bm,bmi->bi", weights, reach)
        held = torch.where(present, weights * middle, 0.0).sum(1)
        return held - mixed.abs().sum(1), mixed

    logits = torch.where(present, 0.0, -1e30).to(matrix)
    best = torch.softmax(logits, 1)
    best_value, mixed = value(best)
    weights = best
    for step in range(rounds):
        slope = middle - torch.einsum("bi,bmi->bm", mixed.sign(), reach)
        logits = logits + torch.where(present, 4.0 / (1.0 + 0.3 * step) * slope / scale, 0.0)
        weights = torch.softmax(logits, 1)
        found, mixed = value(weights)
        better = found > best_value
        best = torch.where(better[:, None], weights, best)
        best_value = torch.where(better, found, best_value)
    best = torch.round(best * GRID) / GRID
    best_value, mixed = value(best)
    row = matrix.new_zeros(goal.domains, width, matrix.shape[1])
    row[goal.owner, column] = matrix
    return Combination(best, best_value, torch.einsum("bm,bmi->bi", best, row))
