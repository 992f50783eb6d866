"""Whether kernel and search bound a network's outputs over a small box, and hold."""

from __future__ import annotations

import numpy as np
import torch

from proofs.bounds import bound_rows, propagate, sweep
from proofs.frame import Batch, Frame, IndexArray, Relaxations
from proofs.outward import Outward
from proofs.proof import Side
from specs.enclosure import FloatArray
from specs.network import Network
from verifier.bounds import (
    Domains,
    TorchNetwork,
    both_sides,
    concretize,
    interval,
    neuron_rows,
    substitute,
)
from verifier.bounds_compile import compile_network
from verifier.bounds_sweep import fresh, relaxed
from verifier.bounds_sweep import sweep as refined

MOST = 16
"""Entries of an output tensor that are bounded."""

Bounds = tuple[FloatArray, FloatArray]


def chosen(network: Network) -> IndexArray:
    """The outputs that are bounded: the first ones of every output tensor."""
    sizes = [network.sizes[output] for output in network.outputs]
    starts = np.cumsum([0, *sizes[:-1]])
    parts = [start + np.arange(min(MOST, n)) for start, n in zip(starts, sizes, strict=True)]
    return np.concatenate(parts)


def by_kernel(
    network: Network, low: FloatArray, high: FloatArray, *, swept: bool = False
) -> Bounds:
    """Chosen outputs over a box ``(I,)``: intervals for neurons, then substitution.

    Neurons are substituted back, too, if ``swept``, or where intervals leave outputs
    unbounded.
    """
    frame = Frame(network, Outward())
    batch = Batch(low[None], high[None], {}, np.zeros(1, dtype=bool))
    lower, upper = [], []
    with np.errstate(all="ignore"):
        propagate(frame, batch, record=True)
        if swept:
            sweep(frame, batch, record=True)
        lines = Relaxations(frame, batch)
        for output in network.outputs:
            entry = np.arange(min(MOST, network.sizes[output]))
            found = bound_rows(frame, lines, output, np.zeros_like(entry), entry)
            lower.append(found[Side.LOWER])
            upper.append(found[Side.UPPER])
    ends = np.concatenate(lower), np.concatenate(upper)
    if not swept and not np.isfinite(ends).all():
        return by_kernel(network, low, high, swept=True)
    return ends


def by_search(
    network: Network, low: FloatArray, high: FloatArray, *, swept: bool = False
) -> Bounds:
    """The same by the search."""
    net = compile_network(network)
    box = [torch.tensor(end)[None] for end in (low, high)]
    state = fresh(net, *box)
    lines = (refined(net, state) if swept else relaxed(net, by_intervals(net, state))).lines
    lower, upper = [], []
    for output in network.outputs:
        entry = torch.arange(min(MOST, net.sizes[output]))
        rows = both_sides(neuron_rows(net, output, entry))
        bound = concretize(*substitute(net, rows, lines.__getitem__), *box).numpy()
        lower.append(bound[: len(entry)])
        upper.append(-bound[len(entry) :])
    found = np.concatenate(lower), np.concatenate(upper)
    if not swept and not np.isfinite(found).all():
        return by_search(network, low, high, swept=True)
    return found


def by_intervals(net: TorchNetwork, state: Domains) -> Domains:
    """The same boxes, all neurons bounded by intervals."""
    lower, upper = state.lower.clone(), state.upper.clone()
    ends = (net.split(side, net.inputs).values() for side in (state.low, state.high))
    known = dict(zip(net.inputs, zip(*ends, strict=True), strict=True))
    for number in (*net.inputs, *net.needed):
        node = net.nodes[number]
        if node is not None:
            known[number] = interval(net, node, known)
        if number in net.neurons:
            lower[:, net.neurons[number]], upper[:, net.neurons[number]] = known[number]
    return Domains(state.low, state.high, lower, upper)


def around(points: FloatArray, share: float = 1e-3) -> Bounds:
    """A small box around a point, and further ones inside it: ``(I,)`` each."""
    reach = share * (1.0 + np.abs(points[0]))
    return points[0] - reach, points[0] + reach


def widest(bounds: Bounds, inside: FloatArray, room: float) -> float | None:
    """The greatest width, ``None`` where one is infinite or a value ``(k, n)`` lies outside."""
    low, high = bounds
    slack = room * (1.0 + np.abs(inside))
    holds = np.all(inside >= low - slack) and np.all(inside <= high + slack)
    return float(np.max(high - low)) if holds and np.all(np.isfinite(high - low)) else None
