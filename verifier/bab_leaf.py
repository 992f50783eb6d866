"""Closing boxes with optimised slopes where the default ones fall short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verifier.alpha import Effort, Multipliers, Problem, bounded, initial, optimise
from verifier.bab_root import Nets, Stated, fast_problem, leaf_hints
from verifier.bab_settings import Settings
from verifier.bab_tree import Kind, Tree
from verifier.bounds import Domains
from verifier.bounds_spec import Table, whole_goal


@dataclass(frozen=True, eq=False)
class Attempt:
    """What optimised slopes made of ``B`` boxes, with a row for each of ``S`` slots.

    Attributes:
        closed: ``(B,)``.
        slots: the ``(S,)`` slots' rows, grouped by box: ``first`` and ``count`` ``(B,)``.
        stated: how the slots' forms stand in the property.
    """

    closed: Tensor
    problem: Problem
    stored: Multipliers
    first: Tensor
    count: Tensor
    stated: Stated

    def record(self, tree: Tree, boxes: Sequence[int], nodes: Sequence[int]) -> None:
        """Close the nodes of some boxes, each disjunct with hints of its own."""
        first, count = self.first[list(boxes)].tolist(), self.count[list(boxes)].tolist()
        slots = [f + k for f, n in zip(first, count, strict=True) for k in range(n)]
        if not slots:
            return
        hints = iter(leaf_hints(self.problem, self.stored, self.stated, slots))
        for node, n in zip(nodes, count, strict=True):
            child = node if n == 1 else tree.split(node, Kind.DISJUNCT, n, n)
            for k in range(n):
                tree.close(child + k, next(hints))


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
) -> Attempt | None:
    """Optimise the slopes of every disjunct of every box, ``case (B,)``.

    ``None`` where some disjunct is empty, so that nothing can refute it.  After the deadline
    no further step is taken.
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
    quick = fast_problem(nets, problem)
    effort = Effort(settings.leaf_steps, enough=settings.fast_margin, deadline=deadline)
    bound, best = optimise(quick, leading(quick), effort)
    stored = best.rounded()
    sure = torch.full_like(problem.forms.constant[:, 0], -float("inf"))
    likely = (bound > 0).nonzero()[:, 0]
    if len(likely):
        sure[likely] = bounded(problem.take(likely), stored.take(likely)).bound
    count = torch.bincount(own, minlength=len(case))
    closed = goal.by_domain(sure) > settings.margin
    stated = Stated.of(table, case[own], lengths, exponents)
    return Attempt(closed, problem, stored, torch.cumsum(count, 0) - count, count, stated)
