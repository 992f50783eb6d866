"""Exponential linear units, ``x`` from 0 on and ``alpha (exp(x) - 1)`` before, times a scale."""

from __future__ import annotations

import torch
from torch import Tensor

from specs.errors import UnsupportedOperatorError
from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Elu(Curve):
    """Convex if ``alpha`` is at most 1; else with a concave kink at 0."""

    core = (-25.0, 25.0)
    kinks = (0.0,)

    def __init__(self, alpha: float, scale: float = 1.0) -> None:
        self._alpha, self._scale = alpha, scale
        if alpha > 1:
            self.bends, self.convex = (0.0,), (True, False)

    def value(self, x: Tensor) -> Tensor:
        return self._scale * torch.nn.functional.elu(x, self._alpha)

    def derivatives(self, x: Tensor) -> Derivatives:
        bent = self._scale * self._alpha * x.clamp(max=0).exp()
        left = (x < 0).to(x.dtype)
        return Derivatives(self.value(x), bent * left + self._scale * (1 - left), bent * left)

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        return (slope / (self._scale * self._alpha)).log().clamp(max=0)

    def linear(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """From 0 on."""
        where = lower >= 0
        return where, self._scale * where.to(lower.dtype)

    def unstable(self, lower: Tensor, upper: Tensor) -> Tensor:
        return (lower < 0) & (lower < upper)


def relaxation(alpha: float) -> Elu:
    """The function with this parameter.

    Raises:
        UnsupportedOperatorError: it is not positive.
    """
    return scaled(alpha, 1.0)


def scaled(alpha: float, scale: float) -> Elu:
    """The function with these parameters.

    Raises:
        UnsupportedOperatorError: one of them is not positive.
    """
    if not (alpha > 0 and scale > 0):
        raise UnsupportedOperatorError("exponential linear units need positive parameters")
    return Elu(alpha, scale)
