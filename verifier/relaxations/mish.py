"""Mish, ``x`` times the hyperbolic tangent of softplus."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Mish(Curve):
    """Convex in the middle, concave outside."""

    bends = (-2.2563763963607931, 1.4905711794854284)
    convex = (False, True, False)
    extremes = (-1.1924312145154952,)
    core = (-30.0, 15.0)
    explicit = False

    def value(self, x: Tensor) -> Tensor:
        return torch.nn.functional.mish(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        inner = torch.sigmoid(x)
        share = torch.tanh(torch.nn.functional.softplus(x, threshold=50.0))
        rest = 1 - share * share
        slope = rest * inner
        bend = slope * (1 - inner - 2 * share * inner)
        return Derivatives(x * share, share + x * slope, 2 * slope + x * bend)


def relaxation() -> Mish:
    """The function has no parameters."""
    return Mish()
