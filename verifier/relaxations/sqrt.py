"""The square root."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Sqrt(Curve):
    """Concave; defined from 0 on, where its derivative is infinite."""

    convex = (False,)
    domain = 0.0
    margin = 2.0**-10

    def value(self, x: Tensor) -> Tensor:
        return torch.sqrt(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        value = torch.sqrt(x)
        slope = 0.5 / value
        return Derivatives(value, slope, -0.5 * slope / x)

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        return 0.25 / slope.square()


def relaxation() -> Sqrt:
    """The function has no parameters."""
    return Sqrt()
