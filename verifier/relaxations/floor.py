"""Floor, the greatest whole number that is not greater."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations.stairs import Stairs


class Floor(Stairs):
    """Steps at the whole numbers."""

    def value(self, x: Tensor) -> Tensor:
        return torch.floor(x)

    def first(self, x: Tensor) -> Tensor:
        return x.floor() + 1

    def last(self, x: Tensor) -> Tensor:
        return x.ceil() - 1

    def before(self, step: Tensor) -> Tensor:
        return step - 1


def relaxation() -> Floor:
    """The function has no parameters."""
    return Floor()
