"""Hard swish: 0 up to -3, the identity from 3 on, ``x (x + 3) / 6`` between."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class HardSwish(Curve):
    """A parabola between two concave kinks."""

    bends = kinks = (-3.0, 3.0)
    convex = (False, True, False)
    extremes = (-1.5,)
    core = (-6.0, 6.0)

    def value(self, x: Tensor) -> Tensor:
        return torch.nn.functional.hardswish(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        right = (x >= 3).to(x.dtype)
        between = (x >= -3).to(x.dtype) - right
        return Derivatives(self.value(x), right + between * (x / 3 + 0.5), between / 3)

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        return 3 * slope - 1.5

    def linear(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Outside the parabola."""
        right = lower >= 3
        return right | (upper <= -3), right.to(lower.dtype)

    def unstable(self, lower: Tensor, upper: Tensor) -> Tensor:
        return (lower < 3) & (upper > -3) & (lower < upper)


def relaxation() -> HardSwish:
    """The function has no parameters."""
    return HardSwish()
