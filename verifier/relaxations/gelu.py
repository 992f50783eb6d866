"""Gaussian error linear unit: ``x`` times the normal distribution function."""

from __future__ import annotations

from math import pi, sqrt

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Gelu(Curve):
    """Convex between the square roots of 2, concave outside."""

    bends = (-sqrt(2), sqrt(2))
    convex = (False, True, False)
    extremes = (-0.75179152469356446,)
    core = (-7.5, 7.5)
    explicit = False

    def value(self, x: Tensor) -> Tensor:
        return torch.nn.functional.gelu(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        share = 0.5 + 0.5 * torch.erf(x * sqrt(0.5))
        density = (-0.5 * x * x).exp() * (1 / sqrt(2 * pi))
        return Derivatives(x * share, share + x * density, density * (2 - x * x))


def relaxation() -> Gelu:
    """The function has no parameters."""
    return Gelu()
