"""Sign: -1, 0 at 0 alone, and 1."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from verifier.relaxations.stairs import Stairs


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

    def split_point(self, lower: Tensor, upper: Tensor) -> Tensor:
        return torch.zeros_like(lower)


def relaxation() -> Sign:
    """The function has no parameters."""
    return Sign()
