"""Slopes of the hulls of a function's samples, for functions that bend more than once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

HALF = 8
"""Intervals between samples on either side of the middle."""


def slopes_at_middle(
    value: Callable[[Tensor], Tensor], lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor]:
    """Slopes at the middle of the lower and of the upper hull of equidistant samples.

    Where the hull has a corner there, the mean of its slopes on either side.

    Args:
        value: the function.
        lower, upper: ``(k,)``, finite, as are the function's values.
    """
    share = torch.linspace(0, 1, 2 * HALF + 1, device=lower.device, dtype=lower.dtype)[:, None]
    samples = value(lower + share * (upper - lower))
    step = (upper - lower) / (2 * HALF)
    return _slope(samples) / step, -_slope(-samples) / step


def _slope(samples: Tensor) -> Tensor:
    """Slope per sample of the lower hull of ``(17, k)`` at its middle."""
    left, middle, right = samples[:HALF], samples[HALF], samples[HALF + 1 :]
    ahead = torch.arange(1, HALF + 1, device=samples.device, dtype=samples.dtype)[:, None]
    back = ahead.flip(0)
    least = middle
    for end, away in zip(right, range(1, HALF + 1), strict=True):
        chords = end - away * ((end - left) / (back + away))
        least = torch.minimum(least, chords.amin(0))
    steepest = ((least - left) / back).amax(0)
    flattest = ((right - least) / ahead).amin(0)
    return 0.5 * steepest + 0.5 * flattest
