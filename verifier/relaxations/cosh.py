"""Hyperbolic cosine."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Cosh(Curve):
    """Convex."""

    extremes = (0.0,)

    def value(self, x: Tensor) -> Tensor:
        return torch.cosh(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        value = torch.cosh(x)
        return Derivatives(value, torch.sinh(x), value)

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        return slope.asinh()


def relaxation() -> Cosh:
    """The function has no parameters."""
    return Cosh()
