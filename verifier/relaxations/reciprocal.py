"""The reciprocal, ``1 / x``, with a pole at 0."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Reciprocal(Curve):
    """Concave left of its pole, convex right of it."""

    bends = (0.0,)
    poles = (0.0,)
    convex = (False, True)

    def value(self, x: Tensor) -> Tensor:
        return torch.reciprocal(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        value = torch.reciprocal(x)
        slope = -value * value
        return Derivatives(value, slope, -2 * value * slope)

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        return (-slope).rsqrt().copysign(near)


def relaxation() -> Reciprocal:
    """The function has no parameters."""
    return Reciprocal()
