"""Receptive fields: rows of a part of an image pass back through what it depends on only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specs.enclosure import FloatArray
from specs.linear import IndexArray
from specs.receptive import Window, receptive, tiles
from verifier.bounds import Domains, TorchNetwork
from verifier.bounds_compile import compile_network
from verifier.relaxations import Lines

EACH = 48
"""Rows that a window should have on average: fewer do not fill a matrix product."""


@dataclass(frozen=True, eq=False)
class Field:
    """A network cut to the receptive field of a window of one tensor.

    Attributes:
        net: the cut network, under the same tensor numbers.
        index: by tensor of the field the entries left, ``None``: all.
        inputs, neurons: columns of the whole network's inputs and neurons.
    """

    net: TorchNetwork
    index: dict[int, Tensor | None]
    inputs: Tensor
    neurons: Tensor

    def domains(self, whole: Domains) -> Domains:
        """Boxes and bounds where the field has them."""
        low, high = whole.low[:, self.inputs], whole.high[:, self.inputs]
        return Domains(low, high, whole.lower[:, self.neurons], whole.upper[:, self.neurons])

    def lines(self, number: int, whole: Lines) -> Lines:
        """Lines ``(B, n)`` of a nonlinear tensor where the field has it."""
        index = self.index[number]
        return whole if index is None else whole.map(lambda part: part[:, index])


def parts(
    net: TorchNetwork, tensor: int, entries: Tensor
) -> Iterator[tuple[Field | None, Tensor, Tensor]]:
    """Entries of a tensor by the field that their rows can be passed back in.

    Yields:
        The field (``None``: the whole network), positions in ``entries``, and the entries
        under the field's own numbering.
    """
    given = entries.cpu().numpy()
    found = tiles(net.source.nodes[tensor].shape, given, EACH)
    uncut = [np.arange(len(given))] if not found else []
    for window, place in found:
        field = _field(net, tensor, window)
        if field is None:
            uncut.append(place)
            continue
        inside = np.searchsorted(window.index, given[place])
        yield field, *(torch.tensor(part, device=net.device) for part in (place, inside))
    if uncut:
        place = torch.tensor(np.concatenate(uncut), device=net.device)
        yield None, place, entries[place]


def _field(net: TorchNetwork, tensor: int, window: Window) -> Field | None:
    key = tensor, window.ranges
    if key not in net.fields:
        net.fields[key] = _cut(net, tensor, window)
    found: Field | None = net.fields[key]
    return found


def _cut(net: TorchNetwork, tensor: int, window: Window) -> Field | None:
    found = receptive(net.source, tensor, window)
    if found is None:
        return None
    radii = {t: _left(found.index.get(t), errors) for t, errors in net.radii.items()}
    cut = compile_network(found.network, net.device, net.dtype, net.weights, radii)
    index = {
        t: None if entries is None else torch.tensor(entries, device=net.device)
        for t, entries in found.index.items()
    }
    starts, start = {}, 0
    for t in net.inputs:
        starts[t], start = start, start + net.sizes[t]
    # What lies outside the field has one entry with coefficient 0: any column will do.
    anything = torch.zeros(1, dtype=torch.long, device=net.device)
    inputs = [starts[t] + _entries(index, t, net) if t in index else anything for t in cut.inputs]
    neurons = [net.neurons[t].start + _entries(index, t, net) for t in cut.neurons]
    empty = torch.zeros(0, dtype=torch.long, device=net.device)
    return Field(cut, index, torch.cat([empty, *inputs]), torch.cat([empty, *neurons]))


def _left(index: IndexArray | None, errors: FloatArray) -> FloatArray:
    return errors if index is None else errors[index]


def _entries(index: dict[int, Tensor | None], tensor: int, net: TorchNetwork) -> Tensor:
    left = index[tensor]
    return torch.arange(net.sizes[tensor], device=net.device) if left is None else left
