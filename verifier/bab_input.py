"""Branch and bound on inputs: boxes are halved, every half is swept again.

A child starts from its parent's bounds, so only neurons that are still unstable are
bounded anew; the proof takes the same sweep at every node of the tree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from proofs.draft import Node
from verifier.bab_boxes import Evaluation, assess, choose, evaluate_boxes, halves
from verifier.bab_leaf import attempt
from verifier.bab_pays import Growth, Pays
from verifier.bab_pool import Pool
from verifier.bab_proven import Proven
from verifier.bab_root import Parts
from verifier.bab_tree import Kind, LeafHint, Open, Sweep
from verifier.bounds import Domains
from verifier.bounds_sweep import fresh, relaxed, sweep, until
from verifier.memory import ran_out
from verifier.needs import PROGRAMS, have

if TYPE_CHECKING:
    from verifier.bab_stars import Counts, Stars

SMALL_BATCH, PATIENCE = 1024, 6.0
"""Rounds of so few domains may take so many times longer: much of it is the same for more."""

DOUBLED = 8
"""How often the number of linear programs for a box is doubled at most."""

AGAIN, MOST_AGAIN = 0.8, 3
"""Share of a box's volume that may be left where it is swept again, and how often at most."""


class InputSearch:
    """Branch and bound on inputs for all given cases at once."""

    def __init__(self, parts: Parts) -> None:
        self._nets, self._table, self._tree = parts.nets, parts.table, parts.tree
        self._net = parts.nets.sure
        self._cases, self._numbers = parts.cases, parts.numbers
        self._settings, self._candidates = parts.settings, parts.candidates
        self._pool = Pool(parts.settings.pool_bytes, parts.settings.device_bytes)
        self._pays, self._proven = Pays(), Proven()
        self._growth, self._stars_pay = Growth(), Pays()
        self._stars = _stars(parts)
        self._closed_by_stars: set[int] = set()
        self._widened = False  # the margin of stars, since the last run
        self._stuck: list[int] = []
        self._batch, self._most = 16, parts.settings.batch
        self._waiting: list[int] | None = None
        self._old: list[tuple[int, Open]] = []
        self._deadline = float("inf")
        self._tick = until(self._deadline)
        self._star_seconds = 0.0  # of this round
        self.evaluated = 0

    @property
    def open(self) -> int:
        """Open domains, without those that cannot be split."""
        return len(self._pool) + len(self._old)

    @property
    def worst(self) -> float:
        """Least value of an open domain."""
        return self._pool.worst

    @property
    def stars(self) -> Counts | None:
        """What stars did; ``None``: they are not used."""
        return None if self._stars is None else self._stars.counts

    @property
    def may_use_stars(self) -> bool:
        """Whether boxes are closed with stars as long as that pays."""
        return self._stars is not None and self._settings.stars == "auto"

    @property
    def share_closed(self) -> float:
        """Of the cases' boxes, by volume and on average."""
        if not len(self._pool):
            return 0.0 if self._waiting is None else 1.0
        low, high, case = (self._pool.column(name) for name in ("low", "high", "case"))
        width = self._table.width[case]
        shares = torch.where(width > 0, (high - low) / width, 1.0).prod(-1)
        return max(0.0, 1.0 - float(shares.sum()) / len(self._cases))

    def run(self, deadline: float, round_over: Callable[[], bool]) -> str:
        """Search until everything is closed, a violation is confirmed or time is up."""
        self._deadline, self._tick, self._widened = deadline, until(deadline), False
        if not self._roots(deadline):
            return "violated" if self._candidates.found else "timeout"
        while self._old:
            if time.monotonic() >= deadline:
                return "timeout"
            if not self._mend():
                return "violated"
        while len(self._pool) and self._settings.split:
            if time.monotonic() >= deadline:
                return "timeout"
            if not self._round():
                return "violated"
            if round_over():
                return "violated"
        return "exhausted" if self._stuck or len(self._pool) else "closed"

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Lower and upper bounds of the neurons of all open domains; ``None``: there are none."""
        if not len(self._pool):
            return None
        return self._pool.column("lower"), self._pool.column("upper")

    def reopen(self, node: int, deadline: float) -> None:
        """Search below a leaf that was closed in vain; of a box closed with stars, all of it."""
        node = self._box_of(node)
        if not self._tree.attached(node):  # the box is open already
            return
        tick, net, tree = until(deadline), self._net, self._tree
        above = tree.parent[node]
        case = self._numbers.index(tree.case_of(node))
        if above >= 0 and tree.kind[above] == Kind.DISJUNCT and self._part(case, 0) < 0:
            node = above
        tree.open(node)
        low, high = self._boxes([case])
        found = sweep(net, fresh(net, low, high), tick)
        margin = float("inf")  # as if nothing were closed, so that all clips are taken

        def assessed() -> Evaluation:
            where = torch.tensor([case], device=net.device)
            return assess(net, self._table, found, where, margin)

        for above, side in tree.path(node):
            for done in tree.tightened.get(above, ()):
                if isinstance(done, Sweep):
                    found = sweep(net, found.domains, tick)
                elif not isinstance(done, Node):  # an old proof's steps only tighten
                    found = relaxed(net, assessed().domains)
            if tree.kind[above] == Kind.DISJUNCT:
                case = self._part(case, side)
                continue
            if tree.kind[above] != Kind.INPUT:
                continue
            entry = torch.tensor([tree.arg[above]], device=net.device)
            state = halves(found.domains, entry).take(slice(side, side + 1))
            found = sweep(net, state, tick)
        tree.tightened.pop(node, None)
        evaluation = assessed()
        if bool(evaluation.clipped[0]):
            tree.clip(node, None)
        where = torch.tensor([case], device=net.device)
        self._keep(evaluation, torch.ones(1, dtype=torch.bool), where, torch.tensor([node]))

    def _box_of(self, node: int) -> int:
        """The box above a leaf that stars closed, whose stars now need a wider margin."""
        closed = self._closed_by_stars
        above = next((n for n, _ in self._tree.path(node) if n in closed), node)
        if self._stars is not None and above in closed:
            closed.discard(above)
            if not self._widened:  # once for all that a check rejects
                self._stars.margin, self._widened = max(10.0 * self._stars.margin, 1e-9), True
        return above

    def take_up(self, number: int, root: Domains, leaves: Sequence[Open]) -> bool:
        """Go on with a case of an old proof, of whose leaves some are open.

        Args:
            number: of the case; its ``root`` does not matter here.
            leaves: are searched by the next ``run``.

        Returns:
            Whether that is possible: disjuncts have to be cases of their own.
        """
        found = []
        for leaf in leaves:
            case = self._numbers.index(number)
            for above, side in self._tree.path(leaf.node):
                if self._tree.kind[above] == Kind.DISJUNCT:
                    case = self._part(case, side)
            if case < 0:
                return False
            found.append((case, leaf))
        self._old += found
        return True

    def _mend(self) -> bool:
        """Look at open leaves of old proofs again; false on a confirmed violation."""
        part = self._old[-self._limit() :]
        states = [leaf.state for _, leaf in part]
        sides = ("low", "high", "lower", "upper")
        domains = Domains(*(torch.cat([getattr(s, side) for s in states]) for side in sides))
        case = torch.tensor([case for case, _ in part], device=self._net.device)
        swept = relaxed(self._net, domains)
        found = assess(self._net, self._table, swept, case, self._settings.margin)
        self.evaluated += len(part)
        going = self._settle(found, case, torch.tensor([leaf.node for _, leaf in part]))
        del self._old[-len(part) :]
        return going

    def _part(self, case: int, disjunct: int) -> int:
        """The case that consists of one of a case's disjuncts; -1: there is none."""
        return int(self._table.alone[self._table.disjunct_start[case] + disjunct])

    def _boxes(self, cases: Sequence[int]) -> tuple[Tensor, Tensor]:
        ends = [self._cases[case].box() for case in cases]
        sides = ([e[0].tolist() for e in ends], [e[1].tolist() for e in ends])
        low, high = (torch.tensor(s, device=self._net.device, dtype=self._net.dtype) for s in sides)
        return low, high

    def _roots(self, deadline: float) -> bool:
        """Evaluate the cases themselves, from where an earlier call was stopped.

        False when a violation was confirmed or time is up.
        """
        size, known = self._limit(), self._tree.roots
        if self._waiting is None:
            self._waiting = [k for k, number in enumerate(self._numbers) if number not in known]
            for place in self._waiting:
                self._tree.add_root(self._numbers[place])
        while self._waiting:
            if time.monotonic() >= deadline:
                return False
            part, rest = self._waiting[:size], self._waiting[size:]
            low, high = self._boxes(part)
            case = torch.tensor(part, device=self._net.device)
            state = fresh(self._net, low, high)
            evaluation = self._evaluate(state, case)
            node = torch.tensor([known[self._numbers[place]] for place in part])
            self._waiting = rest
            if not self._settle(evaluation, case, node):
                return False
        return True

    def _limit(self) -> int:
        per_domain = 16 * (self._net.neuron_count * 4 + self._net.width)
        return int(max(1, min(self._most, self._settings.work_bytes // per_domain)))

    def _evaluate(self, domains: Domains, case: Tensor) -> Evaluation:
        """Evaluate boxes, those that are clipped a good deal several times."""
        self.evaluated += len(case)
        margin = self._settings.margin
        found = evaluate_boxes(self._net, self._table, domains, case, margin, self._tick)
        for count in range(1, MOST_AGAIN + 1):
            left = (found.domains.high - found.domains.low) / (domains.high - domains.low)
            less = left.nan_to_num(1.0).prod(-1) < AGAIN
            index = (found.clipped & less & ~(found.value > margin)).nonzero()[:, 0]
            if not len(index):
                break
            self.evaluated += len(index)
            domains, own = found.domains, case[index]
            part = domains.take(index)
            better = evaluate_boxes(self._net, self._table, part, own, margin, self._tick)
            found = found.replaced(index, replace(better, again=torch.full_like(own, count)))
        return found

    def _round(self) -> bool:
        begun, self._star_seconds = time.monotonic(), 0.0
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
        self._pays.evaluated(2 * len(value), time.monotonic() - begun)
        first = [
            self._tree.split(node, Kind.INPUT, arg, swept=True)
            for node, arg in zip(taken["node"].tolist(), entry.tolist(), strict=True)
        ]
        node = torch.tensor([(n, n + 1) for n in first]).reshape(-1)
        before = len(self._pool)
        tries = taken["tries"].repeat_interleave(2)
        going = self._settle(evaluation, case.repeat_interleave(2), node, tries)
        self._growth.halved(len(value), len(self._pool) - before)
        self._stars_pay.evaluated(2 * len(value), time.monotonic() - begun - self._star_seconds)
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
        return order.gather(1, chosen[:, None])[:, 0], choose(tries, both)

    def _settle(
        self, evaluation: Evaluation, case: Tensor, node: Tensor, tries: Tensor | None = None
    ) -> bool:
        """Close what is closed and keep the rest; false on a confirmed violation.

        ``tries``: ``(B,)`` how often stars failed above.
        """
        tries = torch.zeros_like(case) if tries is None else tries
        again = evaluation.again.nonzero()[:, 0].tolist()
        for box, count in zip(again, evaluation.again[again].tolist(), strict=True):
            for _ in range(count):
                self._tree.clip(int(node[box]), None)
                self._tree.sweep(int(node[box]))
        for number in node[evaluation.clipped.cpu()].tolist():
            self._tree.clip(number, None)
        open_ = ~(evaluation.value > self._settings.margin)
        self._close(evaluation, ~open_, node)
        needed = self._table.region is not None  # nothing else uses the regions' constraints
        pays = needed or self._pays.worthwhile()
        if bool(open_.any()) and self._settings.leaf_steps and pays:
            begun, before = time.monotonic(), int(open_.sum())
            self._optimise(evaluation, open_, case, node)
            self._pays.tried(before - int(open_.sum()), time.monotonic() - begun)
        if self._stars is not None and bool(open_.any()):
            tries = self._starred(self._stars, evaluation, open_, case, node, tries)
            if self._candidates.found:
                return False
        if not bool(open_.any()):
            return True
        self._keep(evaluation, open_, case, node, tries)
        return not self._candidates.offer(evaluation.worst[open_], case[open_])

    def _optimise(self, evaluation: Evaluation, open_: Tensor, case: Tensor, node: Tensor) -> None:
        """Close what optimised slopes can; ``open_`` is changed in place."""
        index = open_.nonzero()[:, 0]
        try:
            domains = evaluation.domains.take(index)
            tried = attempt(
                self._nets,
                self._table,
                domains,
                case[index],
                self._settings,
                self._deadline,
                self._proven,
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
        closed = tried.closed.nonzero()[:, 0]
        tried.record(self._tree, closed.tolist(), node[index[closed].to(node.device)].tolist())
        open_[index] = ~tried.closed

    def _starred(
        self,
        stars: Stars,
        evaluation: Evaluation,
        open_: Tensor,
        case: Tensor,
        node: Tensor,
        tries: Tensor,
    ) -> Tensor:
        """Close what stars can; ``open_`` is changed in place, tries are counted."""
        always = self._settings.stars == "always"

        def go_on(closed: bool, seconds: float) -> bool:
            self._stars_pay.tried(int(closed), seconds, self._growth.below)
            self._star_seconds += seconds
            in_time = time.monotonic() < self._deadline
            return in_time and (always or self._stars_pay.worthwhile())

        if not always and not self._stars_pay.worthwhile():
            return tries
        index = open_.nonzero()[:, 0]
        programs = (self._settings.star_programs << tries[index].clamp(max=DOUBLED)).tolist()
        own = node[index.to(node.device)]
        boxes = evaluation.domains.take(index)
        done = stars.close(boxes, case[index], own, programs, self._deadline, go_on)
        open_[index] = done <= 0
        self._closed_by_stars.update(own[(done > 0).to(own.device)].tolist())
        return tries.index_add(0, index, (done < 0).long())

    def _close(self, evaluation: Evaluation, closed: Tensor, node: Tensor) -> None:
        numbers = node[closed.cpu()].tolist()
        for number, weights in zip(numbers, evaluation.weights[closed].tolist(), strict=True):
            used = weights if any(weights) else None
            self._tree.close(number, None if used is None else LeafHint({}, np.zeros(0), used))

    def _keep(
        self,
        evaluation: Evaluation,
        open_: Tensor,
        case: Tensor,
        node: Tensor,
        tries: Tensor | None = None,
    ) -> None:
        tries = torch.zeros_like(case) if tries is None else tries
        case, node = self._alone(evaluation.sole, open_, case, node)
        scores = evaluation.scores[open_]
        lookahead = 1 if self._table.longest > 1 else self._settings.lookahead
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
            tries=tries[open_][splittable],
        )

    def _alone(
        self, sole: Tensor, open_: Tensor, case: Tensor, node: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Go on with the only disjunct that is left, where there is one: cases and nodes."""
        case, node = case.clone(), node.clone()
        for box in (open_ & (sole >= 0)).nonzero()[:, 0].tolist():
            disjunct, own = int(sole[box]), int(case[box])
            if int(self._table.alone[disjunct]) < 0:
                continue
            start, stop = self._table.disjunct_start[own : own + 2].tolist()
            count = stop - start
            first = self._tree.split(int(node[box]), Kind.DISJUNCT, count, count)
            for child in range(first, first + count):
                if child != first + disjunct - start:
                    self._tree.close(child)
            case[box], node[box] = self._table.alone[disjunct], first + disjunct - start
        return case, node


def _stars(parts: Parts) -> Stars | None:
    """What closes boxes with stars; ``None`` where that is not wanted or not possible."""
    wanted = parts.settings.stars != "never" and parts.settings.split
    if not wanted or not parts.nets.sure.bends_at_zero or not have(PROGRAMS):
        return None
    from verifier.bab_stars import Stars

    return Stars(parts.nets, parts.table, parts.tree, parts.settings, parts.candidates)


def _merit(value: Tensor, margin: float) -> Tensor:
    """Merit of a split from its two children's values ``(2B,)``: ``(B,)``."""
    pair = value.clamp(max=margin).reshape(-1, 2)
    return pair.sum(1) + pair.min(1).values
