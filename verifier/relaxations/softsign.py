"""Softsign, ``x / (1 + |x|)``."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Softsign(Curve):
    """Convex left of 0, concave right of it."""

    bends = (0.0,)
    convex = (True, False)

    def value(self, x: Tensor) -> Tensor:
        return torch.nn.functional.softsign(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        share = 1.0 / (1.0 + x.abs())
        curvature = -2.0 * share.pow(3).copysign(x)
        return Derivatives(x * share, share.square(), curvature)

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        return (slope.clamp(min=0).rsqrt() - 1.0).copysign(near)


def relaxation() -> Softsign:
    """The function has no parameters."""
    return Softsign()
