"""Lines at tangent points that parameters move, for functions with derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from verifier.relaxations import Lines, Rates

HUGE = 1e30
"""Stands for infinity where a formula would give infinity times zero."""


class Derivatives(NamedTuple):
    """A function's values and its first two derivatives."""

    value: Tensor
    slope: Tensor
    curvature: Tensor


@dataclass(frozen=True, eq=False)
class Side:
    """Lines on one side: tangents at points from ``first`` to ``last``, or fixed ones.

    Attributes:
        derivatives: of the function.
        tangent: 1 where it is a tangent, else 0; ``None``: 1 everywhere.
        first, last: ``None`` if it is a tangent nowhere; the same point at fixed lines.
        middle: the default's tangent point; ``aim`` makes it the nearest one to a default
            that is no tangent.
        slope, intercept: of fixed lines, 0 at tangents; ``None``: 0 everywhere.
    """

    derivatives: Callable[[Tensor], Derivatives]
    tangent: Tensor | None = None
    first: Tensor | None = None
    last: Tensor | None = None
    middle: Tensor | None = None
    slope: Tensor | None = None
    intercept: Tensor | None = None
    aim: Callable[[Tensor], Tensor] | None = None

    def start(self, like: Tensor) -> Tensor:
        if self.first is None or self.last is None or self.middle is None:
            return torch.zeros_like(like)
        reach = (self.last - self.first).clamp(min=torch.finfo(like.dtype).tiny)
        middle = self.middle if self.aim is None else self.aim(self.middle)
        return ((middle - self.first) / reach).clamp(0.0, 1.0)

    def default(self) -> tuple[Tensor, Tensor]:
        return self._at(self.middle)

    def line(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        return self._at(self._point(parameter))

    def rates(self, parameter: Tensor) -> tuple[Tensor | None, Tensor | None]:
        point = self._point(parameter)
        if point is None or self.first is None or self.last is None:
            return None, None
        rate = (self.last - self.first) * self.derivatives(point).curvature
        rate = rate.nan_to_num(0.0, HUGE, -HUGE)  # the curvature may overflow
        return rate, -point * rate

    def _point(self, parameter: Tensor) -> Tensor | None:
        if self.first is None or self.last is None:
            return None
        return torch.lerp(self.first, self.last, parameter)  # exact at 0 and at 1

    def _at(self, point: Tensor | None) -> tuple[Tensor, Tensor]:
        if point is None:
            if self.slope is None or self.intercept is None:
                raise ValueError("a side without lines")
            return self.slope, self.intercept
        value, slope, _ = self.derivatives(point)
        intercept = torch.addcmul(value, slope, point, value=-1)
        if self.tangent is None or self.slope is None or self.intercept is None:
            return slope, intercept
        return (
            torch.addcmul(self.slope, self.tangent, slope),
            torch.addcmul(self.intercept, self.tangent, intercept),
        )


@dataclass(frozen=True, eq=False)
class TangentLines:
    """See :class:`verifier.relaxations.Free`."""

    below: Side
    above: Side
    like: Tensor

    def start(self) -> tuple[Tensor, ...]:
        return self.below.start(self.like), self.above.start(self.like)

    def default(self) -> Lines:
        return Lines(*self.below.default(), *self.above.default())

    def lines(self, *parameters: Tensor) -> Lines:
        below, above = parameters
        return Lines(*self.below.line(below), *self.above.line(above))

    def rates(self, *parameters: Tensor) -> Rates:
        below, above = parameters
        return Rates(*self.below.rates(below), *self.above.rates(above))
