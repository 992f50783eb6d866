"""Where to split: scores of inputs and of neurons."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.bounds_spec import Goal


def input_scores(
    matrix: Tensor, goal: Goal, bound: Tensor, per_slot: Tensor, width: Tensor, margin: float
) -> Tensor:
    """How much halving an input could lift the bounds that are still missing, ``(B, I)``.

    Halving input ``i`` lifts a row's bound by at most ``|A_i| * width_i / 2`` if its
    relaxation stays.  Counted for the best row of every disjunct that is not refuted.

    Args:
        matrix: ``(R, I)`` the rows' coefficients at the input.
        bound: ``(R,)``; ``per_slot``: ``(S,)`` its maximum by disjunct.
        width: ``(B, I)`` of the boxes.
    """
    best = (bound == per_slot[goal.slot]) & (per_slot[goal.slot] <= margin)
    chosen = best.nonzero()[:, 0]
    owner = goal.owner[chosen]
    gain = matrix[chosen].abs() * width[owner]
    return torch.zeros_like(width).index_add(0, owner, gain)
