"""Certified clauses: phases that cannot hold together, and the multipliers that say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from proofs.domain import Literal
from proofs.draft import Node, TreeDraft, slope_block
from proofs.forms import Place
from proofs.proof import Fact, NodeKind, Side
from proofs.tables import Substitution
from verifier.alpha import Bounded, Effort, Problem, bounded, initial, optimise
from verifier.bab_leaves import Leaves, Root
from verifier.bab_root import Stated, fast_problem, leaf_hints
from verifier.bab_tree import LeafHint
from verifier.smt.reasoner import Phase
from verifier.smt.settings import Settings

DROPPED = (0.0, 0.125, 0.25, 0.5, 0.75)
"""Parts of the phases that may matter which are tried without, beside those that do not."""


@dataclass(frozen=True, eq=False)
class Clause:
    """Phases that do not hold together at a violation of a disjunct.

    Attributes:
        phases: ascending.
        hint: what refutes them under the root's bounds; its multipliers of splits are in the
            order of the phases.
        bound: that the certificate has in float64, positive.
    """

    disjunct: int
    phases: tuple[Phase, ...]
    hint: LeafHint
    bound: float


@dataclass(frozen=True, eq=False)
class Tried:
    """Partial assignments with optimised multipliers.

    Attributes:
        leaves: with the multipliers.
        bound: ``(B,)`` in the searching precision; ``closed``: ``(B,)`` whether the rounded
            multipliers refute it in float64.
        points: ``(k, I)`` where bounds are attained.
    """

    leaves: Leaves
    bound: Tensor
    closed: Tensor
    points: Tensor


class Theory:
    """Refutes partial assignments of one case by bound propagation.

    Attributes:
        margin: a certificate counts only where its bound is above this.
    """

    def __init__(self, root: Root, settings: Settings) -> None:
        self.root, self._settings = root, settings
        self.margin = settings.margin
        net = root.nets.sure
        lower, upper = root.state.lower, root.state.upper
        self._height = -lower * upper / (upper - lower)
        self._reach = torch.maximum(-lower, upper)
        owner = torch.zeros(net.parameter_count, dtype=torch.long, device=lower.device)
        for number in net.nonlinear:
            where = net.neurons[net.function(number).sources[0]]
            owner[net.parameters[number]] = torch.arange(where.start, where.stop).to(owner)
        self._owner = owner

    @property
    def neurons(self) -> int:
        """How many are unstable at the root."""
        return self.root.nets.sure.neuron_count

    def cubes(self, disjuncts: Sequence[int], phases: Sequence[Sequence[Phase]]) -> Leaves:
        """Partial assignments with default multipliers."""
        root = self.root
        count = len(disjuncts)
        signs = root.signs(count)
        for row, held in enumerate(phases):
            for phase in held:
                signs[row, phase // 2] = -1.0 if phase % 2 else 1.0
        chosen = torch.tensor(list(disjuncts), dtype=torch.long, device=signs.device)
        leaves = replace(
            root.unsplit().take(torch.zeros(count, dtype=torch.long)), disjunct=chosen, signs=signs
        )
        return replace(leaves, multipliers=initial(root.problem(leaves)))

    def attempt(self, leaves: Leaves, steps: int, deadline: float) -> Tried:
        """Optimise multipliers, and see which refute their assignment."""
        problem = self.root.problem(leaves)
        quick = fast_problem(self.root.nets, problem)
        start = leaves.multipliers.map(lambda part: part.to(quick.low.dtype))
        effort = Effort(steps, enough=1e-4, deadline=deadline, decay=0.98 if steps > 50 else 0.95)
        bound, best = optimise(quick, start, effort)
        points = bounded(quick, best, gradient=True).points
        closed = self.certain(problem, replace(leaves, multipliers=best)) > self.margin
        return Tried(
            replace(leaves, multipliers=best),
            bound,
            closed,
            quick.low[:0] if points is None else points,
        )

    def certain(self, problem: Problem, leaves: Leaves) -> Tensor:
        """Bounds ``(B,)`` of the multipliers as a proof stores them, in float64."""
        return bounded(problem, leaves.multipliers.rounded()).bound

    def learnt(self, leaves: Leaves, deadline: float) -> list[Clause]:
        """The clauses of refuted assignments, with as few phases as can be seen to do."""
        for _ in range(self._settings.shrinks):
            leaves = self._shrunk(leaves, deadline)
        problem = self.root.problem(leaves)
        bound = self.certain(problem, leaves).tolist()
        signs = leaves.signs.cpu().numpy()
        splits = [np.flatnonzero(row).tolist() for row in signs]
        lengths = torch.tensor(self.root.lengths, device=problem.low.device)[leaves.disjunct]
        case = torch.full_like(leaves.disjunct, self.root.case)
        stated = Stated.of(self.root.table, case, lengths, self.root.exponents[leaves.disjunct])
        stored = leaves.multipliers.rounded()
        places = range(len(splits))
        hints = leaf_hints(problem, stored, stated, places, splits, self.root.indices)
        disjuncts = leaves.disjunct.tolist()
        return [
            Clause(
                disjuncts[k],
                tuple(2 * j + int(signs[k, j] < 0) for j in splits[k]),
                hints[k],
                bound[k],
            )
            for k in places
            if bound[k] > self.margin
        ]

    def _shrunk(self, leaves: Leaves, deadline: float) -> Leaves:
        """The same assignments without phases that their refutation can spare."""
        problem = self.root.problem(leaves)
        held = leaves.signs != 0
        found = bounded(problem, leaves.multipliers.rounded())
        cost = self._cost(found, leaves).masked_fill(~held, float("inf"))
        total, order = cost.sort(1)
        total = total.cumsum(1)
        room = (found.bound - self.margin).clamp(min=0.0)
        free = (total <= 0.5 * room[:, None]).sum(1)
        count = held.sum(1)
        rank = order.argsort(1)
        many = len(DROPPED)
        dropped = torch.stack([free + ((count - free) * part).long() for part in DROPPED], 1)
        rows = torch.arange(len(count), device=cost.device).repeat_interleave(many)
        without = held[rows] & (rank[rows] < dropped.reshape(-1)[:, None])
        fewer = _without(leaves.take(rows), without, self._owner)
        tried = self.attempt(fewer, self._settings.shrink_steps, deadline)
        length = count[rows] - without.sum(1)
        length = torch.where(tried.closed, length, count[rows] + 1).reshape(-1, many)
        best = length.argmin(1)
        chosen = torch.arange(len(count), device=best.device) * many + best
        better = length.amin(1) <= count
        return _where(better, tried.leaves.take(chosen), leaves)

    def _cost(self, found: Bounded, leaves: Leaves) -> Tensor:
        """About what every phase is worth to a refutation, ``(B, U)``."""
        net = self.root.nets.sure
        cost = torch.zeros_like(self._height).repeat(len(leaves.signs), 1)
        for number, matrix in found.trace.items():
            where = net.neurons[net.function(number).sources[0]]
            cost[:, where] += (-matrix).clamp(min=0) * self._height[:, where]
        if leaves.multipliers.beta is not None:
            cost += leaves.multipliers.beta.to(cost) * self._reach
        return cost


def _without(leaves: Leaves, gone: Tensor, owner: Tensor) -> Leaves:
    """Assignments without some phases ``(B, U)``, whose neurons get the lines they had below."""
    own = leaves.multipliers
    active = (leaves.signs < 0).to(own.alpha.dtype)[:, owner]
    alpha = torch.where(gone[:, owner], active, own.alpha)
    beta = None if own.beta is None else own.beta.masked_fill(gone, 0.0)
    signs = leaves.signs.masked_fill(gone, 0.0)
    return replace(leaves, signs=signs, multipliers=replace(own, alpha=alpha, beta=beta))


def _where(choice: Tensor, one: Leaves, other: Leaves) -> Leaves:
    """By row one or the other; disjuncts and states are the same."""
    pick = choice[:, None]
    parts = [
        None if a is None or b is None else torch.where(pick, a.to(b), b)
        for a, b in zip(one.multipliers.parts(), other.multipliers.parts(), strict=True)
    ]
    multipliers = replace(other.multipliers, beta=parts[1], weights=parts[2], region=parts[3])
    if parts[0] is not None:
        multipliers = replace(multipliers, alpha=parts[0])
    signs = torch.where(pick, one.signs, other.signs)
    return replace(other, signs=signs, multipliers=multipliers)


def literal(place: Place, phase: Phase) -> Literal:
    """A phase of the neuron at a place of the network."""
    return Literal(((place, 1.0),), 0.0, Side.UPPER if phase % 2 else Side.LOWER)


def substitution(clause: Clause, order: Sequence[Phase]) -> Substitution:
    """A clause's hints for a leaf below splits in this order, its own phases among them."""
    beta = dict(zip(clause.phases, clause.hint.beta.tolist(), strict=True))
    facts = [(Fact.SPLIT, at, beta[p]) for at, p in enumerate(order) if beta.get(p, 0.0) > 0]
    facts += [(Fact.REGION, k, value) for k, value in enumerate(clause.hint.region) if value > 0]
    blocks = tuple(map(slope_block, clause.hint.slopes))
    return Substitution(blocks, tuple(facts), tuple(clause.hint.weights), None)


def lemma(clause: Clause, places: Sequence[Place]) -> TreeDraft:
    """The clause as a lemma; ``places``: by neuron its place in the network."""
    held = tuple(literal(places[phase // 2], phase) for phase in clause.phases)
    root = Node(NodeKind.CLOSE, substitution(clause, clause.phases))
    return TreeDraft(root, held, clause.disjunct)
