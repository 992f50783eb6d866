"""Relu: the chord above, a line through the origin below."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verifier.relaxations import Lines, Rates


@dataclass(frozen=True, eq=False)
class _Triangle:
    active: Tensor
    unstable: Tensor
    upper_slope: Tensor
    upper_intercept: Tensor
    steep: Tensor

    def start(self) -> tuple[Tensor, ...]:
        return (self.steep,)

    def lines(self, *parameters: Tensor) -> Lines:
        (slope,) = parameters
        below = torch.addcmul(self.active, self.unstable, slope)
        return Lines(below, None, self.upper_slope, self.upper_intercept)

    def rates(self, *parameters: Tensor) -> Rates:
        return Rates(lower_slope=self.unstable)


class Relu:
    free = 1

    def value(self, *x: Tensor) -> Tensor:
        return torch.relu(x[0])

    def image(self, *ends: Tensor) -> tuple[Tensor, Tensor]:
        return torch.relu(ends[0]), torch.relu(ends[1])

    def linear(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return (lower >= 0) | (upper <= 0), (lower >= 0).to(lower.dtype)

    def unstable(self, lower: Tensor, upper: Tensor) -> Tensor:
        return (lower < 0) & (upper > 0)

    def default(self, *ends: Tensor) -> Lines:
        found = self.relaxed(*ends)
        return found.lines(*found.start())

    def relaxed(self, *ends: Tensor) -> _Triangle:
        lower, upper = ends
        active = (lower >= 0).to(lower.dtype)
        tiny = torch.finfo(lower.dtype).tiny
        unstable = ((lower < 0) & (upper > 0)).to(lower.dtype)
        chord = unstable * upper / (upper - lower).clamp(min=tiny)
        steep = (upper.float() > -lower.float()).to(lower.dtype)
        return _Triangle(active, unstable, active + chord, -chord * lower, steep)

    def split_point(self, lower: Tensor, upper: Tensor) -> Tensor:
        return torch.zeros_like(lower)


RELU = Relu()


def relaxation() -> Relu:
    return RELU
