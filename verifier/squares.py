"""Which products are given squares beside them, and with what ratio (``specs/squares.py``).

Squares pay where the factors of a product move with the inputs in much the same, or in
opposite directions.  How they move is seen by moving the inputs, one at a time, from some
points of the regions: bounds over the whole of them would say more of the relaxation than of
the factors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from specs.enclosure import FloatArray
from specs.network import Product
from specs.query import Query
from specs.squares import with_squares
from verifier.bounds import TorchNetwork, evaluate

ENTRIES = 1024
"""Products of more entries are left alone: their squares would cost more than all else."""

WORTHWHILE = 0.75
"""Mean share of what McCormick's planes leave that squares may leave."""


POINTS, STEP = 32, 1.0 / 64.0
"""From how many points inputs are moved, and by what part of their range."""

TRIED, MOST = 9, 60.0
"""Ratios that are tried, quantiles of those at the points; and the largest power of two."""

VALUES = 1 << 24
"""Numbers in the largest array while they are moved."""


Ratios = Mapping[str, FloatArray]
"""By the name of a product the ``t`` of its entries."""


def beside(query: Query, ratios: Ratios) -> Query:
    """The query with squares beside some products; its network has none yet."""
    if not ratios:
        return query
    network = query.network
    scales = {network.tensors[name]: ratio for name, ratio in ratios.items()}
    return replace(query, network=with_squares(network, scales))


def moving_together(net: TorchNetwork, low: Tensor, high: Tensor) -> Ratios:
    """The products of a network for which squares pay over a box ``(1, I)``."""
    network, free = net.source, int((low < high).sum())
    points = min(POINTS, VALUES // (net.width * (free + 1)))
    products = [
        node
        for node in network.nodes
        if isinstance(node, Product) and node.left != node.right
        if math.prod(node.shape) <= ENTRIES
    ]
    if not products or not points:
        return {}
    starts, moved = _steps(low, high, points)
    found = {node.name: _ratios(net, node.sources, starts, moved) for node in products}
    return {name: ratio for name, ratio in found.items() if ratio is not None}


def adjusted(net: TorchNetwork, lower: Tensor, upper: Tensor) -> Ratios:
    """Ratios of the widths of the factors' bounds, those of all neurons ``(B, N)``.

    The median over the domains; where most of them say nothing, the ratio as it is.
    """
    found = {}
    for node in net.source.nodes:
        if isinstance(node, Product) and node.squares is not None:
            wide = [(upper - lower)[:, net.neurons[factor]] for factor in node.sources]
            ratio = torch.log2(wide[0] / wide[1]).nan_to_num(math.nan, math.nan, math.nan)
            middle = ratio.nanmedian(0).values.cpu().numpy()
            kept = np.where(np.isnan(middle), np.log2(node.squares.scale), middle)
            found[node.name] = np.float32(2.0 ** np.clip(kept, -MOST, MOST)).astype(np.float64)
    return found


def _steps(low: Tensor, high: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Points of a box ``(count, I)``, and each with one input moved, ``(count * free, I)``."""
    step = (high - low) * STEP
    part = torch.rand(count, low.shape[-1], generator=torch.Generator().manual_seed(0))
    starts = low + part.to(low) * (high - low - step)
    free = (low < high)[0].nonzero()[:, 0]
    moved = starts.repeat_interleave(len(free), 0)
    inputs = free.repeat(count)
    moved[torch.arange(len(moved), device=low.device), inputs] += step[0, inputs]
    return starts, moved


def _ratios(
    net: TorchNetwork, factors: tuple[int, ...], starts: Tensor, moved: Tensor
) -> FloatArray | None:
    """The ratios ``t`` of a product's factors; ``None`` where squares do not pay."""
    before = replace(net, outputs=factors)
    before = replace(before, needed=tuple(n for n in net.needed if n <= max(factors)))
    change = evaluate(before, moved).reshape(len(starts), -1, 2 * net.sizes[factors[0]])
    change = change - evaluate(before, starts)[:, None]
    left, right = change.nan_to_num(0.0, 0.0, 0.0).tensor_split(2, -1)
    reach = [part.abs().sum(1) for part in (left, right)]
    area = reach[0] * reach[1] / 4.0
    ratio = torch.log2(reach[0] / reach[1]).where(area > 0, math.nan).clamp(-MOST, MOST)
    if bool(ratio.isnan().all()):
        return None
    best, chosen = area.sum(0) * 2.0, torch.ones_like(area[0])
    for exponent in torch.nanquantile(ratio, torch.linspace(0, 1, TRIED).to(ratio), 0):
        scale = torch.exp2(exponent.nan_to_num(0.0)).float().to(area)
        squares = ((left + sign * scale * right).abs().sum(1) ** 2 for sign in (1, -1))
        a, b = (square / (48.0 * scale) for square in squares)
        gap = torch.minimum(a + 2.0 * b, area) + torch.minimum(b + 2.0 * a, area)
        better = gap.sum(0) < best
        best, chosen = torch.where(better, gap.sum(0), best), torch.where(better, scale, chosen)
    share = (best / (2.0 * area.sum(0))).nan_to_num(1.0)
    return None if float(share.mean()) > WORTHWHILE else chosen.cpu().numpy()
