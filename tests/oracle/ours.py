"""Our bounds by default rules, without any hint: the search's and the kernel's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from proofs import bounds as kernel
from proofs.check import ARITHMETICS
from proofs.frame import Batch, Frame, Relaxations, Rows
from proofs.substitution import substitute
from specs.network import Network
from tests.oracle.crown import Array, Ends
from verifier import bounds as search
from verifier.bounds_compile import compile_network
from verifier.bounds_sweep import fresh, sweep


@dataclass(frozen=True)
class Bounds:
    """Bounds over a box.

    Attributes:
        inner: of each pre-activation tensor, by its number, ``(n,)`` below and above.
        rows: of rows of the outputs.
    """

    inner: Mapping[int, Ends]
    rows: Ends


Compute = Callable[[Network, Array, Array, Array], Bounds]
"""From a network, the ends of a box ``(inputs,)`` and rows ``(R, outputs)``."""


def by_search(network: Network, low: Array, high: Array, rows: Array) -> Bounds:
    """What the search finds in a box before it splits or optimises."""
    net = compile_network(network)
    swept = sweep(net, fresh(net, torch.tensor(low)[None], torch.tensor(high)[None]))
    given = search.Rows(net.split(torch.tensor(rows), net.outputs), torch.zeros(len(rows)).double())
    matrix, constant = search.substitute(net, search.both_sides(given), lambda t: swept.lines[t])
    box = swept.domains.low, swept.domains.high
    least = search.concretize(matrix, constant, *box).numpy()
    inner = {
        tensor: (swept.domains.lower[0, where].numpy(), swept.domains.upper[0, where].numpy())
        for tensor, where in net.neurons.items()
    }
    return Bounds(inner, (least[: len(rows)], -least[len(rows) :]))


def by_kernel(arithmetic: str) -> Compute:
    """What the kernel finds with the empty proof, as floats that are rounded outward."""

    def compute(network: Network, low: Array, high: Array, rows: Array) -> Bounds:
        numbers = ARITHMETICS[arithmetic]()
        frame = Frame(network, numbers)
        batch = Batch(low[None], high[None], {}, np.zeros(1, dtype=bool))
        with np.errstate(all="ignore"):
            kernel.propagate(frame, batch, record=True)
            kernel.sweep(frame, batch, record=True)
            signed = np.concatenate([rows, -rows])
            owner = np.zeros(len(signed), dtype=np.int64)
            entries, start = {}, 0
            for tensor in network.outputs:
                part = signed[:, start : start + network.sizes[tensor]]
                row, entry = np.nonzero(part)
                entries[tensor] = row, entry, numbers.lift_down(part[row, entry])
                start += network.sizes[tensor]
            given = Rows(owner, numbers.zeros((len(signed),)), entries)
            least = substitute(frame, batch, Relaxations(frame, batch), given)
        least = numbers.floats_down(least)
        inner = {
            tensor: (numbers.floats_down(lower[0]), numbers.floats_up(upper[0]))
            for tensor, (lower, upper) in batch.bounds.items()
        }
        return Bounds(inner, (least[: len(rows)], -least[len(rows) :]))

    return compute
