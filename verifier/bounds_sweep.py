"""The kernel's SWEEP over a batch of domains: intervals first, then what they leave open."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from specs.errors import FarkasError
from verifier.bounds import (
    Domains,
    LinearNode,
    NonlinearNode,
    Rows,
    TorchNetwork,
    both_sides,
    concretize,
    default_lines,
    gather,
    interval,
    neuron_rows,
    substitute,
)
from verifier.bounds_field import parts
from verifier.bounds_sparse import FILLED, Entries, pass_back
from verifier.relaxations import Lines

CHUNK = 1 << 18
"""Numbers in the widest array of one chunk of rows: a few megabytes, near the caches."""


SPARSE_ROWS = 1 << 14
"""Neurons whose sparse rows are passed back at once, at most."""

SPARSE_NUMBERS = 1 << 26
"""Numbers in the widest array of such rows once they are dense."""


@dataclass(frozen=True, eq=False)
class Swept:
    """Bounds after a sweep.

    Attributes:
        domains: boxes as given, bounds of all neurons improved.
        lines: default lines ``(B, n)`` by nonlinear tensor.
        rows: number of rows that were substituted back.
    """

    domains: Domains
    lines: dict[int, Lines]
    rows: int

    def contradictory(self, margin: float) -> Tensor:
        """Domains ``(B,)`` in which some neuron's bounds cross by more than ``margin``."""
        return (self.domains.lower > self.domains.upper + margin).any(-1)


def fresh(net: TorchNetwork, low: Tensor, high: Tensor) -> Domains:
    """Boxes ``(B, I)`` about whose neurons nothing is known."""
    count = net.neuron_count
    infinite = low.new_full((len(low), count), float("inf"))
    return Domains(low, high, -infinite, infinite)


def relaxed(net: TorchNetwork, domains: Domains) -> Swept:
    """Domains with the default lines for their bounds as they are."""
    lines = {number: default_lines(net, number, domains) for number in net.nonlinear}
    return Swept(domains, lines, 0)


class OutOfTimeError(FarkasError):
    """A deadline came while bounds were computed."""


def until(deadline: float) -> Callable[[], None]:
    """A function that raises once ``time.monotonic()`` has reached a deadline.

    Raises:
        OutOfTimeError: from the function returned.
    """

    def tick() -> None:
        if time.monotonic() >= deadline:
            raise OutOfTimeError("the time limit is over")

    return tick


def sweep(net: TorchNetwork, domains: Domains, tick: Callable[[], None] = lambda: None) -> Swept:
    """Improve the bounds of all neurons of every domain by the kernel's default rules.

    ``tick`` is called between pieces of work and may raise to stop it.
    """
    lower, upper = domains.lower.clone(), domains.upper.clone()
    known = {
        t: ends
        for t, ends in zip(
            net.inputs,
            zip(
                net.split(domains.low, net.inputs).values(),
                net.split(domains.high, net.inputs).values(),
                strict=True,
            ),
            strict=True,
        )
    }
    state = Domains(domains.low, domains.high, lower, upper)
    lines: dict[int, Lines] = {}
    rows = 0
    for number in (*(t for t in net.inputs if t in net.neurons), *net.needed):
        node = net.nodes[number]
        if isinstance(node, NonlinearNode):
            lines[number] = default_lines(net, number, state)
        if node is not None:
            known[number] = interval(net, node, known)
        if number in net.neurons:
            where = net.neurons[number]
            least, most = known[number]
            torch.fmax(lower[:, where], least, out=lower[:, where])
            torch.fmin(upper[:, where], most, out=upper[:, where])
            if number not in net.exact:
                rows += _substitute_unstable(net, number, state, lines, tick)
            known[number] = (lower[:, where], upper[:, where])
    return Swept(state, lines, rows)


def _substitute_unstable(
    net: TorchNetwork,
    tensor: int,
    state: Domains,
    lines: dict[int, Lines],
    tick: Callable[[], None],
) -> int:
    where = net.neurons[tensor]
    lower, upper = state.lower[:, where], state.upper[:, where]
    owners, indices = net.unstable(lower, upper, tensor).nonzero(as_tuple=True)
    sparse = _starts_sparse(net, tensor)
    for field, place, inside in parts(net, tensor, indices):
        used, known, given = net, state, lines
        if field is not None:
            used, known = field.net, field.domains(state)
            given = {n: field.lines(n, lines[n]) for n in lines if n in field.index}
        size = chunk_rows(used)
        if sparse:
            size = max(size, min(SPARSE_ROWS, SPARSE_NUMBERS // (2 * used.width)))
        for start in range(0, len(place), size):
            tick()
            some = slice(start, start + size)
            owner, entry = owners[place[some]], inside[some]
            if sparse:
                bound = _bound_sparse(used, tensor, entry, owner, known, given, tick)
            else:
                rows = both_sides(neuron_rows(used, tensor, entry))
                bound = _bound(used, rows, torch.cat([owner, owner]), known, given)
            index = indices[place[some]]
            below, above = bound[: len(owner)], -bound[len(owner) :]
            lower[owner, index] = torch.fmax(lower[owner, index], below)
            upper[owner, index] = torch.fmin(upper[owner, index], above)
    return 2 * len(owners)


def _starts_sparse(net: TorchNetwork, tensor: int) -> bool:
    """Whether rows of a tensor have few coefficients at the tensors before it."""
    node = net.nodes[tensor]
    nothing = torch.zeros(0, dtype=torch.long, device=net.device)
    if not isinstance(node, LinearNode):
        return False
    for source, linear in node.terms:
        spread = linear.spread(nothing)
        if spread is None or spread[0].shape[-1] > FILLED * net.sizes[source]:
            return False
    return True


def _bound_sparse(
    net: TorchNetwork,
    tensor: int,
    index: Tensor,
    owner: Tensor,
    state: Domains,
    lines: dict[int, Lines],
    tick: Callable[[], None],
) -> Tensor:
    """Lower bounds of entries, then of their negatives."""
    twice = torch.cat([owner, owner])
    rows = pass_back(net, tensor, Entries.neurons(index, state.low), lines, twice)
    size = max(64, CHUNK // net.width)
    parts = []
    for start in range(0, len(twice), size):
        tick()
        some = slice(start, start + size)
        coefficients = {t: m[some] for t, m in rows.coefficients.items()}
        part = Rows(coefficients, rows.constant[some])
        parts.append(_bound(net, part, twice[some], state, lines))
    return torch.cat(parts)


def _bound(
    net: TorchNetwork, rows: Rows, owner: Tensor, state: Domains, lines: dict[int, Lines]
) -> Tensor:
    matrix, constant = substitute(net, rows, lambda number: gather(lines[number], owner))
    if len(state) == 1:
        return concretize(matrix, constant, state.low, state.high)
    return concretize(matrix, constant, state.low[owner], state.high[owner])


def chunk_rows(net: TorchNetwork) -> int:
    """How many neurons to substitute back at once."""
    return max(32, CHUNK // (2 * net.width))
