"""Where to split: scores of inputs and of neurons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from verifier.alpha import Bounded
from verifier.bounds import TorchNetwork
from verifier.bounds_spec import Goal
from verifier.relaxations import Lines


def input_scores(
    matrix: Tensor, goal: Goal, bound: Tensor, per_slot: Tensor, width: Tensor, margin: float
) -> Tensor:
    """How much halving an input could lift the bounds that are still missing, ``(B, I)``.

    Halving input ``i`` lifts a row's bound by at most ``|A_i| * width_i / 2`` if its
    relaxation stays.  Counted for all rows of every disjunct that is not refuted: the row
    that is best now need not be the one that closes the halves.

    Args:
        matrix: ``(R, I)`` the rows' coefficients at the input.
        bound: ``(R,)``; ``per_slot``: ``(S,)`` its maximum by disjunct.
        width: ``(B, I)`` of the boxes.
    """
    best = per_slot[goal.slot] <= margin
    chosen = best.nonzero()[:, 0]
    owner = goal.owner[chosen]
    gain = matrix[chosen].abs() * width[owner]
    return torch.zeros_like(width).index_add(0, owner, gain)


def neuron_scores(
    net: TorchNetwork, found: Bounded, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor]:
    """Two scores of splitting each neuron, ``(R, N)``; 0 where it is stable.

    The first is what the relaxation gives away at the point where the bound is attained:
    the coefficient times the distance of the line used from the function, at the value
    that reaches the neuron.  The second is the most it could give away, the coefficient
    times the height between the lines where it is greatest, or in the middle (after Bunel
    et al., *Branch and bound for piecewise linear neural network verification*, 2020, and
    Shi et al., 2025).  What a product gives away counts for all
    tensors on whose bounds it is relaxed.
    """
    if found.values is None:
        raise ValueError("scores need the values of a gradient pass")
    given = torch.zeros_like(found.values)
    height = torch.zeros_like(found.values)
    for number, matrix in found.trace.items():
        node, lines = net.function(number), found.lines[number]
        at = [found.values[:, net.neurons[source]] for source in node.sources]
        value = node.relaxation.value(*at)
        below, above = heights(lines, at)
        positive, negative = matrix.clamp(min=0), (-matrix).clamp(min=0)
        gap = negative * (above - value).clamp(min=0) + positive * (value - below).clamp(min=0)
        middle = [net.middle(number, low, high) for low, high in _pairs(net, number, lower, upper)]
        low, high = heights(lines, middle)
        most = matrix.abs() * (high - low).clamp(min=0)
        for tensor in node.bounded:
            given[:, net.neurons[tensor]] += gap
            height[:, net.neurons[tensor]] += most
    unstable = net.unstable(lower, upper).to(given.dtype)
    return (given * unstable).nan_to_num(0.0), (height * unstable).nan_to_num(0.0)


def violations(found: Bounded, lower: Tensor, upper: Tensor) -> Tensor:
    """How far the point where the bound is attained leaves the neurons' bounds, ``(R, N)``."""
    if found.values is None:
        raise ValueError("violations need the values of a gradient pass")
    outside = torch.maximum(lower - found.values, found.values - upper)
    return outside.clamp(min=0.0).nan_to_num(0.0)


def heights(lines: Lines, at: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The lines (planes) below and above at given arguments."""
    below, above = lines.lower_slope * at[0], lines.upper_slope * at[0] + lines.upper_intercept
    if lines.lower_intercept is not None:
        below = below + lines.lower_intercept
    if lines.second is not None:
        below, above = below + lines.second[0] * at[1], above + lines.second[1] * at[1]
    return below, above


def _pairs(
    net: TorchNetwork, number: int, lower: Tensor, upper: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    ends = net.ends(number, lower, upper)
    return zip(ends[::2], ends[1::2], strict=True)
