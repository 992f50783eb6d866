"""The approximation of the Gaussian error linear unit by a hyperbolic tangent."""

from __future__ import annotations

from math import pi, sqrt

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives

FACTOR = sqrt(2 / pi)
CUBIC = 0.044715


class GeluTanh(Curve):
    """Convex in the middle, concave outside; as a multiple of a sigmoid, exact in the tail."""

    bends = (-1.4185040087908283, 1.4185040087908283)
    convex = (False, True, False)
    extremes = (-0.75246142207101626,)
    core = (-7.5, 7.5)
    explicit = False

    def value(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(2 * FACTOR * x * (1 + CUBIC * x * x))

    def derivatives(self, x: Tensor) -> Derivatives:
        square = x * x
        share = torch.sigmoid(2 * FACTOR * x * (1 + CUBIC * square))
        rise = 2 * FACTOR * (1 + 3 * CUBIC * square)  # of the sigmoid's argument
        slope = share * (1 - share) * rise
        bend = slope * (1 - 2 * share) * rise + share * (1 - share) * 12 * FACTOR * CUBIC * x
        return Derivatives(x * share, share + x * slope, 2 * slope + x * bend)


def relaxation() -> GeluTanh:
    """The function has no parameters."""
    return GeluTanh()
