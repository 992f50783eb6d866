"""Relu: the chord above, a line through the origin below."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verifier.relaxations import Lines, Rates

HUGE = 1e37
"""Stands for infinity, which would make chords NaN."""


@dataclass(frozen=True, eq=False)
class _Free:
    """The parameter is the slope of the line below where the neuron is unstable."""

    fixed: Lines
    unstable: Tensor
    steep: Tensor

    def start(self) -> tuple[Tensor, ...]:
        return (self.steep,)

    def lines(self, *parameters: Tensor) -> Lines:
        (slope,) = parameters
        fixed = self.fixed
        below = fixed.lower_slope + self.unstable * slope
        return Lines(below, None, fixed.upper_slope, fixed.upper_intercept)

    def rates(self, *parameters: Tensor) -> Rates:
        return Rates(lower_slope=self.unstable)


class Relu:
    """See :class:`verifier.relaxations.Relaxation`."""

    free = 1

    def value(self, x: Tensor) -> Tensor:
        return torch.relu(x)

    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return lower.clamp(min=0), upper.clamp(min=0)

    def linear(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Stable neurons, and 1 where they are active."""
        return (lower >= 0) | (upper <= 0), (lower >= 0).to(lower.dtype)

    def unstable(self, lower: Tensor, upper: Tensor) -> Tensor:
        return (lower < 0) & (upper > 0)

    def default(self, lower: Tensor, upper: Tensor) -> Lines:
        """The kernel's own lines on ``[lower, upper]``.

        An unstable neuron's lower slope is 1 where ``upper > -lower`` after both are rounded
        to float32, else 0.
        """
        return self.hinted(lower, upper, _steep(lower, upper))

    def hinted(self, lower: Tensor, upper: Tensor, slope: Tensor) -> Lines:
        """Lines with the given lower slopes in [0, 1] where the neuron is unstable."""
        lower, upper = lower.clamp(min=-HUGE), upper.clamp(max=HUGE)
        active = (lower >= 0).to(lower.dtype)
        tiny = torch.finfo(lower.dtype).tiny  # the width may be 0 where neurons are stable
        unstable = ((lower < 0) & (upper > 0)).to(lower.dtype)
        chord = unstable * upper / (upper - lower).clamp(min=tiny)
        return Lines(active + unstable * slope, None, active + chord, -chord * lower)

    def relaxed(self, lower: Tensor, upper: Tensor) -> _Free:
        fixed = self.hinted(lower, upper, torch.zeros_like(lower))
        unstable = self.unstable(lower, upper).to(lower.dtype)
        return _Free(fixed, unstable, _steep(lower, upper))

    def intercepts(
        self, lower: Tensor, upper: Tensor, below: Tensor, above: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The extremes lie at the ends, or at 0."""
        lower, upper = (end.clamp(-HUGE, HUGE) for end in (lower, upper))
        ends = (lower, upper, torch.zeros_like(lower).clamp(min=lower, max=upper))
        under, over = ([x.clamp(min=0) - s * x for x in ends] for s in (below, above))
        least = torch.minimum(torch.minimum(under[0], under[1]), under[2])
        return least, torch.maximum(torch.maximum(over[0], over[1]), over[2])

    def split_point(self, lower: Tensor, upper: Tensor) -> Tensor:
        return torch.zeros_like(lower)


def _steep(lower: Tensor, upper: Tensor) -> Tensor:
    return (upper.float() > -lower.float()).to(lower.dtype)


def relaxation() -> Relu:
    """The function has no parameters."""
    return Relu()
