"""The error function."""

from __future__ import annotations

from math import pi, sqrt

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives

STEEPEST = 2 / sqrt(pi)


class Erf(Curve):
    """Convex left of 0, concave right of it."""

    bends = (0.0,)
    convex = (True, False)
    core = (-5.0, 5.0)

    def value(self, x: Tensor) -> Tensor:
        return torch.erf(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        slope = STEEPEST * (-x * x).exp()
        return Derivatives(torch.erf(x), slope, -2 * x * slope)

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        return (-(slope / STEEPEST).log()).clamp(min=0).sqrt().copysign(near)


def relaxation() -> Erf:
    """The function has no parameters."""
    return Erf()
