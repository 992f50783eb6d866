"""Closing boxes with optimised slopes where the default ones fall short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verifier.alpha import Effort, Multipliers, Problem, bounded, initial, optimise
from verifier.bab_proven import KEPT, Proven, Row, stacked
from verifier.bab_root import Nets, Stated, fast_problem, leaf_hints
from verifier.bab_settings import Settings
from verifier.bab_tree import Kind, LeafHint, Tree
from verifier.bounds import Domains
from verifier.bounds_spec import Table, whole_goal

LEADERS = 8
"""Rows of a disjunct whose multipliers are tried on the others that were optimised."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """What optimised slopes made of ``B`` boxes, with a row for each of ``S`` slots.

    Attributes:
        closed: ``(B,)``.
        first, count: ``(B,)`` where a box's slots are, which stand one after the other.
        hints: of every slot of a closed box.
    """

    closed: Tensor
    first: Sequence[int]
    count: Sequence[int]
    hints: Sequence[LeafHint | None]

    def of(self, box: int) -> list[LeafHint]:
        """The hints of a closed box's disjuncts, in their order."""
        found = self.hints[self.first[box] : self.first[box] + self.count[box]]
        return [hint for hint in found if hint is not None]

    def record(self, tree: Tree, boxes: Sequence[int], nodes: Sequence[int]) -> None:
        """Close the nodes of some boxes, each disjunct with hints of its own."""
        for box, node in zip(boxes, nodes, strict=True):
            hints = self.of(box)
            count = len(hints)
            child = node if count == 1 else tree.split(node, Kind.DISJUNCT, count, count)
            for k, hint in enumerate(hints):
                tree.close(child + k, hint)


def leading(problem: Problem) -> Multipliers:
    """The default lines, and of each row's constraints the one that they bound best alone."""
    start = initial(problem)
    if start.weights is None:
        return start
    alone = []
    for number in range(start.weights.shape[1]):
        start.weights.zero_()[:, number] = 1.0
        alone.append(bounded(problem, start).bound)
    best = torch.stack(alone).argmax(0, keepdim=True)
    start.weights.zero_().scatter_(1, best.T, 1.0)
    return start


def attempt(
    nets: Nets,
    table: Table,
    domains: Domains,
    case: Tensor,
    settings: Settings,
    deadline: float = float("inf"),
    proven: Proven | None = None,
) -> Attempt | None:
    """Optimise the slopes of every disjunct of every box, ``case (B,)``.

    ``None`` where some disjunct is empty, so that nothing can refute it.  After the deadline
    no further step is taken.  What closed other boxes, as ``proven`` has it, is tried first.
    """
    goal = whole_goal(table, case)
    forms, lengths, exponents = table.forms(nets.sure, goal.slot_disjunct)
    if not len(lengths) or int(lengths.min()) == 0:
        return None
    own = goal.slot_owner
    problem = Problem(
        nets.sure,
        forms,
        domains.low[own],
        domains.high[own],
        domains.lower[own],
        domains.upper[own],
        region=table.regions(case[own]),
    )
    stated = Stated.of(table, case[own], lengths, exponents)
    if not nets.sure.bends_at_zero:  # slopes mean something else on other bounds
        proven = None
    slots = _Slots(problem, stated, goal.slot_disjunct.tolist(), settings, proven)
    slots.try_known()
    slots.optimise(nets, deadline)
    closed = goal.by_domain(slots.sure) > settings.margin
    slots.explain(closed[own])
    count = torch.bincount(own, minlength=len(case))
    first = torch.cumsum(count, 0) - count
    return Attempt(closed, first.tolist(), count.tolist(), slots.hints)


class _Slots:
    """The rows of a problem while they are being closed.

    Attributes:
        sure: ``(S,)`` bounds; minus infinity where nothing is known to close.
        hints: of the rows that others' multipliers close, or that others use.
    """

    def __init__(
        self,
        problem: Problem,
        stated: Stated,
        disjuncts: Sequence[int],
        settings: Settings,
        proven: Proven | None,
    ) -> None:
        self._problem, self._stated, self._disjuncts = problem, stated, disjuncts
        self._settings, self._proven = settings, proven
        self.sure = torch.full_like(problem.forms.constant[:, 0], -float("inf"))
        self.hints: list[LeafHint | None] = [None] * len(disjuncts)
        self._stored: Multipliers | None = None
        self._place = torch.full_like(self.sure, -1, dtype=torch.long)  # among those stored

    @property
    def _open(self) -> Tensor:
        return (~(self.sure > self._settings.margin)).nonzero()[:, 0]

    def try_known(self) -> None:
        """Close rows with multipliers that closed others before."""
        for rank in range(KEPT if self._proven is not None else 0):
            self._try(self._open.tolist(), rank)

    def _try(self, slots: Sequence[int], rank: int) -> None:
        """Try the multipliers known for each row's disjunct."""
        if self._proven is None:
            return
        rows = self._proven.of([self._disjuncts[slot] for slot in slots], rank)
        there = [(slot, row) for slot, row in zip(slots, rows, strict=True) if row is not None]
        if not there:
            return
        index = torch.tensor([slot for slot, _ in there], device=self.sure.device)
        width = self._problem.forms.constant.shape[1]
        found = bounded(self._problem.take(index), stacked([row for _, row in there], width)).bound
        for (slot, row), bound in zip(there, found.tolist(), strict=True):
            if bound > self._settings.margin:
                self.sure[slot], self.hints[slot] = bound, row.hint

    def optimise(self, nets: Nets, deadline: float) -> None:
        """Optimise the rows that are open, and share what closes them."""
        left = self._open
        if not len(left):
            return
        quick = fast_problem(nets, self._problem.take(left))
        steps, enough = self._settings.leaf_steps, self._settings.fast_margin
        effort = Effort(steps, enough=enough, deadline=deadline)
        bound, best = optimise(quick, leading(quick), effort)
        self._stored = stored = best.rounded()
        self._place[left] = torch.arange(len(left), device=left.device)
        likely = (bound > 0).nonzero()[:, 0]
        if len(likely):
            which = left[likely]
            self.sure[which] = bounded(self._problem.take(which), stored.take(likely)).bound
        if self._proven is not None:
            closed = left[self.sure[left] > self._settings.margin]
            self._coarsen(closed)
            self._share(closed.tolist())

    def _coarsen(self, slots: Tensor) -> None:
        """Round what closes rows to few bits where it still does: proofs are smaller."""
        if self._stored is None or not len(slots):
            return
        place = self._place[slots]
        coarse = self._stored.take(place).coarse()
        bound = bounded(self._problem.take(slots), coarse).bound
        good = bound > self._settings.margin
        self.sure[slots[good]] = bound[good]
        for part, short in zip(self._stored.parts(), coarse.parts(), strict=True):
            if part is not None and short is not None:
                part[place[good]] = short[good]

    def _share(self, slots: list[int]) -> None:
        """Give optimised rows the multipliers of others that close them, too."""
        for _ in range(LEADERS):
            first: dict[int, int] = {}
            for slot in slots:
                first.setdefault(self._disjuncts[slot], slot)
            leaders = list(first.values())
            for slot, hint in zip(leaders, self._own(leaders), strict=True):
                self.hints[slot] = hint
                self._note(slot, hint)
            followers = [slot for slot in slots if self.hints[slot] is None]
            if not followers:
                break
            self._try(followers, 0)
            slots = [slot for slot in followers if self.hints[slot] is None]
            if not slots:
                break

    def _note(self, slot: int, hint: LeafHint) -> None:
        if self._stored is None or self._proven is None:
            return
        place, length = int(self._place[slot]), int(self._stated.lengths[slot])
        self._proven.add(self._disjuncts[slot], Row.of(self._stored, place, length, hint))

    def explain(self, wanted: Tensor) -> None:
        """Find the hints of rows ``wanted (S,)`` that have none yet."""
        slots = [slot for slot in wanted.nonzero()[:, 0].tolist() if self.hints[slot] is None]
        for slot, hint in zip(slots, self._own(slots), strict=True):
            self.hints[slot] = hint

    def _own(self, slots: Sequence[int]) -> list[LeafHint]:
        """Hints that say what a row was optimised to."""
        if self._stored is None or not slots:
            return []
        index = torch.tensor(slots, device=self.sure.device)
        problem, stated, place = self._problem.take(index), self._stated, self._place[index]
        if self._proven is not None:  # other boxes may have other stable neurons
            one = torch.ones_like(problem.lower)
            problem = replace(problem, lower=-one, upper=one)
        return leaf_hints(problem, self._stored.take(place), stated.take(index), range(len(slots)))
