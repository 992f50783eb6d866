"""Bounds of a root's neurons by slopes optimised for each of them, layer by layer.

What is improved is written into the case's prelude as bound steps, so the kernel
recomputes it once and every leaf below profits.  Rows that start in a part of an image are
optimised in its receptive field, with slopes for the unstable neurons there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from proofs.proof import Side
from verifier.alpha import Effort, Multipliers, Problem, bounded, initial, optimise
from verifier.bab_root import Nets, fast_problem, slope_hints
from verifier.bab_tree import BoundStep
from verifier.bounds import Domains, Rows, TorchNetwork, neuron_rows
from verifier.bounds_field import Field, parts
from verifier.bounds_focus import Focused, focused

HINT_BUDGET = 6_000_000
"""Slopes stored for one case's prelude at most."""

LEAST_REFINED = 0.005
"""Part of a neuron's interval that a bound has to cut off to be written into the prelude."""


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows of one tensor that are bounded in one network.

    Attributes:
        nets: focused on what is unstable before the tensor.
        state: a single domain with the bounds of these neurons.
        rows: entries of the tensor; ``inside``: under the network's numbering.
        entries: by nonlinear tensor, the entries of the whole that have slopes.
    """

    nets: Focused
    state: Domains
    rows: Tensor
    inside: Tensor
    entries: dict[int, Tensor]


def refine(
    nets: Nets, state: Domains, steps: int, deadline: float
) -> tuple[Domains, list[BoundStep]]:
    """Improve the bounds of a single domain's unstable neurons, layer by layer."""
    lower, upper = state.lower.clone(), state.upper.clone()
    current = Domains(state.low, state.high, lower, upper)
    written: list[BoundStep] = []
    budget = HINT_BUDGET
    for tensor, where in nets.sure.neurons.items():
        if tensor in nets.sure.exact:
            continue
        below, above = lower[0, where], upper[0, where]
        unstable = nets.sure.unstable(below, above, tensor).nonzero()[:, 0]
        for part in _parts(nets, current, tensor, unstable):
            for side in Side:
                open_ = nets.sure.unstable(below[part.rows], above[part.rows], tensor)
                stored = int(open_.sum()) * part.nets.sure.parameter_count
                if not stored or stored > budget or time.monotonic() > deadline:
                    continue
                bends = nets.sure.bends_at_zero  # past 0 a Relu's bound is good enough
                effort = Effort(steps, deadline=deadline, enough=0.0 if bends else float("inf"))
                found = _step(part, tensor, open_, side, effort, below, above)
                if found is not None:
                    budget -= sum(hint.values.size for hint in found.slopes)
                    written.append(found)
    return current, written


def _parts(nets: Nets, state: Domains, tensor: int, rows: Tensor) -> Iterator[_Part]:
    pairs = zip(parts(nets.sure, tensor, rows), parts(nets.fast, tensor, rows), strict=True)
    for (sure, place, inside), (fast, _, _) in pairs:
        if sure is None or fast is None:
            focus = focused(nets.sure, nets.fast, state, before=tensor)
            entries = dict(focus.entries)
            own = focus.domains(state)
        else:
            cut = sure.domains(state)
            focus = focused(sure.net, fast.net, cut)
            own = focus.domains(cut)
            entries = {n: _outside(sure, n, index) for n, index in focus.entries.items()}
        yield _Part(focus, own, rows[place], inside, entries)


def _outside(field: Field, tensor: int, inside: Tensor) -> Tensor:
    index = field.index[tensor]
    return inside if index is None else index[inside]


def _step(
    part: _Part,
    tensor: int,
    open_: Tensor,
    side: Side,
    effort: Effort,
    below: Tensor,
    above: Tensor,
) -> BoundStep | None:
    """Optimise one side of the rows that are open; stores what is better."""
    rows, inside = part.rows[open_], part.inside[open_]
    net = part.nets.fast
    size = max(16, (1 << 22) // (net.width + net.neuron_count))
    bounds, alphas = [], []
    for start in range(0, len(rows), size):
        problem = _problem(part, tensor, inside[start : start + size], side)
        quick = fast_problem(part.nets, problem)
        _, best = optimise(quick, initial(quick), effort)
        stored = best.rounded()
        bounds.append(bounded(problem, stored).bound)
        alphas.append(stored.alpha)
    found, chosen = torch.cat(bounds), torch.cat(alphas)
    before = below[rows] if side is Side.LOWER else -above[rows]
    kept = (found > before + LEAST_REFINED * (above[rows] - below[rows])).nonzero()[:, 0]
    if not len(kept):
        return None
    if side is Side.LOWER:
        below[rows[kept]] = found[kept]
    else:
        above[rows[kept]] = -found[kept]
    indices = {number: entries.cpu().numpy() for number, entries in part.entries.items()}
    stated = _problem(part, tensor, inside[kept], side)
    hints = slope_hints(stated, Multipliers(chosen[kept]), indices)
    return BoundStep(tensor, rows[kept].cpu().numpy(), side, hints)


def _problem(part: _Part, tensor: int, rows: Tensor, side: Side) -> Problem:
    net: TorchNetwork = part.nets.sure
    plain = neuron_rows(net, tensor, rows)
    sign = 1.0 if side is Side.LOWER else -1.0
    forms = Rows(
        {t: (sign * m)[:, None] for t, m in plain.coefficients.items()},
        (sign * plain.constant)[:, None],
    )
    state = part.state
    return Problem(net, forms, state.low, state.high, state.lower, state.upper)
