"""Roots of many monotone functions at once, by a fixed number of steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 12


def root(
    function: Callable[[Tensor], tuple[Tensor, Tensor]], low: Tensor, high: Tensor, start: Tensor
) -> Tensor:
    """Where a function changes its sign in ``[low, high]``; an end if it does so nowhere.

    Newton's method, elementwise; where a step would leave what is left of the bracket, or is
    more than half as long as the step before and not yet tiny, the bracket is halved.

    Args:
        function: gives values and derivatives, which may be zero.
        low, high, start: all of one shape, finite.
    """
    sign = (function(high)[0] >= function(low)[0]).to(low.dtype) * 2 - 1
    point, length, tiny = start, high - low, 2.0**-20 * (high - low)
    for _ in range(STEPS):
        value, rate = function(point)
        beyond = sign * value > 0
        low, high = torch.where(beyond, low, point), torch.where(beyond, point, high)
        newton = point - value / rate
        short = (newton - point).abs() <= torch.maximum(0.5 * length, tiny)
        middle = 0.5 * low + 0.5 * high
        good = (newton >= low) & (newton <= high) & short
        moved = torch.where(good, newton, middle)
        length = (moved - point).abs()
        point = moved
    return point
