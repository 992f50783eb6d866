"""The exponential function."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Exp(Curve):
    """Convex."""

    def value(self, x: Tensor) -> Tensor:
        return torch.exp(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        value = torch.exp(x)
        return Derivatives(value, value, value)

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        return slope.log()


def relaxation() -> Exp:
    """The function has no parameters."""
    return Exp()
