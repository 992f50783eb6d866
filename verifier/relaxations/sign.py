"""Sign: -1, 0 at 0 alone, and 1."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from verifier.relaxations.stairs import STEEPEST, Stairs


class Sign(Stairs):
    """One step, at 0."""

    rise = 2.0

    def value(self, x: Tensor) -> Tensor:
        return torch.sign(x)

    def first(self, x: Tensor) -> Tensor:
        return torch.where(x < 0, 0.0, inf).to(x.dtype)

    def last(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, 0.0, -inf).to(x.dtype)

    def before(self, step: Tensor) -> Tensor:
        return torch.full_like(step, -1.0)

    def _slopes(self, lower: Tensor, upper: Tensor, *steps: Tensor) -> tuple[Tensor, Tensor]:
        """Where an interval ends at 0, the value 0 there is a corner of the hull, too."""
        below, above = super()._slopes(lower, upper, *steps)
        starts, ends = (lower == 0) & (upper > 0), (upper == 0) & (lower < 0)
        rise = 1.0 / (upper - lower).clamp(min=torch.finfo(lower.dtype).tiny)
        rise = rise.clamp(max=STEEPEST)
        below = torch.where(starts, rise, torch.where(ends, 0.0, below))
        return below, torch.where(ends, rise, torch.where(starts, 0.0, above))

    def split_point(self, lower: Tensor, upper: Tensor) -> Tensor:
        return torch.zeros_like(lower)


def relaxation() -> Sign:
    """The function has no parameters."""
    return Sign()
