"""Cosine: sine with a phase."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from verifier.relaxations.lines import Derivatives
from verifier.relaxations.sin import Sin


class Cos(Sin):
    """Bends in the middle between the multiples of pi."""

    phase = 0.5 * pi

    def value(self, x: Tensor) -> Tensor:
        return torch.cos(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        value = torch.cos(x)
        return Derivatives(value, -torch.sin(x), -value)


def relaxation() -> Cos:
    """The function has no parameters."""
    return Cos()
