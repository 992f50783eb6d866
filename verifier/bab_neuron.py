"""Branch and bound on neurons, case by case, with optimised slopes and split multipliers.

The bounds of a case's root stay as they are below it; a split cuts its neuron's bounds at
0 and lends its multiplier (Wang et al., *Beta-CROWN*, 2021).  A leaf is one row per
disjunct, so many of them fit into a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from verifier.alpha import Effort, Multipliers, bounded, initial, optimise
from verifier.bab_feed import Feeder, Optimised
from verifier.bab_leaves import Leaves, Root, adopt, adopt_old, cut, joined, moved
from verifier.bab_pool import Pool
from verifier.bab_refine import refine
from verifier.bab_root import Parts, fast_problem
from verifier.bab_tree import Kind, Open
from verifier.bounds import Domains, Rows
from verifier.bounds_focus import focused
from verifier.bounds_spec import whole_goal
from verifier.bounds_sweep import Swept, fresh, sweep, until
from verifier.branching import neuron_scores, violations
from verifier.clip import FirstLayers, clip, first_layers
from verifier.feedback import late_tensor
from verifier.memory import ran_out

MULTIPLIERS = ("alpha", "beta", "weights", "region")


MOST_SPLITS = 6
"""Neurons that are split at once at most."""

ROOT_DECAY = 0.98
"""Factor per gradient step where many of them are taken."""


class NeuronSearch:
    """Branch and bound on neurons for the given cases, one after the other."""

    def __init__(self, parts: Parts) -> None:
        self._nets, self._table, self._tree = parts.nets, parts.table, parts.tree
        self._cases, self._numbers = parts.cases, parts.numbers
        self._settings, self._candidates = parts.settings, parts.candidates
        self._waiting = list(range(len(parts.numbers)))[::-1]
        self._roots: dict[int, Root] = {}
        self._pools: dict[int, Pool] = {}
        self._stuck: list[int] = []
        self._old: list[tuple[int, Open]] = []
        self._batch, self._most = parts.settings.neuron_batch, parts.settings.neuron_limit
        self._first: FirstLayers | None = None
        self._deadline = float("inf")
        self.evaluated = 0
        self._feeder = Feeder(parts.tree, parts.settings)

    @property
    def open(self) -> int:
        """Open domains of the cases begun."""
        pooled = sum(len(pool) for pool in self._pools.values())
        return pooled + len(self._waiting) + len(self._old)

    @property
    def worst(self) -> float:
        """Least bound of an open domain of the cases begun."""
        return min((pool.worst for pool in self._pools.values()), default=float("inf"))

    def run(self, deadline: float, round_over: Callable[[], bool]) -> str:
        """Search until everything is closed, a violation is confirmed or time is up."""
        self._deadline = deadline
        for number in self._numbers:
            if number not in self._tree.roots:
                self._tree.add_root(number)
        while True:
            splittable = self._pools.items() if self._settings.split else ()
            active = next((c for c, pool in splittable if len(pool)), None)
            if time.monotonic() >= deadline:
                return "timeout"
            if self._old:
                self._mend(deadline)
            elif active is not None:
                if not self._round(self._roots[active], self._pools[active], deadline):
                    return "violated"
            elif self._waiting:
                if not self._begin(self._waiting.pop(), deadline):
                    return "violated"
            else:
                return "exhausted" if self._stuck or self.open else "closed"
            if round_over():
                return "violated"

    def take_up(self, number: int, root: Domains, leaves: Sequence[Open]) -> bool:
        """Go on with a case of an old proof, of whose leaves some are open.

        Args:
            number: of the case.
            root: bounds of all neurons at its root.
            leaves: are searched by the next ``run``.
        """
        case = self._numbers.index(number)
        self._waiting.remove(case)
        self._roots[case] = self._root(case, root)
        self._pools[case] = self._pool()
        self._old += [(case, leaf) for leaf in leaves]
        return True

    def _mend(self, deadline: float) -> None:
        """Optimise open leaves of old proofs from their old hints, then treat them as any."""
        case = self._old[-1][0]
        root, size = self._roots[case], self._limit(self._roots[case])
        part = [leaf for owner, leaf in self._old[-size:] if owner == case]
        known = [leaves for leaf in part for leaves in self._again(root, leaf)]
        tried = self._attempt(root, reduce(joined, known), self._settings.root_steps, deadline)
        self._settle(root, self._pools[case], tried.leaves, tried.closed, deadline)
        del self._old[-len(part) :]

    def _again(self, root: Root, leaf: Open) -> Iterator[Leaves]:
        """An open leaf of an old proof, by disjunct."""
        tree, nodes = self._tree, [leaf.node]
        path = tree.path(leaf.node)
        parted = any(tree.kind[above] == Kind.DISJUNCT for above, _ in path)
        count = len(root.lengths)
        if not parted and count > 1:
            first = tree.split(leaf.node, Kind.DISJUNCT, count, count)
            nodes = list(range(first, first + count))
        splits = [above for above, _ in path if tree.kind[above] != Kind.DISJUNCT]
        chosen = [tree.arg[n] if tree.kind[n] == Kind.NEURON else -1 for n in splits]
        for node in nodes:
            leaves = root.below(tree, node)
            if root.own:
                leaves = replace(leaves, state=root.nets.domains(leaf.state))
            leaves = replace(leaves, multipliers=initial(root.problem(leaves)))
            if leaf.hints is not None:
                adopt_old(root, leaves, [root.place(neuron) for neuron in chosen], leaf.hints)
            yield leaves

    def reopen(self, node: int, deadline: float) -> None:
        """Search below a leaf that was closed in vain."""
        self._deadline = deadline
        hint = self._tree.hints.get(node)
        self._tree.open(node)
        number = self._tree.case_of(node)
        case = self._numbers.index(number)
        if case not in self._roots and number not in self._tree.old_cases:
            self._waiting.append(case)
            return
        if case not in self._roots:
            self._roots[case] = self._root(case, self._swept(case, deadline).domains)
        root = self._roots[case]
        leaves = root.below(self._tree, node)
        start = initial(root.problem(leaves))
        if hint is not None:
            adopt(root.nets.fast, start, hint)
        leaves = replace(leaves, multipliers=start)
        self._keep(root, self._pools.setdefault(case, self._pool()), leaves)

    def _begin(self, case: int, deadline: float) -> bool:
        """Bound a case's root; false on a confirmed violation."""
        net, number = self._nets.sure, self._numbers[case]
        swept = self._swept(case, deadline)
        self.evaluated += 1
        node = self._tree.roots[number]
        root = self._root(case, swept.domains)
        count = len(root.lengths)
        disjuncts = torch.arange(count, device=net.device)
        if bool(swept.contradictory(self._settings.margin)[0]) or not count:
            self._tree.close(node)
            return True
        if min(root.lengths) == 0:
            self._stuck.append(node)
            return True
        whole = root.unsplit()
        tried = self._attempt(root, whole, 0, deadline)
        if bool(tried.closed.all()) and all(length == 1 for length in root.lengths):
            self._tree.close(node)  # the empty proof does it
            return True
        if self._candidates.offer(tried.points.to(net.dtype), torch.full_like(disjuncts, case)):
            return False
        tried = self._attempt(root, tried.leaves, self._settings.root_steps, deadline)
        if not bool(tried.closed.all()):
            share = time.monotonic() + self._settings.root_share * (deadline - time.monotonic())
            state, steps = refine(self._nets, swept.domains, self._settings.refine_steps, share)
            if steps:
                self._tree.preludes[number] = steps
                before, root = root, self._root(case, state)
                whole = moved(tried.leaves, before, root)
                tried = self._attempt(root, whole, self._settings.root_steps, deadline)
                points = tried.points.to(net.dtype)
                if self._candidates.offer(points, torch.full_like(disjuncts, case)):
                    return False
        first = self._tree.split(node, Kind.DISJUNCT, count, count) if count > 1 else node
        whole = replace(tried.leaves, node=first + torch.arange(count))
        self._roots[case] = root
        self._pools[case] = self._pool()
        self._settle(root, self._pools[case], whole, tried.closed, deadline)
        return True

    def _swept(self, case: int, deadline: float) -> Swept:
        net = self._nets.sure
        low, high = (
            torch.tensor(np.array(side), device=net.device, dtype=net.dtype)[None]
            for side in self._cases[case].box()
        )
        return sweep(net, fresh(net, low, high), until(deadline))

    def _root(self, case: int, whole: Domains) -> Root:
        """A case's root from the bounds of all neurons."""
        nets = focused(self._nets.sure, self._nets.fast, whole)
        number, state = self._numbers[case], nets.domains(whole)
        goal = whole_goal(self._table, torch.tensor([case], device=whole.low.device))
        lengths = torch.bincount(goal.slot, minlength=len(goal.slot_owner)).tolist()
        if not lengths or min(lengths) == 0:
            nothing = Rows({}, state.low[:0])
            return Root(case, number, nets, state, nothing, goal.slot[:0], lengths, self._table)
        forms, _, exponents = self._table.forms(nets.sure, goal.slot_disjunct)
        first = self._clipped()
        if first is not None:
            first = first.focused(nets.columns)
        feeds = self._settings.feeds + self._settings.root_feeds
        late = late_tensor(nets.fast) if feeds else None
        return Root(case, number, nets, state, forms, exponents, lengths, self._table, first, late)

    def _clipped(self) -> FirstLayers | None:
        """What clipping can tighten; boxes alone are not worth a second look at a leaf."""
        small = self._nets.sure.neuron_count <= self._settings.clip_neurons
        if self._first is None and small and self._settings.clips:
            self._first = first_layers(self._nets.sure)
        return self._first if self._first is not None and self._first.parts else None

    def _attempt(self, root: Root, leaves: Leaves, steps: int, deadline: float) -> Optimised:
        """Optimise a batch."""
        self.evaluated += len(leaves.node)
        problem = root.problem(leaves)
        quick = fast_problem(root.nets, problem)
        start = leaves.multipliers.map(lambda part: part.to(quick.low.dtype))
        settings = self._settings
        many = (settings.root_steps, settings.last_steps)
        decay = ROOT_DECAY if steps in many else Effort.decay
        effort = Effort(steps, decay=decay, enough=settings.fast_margin, deadline=deadline)
        if steps:
            bound, best = optimise(quick, start, effort)
        else:
            bound, best = bounded(quick, start).bound, start
        closed = problem.contradictory(settings.margin).expand(len(bound)).clone()
        likely = (bound > 0).nonzero()[:, 0]
        if len(likely):
            sure = bounded(problem.take(likely), best.take(likely).rounded()).bound
            closed[likely] |= sure > settings.margin
        points = quick.low[:0]
        if not steps or len(leaves.node) <= 16:
            found = bounded(quick, best, gradient=True)
            points = found.points if found.points is not None else points
        return Optimised(replace(leaves, multipliers=best), closed, bound, points)

    def _round(self, root: Root, pool: Pool, deadline: float) -> bool:
        begun = time.monotonic()
        value, taken = pool.take(self._batch)
        try:
            neurons = taken["neuron"][:, : self._splits(taken["neuron"])]
            tried = self._parts(root, taken, neurons, deadline)
        except Exception as error:  # nothing is lost: memory may do for less
            pool.add(value, **taken)
            if not ran_out(error) or len(value) == 1:
                raise
            self._most = self._batch = len(value) // 2
            return True
        nodes = self._split(root, taken["node"], neurons, taken.get("at"))
        leaves = replace(tried.leaves, node=torch.tensor(nodes))
        if len(tried.points):
            case = torch.full((len(tried.points),), root.case, device=tried.points.device)
            if self._candidates.offer(tried.points.to(self._nets.sure.dtype), case):
                return False
        if neurons.shape[1] == 1:
            parents = value.repeat_interleave(2).to(tried.bound)
            self._feeder.worth.split(parents, tried.bound, time.monotonic() - begun)
        self._settle(root, pool, leaves, tried.closed, deadline)
        spent = time.monotonic() - begun
        factor = min(2.0, max(0.5, self._settings.neuron_seconds / max(spent, 1e-3)))
        self._batch = int(min(self._limit(root), max(4, self._batch * factor)))
        return True

    def _parts(
        self, root: Root, taken: dict[str, Tensor], neurons: Tensor, deadline: float
    ) -> Optimised:
        """Split domains at neurons ``(B, k)``, lower sides first, and optimise all parts."""
        count, levels = 1 << neurons.shape[1], neurons.shape[1]
        signs = taken["signs"].to(root.nets.fast.dtype).repeat_interleave(count, 0)
        points = taken["points"].repeat_interleave(count, 0) if "points" in taken else None
        at = torch.arange(len(signs), device=signs.device)
        for level in range(levels):
            upper = (at >> (levels - 1 - level)) % 2
            side = 1.0 - 2.0 * upper.to(signs.dtype)
            chosen = neurons[:, level].repeat_interleave(count)
            signs[at, chosen] = side
            if points is not None:
                points[at, chosen] = taken["at"][:, level].repeat_interleave(count)
        held = {name: taken[name] for name in MULTIPLIERS if name in taken}
        leaves = Leaves(
            self._taken(root, taken, count),
            taken["disjunct"].repeat_interleave(count),
            signs,
            Multipliers(**held).map(lambda part: part.repeat_interleave(count, 0)),
            torch.zeros(len(signs)),
            points,
        )
        return self._attempt(root, leaves, self._settings.steps, deadline)

    def _splits(self, neurons: Tensor) -> int:
        """How many neurons ``(B, k)`` to split at once: more where the batch is small."""
        room = self._settings.neuron_fill // len(neurons)
        known = int((neurons >= 0).sum(1).min())  # the best one is always there
        return max(1, min(known, room.bit_length() - 1))

    def _split(
        self, root: Root, parents: Tensor, neurons: Tensor, points: Tensor | None
    ) -> list[int]:
        """Split nodes at neurons ``(B, k)`` in turn; the ``B * 2**k`` nodes that come of it."""
        nodes = parents.tolist()
        split_at = None if points is None else points.T.tolist()
        for level, column in enumerate(root.nets.columns[neurons].T.tolist()):
            values = [0.0] * len(column) if split_at is None else split_at[level]
            firsts = [
                self._tree.split(
                    node, Kind.NEURON, column[place >> level], point=values[place >> level]
                )
                for place, node in enumerate(nodes)
            ]
            nodes = [node for first in firsts for node in (first, first + 1)]
        return nodes

    def _settle(
        self, root: Root, pool: Pool, leaves: Leaves, closed: Tensor, deadline: float
    ) -> None:
        """Record what is closed; clip the others and try again, then queue them.

        Where memory is short, one half after the other.
        """
        try:
            self._settle_at_once(root, pool, leaves, closed, deadline)
        except Exception as error:
            if not ran_out(error) or len(closed) == 1:
                raise
            self._most = self._batch = max(1, len(closed) // 4)
            for part in torch.arange(len(closed), device=closed.device).tensor_split(2):
                self._settle(root, pool, leaves.take(part), closed[part], deadline)

    def _settle_at_once(
        self, root: Root, pool: Pool, leaves: Leaves, closed: Tensor, deadline: float
    ) -> None:
        self._close(root, leaves.take(closed.nonzero()[:, 0]))
        leaves = leaves.take((~closed).nonzero()[:, 0])
        for _ in range(self._settings.clips if root.first is not None else 0):
            if not len(leaves.node):
                return
            leaves = self._clip(root, leaves)
            tried = self._attempt(root, leaves, self._settings.clip_steps, deadline)
            self._close(root, tried.leaves.take(tried.closed.nonzero()[:, 0]))
            leaves = tried.leaves.take((~tried.closed).nonzero()[:, 0])

        def attempt(tried: Leaves) -> Optimised:
            return self._attempt(root, tried, self._settings.feed_steps, deadline)

        whole = not bool(leaves.signs.any())
        feeds = self._settings.root_feeds if whole else self._settings.feeds
        for _ in range(feeds if root.late is not None else 0):
            leaves, again = self._feeder.feed(root, leaves, attempt, self._close)
            if not len(again.node):
                break
            if len(leaves.node):
                self._keep(root, pool, leaves)
            leaves = again
        if len(leaves.node):
            self._keep(root, pool, leaves)

    def _clip(self, root: Root, leaves: Leaves) -> Leaves:
        """Clip the regions of leaves by their rows; those left empty are closed."""
        if root.first is None:
            return leaves
        problem, stored = root.problem(leaves), leaves.multipliers.rounded()
        row = bounded(problem, stored)
        count = len(leaves.node)
        before = Domains(
            problem.low.expand(count, -1),
            problem.high.expand(count, -1),
            problem.lower,
            problem.upper,
        )
        state = clip(root.first, row.matrix, row.constant, before)
        margin = self._settings.margin
        empty = (state.lower > state.upper + margin).any(-1)
        empty |= (state.low > state.high + margin).any(-1)
        hints = root.hints(problem, stored, leaves, self._tree)
        for node, hint, gone in zip(leaves.node.tolist(), hints, empty.tolist(), strict=True):
            self._tree.clip(int(node), hint)
            if gone:
                self._tree.close(int(node))
        low, high = torch.minimum(state.low, state.high), torch.maximum(state.low, state.high)
        own = Domains(low, high, state.lower, state.upper)
        return replace(leaves, state=own).take((~empty).nonzero()[:, 0])

    def _taken(self, root: Root, taken: dict[str, Tensor], count: int) -> Domains:
        """The bounds of ``count`` children of each domain taken from a pool."""
        if "lower" not in taken:
            return root.state
        names = ("low", "high", "lower", "upper")
        return Domains(*(taken[name].repeat_interleave(count, 0) for name in names))

    def _pool(self) -> Pool:
        return Pool(self._settings.pool_bytes, self._settings.device_bytes)

    def _limit(self, root: Root) -> int:
        net = root.nets.fast
        per_domain = 4 * 20 * (net.neuron_count + net.width)
        return int(
            max(
                1,
                min(
                    self._most, self._settings.neuron_limit, self._settings.work_bytes // per_domain
                ),
            )
        )

    def _close(self, root: Root, leaves: Leaves) -> None:
        """Record closed leaves with their hints."""
        problem = root.problem(leaves)
        stored = leaves.multipliers.rounded()
        hints = root.hints(problem, stored, leaves, self._tree)
        for node, hint in zip(leaves.node.tolist(), hints, strict=True):
            self._tree.close(int(node), hint)

    def _keep(self, root: Root, pool: Pool, leaves: Leaves) -> None:
        """Choose a neuron to split in each open leaf, and queue it."""
        problem = root.problem(leaves)
        quick = fast_problem(root.nets, problem)
        own = leaves.multipliers.map(lambda part: part.to(quick.low.dtype))
        found = bounded(quick, own, gradient=True)
        given, height = neuron_scores(root.nets.fast, found, quick.lower, quick.upper)
        points = root.split_points(problem)
        # Where feedback left nothing unstable, what it assumed becomes a split, and a fact.
        assumed = violations(found, quick.lower, quick.upper) * (leaves.signs == 0)
        none = height.amax(1, keepdim=True) <= 0 if height.shape[1] else height > 0
        neuron, possible = self._choose(root, leaves, own, given, height + assumed * none, points)
        if not bool(possible.all()):  # a linear program: its dual only needs more steps
            late = leaves.take((~possible).nonzero()[:, 0])  # from afresh: large ones are far off
            late = replace(late, multipliers=initial(root.problem(late)))
            tried = self._attempt(root, late, self._settings.last_steps, self._deadline)
            self._close(root, tried.leaves.take(tried.closed.nonzero()[:, 0]))
            self._stuck += late.node[~tried.closed.cpu()].tolist()
        kept = possible.nonzero()[:, 0]
        columns = {
            "disjunct": leaves.disjunct[kept],
            "signs": leaves.signs[kept].to(torch.int8),
            "neuron": neuron[kept],
            "node": leaves.node[kept.cpu()],
        }
        if root.own:
            count = len(leaves.node)
            state = leaves.state if points is None else problem
            for name in ("low", "high", "lower", "upper"):
                columns[name] = getattr(state, name).expand(count, -1)[kept]
        if points is not None and leaves.points is not None:
            columns["points"] = leaves.points[kept]
            columns["at"] = points.gather(1, neuron.clamp(min=0))[kept]
        for name, part in zip(MULTIPLIERS, own.take(kept).parts(), strict=True):
            if part is not None:
                columns[name] = part
        if len(kept):
            pool.add(found.bound[kept].double(), **columns)

    def _choose(
        self,
        root: Root,
        leaves: Leaves,
        own: Multipliers,
        given: Tensor,
        height: Tensor,
        points: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Neurons to split in every leaf, by trying both sides of the best candidates.

        They would be split at ``points (B, N)``, at 0 without.

        Returns:
            ``(B, k)``, the best ones first, -1 where there are fewer; and whether there is one.
        """
        if not height.shape[1]:
            nothing = torch.zeros(len(height), 1, dtype=torch.long, device=height.device)
            return nothing, nothing[:, 0] > 0
        possible = height.amax(1) > 0
        each = max(1, self._settings.neuron_lookahead // 2)
        each = min(each, given.shape[1])
        first = given.topk(each, 1).indices
        if self._settings.neuron_lookahead <= 1:
            best = torch.where(given.amax(1) > 0, first[:, 0], height.argmax(1))
            return best[:, None], possible
        picks = torch.cat([first, height.topk(each, 1).indices], 1)
        count = picks.shape[1]
        merits = []
        for rank in range(count):
            both = torch.arange(len(picks), device=picks.device).repeat_interleave(2)
            tried = replace(leaves, multipliers=own).take(both)
            at = torch.arange(len(both), device=picks.device)
            signs = tried.signs.clone()
            chosen = picks[both, rank]
            signs[at, chosen] = 1.0 - 2.0 * (at % 2).to(signs.dtype)
            moved_to = tried.points
            if points is not None and moved_to is not None:
                tried = replace(tried, state=cut(root.problem(tried), tried.state))
                moved_to = moved_to.clone()
                moved_to[at, chosen] = points[both, chosen]
            problem = root.problem(replace(tried, signs=signs, points=moved_to))
            bound = bounded(fast_problem(root.nets, problem), tried.multipliers).bound
            pair = bound.clamp(max=0.0).reshape(-1, 2)
            merit = pair.sum(1) + pair.amin(1)
            stable = height.gather(1, picks[:, rank : rank + 1])[:, 0] <= 0
            merits.append(torch.where(stable, -float("inf"), merit))
        merit = torch.stack(merits, 1)
        twice = (picks[:, :, None] == picks[:, None, :]).tril(-1).any(-1)
        merit = merit.masked_fill(twice, -float("inf"))
        best, order = merit.topk(min(count, MOST_SPLITS), 1)
        found = picks.gather(1, order).masked_fill(best.isinf(), -1)
        return found, possible
