"""Rows with few coefficients, passed back through sparse maps entry by entry.

A neuron of a lattice or a convolution depends on a few entries of the tensors before it.
While that is so, its row is kept as those entries; once rows fill up they become dense
and :func:`verifier.bounds.substitute` goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verifier.bounds import NonlinearNode, Rows, TorchNetwork
from verifier.relaxations import Lines

FILLED = 0.05
"""Share of coefficients from which on rows are dense."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Coefficients ``value (E,)`` of rows ``row`` at entries ``index`` of one tensor."""

    row: Tensor
    index: Tensor
    value: Tensor

    @staticmethod
    def neurons(index: Tensor, like: Tensor) -> Entries:
        """Rows that are the entries ``index`` of a tensor, then their negatives."""
        one = torch.ones(len(index), device=like.device, dtype=like.dtype)
        row = torch.arange(2 * len(index), device=like.device)
        return Entries(row, torch.cat([index, index]), torch.cat([one, -one]))

    def combined(self, size: int) -> Entries:
        """Each place once."""
        key, order = (self.row * size + self.index).sort()
        places, group = torch.unique_consecutive(key, return_inverse=True)
        value = self.value.new_zeros(len(places)).index_add(0, group, self.value[order])
        return Entries(places // size, places % size, value)

    def dense(self, rows: int, size: int) -> Tensor:
        """As ``(rows, size)``."""
        out = self.value.new_zeros(rows * size)
        return out.index_add(0, self.row * size + self.index, self.value).reshape(rows, size)


def pass_back(
    net: TorchNetwork,
    tensor: int,
    entries: Entries,
    lines: dict[int, Lines],
    owner: Tensor,
) -> Rows:
    """Substitute rows ``(R,)`` back while they have few coefficients.

    Args:
        tensor: where ``entries`` stand.
        lines: by nonlinear tensor, ``(B, n)``.
        owner: ``(R,)`` the domain of a row.

    Returns:
        The rows, dense, over whatever tensors they have reached.
    """
    count = len(owner)
    constant = entries.value.new_zeros(count)
    work = {tensor: [entries]}
    while any(net.nodes[t] is not None for t in work):
        number = max(t for t in work if net.nodes[t] is not None)
        here = _merged(work[number], net.sizes[number])
        node = net.nodes[number]
        if len(here.row) > FILLED * count * net.sizes[number]:
            break
        if isinstance(node, NonlinearNode):
            own = lines[number]
            place = (owner[here.row], here.index)
            below = here.value > 0
            slopes = [(own.lower_slope, own.upper_slope), own.second]
            shift = torch.where(below, 0.0, own.upper_intercept[place])
            if own.lower_intercept is not None:
                shift = torch.where(below, own.lower_intercept[place], shift)
            constant = constant.index_add(0, here.row, here.value * shift)
            passed = []
            for source, pair in zip(node.sources, slopes, strict=False):
                if pair is not None:
                    slope = torch.where(below, pair[0][place], pair[1][place])
                    passed.append((source, Entries(here.row, here.index, here.value * slope)))
        elif node is not None:
            spread = [(t, linear.spread(here.index)) for t, linear in node.terms]
            if any(parts is None for _, parts in spread):
                break
            if node.offset is not None:
                constant = constant.index_add(0, here.row, here.value * node.offset[here.index])
            if node.radius is not None:
                lost = here.value.abs() * node.radius[here.index]
                constant = constant.index_add(0, here.row, -lost)
            passed = [(t, _spread(here, *parts)) for t, parts in spread if parts is not None]
        del work[number]
        for source, part in passed:
            work.setdefault(source, []).append(part)
    return Rows(
        {t: _merged(parts, net.sizes[t]).dense(count, net.sizes[t]) for t, parts in work.items()},
        constant,
    )


def _spread(here: Entries, source: Tensor, weight: Tensor) -> Entries:
    """Each entry's coefficients at the source, ``(E, f)`` both, zeros left out."""
    value = here.value[:, None] * weight
    kept = value != 0
    row = here.row[:, None].expand_as(value)
    return Entries(row[kept], source.expand_as(value)[kept], value[kept])


def _merged(parts: list[Entries], size: int) -> Entries:
    if len(parts) == 1:
        only = parts[0]
    else:
        only = Entries(
            *(torch.cat([getattr(p, n) for p in parts]) for n in ("row", "index", "value"))
        )
    return only.combined(size)
