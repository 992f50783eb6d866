"""Rounding to the nearest whole number, halves to the even one."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.stairs import Stairs


class Round(Stairs):
    """Steps in the middle between whole numbers."""

    def value(self, x: Tensor) -> Tensor:
        return torch.round(x)

    def first(self, x: Tensor) -> Tensor:
        return (x + 0.5).floor() + 0.5

    def last(self, x: Tensor) -> Tensor:
        return (x - 0.5).ceil() - 0.5

    def before(self, step: Tensor) -> Tensor:
        return step - 0.5


def relaxation() -> Round:
    """The function has no parameters."""
    return Round()
