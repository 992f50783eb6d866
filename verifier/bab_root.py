"""What every branch and bound works on, and the hints of its leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from proofs.proof import Side, SlopeHint
from specs.property import Case
from verifier.alpha import GRID, Multipliers, Problem, used_lines
from verifier.bab_settings import Candidates, Settings
from verifier.bab_tree import LeafHint, Tree
from verifier.bounds import Rows, TorchNetwork
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
        None if problem.points is None else problem.points.to(dtype),
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

    def take(self, index: Tensor) -> Stated:
        """Those of the rows with these numbers."""
        region = None if self.region is None else self.region[index]
        return Stated(self.lengths[index], self.exponents[index], region)


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
        splits: by row, the neurons split on the path, from the root down; -1: another split.
        indices: by nonlinear tensor the entries that the slopes belong to, where not all.
    """
    net = problem.net
    indices = {} if indices is None else indices
    rows = torch.tensor(list(places), dtype=torch.long, device=net.device)
    lower, upper = (
        side[rows] if len(side) > 1 else side for side in (problem.lower, problem.upper)
    )
    blocks = slope_hints(replace(problem, lower=lower, upper=upper), stored.take(rows), indices)
    beta = None if stored.beta is None else stored.beta[rows].cpu().numpy()
    lengths = stated.lengths[rows].tolist()
    weights = _unscaled(stored.weights, stated.exponents, rows)
    region = _unscaled(stored.region, stated.region, rows)
    hints = []
    for k, length in enumerate(lengths):
        own = [] if length == 1 else weights[k][:length]
        if own:
            own[-1] += sum(weights[k][length:])
        path = [] if splits is None else splits[k]
        held = np.zeros(0 if beta is None else len(path), dtype=np.float32)
        last = {neuron: depth for depth, neuron in enumerate(path) if neuron >= 0}
        if beta is not None and last:
            held[list(last.values())] = beta[k, list(last)]
        slopes = [replace(block, values=block.values[k].copy()) for block in blocks]
        hints.append(LeafHint(slopes, held, own, region[k]))
    return hints


def slope_hints(
    problem: Problem, stored: Multipliers, indices: Mapping[int, npt.NDArray[np.int64]]
) -> list[SlopeHint]:
    """The slopes and weights of rounded multipliers, ``(R, n)`` each, as a proof takes them.

    ``indices`` has by nonlinear tensor the entries that they belong to, where not all.
    """
    net, lines = problem.net, used_lines(problem, stored)
    found = []
    for number in net.nonlinear:
        node, where = net.function(number), net.parameters[number]
        if where.stop == where.start:
            continue
        parts = (lines[number].lower_slope, lines[number].upper_slope)
        if len(node.sources) > 1:
            parts = stored.alpha[:, where].tensor_split(2, -1)
        for side, values in zip(list(Side)[: node.relaxation.free], parts, strict=False):
            wide = values.expand(len(stored.alpha), -1)
            on_grid = len(node.sources) > 1 or node.relaxation.free == 1
            exponent, whole = _on_grid(wide) if on_grid else _rounded(wide)
            found.append(SlopeHint(number, side, whole, indices.get(number), exponent))
    return found


def _on_grid(values: Tensor) -> tuple[int, npt.NDArray[Any]]:
    """Multiples of ``1 / GRID`` in units of it."""
    whole = (values * GRID).round().to(torch.int16)
    return -int(math.log2(GRID)), whole.cpu().numpy()


def _rounded(values: Tensor) -> tuple[int, npt.NDArray[Any]]:
    """Rounded to 24 bits of the largest one, and the unit's exponent."""
    exact = values.double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(exact.abs().max()) if exact.numel() else 0.0
    exponent = math.frexp(largest)[1] - 24 if largest else 0
    whole = torch.ldexp(exact, torch.tensor(-exponent, device=exact.device)).round()
    return exponent, whole.to(torch.int32).cpu().numpy()


def _unscaled(values: Tensor | None, exponents: Tensor | None, rows: Tensor) -> list[list[float]]:
    """Multipliers of rows ``(R, k)`` for the constraints as the kernel takes them."""
    if values is None or exponents is None:
        return [[] for _ in rows]
    return torch.ldexp(values[rows], -exponents[rows]).tolist()
