"""Sigmoid linear unit, ``x / (1 + exp(-x))``."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Silu(Curve):
    """Convex in the middle, concave outside."""

    bends = (-2.3993572805154677, 2.3993572805154677)
    convex = (False, True, False)
    extremes = (-1.2784645427610738,)
    core = (-30.0, 30.0)
    explicit = False

    def value(self, x: Tensor) -> Tensor:
        return torch.nn.functional.silu(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        share = torch.sigmoid(x)
        value, rest = x * share, 1 - share
        return Derivatives(value, share + value * rest, share * rest * (2 + x * (rest - share)))


def relaxation() -> Silu:
    """The function has no parameters."""
    return Silu()
