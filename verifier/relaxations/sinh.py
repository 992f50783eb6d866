"""Hyperbolic sine."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Sinh(Curve):
    """Concave left of 0, convex right of it."""

    bends = (0.0,)
    convex = (False, True)

    def value(self, x: Tensor) -> Tensor:
        return torch.sinh(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        value = torch.sinh(x)
        return Derivatives(value, torch.cosh(x), value)

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        return slope.clamp(min=1).acosh().copysign(near)


def relaxation() -> Sinh:
    """The function has no parameters."""
    return Sinh()
