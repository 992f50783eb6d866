"""Sine, and what the waves share."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, pi

import torch
from torch import Tensor

from verifier.relaxations.curve import Bent, Curve
from verifier.relaxations.lines import Derivatives


class Sin(Curve):
    """Bends at the multiples of pi, less a phase; convex where it is negative."""

    bent = True
    phase = 0.0

    def value(self, x: Tensor) -> Tensor:
        return torch.sin(x)

    def derivatives(self, x: Tensor) -> Derivatives:
        value = torch.sin(x)
        return Derivatives(value, torch.cos(x), -value)

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        half = ((near + self.phase) / pi).floor()
        sign = 1 - 2 * half.remainder(2)
        return half * pi - self.phase + (sign * slope).clamp(-1.0, 1.0).acos()

    def inside(self, lower: Tensor, upper: Tensor) -> Bent:
        # A bend at an end, but for roundings, is none: intervals are split at bends.
        room = 8 * torch.finfo(lower.dtype).eps * (1 + torch.maximum(lower.abs(), upper.abs()))
        first = ((lower + room + self.phase) / pi).floor() + 1
        last = ((upper - room + self.phase) / pi).ceil() - 1
        number, bend = last - first, first * pi - self.phase
        none = torch.zeros_like(lower, dtype=torch.bool)
        return Bent(number == 0, number == 1, number > 1, none, bend, bend + pi)

    def convex_at(self, x: Tensor) -> Tensor:
        return self.value(x) < 0

    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        ends = self.value(lower).nan_to_num(nan=-1.0), self.value(upper).nan_to_num(nan=1.0)
        least, greatest = torch.minimum(*ends), torch.maximum(*ends)
        top = _passes(lower, upper, 0.5 * pi - self.phase)
        bottom = _passes(lower, upper, -0.5 * pi - self.phase)
        return torch.where(bottom, -1.0, least), torch.where(top, 1.0, greatest)

    def candidates(
        self, lower: Tensor, upper: Tensor, slope: Tensor, *, convex: bool
    ) -> Iterator[Tensor]:
        """Of the points where the tangent is parallel, the first and the last."""
        place = slope.clamp(-1.0, 1.0).acos()
        place = (-place if convex else place) - self.phase
        first = ((lower - place) / (2 * pi)).ceil()
        last = ((upper - place) / (2 * pi)).floor()
        for number in (first, last):
            yield (place + 2 * pi * number).nan_to_num(nan=0.0)

    def split_point(self, lower: Tensor, upper: Tensor) -> Tensor:
        """The bend nearest to the middle where it is well inside, else the middle."""
        middle = super().split_point(lower, upper)
        bend = ((middle + self.phase) / pi).round() * pi - self.phase
        inside = (bend - middle).abs() < (7 / 16) * (upper - lower)
        return torch.where(inside, bend, middle)


def _passes(lower: Tensor, upper: Tensor, place: float) -> Tensor:
    """Whether an interval contains ``place`` plus a multiple of 2 pi."""
    turns = ((upper - place) / (2 * pi)).floor() - ((lower - place) / (2 * pi)).ceil()
    return (turns >= 0) | ((upper - lower) == inf)


def relaxation() -> Sin:
    """The function has no parameters."""
    return Sin()
