"""Softplus, ``log(1 + exp(x))``."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Softplus(Curve):
    """Convex."""

    core = (-25.0, 25.0)

    def value(self, x: Tensor) -> Tensor:
        return torch.nn.functional.softplus(x, threshold=50.0)

    def derivatives(self, x: Tensor) -> Derivatives:
        slope = torch.sigmoid(x)
        return Derivatives(self.value(x), slope, slope * (1 - slope))

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        return (slope / (1 - slope)).log()


def relaxation() -> Softplus:
    """The function has no parameters."""
    return Softplus()
