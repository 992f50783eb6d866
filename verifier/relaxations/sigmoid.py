"""Sigmoid, ``1 / (1 + exp(-x))``."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Sigmoid(Curve):
    """Convex left of 0, concave right of it."""

    bends = (0.0,)
    convex = (True, False)
    core = (-25.0, 25.0)

    def value(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        value = torch.sigmoid(x)
        slope = value * torch.sigmoid(-x)  # 1 - value would lose the tail
        return Derivatives(value, slope, slope * (1 - 2 * value))

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        large = 0.5 + 0.5 * (1 - 4 * slope).clamp(min=0).sqrt()
        return (large * large / slope).log().copysign(near)


def relaxation() -> Sigmoid:
    """The function has no parameters."""
    return Sigmoid()
