"""The search of one case: partial assignments are split until clauses forbid all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from verifier.alpha import bounded
from verifier.bab_leaves import Leaves, Root, joined
from verifier.bab_root import fast_problem
from verifier.branching import neuron_scores
from verifier.smt.clauses import Clause, Theory, Tried
from verifier.smt.program import Program
from verifier.smt.reasoner import Phase, Reasoner
from verifier.smt.settings import Settings

Offer = Callable[[Tensor], bool]
"""Takes points ``(k, I)``; whether one is a confirmed violation."""

Start = tuple[int, tuple[Phase, ...]]
"""A disjunct and phases under which it is to be refuted."""


@dataclass(frozen=True, eq=False)
class Cube:
    """A partial assignment that is open.

    Attributes:
        phases: of decided neurons, in the order in which they were decided.
        leaves: it alone, with multipliers.
        bound: what these reach; not positive.
    """

    disjunct: int
    phases: tuple[Phase, ...]
    leaves: Leaves
    bound: float


class CaseSearch:
    """Searches one case.

    Args:
        root: bounds and unsafe constraints.
        starts: what is to be refuted.
        offer: takes candidates.
        first: neurons to split before all others.

    Attributes:
        clauses: learnt so far.
        choice: by disjunct the neuron that was split below some phases.
        evaluated: partial assignments that were bounded; ``programs``: linear programs.
    """

    def __init__(
        self,
        root: Root,
        starts: Sequence[Start],
        settings: Settings,
        offer: Offer,
        first: Sequence[int] = (),
    ) -> None:
        self.root, self._starts, self._settings, self._offer = root, starts, settings, offer
        self._first, self._batch = list(first), settings.batch
        self._theory = Theory(root, settings)
        self._program: Program | None = None
        self.evaluated = self.programs = 0
        self.clauses: list[Clause] = []
        self.choice: dict[int, dict[frozenset[Phase], int]] = {k: {} for k, _ in starts}
        self._open: list[Cube] = []
        self._stuck = False
        self._reasoner = self._taught()

    @property
    def open(self) -> int:
        """Partial assignments that wait."""
        return len(self._open)

    @property
    def worst(self) -> float:
        """Least bound of those."""
        return min((cube.bound for cube in self._open), default=float("inf"))

    def forget(self, clause: Clause) -> None:
        """Take back a clause that the kernel does not accept; others need a wider margin."""
        self.clauses.remove(clause)
        self._theory.margin = 10.0 * max(self._theory.margin, 1e-9)
        self._reasoner, self._stuck = self._taught(), False

    def run(self, deadline: float, round_over: Callable[[], bool]) -> str:
        """Search until everything is closed, a violation is confirmed or time is up."""
        while True:
            if time.monotonic() >= deadline:
                return "timeout"
            if self._open:
                if not self._round(deadline):
                    return "violated"
            else:
                allowed = self._reasoner.assignment()
                if allowed is None:
                    return "closed"
                if self._stuck:
                    return "exhausted"
                if not self._enter(*allowed, deadline):
                    return "violated"
            if round_over():
                return "violated"

    def _taught(self) -> Reasoner:
        reasoner = Reasoner(self._theory.neurons, len(self.root.lengths), self._starts)
        for clause in self.clauses:
            reasoner.forbid(clause.disjunct, clause.phases)
        return reasoner

    def _enter(self, disjunct: int, allowed: Sequence[Phase], deadline: float) -> bool:
        """Open what was not split yet above an assignment; false on a confirmed violation."""
        model, choice = set(allowed), self.choice[disjunct]
        path = next(p for d, p in self._starts if d == disjunct and model.issuperset(p))
        while (neuron := choice.get(frozenset(path))) is not None:
            path = (*path, 2 * neuron + int(2 * neuron + 1 in model))
        leaves = self._theory.cubes([disjunct], [path])
        return self._judge(
            [path], self._attempt(leaves, self._settings.root_steps, deadline), deadline
        )

    def _round(self, deadline: float) -> bool:
        """Split some partial assignments; false on a confirmed violation."""
        begun, size = time.monotonic(), min(self._batch, len(self._open))
        cubes = self._implied([self._open.pop() for _ in range(size)])
        if not cubes:
            return True
        leaves = reduce(joined, (cube.leaves for cube in cubes))
        chosen = self._choose(cubes, leaves)
        done = [k for k, neuron in enumerate(chosen) if neuron < 0]
        if done and not self._solve(
            [cubes[k].phases for k in done], leaves.take(torch.tensor(done))
        ):
            return False
        split = [k for k, neuron in enumerate(chosen) if neuron >= 0]
        if not split:
            return True
        paths = []
        for k in split:
            cube, neuron = cubes[k], chosen[k]
            self.choice[cube.disjunct][frozenset(cube.phases)] = neuron
            paths += [(*cube.phases, 2 * neuron), (*cube.phases, 2 * neuron + 1)]
        both = leaves.take(torch.tensor(split).repeat_interleave(2))
        neurons = torch.tensor([chosen[k] for k in split]).repeat_interleave(2)
        signs = both.signs.clone()
        rows = torch.arange(len(signs))
        signs[rows, neurons] = (1.0 - 2.0 * (rows % 2)).to(signs)
        tried = self._attempt(replace(both, signs=signs), self._settings.steps, deadline)
        safe = self._judge(paths, tried, deadline)
        spent = max(1e-3, time.monotonic() - begun)
        factor = min(2.0, max(0.5, self._settings.round_seconds / spent))
        self._batch = int(min(self._settings.limit, max(4, self._batch * factor)))
        return safe

    def _implied(self, cubes: Sequence[Cube]) -> list[Cube]:
        """Partial assignments with what the clauses imply, without those that they forbid."""
        found = []
        for disjunct in sorted({cube.disjunct for cube in cubes}):
            own = [cube for cube in cubes if cube.disjunct == disjunct]
            implied = self._reasoner.implied(disjunct, [cube.phases for cube in own])
            for cube, phases in zip(own, implied, strict=True):
                if phases is not None:
                    found.append(self._extended(cube, phases))
        return found

    def _extended(self, cube: Cube, phases: Sequence[Phase]) -> Cube:
        signs, path = cube.leaves.signs.clone(), cube.phases
        for phase in phases:
            self.choice[cube.disjunct][frozenset(path)] = phase // 2
            path = (*path, phase)
            signs[0, phase // 2] = -1.0 if phase % 2 else 1.0
        return replace(cube, phases=path, leaves=replace(cube.leaves, signs=signs))

    def _attempt(self, leaves: Leaves, steps: int, deadline: float) -> Tried:
        self.evaluated += len(leaves.node)
        return self._theory.attempt(leaves, steps, deadline)

    def _judge(self, paths: Sequence[tuple[Phase, ...]], tried: Tried, deadline: float) -> bool:
        """Learn from what is refuted and keep the rest; false on a confirmed violation."""
        if self._offer(tried.points):
            return False
        self._learn(tried.leaves.take(tried.closed.nonzero()[:, 0]), deadline)
        left = (~tried.closed).nonzero()[:, 0]
        if not len(left):
            return True
        leaves = tried.leaves.take(left)
        problem = self.root.problem(leaves)
        undecided = self.root.nets.sure.unstable(problem.lower, problem.upper).sum(1)
        bound = tried.bound[left].tolist()
        few = undecided <= self._settings.program_neurons
        found: list[Cube] = []
        for k, row in enumerate(left.tolist()):
            one = leaves.take(torch.tensor([k]))
            if bool(few[k]) and int(undecided[k]):
                solved = self._programmed(one, deadline)
                if solved is None:
                    return False
                if bool(solved.closed[0]):
                    self._learn(solved.leaves, deadline)
                    continue
            found.append(Cube(int(one.disjunct[0]), tuple(paths[row]), one, bound[k]))
        self._open += sorted(found, key=lambda cube: cube.bound)
        return True

    def _solve(self, paths: Sequence[tuple[Phase, ...]], leaves: Leaves) -> bool:
        """Assignments with nothing left to decide; false on a confirmed violation."""
        for k in range(len(paths)):
            solved = self._programmed(leaves.take(torch.tensor([k])), float("inf"))
            if solved is None:
                return False
            if bool(solved.closed[0]):
                self._learn(solved.leaves, float("inf"))
            else:
                self._stuck = True
        return True

    def _programmed(self, leaves: Leaves, deadline: float) -> Tried | None:
        """An assignment with the duals of a linear program; ``None``: a confirmed violation."""
        if self._program is None:
            self._program = Program(self.root, self._settings)
        solved = self._program.solve(leaves)
        self.programs += 1
        if solved is None:
            return self._attempt(leaves, self._settings.root_steps, deadline)
        if self._offer(solved.point.to(self.root.state.low)):
            return None
        own = replace(leaves, multipliers=solved.multipliers)
        tried = self._attempt(own, 0, deadline)
        return (
            tried if bool(tried.closed[0]) else self._attempt(own, self._settings.steps, deadline)
        )

    def _learn(self, leaves: Leaves, deadline: float) -> None:
        if not len(leaves.node):
            return
        for clause in self._theory.learnt(leaves, deadline):
            self.clauses.append(clause)
            self._reasoner.forbid(clause.disjunct, clause.phases)

    def _choose(self, cubes: Sequence[Cube], leaves: Leaves) -> list[int]:
        """A neuron to split in each partial assignment; -1: all are decided."""
        problem = self.root.problem(leaves)
        quick = fast_problem(self.root.nets, problem)
        own = leaves.multipliers.map(lambda part: part.to(quick.low.dtype))
        undecided = self.root.nets.sure.unstable(problem.lower, problem.upper)
        if not undecided.shape[1]:
            return [-1] * len(cubes)
        found = bounded(quick, own, gradient=True)
        given, height = neuron_scores(self.root.nets.fast, found, quick.lower, quick.upper)
        each = min(max(1, self._settings.lookahead // 2), given.shape[1])
        picks = torch.cat([given.topk(each, 1).indices, height.topk(each, 1).indices], 1)
        merit = self._lookahead(replace(leaves, multipliers=own), picks)
        merit = merit.masked_fill(~undecided.gather(1, picks), -float("inf"))
        best = picks.gather(1, merit.argmax(1, keepdim=True))[:, 0]
        other = undecided.to(height.dtype).mul(height + 1e-30).argmax(1)
        best = torch.where(merit.amax(1).isinf(), other, best)
        best = torch.where(undecided.any(1), best, -1)
        chosen = best.tolist()
        for k, row in enumerate(undecided if self._first else ()):
            chosen[k] = next((n for n in self._first if bool(row[n])), chosen[k])
        return chosen

    def _lookahead(self, leaves: Leaves, picks: Tensor) -> Tensor:
        """How good both sides of splits at ``picks (B, k)`` are at once, ``(B, k)``."""
        count, width = picks.shape
        rows = torch.arange(count, device=picks.device).repeat_interleave(2 * width)
        both = leaves.take(rows)
        signs = both.signs.clone()
        at = torch.arange(len(rows), device=picks.device)
        signs[at, picks.reshape(-1).repeat_interleave(2)] = (1.0 - 2.0 * (at % 2)).to(signs)
        problem = self.root.problem(replace(both, signs=signs))
        bound = bounded(fast_problem(self.root.nets, problem), both.multipliers).bound
        pair = bound.clamp(max=0.0).reshape(count, width, 2)
        return pair.sum(2) + pair.amin(2)
