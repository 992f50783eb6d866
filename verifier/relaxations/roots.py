"""Roots of many monotone functions at once, by a fixed number of steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 12


def root(
    function: Callable[[Tensor], tuple[Tensor, Tensor]], low: Tensor, high: Tensor, start: Tensor
) -> Tensor:
    """Where a function changes its sign in ``[low, high]``; an end if it does so only there.

    Newton's method within what is left of the bracket, elementwise; where a step is more than
    half as long as the last but one and not yet tiny, the bracket is halved instead.

    Args:
        function: gives values and derivatives, which may be zero.
        low, high, start: all of one shape, finite.
    """
    at_low, at_high = function(low)[0], function(high)[0]
    sign = (at_high >= at_low).to(low.dtype) * 2 - 1
    zero = 2.0**-40 * torch.maximum(at_low.abs(), at_high.abs())
    first = (sign * at_low >= -zero, low)
    last = (sign * at_high <= zero, high)
    point, tiny = start, 2.0**-20 * (high - low)
    length = before = high - low
    for _ in range(STEPS):
        value, rate = function(point)
        beyond = sign * value > 0
        low, high = torch.where(beyond, low, point), torch.where(beyond, point, high)
        newton = point - sign * value / rate.abs()  # its sign may be wrong by rounding
        newton = torch.minimum(torch.maximum(newton, low), high)
        short = (newton - point).abs() <= torch.maximum(0.5 * before, tiny)
        moved = torch.where(short, newton, 0.5 * low + 0.5 * high)
        before, length, point = length, (moved - point).abs(), moved
    return torch.where(*first, torch.where(*last, point))
