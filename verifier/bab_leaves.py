"""Roots and leaves of a branch and bound on neurons: their problems, and their hints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from proofs.proof import Fact
from proofs.tables import Substitution
from verifier.alpha import Multipliers, Problem, initial
from verifier.bab_root import Stated, leaf_hints
from verifier.bab_tree import Feedback, Kind, LeafHint, Tree
from verifier.bounds import Domains, Rows, TorchNetwork
from verifier.bounds_focus import Focused
from verifier.bounds_spec import Table
from verifier.clip import FirstLayers
from verifier.feedback import Gained


@dataclass(frozen=True, eq=False)
class Leaves:
    """A batch of ``B`` domains of one case.

    Attributes:
        state: bounds before the splits are looked at; a single domain's where shared.
        disjunct, signs, multipliers, node: disjunct, splits, multipliers, tree node.
        points: ``(B, N)`` where neurons are split last; ``None``: at 0, throughout.
    """

    state: Domains
    disjunct: Tensor
    signs: Tensor
    multipliers: Multipliers
    node: Tensor
    points: Tensor | None = None

    def take(self, index: Tensor) -> Leaves:
        return Leaves(
            self.state.take(index) if len(self.state) > 1 else self.state,
            self.disjunct[index],
            self.signs[index],
            self.multipliers.take(index),
            self.node[index.cpu()],
            None if self.points is None else self.points[index],
        )


@dataclass(frozen=True, eq=False)
class Root:
    """A case's root state and the forms of its disjuncts.

    Attributes:
        case: position among the cases searched; ``number``: in the property.
        nets: focused on the root: a neuron here is one that is unstable there.
        state: a single domain.
        forms: by disjunct ``(D, k, n)``; shorter disjuncts repeat their last constraint.
        exponents: of the forms; see ``bounds_spec``.
        lengths: how many constraints each disjunct really has.
        table: the constraints of all cases.
        first: what is clipped; ``None`` where that is not worth its memory.
        late: whose neurons are bounded by feedback; ``None``: none.
    """

    case: int
    number: int
    nets: Focused
    state: Domains
    forms: Rows
    exponents: Tensor
    lengths: Sequence[int]
    table: Table
    first: FirstLayers | None = None
    late: int | None = None

    @property
    def own(self) -> bool:
        """Whether domains below have bounds of their own."""
        return self.first is not None or self.late is not None or not self.nets.fast.bends_at_zero

    def fed(self, gained: Gained, hint: LeafHint) -> Feedback:
        """What feedback gained, as it stands in the proof."""
        neurons = self.nets.columns.cpu()[torch.from_numpy(gained.neurons)].tolist()
        return Feedback(neurons, gained.exponents, hint)

    def signs(self, count: int) -> Tensor:
        """No splits, for ``count`` leaves."""
        fast = self.nets.fast
        return torch.zeros(count, fast.neuron_count, device=fast.device, dtype=fast.dtype)

    @cached_property
    def indices(self) -> dict[int, npt.NDArray[np.int64]]:
        """By nonlinear tensor the entries that leaves have slopes for."""
        return {number: index.cpu().numpy() for number, index in self.nets.entries.items()}

    def place(self, neuron: int) -> int:
        """The number here of one of the whole network's neurons; -1: it is stable here."""
        return self._places.get(neuron, -1)

    @cached_property
    def _places(self) -> dict[int, int]:
        return {neuron: place for place, neuron in enumerate(self.nets.columns.tolist())}

    def unsplit(self) -> Leaves:
        """The disjuncts before any split."""
        count = len(self.lengths)
        disjuncts = torch.arange(count, device=self.state.low.device)
        leaves = self._leaves(disjuncts, torch.zeros(count))
        return replace(leaves, multipliers=initial(self.problem(leaves)))

    def below(self, tree: Tree, node: int) -> Leaves:
        """A node of the tree as a leaf, with the splits on its path and no multipliers."""
        leaves = self._leaves(
            torch.zeros(1, dtype=torch.long, device=self.state.low.device), torch.tensor([node])
        )
        for above, side in tree.path(node):
            if tree.kind[above] == Kind.DISJUNCT:
                leaves.disjunct[0] = side
                continue
            place = self.place(tree.arg[above]) if tree.kind[above] == Kind.NEURON else -1
            if place < 0:  # of an old proof: its bounds are what it leaves
                continue
            if leaves.points is not None:
                leaves = replace(leaves, state=cut(self.problem(leaves), leaves.state))
                leaves.points[0, place] = tree.points.get(above, 0.0)
            leaves.signs[0, place] = -1.0 if side else 1.0
        return leaves

    def _leaves(self, disjunct: Tensor, node: Tensor) -> Leaves:
        signs = self.signs(len(disjunct))
        points = None
        if not self.nets.fast.bends_at_zero:
            points = torch.zeros_like(signs, dtype=self.state.lower.dtype)
        return Leaves(self.state, disjunct, signs, Multipliers(signs[:, :0]), node, points)

    def split_points(self, problem: Problem) -> Tensor | None:
        """Where neurons are to be split, ``(B, N)``; ``None``: at 0."""
        if self.nets.fast.bends_at_zero:
            return None
        return self.nets.sure.split_points(problem.lower, problem.upper)

    def problem(self, leaves: Leaves) -> Problem:
        """The sure problem of a batch: bounds cut at the splits."""
        chosen = leaves.disjunct
        forms = {t: m[chosen] for t, m in self.forms.coefficients.items()}
        state = leaves.state
        signs = leaves.signs.to(state.lower.dtype)
        points = signs.new_zeros(1) if leaves.points is None else leaves.points
        return Problem(
            self.nets.sure,
            Rows(forms, self.forms.constant[chosen]),
            state.low,
            state.high,
            state.lower.where(signs >= 0, torch.maximum(state.lower, points)),
            state.upper.where(signs <= 0, torch.minimum(state.upper, points)),
            signs,
            self.table.regions(torch.tensor([self.case], device=signs.device)),
            leaves.points,
        )

    def hints(
        self,
        problem: Problem,
        stored: Multipliers,
        leaves: Leaves,
        tree: Tree,
        weighted: bool = False,
    ) -> list[LeafHint]:
        """What leaves of a problem take into the proof.

        With ``weighted`` a single constraint has its weight, too.
        """
        splits = []
        for node in leaves.node.tolist():
            path = [n for n, _ in tree.path(int(node)) if tree.kind[n] != Kind.DISJUNCT]
            neurons = [tree.arg[n] if tree.kind[n] == Kind.NEURON else -1 for n in path]
            splits.append([self.place(neuron) for neuron in neurons])
        lengths = torch.tensor(self.lengths, device=problem.low.device)[leaves.disjunct]
        case = torch.full_like(leaves.disjunct, self.case)
        stated = Stated.of(self.table, case, lengths, self.exponents[leaves.disjunct])
        hints = leaf_hints(problem, stored, stated, range(len(splits)), splits, self.indices)
        if not weighted:
            return hints
        totals = torch.ones(len(hints)) if stored.weights is None else stored.weights.sum(-1)
        alone = torch.ldexp(totals.cpu(), -stated.exponents[:, 0].cpu()).tolist()
        return [
            hint if hint.weights else replace(hint, weights=[one])
            for hint, one in zip(hints, alone, strict=True)
        ]


def cut(problem: Problem, state: Domains) -> Domains:
    """The domains of leaves, with the bounds that their problem has after its splits."""
    count = len(problem)
    low, high = state.low.expand(count, -1), state.high.expand(count, -1)
    return Domains(low, high, problem.lower.expand(count, -1), problem.upper.expand(count, -1))


def adopt(net: TorchNetwork, start: Multipliers, hint: LeafHint) -> None:
    """Take slopes and weights from a hint, as far as they are parameters themselves."""
    for stored in hint.slopes:
        node, where = net.function(stored.tensor), net.parameters[stored.tensor]
        if node.relaxation.free == 1 or len(node.sources) > 1:
            values = torch.tensor(stored.values).to(start.alpha) * 2.0 ** (stored.exponent or 0)
            part = start.alpha[:, where].tensor_split(node.relaxation.free, -1)
            part[int(stored.side)].copy_(values)


def adopt_old(root: Root, leaves: Leaves, path: Sequence[int], hints: Substitution) -> None:
    """Take an old leaf's hints for a single leaf, as far as they are parameters here.

    Args:
        path: by split on the path the neuron's number here, -1 where it has none.
    """
    start, net = leaves.multipliers, root.nets.fast
    for block in hints.blocks:
        if block.tensor not in root.indices:
            continue
        node, where = net.function(block.tensor), net.parameters[block.tensor]
        free = node.relaxation.free
        if int(block.side) >= free or (free != 1 and len(node.sources) == 1):
            continue
        part = start.alpha[0, where].tensor_split(free)[int(block.side)]
        count = block.slopes.shape[1]
        entries = np.arange(count) if block.entries is None else block.entries
        _, here, there = np.intersect1d(root.indices[block.tensor], entries, return_indices=True)
        part[torch.from_numpy(here)] = torch.tensor(block.slopes[0, there]).to(part).clamp(0.0, 1.0)
    for fact, index, value in hints.multipliers:
        known = fact is Fact.SPLIT and index < len(path) and path[index] >= 0
        if known and start.beta is not None:
            start.beta[0, path[index]] = value


def joined(one: Leaves, other: Leaves) -> Leaves:
    """The leaves of both."""
    if not len(one.node):
        return other
    if not len(other.node):
        return one

    def both(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a, b])

    def every(leaves: Leaves) -> Domains:
        count, state = len(leaves.node), leaves.state
        return state if len(state) == count else state.take(torch.zeros(count, dtype=torch.long))

    first, second = every(one), every(other)
    parts = zip(one.multipliers.parts(), other.multipliers.parts(), strict=True)
    alpha, *others = (None if a is None or b is None else both(a, b) for a, b in parts)
    if alpha is None:
        raise ValueError("multipliers without slopes")
    return Leaves(
        Domains(
            both(first.low, second.low),
            both(first.high, second.high),
            both(first.lower, second.lower),
            both(first.upper, second.upper),
        ),
        both(one.disjunct, other.disjunct),
        both(one.signs, other.signs),
        Multipliers(alpha, *others),
        both(one.node, other.node),
        None if one.points is None or other.points is None else both(one.points, other.points),
    )


def moved(leaves: Leaves, before: Root, after: Root) -> Leaves:
    """Leaves without splits under the bounds of a better root."""
    old, fresh = leaves.multipliers, after.unsplit()
    net, parts = before.nets.fast, []
    for number in after.nets.fast.nonlinear:
        place = torch.searchsorted(before.nets.entries[number], after.nets.entries[number])
        free = net.function(number).relaxation.free
        own = old.alpha[:, net.parameters[number]].tensor_split(max(1, free), -1)
        parts += [part[:, place] for part in own[:free]]
    alpha = torch.cat(parts, -1) if parts else old.alpha[:, :0]
    multipliers = replace(old, alpha=alpha, beta=fresh.multipliers.beta)
    return replace(fresh, node=leaves.node, disjunct=leaves.disjunct, multipliers=multipliers)
