"""A network for domains that lie in one root domain: only what is unstable there is relaxed.

Below a root that bounds every neuron most Relus are linear for good.  A focused network
counts only the others as neurons, so that slopes, split multipliers, bounds and gradients
have a column for each of them alone; between dense layers, neurons that are 0 for good
are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verifier.bounds import Domains, Focus, LinearNode, NonlinearNode, TorchNetwork
from verifier.bounds_maps import TorchMap, cut_dense, is_dense


@dataclass(frozen=True, eq=False)
class Focused:
    """One network in two precisions, focused on a root.

    Attributes:
        sure, fast: the networks, with ``U`` neurons.
        columns: ``(U,)`` their numbers among the whole network's neurons, ascending.
        entries: by nonlinear tensor of the network, the entries that are relaxed.
    """

    sure: TorchNetwork
    fast: TorchNetwork
    columns: Tensor
    entries: Mapping[int, Tensor]

    def domains(self, whole: Domains) -> Domains:
        """Boxes, and the bounds of the neurons that are left."""
        lower, upper = whole.lower[:, self.columns], whole.upper[:, self.columns]
        return Domains(whole.low, whole.high, lower, upper)


def focused(
    sure: TorchNetwork, fast: TorchNetwork, root: Domains, before: int | None = None
) -> Focused:
    """Focus a network, compiled twice, on a single domain with bounds of all neurons.

    With ``before`` the network ends at that tensor.
    """
    if before is not None:
        sure, fast = _until(sure, before), _until(fast, before)
    relaxed, slopes = {}, {}
    for tensor, where in sure.neurons.items():
        lower, upper = root.lower[0, where], root.upper[0, where]
        free = torch.zeros_like(lower, dtype=torch.bool)
        for number in sure.readers[tensor]:
            node = sure.function(number)
            if len(node.sources) > 1:
                free |= True
                continue
            linear, slopes[number] = node.relaxation.linear(lower, upper)
            free |= ~linear
        relaxed[tensor] = free
    kept = {t: _kept(sure, t, relaxed[t], slopes) for t in sure.neurons}
    found = [free.nonzero()[:, 0] + sure.neurons[t].start for t, free in relaxed.items()]
    columns = torch.cat([torch.zeros(0, dtype=torch.long, device=root.low.device), *found])
    entries = {
        number: relaxed[sure.function(number).sources[0]].nonzero()[:, 0]
        for number in sure.nonlinear
    }
    return Focused(
        _cut(sure, kept, relaxed, slopes), _cut(fast, kept, relaxed, slopes), columns, entries
    )


def _until(net: TorchNetwork, tensor: int) -> TorchNetwork:
    """The part of a network that a tensor depends on, or might."""
    needed = tuple(number for number in net.needed if number <= tensor)
    neurons = {t: where for t, where in net.neurons.items() if t < tensor}
    return replace(net, needed=needed, outputs=(tensor,), neurons=neurons)


def _functions(net: TorchNetwork, tensor: int) -> list[int]:
    """The tensors that are functions of a pre-activation alone."""
    return [n for n in net.readers.get(tensor, ()) if len(net.function(n).sources) == 1]


def _readers(net: TorchNetwork, tensor: int) -> list[tuple[int, TorchMap]]:
    """The linear nodes that read a tensor, each with its map."""
    return [
        (number, linear)
        for number in net.needed
        if isinstance(node := net.nodes[number], LinearNode)
        for source, linear in node.terms
        if source == tensor
    ]


def _kept(
    net: TorchNetwork, tensor: int, relaxed: Tensor, slopes: Mapping[int, Tensor]
) -> Tensor | None:
    """The entries that are not 0 for good, where dense layers lie on both sides."""
    node, functions = net.nodes[tensor], _functions(net, tensor)
    alone = len(functions) == 1 and len(net.readers[tensor]) == 1
    if not isinstance(node, LinearNode) or not alone or _readers(net, tensor):
        return None
    maps = [linear for _, linear in (*node.terms, *_readers(net, functions[0]))]
    seen = {tensor, functions[0]} & set(net.outputs) or functions[0] in net.neurons
    if seen or not all(map(is_dense, maps)):
        return None
    return (relaxed | (slopes[functions[0]] != 0)).nonzero()[:, 0]


def _cut(
    net: TorchNetwork,
    kept: Mapping[int, Tensor | None],
    relaxed: Mapping[int, Tensor],
    slopes: Mapping[int, Tensor],
) -> TorchNetwork:
    left = dict(kept)
    left.update({f: kept[t] for t in kept for f in _functions(net, t)})
    nodes, sizes, neurons, focus = list(net.nodes), list(net.sizes), {}, {}
    start = 0
    for tensor in net.neurons:
        index = relaxed[tensor].nonzero()[:, 0]
        neurons[tensor] = slice(start, start + len(index))
        start += len(index)
        part = kept[tensor]
        focus[tensor] = index if part is None else relaxed[tensor][part].nonzero()[:, 0]
    for number in net.needed:
        node, own = net.nodes[number], left.get(number)
        if own is not None:
            sizes[number] = len(own)
        if isinstance(node, NonlinearNode) and number in slopes:
            source = node.sources[0]
            slope = slopes[number].where(~relaxed[source], 0.0).to(net.dtype)
            slope = slope if own is None else slope[own]
            nodes[number] = replace(node, focus=Focus(focus[source], slope))
        elif isinstance(node, LinearNode):
            terms = tuple(
                (source, cut_dense(linear, left.get(source), own)) for source, linear in node.terms
            )
            offset = node.offset if node.offset is None or own is None else node.offset[own]
            radius = node.radius if node.radius is None or own is None else node.radius[own]
            nodes[number] = LinearNode(terms, offset, radius)
    return replace(
        net, nodes=tuple(nodes), sizes=tuple(sizes), neurons=neurons, focus=focus, fields={}
    )
