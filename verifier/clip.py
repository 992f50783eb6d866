"""Clipping: the row that bounds an unsafe constraint cuts the region it is bounded over.

Where a row ``a x + c`` bounds an unsafe constraint from below, a violation satisfies
``a x + c <= 0``, so bounds of other neurons need hold in that half-space only (Zhou et al.,
*Clip-and-Verify: linear constraint-driven domain clipping*, 2025).  The kernel's rule CLIP
takes the same cuts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from proofs.frame import FIRST_LAYER
from verifier.bounds import Domains, Lines, TorchNetwork, both_sides, neuron_rows, substitute
from verifier.bounds_spec import Goal

CROSSING = 1e-7
"""Part of a box's width by which its clipped ends have to cross for nothing to be left."""

PAIRS = 1 << 18
"""Numbers in an array of rows under their cuts: a few megabytes, near the caches."""


@dataclass(frozen=True, eq=False)
class FirstLayers:
    """Pre-activations that are linear in the inputs: ``matrix @ x + constant``.

    Attributes:
        parts: by slice of the neurons, ``(n, I)``, ``(n,)``, and by how much errors may
            move them, ``(n,)`` or 0.
        bends_at_zero: neurons with 0 outside their bounds are linear.
    """

    parts: Mapping[tuple[int, int], tuple[Tensor, Tensor, Tensor | float]]
    bends_at_zero: bool = True

    def focused(self, columns: Tensor) -> FirstLayers | None:
        """Those of the chosen neurons, ascending, under their new numbers."""
        found = {}
        for (start, stop), (matrix, constant, error) in self.parts.items():
            first, last = torch.searchsorted(columns, torch.tensor([start, stop])).tolist()
            if last > first:
                index = columns[first:last] - start
                moved = error if isinstance(error, float) else error[index]
                found[first, last] = matrix[index], constant[index], moved
        return FirstLayers(found, self.bends_at_zero) if found else None


def first_layers(net: TorchNetwork) -> FirstLayers:
    """The pre-activations that the kernel clips."""

    def no_lines(number: int) -> Lines:
        raise ValueError(f"tensor {number} lies behind a first layer")

    parts = {}
    for tensor, where in net.neurons.items():
        count = where.stop - where.start
        if net.nodes[tensor] is None or count * net.input_size > FIRST_LAYER:
            continue
        if tensor not in net.exact:
            continue
        every = torch.arange(count, device=net.device)
        rows = neuron_rows(net, tensor, every)
        matrix, constant = substitute(net, rows, no_lines)
        error: Tensor | float = 0.0
        if net.radii:
            negative = substitute(net, both_sides(rows), no_lines)[1][count:]
            constant, error = (constant - negative) * 0.5, (constant + negative) * -0.5
        parts[where.start, where.stop] = matrix, constant, error
    return FirstLayers(parts, net.bends_at_zero)


def clip(first: FirstLayers, cut: Tensor, constant: Tensor, domains: Domains) -> Domains:
    """Boxes and first layers under one cut each, ``cut (B, I)`` and ``constant (B,)``."""
    low, high = clip_boxes(cut, constant, domains.low, domains.high)
    lower, upper = domains.lower.clone(), domains.upper.clone()
    for (start, stop), (matrix, offset, error) in first.parts.items():
        below, above = lower[:, start:stop], upper[:, start:stop]
        open_ = (below < 0) & (above > 0) if first.bends_at_zero else below < above
        for sign, side in ((1.0, below), (-1.0, above)):
            outside = _corners(sign * matrix, cut, constant, domains) > 0
            owner, entry = (open_ & outside).nonzero(as_tuple=True)
            size = max(1, PAIRS // max(1, matrix.shape[1]))
            for begin in range(0, len(owner), size):
                own, index = owner[begin : begin + size], entry[begin : begin + size]
                box = domains.low[own], domains.high[own]
                rows, shift = sign * matrix[index], sign * offset[index]
                shift = shift - (error if isinstance(error, float) else error[index])
                found = sign * _least(rows, shift, cut[own], constant[own], *box)
                tighter = torch.maximum if sign > 0 else torch.minimum
                side[own, index] = tighter(side[own, index], found)
    return Domains(low, high, lower, upper)


def _corners(rows: Tensor, cut: Tensor, constant: Tensor, domains: Domains) -> Tensor:
    """The cut's value where each of ``rows (n, I)`` is least in each box, ``(B, n)``.

    Where it is not positive, the row attains its minimum on this side of the cut.
    """
    center = (domains.low + domains.high) * 0.5
    radius = (domains.high - domains.low) * 0.5
    middle = constant + (cut * center).sum(-1)
    return middle[:, None] - (cut * radius) @ rows.sign().T


def clip_boxes(cut: Tensor, constant: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of boxes ``(B, I)`` in which ``cut x + constant <= 0`` is possible."""
    least = torch.where(cut > 0, cut * low, cut * high)
    most = -constant[:, None] - least.sum(-1, keepdim=True) + least
    end = most / torch.where(cut == 0, 1.0, cut)
    return (
        torch.where(cut < 0, torch.maximum(low, end), low),
        torch.where(cut > 0, torch.minimum(high, end), high),
    )


def clip_around(
    cut: Tensor, constant: Tensor, goal: Goal, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The hulls of what the rows of a goal leave of boxes ``(B, I)``, disjunct by disjunct.

    Returns:
        Ends ``(B, I)``, and whether nothing is left ``(B,)``; there the ends say nothing.
    """
    own = goal.owner
    row_low, row_high = clip_boxes(cut, constant, low[own], high[own])
    count, width = len(goal.slot_owner), low.shape[1]
    slot, owner = goal.slot[:, None].expand(-1, width), goal.slot_owner[:, None].expand(-1, width)
    slot_low, slot_high = low[goal.slot_owner], high[goal.slot_owner]
    slot_low = slot_low.scatter_reduce(0, slot, row_low, "amax")
    slot_high = slot_high.scatter_reduce(0, slot, row_high, "amin")
    tiny = CROSSING * (high - low)[goal.slot_owner]
    dead = (slot_low > slot_high + tiny).any(-1)
    alive = (~dead)[:, None].expand(count, width)
    least = torch.full_like(low, float("inf"))
    least = least.scatter_reduce(0, owner, slot_low.where(alive, float("inf")), "amin")
    most = torch.full_like(high, -float("inf"))
    most = most.scatter_reduce(0, owner, slot_high.where(alive, -float("inf")), "amax")
    empty = torch.zeros(len(low), dtype=torch.long, device=low.device)
    empty = empty.scatter_add(0, goal.slot_owner, (~dead).long()) == 0
    middle = (least + most) * 0.5
    crossed = least > most  # by less than counts
    return torch.where(crossed, middle, least), torch.where(crossed, middle, most), empty


def _least(
    rows: Tensor, shift: Tensor, cut: Tensor, constant: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Minimum of ``rows x + shift`` over boxes and half-spaces, ``(P,)``.

    By duality the greatest over ``t >= 0`` of the minimum over the box of
    ``(rows + t cut) x + shift + t constant``, which is concave and bends where a
    coefficient changes its sign.
    """
    best = _multiple(*(part.float() for part in (rows, cut, constant, low, high))).to(rows)
    center, radius = (low + high) * 0.5, (high - low) * 0.5
    total = torch.addcmul(rows, best[:, None], cut)
    return shift + best * constant + (total * center).sum(-1) - (total.abs() * radius).sum(-1)


def _multiple(rows: Tensor, cut: Tensor, constant: Tensor, low: Tensor, high: Tensor) -> Tensor:
    center, radius = (low + high) * 0.5, (high - low) * 0.5
    bends = rows * cut < 0
    at, order = torch.where(bends, -rows / cut, float("inf")).sort(-1)
    swing = cut * radius
    side = torch.where(rows == 0, cut.sign(), rows.sign())
    rise = constant + (cut * center).sum(-1) - (swing * side).sum(-1)
    drop = torch.where(bends, 2.0 * swing.abs(), 0.0).gather(-1, order)
    after = rise[:, None] - drop.cumsum(-1)
    position = ((after > 0) & at.isfinite()).sum(-1).clamp(max=at.shape[-1] - 1)
    best = at.gather(-1, position[:, None])[:, 0]
    return torch.where((rise > 0) & best.isfinite(), best, 0.0)
