"""The root of a case: bounds of all neurons by slopes optimised for each of them.

What is improved here is written into the case's prelude as bound steps, so the kernel
recomputes it once and every leaf below profits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from proofs.proof import Side
from specs.property import Case
from verifier.alpha import GRID, Effort, Multipliers, Problem, bounded, optimise
from verifier.bab_settings import Candidates, Settings
from verifier.bab_tree import BoundStep, LeafHint, Tree
from verifier.bounds import Domains, Rows, TorchNetwork, UnivariateNode, neuron_rows
from verifier.bounds_spec import Table

HINT_BUDGET = 6_000_000
"""Slopes stored for one case's prelude at most."""


@dataclass(frozen=True, eq=False)
class Nets:
    """One network in the precision that decides and in the one that searches."""

    sure: TorchNetwork
    fast: TorchNetwork


class Pair(Protocol):
    """A network in two precisions, whole or focused."""

    @property
    def sure(self) -> TorchNetwork: ...
    @property
    def fast(self) -> TorchNetwork: ...


@dataclass(frozen=True, eq=False)
class Parts:
    """What a branch and bound works on.

    Attributes:
        nets, table: the network, and the unsafe constraints of the cases.
        cases, numbers: the cases to search, and their numbers in the property.
        tree: receives what is found.
        candidates: takes points that may violate.
    """

    nets: Nets
    table: Table
    cases: Sequence[Case]
    numbers: Sequence[int]
    tree: Tree
    settings: Settings
    candidates: Candidates


def fast_problem(nets: Pair, problem: Problem) -> Problem:
    """A problem in the searching precision."""
    dtype = nets.fast.dtype
    forms = {t: m.to(dtype) for t, m in problem.forms.coefficients.items()}
    signs = None if problem.signs is None else problem.signs.to(dtype)
    region = problem.region
    return Problem(
        nets.fast,
        Rows(forms, problem.forms.constant.to(dtype)),
        problem.low.to(dtype),
        problem.high.to(dtype),
        problem.lower.to(dtype),
        problem.upper.to(dtype),
        signs,
        None if region is None else (region[0].to(dtype), region[1].to(dtype)),
    )


def refine(
    nets: Nets, state: Domains, steps: int, deadline: float
) -> tuple[Domains, list[BoundStep]]:
    """Improve the bounds of a single domain's unstable neurons, layer by layer."""
    lower, upper = state.lower.clone(), state.upper.clone()
    written: list[BoundStep] = []
    budget = HINT_BUDGET
    for tensor, where in nets.sure.neurons.items():
        if tensor in nets.sure.exact:
            continue
        current = Domains(state.low, state.high, lower, upper)
        below, above = lower[0, where], upper[0, where]
        for side in (Side.LOWER, Side.UPPER):
            rows = ((below < 0) & (above > 0)).nonzero()[:, 0]
            if not len(rows) or time.monotonic() > deadline:
                continue
            step = _refine_side(nets, current, tensor, rows, side, steps, deadline)
            stored = sum(values.numel() for values in step.values())
            if stored > budget:
                continue
            budget -= stored
            found = _apply(nets.sure, step, tensor, side, below, above)
            if found is not None:
                written.append(found)
    return Domains(state.low, state.high, lower, upper), written


def _ancestors(net: TorchNetwork, tensor: int) -> list[int]:
    """Univariate tensors that a tensor depends on."""
    reached, front = {tensor}, [tensor]
    while front:
        node = net.nodes[front.pop()]
        if isinstance(node, UnivariateNode):
            sources = [node.source]
        else:
            sources = [] if node is None else [t for t, _ in node.terms]
        front += [t for t in sources if t not in reached]
        reached.update(sources)
    return [t for t in sorted(reached) if isinstance(net.nodes[t], UnivariateNode)]


def _refine_side(
    nets: Nets,
    state: Domains,
    tensor: int,
    rows: Tensor,
    side: Side,
    steps: int,
    deadline: float,
) -> dict[str, Tensor]:
    """Optimise one side of some neurons; rows, their bounds and slopes."""
    size = max(16, (1 << 22) // (nets.fast.width + nets.fast.neuron_count))
    bounds, slopes = [], []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        problem = _problem(nets.sure, state, tensor, part, side)
        quick = fast_problem(nets, problem)
        effort = Effort(steps=steps, deadline=deadline, enough=0.0)
        steep = (state.upper.float() > -state.lower.float()).to(quick.lower.dtype)
        _, best = optimise(quick, Multipliers(steep.expand(len(part), -1).clone()), effort)
        stored = best.rounded()
        bounds.append(bounded(problem, stored).bound)
        slopes.append(stored.alpha)
    unstable = ((state.lower < 0) & (state.upper > 0))[0]
    return {
        "rows": rows,
        "bounds": torch.cat(bounds),
        "slopes": torch.cat(slopes)[:, unstable],
        "columns": unstable.nonzero()[:, 0],
    }


def _problem(net: TorchNetwork, state: Domains, tensor: int, rows: Tensor, side: Side) -> Problem:
    plain = neuron_rows(net, tensor, rows)
    sign = 1.0 if side is Side.LOWER else -1.0
    forms = Rows(
        {t: (sign * m)[:, None] for t, m in plain.coefficients.items()},
        (sign * plain.constant)[:, None],
    )
    return Problem(net, forms, state.low, state.high, state.lower, state.upper)


def _apply(
    net: TorchNetwork,
    step: dict[str, Tensor],
    tensor: int,
    side: Side,
    below: Tensor,
    above: Tensor,
) -> BoundStep | None:
    """Store what is better by at least a little, and say how it was found."""
    rows, bounds = step["rows"], step["bounds"]
    before = below[rows] if side is Side.LOWER else -above[rows]
    better = bounds > before + 0.005 * (above[rows] - below[rows])
    if not bool(better.any()):
        return None
    kept = better.nonzero()[:, 0]
    if side is Side.LOWER:
        below[rows[kept]] = bounds[kept]
    else:
        above[rows[kept]] = -bounds[kept]
    slopes, indices = {}, {}
    for number in _ancestors(net, tensor):
        node = net.nodes[number]
        if not isinstance(node, UnivariateNode):
            continue
        where = net.neurons[node.source]
        inside = (step["columns"] >= where.start) & (step["columns"] < where.stop)
        if bool(inside.any()):
            slopes[number] = step["slopes"][kept][:, inside].cpu().numpy()
            indices[number] = (step["columns"][inside] - where.start).cpu().numpy()
    return BoundStep(tensor, rows[kept].cpu().numpy(), side, slopes, indices)


@dataclass(frozen=True, eq=False)
class Stated:
    """How the forms of a problem's rows stand in the property.

    Attributes:
        lengths: ``(R,)`` how many constraints the row's disjunct has.
        exponents: ``(R, k)`` of them, ``region``: ``(R, q)`` of the region's constraints;
            see ``bounds_spec``.
    """

    lengths: Tensor
    exponents: Tensor
    region: Tensor | None = None

    @staticmethod
    def of(table: Table, case: Tensor, lengths: Tensor, exponents: Tensor) -> Stated:
        """For rows of the given cases, ``case (R,)``."""
        region = None if table.region is None else table.region[2][case]
        return Stated(lengths, exponents, region)


def leaf_hints(
    problem: Problem,
    stored: Multipliers,
    stated: Stated,
    places: Sequence[int],
    splits: Sequence[Sequence[int]] | None = None,
    indices: Mapping[int, npt.NDArray[np.int64]] | None = None,
) -> list[LeafHint]:
    """The hints of some rows of a problem, as leaves of the proof take them.

    Args:
        stored: rounded multipliers.
        places: the rows.
        splits: by row, the neurons split on the path, from the root down.
        indices: by univariate tensor the entries that the slopes belong to, where not all.
    """
    net = problem.net
    indices = {} if indices is None else indices
    rows = torch.tensor(list(places), dtype=torch.long, device=net.device)
    lower, upper = (
        side[rows] if len(side) > 1 else side for side in (problem.lower, problem.upper)
    )
    unstable = (lower < 0) & (upper > 0)
    full = torch.where(unstable, stored.alpha[rows], (lower >= 0).to(stored.alpha))
    grid = (full * GRID).round().to(torch.int16).cpu().numpy()
    beta = None if stored.beta is None else stored.beta[rows].cpu().numpy()
    lengths = stated.lengths[rows].tolist()
    weights = _unscaled(stored.weights, stated.exponents, rows)
    region = _unscaled(stored.region, stated.region, rows)
    readers = [n for n in net.needed if isinstance(net.nodes[n], UnivariateNode)]
    columns = {n: net.neurons[net.nodes[n].source] for n in readers}  # type: ignore[union-attr]
    hints = []
    for k, length in enumerate(lengths):
        own = [] if length == 1 else weights[k][:length]
        if own:
            own[-1] += sum(weights[k][length:])
        path = [] if splits is None else splits[k]
        held = [] if beta is None else beta[k, path]
        slopes = {
            n: grid[k, where].copy() for n, where in columns.items() if where.stop > where.start
        }
        hints.append(LeafHint(slopes, np.array(held, dtype=np.float32), own, region[k], indices))
    return hints


def _unscaled(values: Tensor | None, exponents: Tensor | None, rows: Tensor) -> list[list[float]]:
    """Multipliers of rows ``(R, k)`` for the constraints as the kernel takes them."""
    if values is None or exponents is None:
        return [[] for _ in rows]
    return torch.ldexp(values[rows], -exponents[rows]).tolist()
