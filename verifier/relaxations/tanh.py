"""Hyperbolic tangent."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Tanh(Curve):
    """Convex left of 0, concave right of it."""

    bends = (0.0,)
    convex = (True, False)
    core = (-13.0, 13.0)

    def value(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        value = torch.tanh(x)
        small = (-2 * x.abs()).exp()  # 1 - value**2 would lose the tails
        slope = 4 * small / (1 + small).square()
        return Derivatives(value, slope, -2 * value * slope)

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        value = (1 - slope).clamp(min=0).sqrt()
        return (value.log1p() - 0.5 * slope.log()).copysign(near)


def relaxation() -> Tanh:
    """The function has no parameters."""
    return Tanh()
