"""Slopes of the hulls of a function's samples, for functions that bend more than once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SAMPLES = 17


def slopes_at_middle(
    value: Callable[[Tensor], Tensor], lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor]:
    """Slopes at the middle of the lower and of the upper hull of equidistant samples.

    Of all chords from a sample left of the middle to one right of it, that which is lowest
    (highest) at the middle.

    Args:
        value: the function.
        lower, upper: ``(k,)``, finite, as are the function's values.
    """
    half = SAMPLES // 2
    share = torch.linspace(0, 1, SAMPLES, device=lower.device, dtype=lower.dtype)[:, None]
    samples = value(lower + share * (upper - lower))
    left = torch.arange(half, 0, -1, device=lower.device, dtype=lower.dtype)[:, None]
    right = torch.arange(1, half + 1, device=lower.device, dtype=lower.dtype)[:, None]
    step = (upper - lower) / (SAMPLES - 1)
    found = []
    for sign in (1.0, -1.0):
        best: Tensor | None = None
        slope: Tensor | None = None
        for back in range(half):  # all left samples against one right one at a time
            end, away = sign * samples[half + 1 + back], right[back]
            rise = (end - sign * samples[:half]) / (left + away)
            level, number = (end - away * rise).min(0)
            own = rise.gather(0, number[None])[0]
            if best is None or slope is None:
                best, slope = level, own
            else:
                slope = torch.where(level < best, own, slope)
                best = torch.minimum(level, best)
        if slope is None:
            raise ValueError("too few samples")
        found.append(sign * slope / step)
    return found[0], found[1]
