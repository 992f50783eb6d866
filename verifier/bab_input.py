"""Branch and bound on inputs: boxes are halved, every half is swept again.

A child starts from its parent's bounds, so only neurons that are still unstable are
bounded anew; the proof takes the same sweep at every node of the tree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from verifier.bab_leaf import attempt
from verifier.bab_pool import Pool
from verifier.bab_root import Parts
from verifier.bab_tree import Kind, LeafHint
from verifier.bounds import (
    Domains,
    TorchNetwork,
    concretize,
    gather,
    substitute,
    worst_points,
)
from verifier.bounds_spec import Table, whole_goal
from verifier.bounds_sweep import fresh, sweep, until
from verifier.branching import input_scores
from verifier.clip import clip_around
from verifier.combine import by_column, combine
from verifier.memory import ran_out

SMALL_BATCH, PATIENCE = 128, 10.0
"""Rounds of so few domains may take so many times longer: much of it is the same for more."""

WORTHWHILE = 0.95
"""Share of a box's widths that may be left where it is clipped."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is known of a batch of ``B`` boxes.

    Attributes:
        domains: with bounds swept.
        value: ``(B,)``, positive where closed; see ``bounds_spec``.
        scores: ``(B, I)`` of splitting each input; zero where that is impossible.
        worst: ``(B, I)`` where the deciding row's linear bound is least.
        clipped: ``(B,)`` whether the box was clipped by the rows.
        weights: ``(B, m)`` of the constraints as the kernel takes them, where a combination
            decides, zero where a single one does; ``None`` without conjunctions.
    """

    domains: Domains
    value: Tensor
    scores: Tensor
    worst: Tensor
    clipped: Tensor
    weights: Tensor | None = None


def evaluate_boxes(
    net: TorchNetwork,
    table: Table,
    domains: Domains,
    case: Tensor,
    margin: float,
    tick: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Sweep boxes and bound all rows of their cases, ``case (B,)``."""
    swept = sweep(net, domains, tick)
    goal = whole_goal(table, case)
    rows = table.select(net, goal.number)
    matrix, constant = substitute(net, rows, lambda n: gather(swept.lines[n], goal.owner))
    bound = concretize(matrix, constant, domains.low[goal.owner], domains.high[goal.owner])
    per_slot = goal.by_slot(bound)
    value = goal.by_domain(per_slot)
    value = torch.where(swept.contradictory(margin), float("inf"), value)
    low, high, empty = clip_around(matrix, constant, goal, domains.low, domains.high)
    gone = empty & ~(value > margin)
    width = high - low
    shrunk = width.sum(-1) < WORTHWHILE * (domains.high - domains.low).sum(-1)
    clipped = gone | (shrunk & ~empty & ~(value > margin))
    low, high = (
        torch.where((clipped & ~empty)[:, None], a, b)
        for a, b in ((low, domains.low), (high, domains.high))
    )
    value, width = torch.where(gone, float("inf"), value), high - low
    scores = input_scores(matrix, goal, bound, per_slot, width, margin)
    splittable = width > 1e-9 * domains.low.abs().clamp(min=1.0)
    critical = goal.critical(bound, per_slot)
    worst = worst_points(matrix[critical], domains.low, domains.high) if len(bound) else domains.low
    weights = None
    if table.conjunctive and len(bound):
        mixed = combine(matrix, constant, goal, domains.low, domains.high)
        better = (mixed.value > value) & ~(value > margin)
        weights = torch.where(better[:, None], mixed.weights, 0.0)
        weights = torch.ldexp(weights, -by_column(table.exponent[goal.number], goal))
        value = torch.where(better, mixed.value, value)
        lowest = worst_points(mixed.matrix, domains.low, domains.high)
        worst = torch.where(better[:, None], lowest, worst)
    scores = torch.where(splittable, scores + 1e-12 * width, 0.0)
    found = replace(swept.domains, low=low, high=high)
    return Evaluation(found, value, scores, worst, clipped, weights)


class InputSearch:
    """Branch and bound on inputs for all given cases at once."""

    def __init__(self, parts: Parts) -> None:
        self._nets, self._table, self._tree = parts.nets, parts.table, parts.tree
        self._net = parts.nets.sure
        self._cases, self._numbers = parts.cases, parts.numbers
        self._settings, self._candidates = parts.settings, parts.candidates
        self._pool = Pool(parts.settings.pool_bytes, parts.settings.device_bytes)
        self._stuck: list[int] = []
        self._batch, self._most = 16, parts.settings.batch
        self._begun = False
        self._deadline = float("inf")
        self._tick = until(self._deadline)
        self.evaluated = 0

    @property
    def open(self) -> int:
        """Open domains, without those that cannot be split."""
        return len(self._pool)

    @property
    def worst(self) -> float:
        """Least value of an open domain."""
        return self._pool.worst

    def run(self, deadline: float, round_over: Callable[[], bool]) -> str:
        """Search until everything is closed, a violation is confirmed or time is up."""
        self._deadline, self._tick = deadline, until(deadline)
        if not self._begun:
            self._begun = True
            if not self._roots(deadline):
                return "violated" if self._candidates.found else "timeout"
        while len(self._pool) and self._settings.split:
            if time.monotonic() >= deadline:
                return "timeout"
            if not self._round():
                return "violated"
            if round_over():
                return "violated"
        return "exhausted" if self._stuck or len(self._pool) else "closed"

    def reopen(self, node: int, deadline: float) -> None:
        """Search below a leaf that was closed in vain."""
        tick = until(deadline)
        above = self._tree.parent[node]
        if above >= 0 and self._tree.kind[above] == Kind.DISJUNCT:
            node = above
        self._tree.open(node)
        case = self._numbers.index(self._tree.case_of(node))
        low, high = self._boxes([case])
        state = sweep(self._net, fresh(self._net, low, high), tick).domains
        where = torch.tensor([case], device=self._net.device)
        margin = float("inf")  # as if nothing were closed, so that all clips are taken
        for above, side in self._tree.path(node):
            if above in self._tree.tightened:
                state = evaluate_boxes(self._net, self._table, state, where, margin, tick).domains
            entry = self._tree.arg[above]
            dims = torch.tensor([entry], device=self._net.device)
            state = halves(state, dims).take(slice(side, side + 1))
            state = sweep(self._net, state, tick).domains
        self._tree.tightened.pop(node, None)
        evaluation = evaluate_boxes(self._net, self._table, state, where, margin, tick)
        if bool(evaluation.clipped[0]):
            self._tree.clip(node, None)
        self._keep(evaluation, torch.ones(1, dtype=torch.bool), where, torch.tensor([node]))

    def _boxes(self, cases: Sequence[int]) -> tuple[Tensor, Tensor]:
        ends = [self._cases[case].box() for case in cases]
        sides = ([e[0].tolist() for e in ends], [e[1].tolist() for e in ends])
        low, high = (torch.tensor(s, device=self._net.device, dtype=self._net.dtype) for s in sides)
        return low, high

    def _roots(self, deadline: float) -> bool:
        """Evaluate the cases themselves; false when a violation was confirmed or time is up."""
        size = self._limit()
        nodes = [self._tree.add_root(number) for number in self._numbers]
        for start in range(0, len(nodes), size):
            if time.monotonic() >= deadline:
                return False
            part = range(start, min(start + size, len(nodes)))
            low, high = self._boxes(part)
            case = torch.tensor(list(part), device=self._net.device)
            state = fresh(self._net, low, high)
            evaluation = self._evaluate(state, case)
            node = torch.tensor(nodes[part.start : part.stop])
            if not self._settle(evaluation, case, node):
                return False
        return True

    def _limit(self) -> int:
        per_domain = 16 * (self._net.neuron_count * 4 + self._net.width)
        return int(max(1, min(self._most, self._settings.work_bytes // per_domain)))

    def _evaluate(self, domains: Domains, case: Tensor) -> Evaluation:
        self.evaluated += len(case)
        margin = self._settings.margin
        return evaluate_boxes(self._net, self._table, domains, case, margin, self._tick)

    def _round(self) -> bool:
        begun = time.monotonic()
        value, taken = self._pool.take(self._batch)
        parents = Domains(taken["low"], taken["high"], taken["lower"], taken["upper"])
        case, order = taken["case"], taken["order"]
        try:
            entry, evaluation = self._expand(parents, case, order)
        except Exception as error:  # nothing is lost: memory may do for less, time may be given
            self._pool.add(value, **taken)
            if not ran_out(error) or len(value) == 1:
                raise
            self._most = self._batch = len(value) // 2
            return True
        first = [
            self._tree.split(node, Kind.INPUT, arg, swept=True)
            for node, arg in zip(taken["node"].tolist(), entry.tolist(), strict=True)
        ]
        node = torch.tensor([(n, n + 1) for n in first]).reshape(-1)
        going = self._settle(evaluation, case.repeat_interleave(2), node)
        spent = time.monotonic() - begun
        patience = PATIENCE if self._batch <= SMALL_BATCH else 1.0
        factor = self._settings.round_seconds * patience / max(spent, 1e-3)
        self._batch = int(min(self._limit(), max(8.0, self._batch * min(2.0, max(0.5, factor)))))
        return going

    def _expand(self, parents: Domains, case: Tensor, order: Tensor) -> tuple[Tensor, Evaluation]:
        """Choose an input to split in every domain, and evaluate both halves."""
        tries = []
        for rank in range(order.shape[1]):
            tries.append(self._evaluate(halves(parents, order[:, rank]), case.repeat_interleave(2)))
        if len(tries) == 1:
            return order[:, 0], tries[0]
        gains = torch.stack([_merit(t.value, self._settings.margin) for t in tries])
        chosen = gains.argmax(0)
        both = chosen.repeat_interleave(2)
        return order.gather(1, chosen[:, None])[:, 0], _choose(tries, both)

    def _settle(self, evaluation: Evaluation, case: Tensor, node: Tensor) -> bool:
        """Close what is closed and keep the rest; false on a confirmed violation."""
        for number in node[evaluation.clipped.cpu()].tolist():
            self._tree.clip(number, None)
        open_ = ~(evaluation.value > self._settings.margin)
        self._close(evaluation, ~open_, node)
        if bool(open_.any()) and self._settings.leaf_steps:
            self._optimise(evaluation, open_, case, node)
        if not bool(open_.any()):
            return True
        self._keep(evaluation, open_, case, node)
        return not self._candidates.offer(evaluation.worst[open_], case[open_])

    def _optimise(self, evaluation: Evaluation, open_: Tensor, case: Tensor, node: Tensor) -> None:
        """Close what optimised slopes can; ``open_`` is changed in place."""
        index = open_.nonzero()[:, 0]
        try:
            domains = evaluation.domains.take(index)
            tried = attempt(
                self._nets, self._table, domains, case[index], self._settings, self._deadline
            )
        except Exception as error:
            if not ran_out(error) or len(index) == 1:
                raise
            for part in index.tensor_split(2):
                half = torch.zeros_like(open_)
                half[part] = True
                self._optimise(evaluation, half, case, node)
                open_[part] = half[part]
            return
        if tried is None:
            return
        for box in tried.closed.nonzero()[:, 0].tolist():
            tried.record(self._tree, box, int(node[int(index[box])]))
        open_[index] = ~tried.closed

    def _close(self, evaluation: Evaluation, closed: Tensor, node: Tensor) -> None:
        numbers = node[closed.cpu()].tolist()
        weights = [] if evaluation.weights is None else evaluation.weights[closed].tolist()
        for place, number in enumerate(numbers):
            used = weights[place] if weights and any(weights[place]) else None
            self._tree.close(number, None if used is None else LeafHint({}, np.zeros(0), used))

    def _keep(self, evaluation: Evaluation, open_: Tensor, case: Tensor, node: Tensor) -> None:
        scores = evaluation.scores[open_]
        lookahead = 1 if self._table.conjunctive else self._settings.lookahead
        count = min(lookahead, scores.shape[1])
        best = scores.topk(count, dim=1)
        splittable = best.values[:, 0] > 0
        if not bool(splittable.all()):
            self._stuck += node[open_.cpu()][~splittable.cpu()].tolist()
        worthwhile = best.values > 0.25 * best.values[:, :1]  # others waste depth
        order = torch.where(worthwhile, best.indices, best.indices[:, :1])[splittable]
        state = evaluation.domains.take(open_)
        self._pool.add(
            evaluation.value[open_][splittable],
            low=state.low[splittable],
            high=state.high[splittable],
            lower=state.lower[splittable],
            upper=state.upper[splittable],
            case=case[open_][splittable],
            order=order,
            node=node[open_.cpu()][splittable.cpu()],
        )


def halves(parents: Domains, entry: Tensor) -> Domains:
    """Both halves of every box along input ``entry (B,)``: lower, upper, lower, ..."""
    both = torch.arange(len(parents), device=entry.device).repeat_interleave(2)
    low, high = parents.low[both], parents.high[both]
    at = torch.arange(0, len(low), 2, device=entry.device)
    middle = (low[at, entry] + high[at, entry]) * 0.5
    high[at, entry] = middle
    low[at + 1, entry] = middle
    return Domains(low, high, parents.lower[both], parents.upper[both])


def _merit(value: Tensor, margin: float) -> Tensor:
    """Merit of a split from its two children's values ``(2B,)``: ``(B,)``."""
    pair = value.clamp(max=margin).reshape(-1, 2)
    return pair.sum(1) + pair.min(1).values


def _choose(tries: Sequence[Evaluation], chosen: Tensor) -> Evaluation:
    at = torch.arange(len(chosen), device=chosen.device)

    def pick(name: str) -> Tensor:
        return torch.stack([getattr(t, name) for t in tries])[chosen, at]

    def pick_domains(name: str) -> Tensor:
        return torch.stack([getattr(t.domains, name) for t in tries])[chosen, at]

    domains = Domains(*(pick_domains(name) for name in ("low", "high", "lower", "upper")))
    weights = pick("weights") if tries[0].weights is not None else None
    parts = (pick(name) for name in ("value", "scores", "worst", "clipped"))
    return Evaluation(domains, *parts, weights)
