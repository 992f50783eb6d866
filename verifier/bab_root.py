"""What every branch and bound works on, and the hints of its leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specs.property import Case
from verifier.alpha import GRID, Multipliers, Problem
from verifier.bab_settings import Candidates, Settings
from verifier.bab_tree import LeafHint, Tree
from verifier.bounds import Rows, TorchNetwork, UnivariateNode
from verifier.bounds_spec import Table


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
