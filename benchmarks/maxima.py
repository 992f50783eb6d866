"""Planes of its own for the maximum of a window, beside the reader's tree of Relus.

Over a box ``[l, u]``, with ``l*`` the greatest lower bound of a window's entries,

    max(x) <= c + sum_i max(0, u_i - c) (x_i - l_i) / (u_i - l_i)    for every c >= l*.

For ``max(x) <= c + sum_i max(0, x_i - c)``, and a convex function lies below its chord, here
from ``(l_i, 0)`` to ``(u_i, max(0, u_i - c))`` since ``l_i <= c``.  At a given point the right
side is convex and piecewise linear in ``c`` with its kinks at the ``u_i``, so it is least at
``l*`` or at a ``u_i``.  These ``k + 1`` planes are the concave envelope: with ``t_i`` the share
``(x_i - l_i) / (u_i - l_i)``, that is the largest mean of the maximum over random corners of
mean ``x``, which is the largest ``l* + sum_i (u_i - l*) q_i`` under ``0 <= q_i <= t_i`` and
``sum_i q_i <= 1``; the dual of this problem is the least right side.  So no rule that knows
the box alone has a better plane above, and below it is any convex combination of entries.

Entries that share inputs are not independent.  Where several may be the largest, *compared*
windows have their differences from one of them bounded, too: what is below it drops out, and
``max(x) = x_r + max(x_i - x_r)`` gives further planes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Rule = Literal["constant", "plane", "compared"]
"""The plane above: ``max_i u_i`` as in CROWN, or the one that is least at the box's centre,
of the envelope or of that and the compared ones.  The largest entry itself where known."""

Ends = tuple[Tensor, Tensor]

BEYOND = -1e30
"""Stands for an entry that is never the largest."""


def envelope(low: Tensor, high: Tensor) -> Ends:
    """The planes above for bounds ``(W, k)``: slopes ``(W, k + 1, k)``, intercepts ``(W, k + 1)``.

    The first one has ``c = l*``, the others ``c = u_i`` or, where that is less, ``l*`` again.
    """
    top = low.amax(-1, keepdim=True)
    level = torch.cat([top, torch.maximum(high, top)], -1)
    rise = (high[:, None] - level[:, :, None]).clamp(min=0)
    slope = rise / (high - low).clamp(min=torch.finfo(low.dtype).tiny)[:, None]
    return slope, level - (slope * low[:, None]).sum(-1)


def contested(low: Tensor, high: Tensor) -> Tensor:
    """Entries ``(W, k)`` that may be the largest, of windows in which several may."""
    rivals = (high > low.amax(-1, keepdim=True)) | first(low)
    return rivals & (rivals.sum(-1, keepdim=True) > 1)


def first(values: Tensor) -> Tensor:
    """The largest one in each window ``(W, k)``, the first if there are several."""
    place = values.argmax(-1, keepdim=True)
    return torch.zeros_like(values, dtype=torch.bool).scatter_(-1, place, True)


@dataclass(frozen=True, eq=False)
class Planes:
    """Planes below and above the maxima, as averages.

    Attributes:
        below: weights of the entries ``(W, k)``.
        above: weights ``(W, p)`` of planes with ``slope (W, p, k)`` and ``intercept (W, p)``.
            Weights have a further dimension in front where every row has its own.
    """

    below: Tensor
    above: Tensor
    slope: Tensor
    intercept: Tensor

    @staticmethod
    def of(low: Tensor, high: Tensor, rule: Rule, differences: Ends | None = None) -> Planes:
        """A single plane each; below it is the entry with the greatest lower bound.

        ``differences`` are those from the entry with the greatest mean, ``(W, k)``.
        """
        slope, intercept = envelope(low, high)
        middle = (low + high) / 2
        if differences is not None:
            leader = first(middle).to(low)[:, None]
            rest, more = envelope(*differences)
            rest = rest + leader * (1.0 - rest.sum(-1, keepdim=True))
            slope, intercept = torch.cat([slope, rest], 1), torch.cat([intercept, more], 1)
        if rule == "constant":
            top = first(high) & contested(low, high).any(-1, keepdim=True)
            chosen = torch.where(top.any(-1), 1 + top.int().argmax(-1), 0)
        else:
            chosen = ((slope * middle[:, None]).sum(-1) + intercept).argmin(-1)
        above = torch.zeros_like(intercept).scatter_(-1, chosen[:, None], 1.0)
        return Planes(first(low).to(low), above, slope, intercept)

    def back(self, matrix: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
        """Rows ``(R, W)`` over the maxima, from below as rows ``(R, W, k)`` over the entries."""
        positive = matrix.clamp(min=0)[:, :, None]
        negative = matrix.clamp(max=0)
        slope = (self.above[..., None] * self.slope).sum(-2)
        paid = (negative * (self.above * self.intercept).sum(-1)).sum(-1)
        return positive * self.below + negative[:, :, None] * slope, constant + paid
