"""Leaves with less: without hints, or in place of all that is below an inner node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from proofs.domain import Domains
from proofs.draft import TWO_WAY, Node
from proofs.oracle import State
from proofs.passes.coarse import Coarse
from proofs.passes.edits import Work
from proofs.passes.thin import below, levels
from proofs.proof import Fact, NodeKind
from proofs.tables import EMPTY, Substitution
from specs.query import Query

Reoptimise = Callable[[Query, Sequence[State]], Sequence[Sequence[Substitution] | None]]
"""Better multipliers, asked of the search: for each state, which stands before a split, hints
for all disjuncts that remain, in their order; ``None`` where it finds none that close."""

SAMPLE = 8
"""Nodes of a level that are tried to learn how many of it may close."""

AT_ONCE = 512
"""Nodes whose states are held in memory."""

HIGH = 1 << 30

LIKELY = 0.5
"""Share of a sample that has to close for a level to be worth trying."""


def without_hints(work: Work, tops: Sequence[Node]) -> None:
    """Leaves with default slopes, each constraint alone."""
    for node in below(tops):
        if node.kind is NodeKind.CLOSE and node.arg is not None:
            work.edit(node)
            node.arg = None


def with_defaults(_: Query, states: Sequence[State]) -> list[list[Substitution]]:
    """No hints for any disjunct."""
    return [[EMPTY] * len(state.domains.paths[0].disjuncts) for state in states]


def with_hints_below(_: Query, states: Sequence[State]) -> list[list[Substitution] | None]:
    """For all disjuncts the hints of the first leaf below that has some."""
    found: list[list[Substitution] | None] = []
    for state in states:
        (path,) = state.domains.paths
        depth = 0 if path.trail is None else path.trail.length
        below_ = (n.hints for n in state.node if n.kind is NodeKind.CLOSE)
        hints = next((h for h in below_ if h is not None), None)
        if hints is None:
            found.append(None)
            continue
        known = tuple(m for m in hints.multipliers if m[0] is not Fact.SPLIT or m[1] < depth)
        found.append([replace(hints, multipliers=known)] * len(path.disjuncts))
    return found


class Merger:
    """Closes splits at once, with multipliers that the search finds for them.

    Args:
        work: with the draft.
        reoptimise: finds multipliers; the kernel decides.
    """

    def __init__(self, work: Work, reoptimise: Reoptimise) -> None:
        self._work, self._reoptimise = work, reoptimise

    def merge(self, tops: Sequence[Node]) -> None:
        """Close splits below some nodes, the highest ones first, where many close."""
        level = levels(tops)
        splits = [node for node in below(tops) if node.kind in TWO_WAY]
        start = self._worthwhile(splits, level)
        waiting = [n for n in splits if level[id(n)] <= start < self._level_above(n, level)]
        while waiting:
            closed = set()
            for part in _batches(waiting):
                if self._work.oracle.hurried:
                    return
                for node, hints in self._found(part):
                    self._swept(node)
                    self._work.close(node, hints)
                    closed.add(id(node))
            left = (node for node in waiting if id(node) not in closed)
            below_left = (_split(child) for node in left for child in node.children)
            waiting = [node for node in below_left if node is not None]

    def _worthwhile(self, splits: Sequence[Node], level: dict[int, int]) -> int:
        """A level so high that of its nodes about as many close as not; 0: there is none."""
        there: dict[int, list[Node]] = {}
        for node in splits:
            there.setdefault(level[id(node)], []).append(node)
        best, height = 0, 2 if 2 in there else 1
        while height in there:
            sample = there[height][:: max(1, len(there[height]) // SAMPLE)][:SAMPLE]
            if self._work.oracle.hurried:
                return best
            if len(self._found(sample)) < LIKELY * len(sample):
                if height != 2:
                    break
                height = 1
                continue
            best = height
            if height == 1:
                break
            height += 2
        return best

    def _level_above(self, node: Node, level: dict[int, int]) -> int:
        """The level of the split above a node; that of a part's top counts as high."""
        above = self._work.before(node)
        while above is not None and len(above.children) == 1:
            above = self._work.before(above)
        return HIGH if above is None else level.get(id(above), HIGH)

    def _found(self, nodes: Sequence[Node]) -> list[tuple[Node, Sequence[Substitution]]]:
        """Those of some splits, none below another, that close, and with which hints."""
        sweeps = [sweep for node in nodes if (sweep := self._swept(node)) is not None]
        try:
            states = self._work.oracle.states(self._work.draft, nodes)
        finally:
            for sweep in sweeps:
                sweep.skipped = True
        hints = self._reoptimise(self._work.draft.query, states) if states else []
        open_ = [(state, own) for state, own in zip(states, hints, strict=True) if own is not None]
        closed: list[tuple[Node, Sequence[Substitution]]] = []
        for coarse in (*self._work.ladder, Coarse(7, 12, 12)):
            tried = [(state, self._short(coarse, own, state)) for state, own in open_]
            good = self._close(tried)
            closed += [(s.node, own) for (s, own), done in zip(tried, good, strict=True) if done]
            open_ = [each for each, done in zip(open_, good, strict=True) if not done]
        return closed

    def _short(
        self, coarse: Coarse, hints: Sequence[Substitution], state: State
    ) -> list[Substitution]:
        oracle, made = self._work.oracle, {}
        for own in hints:  # what is the same for several disjuncts stays so
            if id(own) not in made:
                made[id(own)] = oracle.needed(coarse.hints(own), state)
        return [made[id(own)] for own in hints]

    def _swept(self, node: Node) -> Node | None:
        """See to it that bounds are swept right before a split; the sweep, if it was skipped."""
        before = self._work.before(node)
        while before is not None and len(before.children) == 1:
            if before.kind is NodeKind.SWEEP:
                if not before.skipped:
                    return None
                before.skipped = False
                return before
            before = self._work.before(before)
        return None

    def _close(self, tried: Sequence[tuple[State, Sequence[Substitution]]]) -> list[bool]:
        """Which states the kernel closes with hints for each of their disjuncts."""
        asked: list[State] = []
        hints: list[Substitution] = []
        owner: list[int] = []
        for place, (state, own) in enumerate(tried):
            (path,) = state.domains.paths
            for disjunct, each in zip(path.disjuncts, own, strict=True):
                only = replace(path, disjuncts=(disjunct,))
                alone = Domains(state.domains.nodes, [only], state.domains.batch)
                asked.append(State(state.node, state.case, alone))
                hints.append(each)
                owner.append(place)
        closed = [True] * len(tried)
        for place, good in zip(owner, self._work.oracle.closed(asked, hints), strict=True):
            closed[place] &= bool(good)
        return closed


def _batches(nodes: Sequence[Node]) -> Iterator[Sequence[Node]]:
    for start in range(0, len(nodes), AT_ONCE):
        yield nodes[start : start + AT_ONCE]


def _split(node: Node) -> Node | None:
    """The two-way split at the end of a run of operations; ``None``: something else."""
    while len(node.children) == 1:
        node = node.children[0]
    return node if node.kind in TWO_WAY else None
