"""Where to split: scores of inputs and of neurons."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.alpha import Bounded
from verifier.bounds import TorchNetwork, UnivariateNode
from verifier.bounds_spec import Goal


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
    net: TorchNetwork, found: Bounded, lower: Tensor, upper: Tensor, alpha: Tensor
) -> tuple[Tensor, Tensor]:
    """Two scores of splitting each neuron, ``(R, N)``; 0 where it is stable.

    The first is what the relaxation gives away at the point where the bound is attained:
    the coefficient times the distance of the line used from the function, at the value
    that reaches the neuron.  The second is the most it could give away, the coefficient
    times the height of the triangle (after Bunel et al., *Branch and bound for piecewise
    linear neural network verification*, 2020).
    """
    if found.values is None:
        raise ValueError("scores need the values of a gradient pass")
    given = torch.zeros_like(found.values)
    height = torch.zeros_like(found.values)
    unstable = ((lower < 0) & (upper > 0)).to(given.dtype)
    chord = upper.clamp(min=0) / (upper - lower).clamp(min=1e-30)
    for number, matrix in found.trace.items():
        node = net.nodes[number]
        if not isinstance(node, UnivariateNode):
            continue
        where = net.neurons[node.source]
        z = found.values[:, where]
        value = z.clamp(min=0)
        above = chord[:, where] * (z - lower[:, where]) - value
        below = value - alpha[:, where] * z
        positive, negative = matrix.clamp(min=0), (-matrix).clamp(min=0)
        given[:, where] += negative * above.clamp(min=0) + positive * below.clamp(min=0)
        height[:, where] += matrix.abs() * (-lower * chord)[:, where]
    return given * unstable, height * unstable
