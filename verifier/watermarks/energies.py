"""What sets of changes come to, differentiable; ``specs.watermarks.changes`` bounds it surely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from specs.enclosure import FloatArray
from specs.watermarks.changes import Flips, Pruned
from verifier.watermarks.ascent import Scaled, Tensor


@dataclass(frozen=True)
class BallEnergy:
    """A ball of radius 1 in the scaled units; energies of ``l1`` are not known."""

    norm: str
    tilted = False

    @property
    def free(self) -> bool:
        """Only the largest entry matters in the Euclidean norm."""
        return self.norm == "linf"

    def start(self, scaled: Scaled) -> Tensor:
        """Ones."""
        return torch.ones_like(scaled.weights)

    def most(self, inverse: Tensor, linear: Tensor, scaled: Scaled) -> Tensor:
        """The largest energy."""
        if self.norm == "l2":
            return torch.ones((), dtype=torch.float64)
        return (1.0 / inverse)[scaled.column_of >= 0].sum()

    def paid(self, rise: Tensor, fall: Tensor, scaled: Scaled) -> Tensor:
        """The most that changes pay at prices ``(K,)`` of moves up and down."""
        both = torch.maximum(rise, fall)
        if self.norm == "l1":
            return both.max()
        if self.norm == "l2":
            return torch.sqrt((both**2 * scaled.counts).sum())
        return (both * scaled.counts).sum()


@dataclass(frozen=True, eq=False)
class MovesEnergy:
    """At most ``count`` weights move, each to one of two ends.

    Attributes:
        low, high: ``(N,)`` how far weights move, not scaled.
    """

    count: int
    low: FloatArray
    high: FloatArray
    free = True
    tilted = True

    def start(self, scaled: Scaled) -> Tensor:
        """Squares of moves: every move costs the same."""
        longest = np.maximum(np.abs(self.low), np.abs(self.high))
        typical = float(longest.max(initial=0.0)) or 1.0
        return torch.from_numpy(np.maximum(longest / typical, 2.0**-5) ** 2)

    def most(self, inverse: Tensor, linear: Tensor, scaled: Scaled) -> Tensor:
        """The largest energy."""
        slope = scaled.spread(linear)
        used = (scaled.column_of >= 0).to(torch.float64)
        gains = []
        for end in (self.low, self.high):
            step = torch.from_numpy(end / scaled.margin_unit)
            gains.append(step**2 / inverse * used + 2.0 * slope * step)
        worth = torch.clamp(torch.maximum(*gains), min=0.0)
        return torch.topk(worth, min(self.count, worth.numel())).values.sum()

    def paid(self, rise: Tensor, fall: Tensor, scaled: Scaled) -> Tensor:
        """The most that changes pay at prices ``(K,)`` of moves up and down."""
        up, down = (scaled.spread(ends) for ends in (rise, fall))
        worth = torch.maximum(
            up * torch.from_numpy(self.high / scaled.margin_unit),
            down * torch.from_numpy(-self.low / scaled.margin_unit),
        )
        return torch.topk(worth, min(self.count, worth.numel())).values.sum()


def moves_energy(changes: Pruned | Flips, weights: FloatArray) -> MovesEnergy:
    """Of pruning exactly; of flips, as if each struck a word of its own."""
    if isinstance(changes, Pruned):
        return MovesEnergy(changes.count, np.minimum(-weights, 0.0), np.maximum(-weights, 0.0))
    low, high = changes.moves(weights)[0]
    return MovesEnergy(changes.count, low, high)
