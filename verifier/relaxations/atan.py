"""The inverse tangent."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Atan(Curve):
    """Convex left of 0, concave right of it."""

    bends = (0.0,)
    convex = (True, False)

    def value(self, x: Tensor) -> Tensor:
        return torch.atan(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        slope = torch.reciprocal(1 + x * x)
        return Derivatives(torch.atan(x), slope, -2 * x * slope * slope)

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        return (torch.reciprocal(slope) - 1).clamp(min=0).sqrt().copysign(near)


def relaxation() -> Atan:
    """The function has no parameters."""
    return Atan()
