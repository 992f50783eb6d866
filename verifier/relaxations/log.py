"""The natural logarithm."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Log(Curve):
    """Concave; defined for positive arguments."""

    convex = (False,)
    domain = 0.0
    closed = False
    margin = 2.0**-10

    def value(self, x: Tensor) -> Tensor:
        return torch.log(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        slope = torch.reciprocal(x)
        return Derivatives(torch.log(x), slope, -slope * slope)

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        return torch.reciprocal(slope)


def relaxation() -> Log:
    """The function has no parameters."""
    return Log()
