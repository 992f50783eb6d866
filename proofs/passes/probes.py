"""Splits that nothing below needs, found by looking at as few leaves as will do.

What ``cores.collapse`` finds, for a fraction of the price.  Where a split is needed, the first
leaf looked at shows it more often than not; and with a high split goes much of what is below.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from proofs.draft import TWO_WAY, Node
from proofs.oracle import State
from proofs.passes.cores import splits_above, without
from proofs.passes.edits import Work
from proofs.passes.thin import below
from proofs.proof import NodeKind

PRICE = 16
"""Of ``s`` leaves that would stay, ``s * s / PRICE`` have to go: all that stay are looked at,
and the more there are, the less likely it is that all of them close."""

FEWEST = 2
"""Leaves that stay, at least: a search has tried what a single one would close."""

TIMES = 3
"""How many times as many leaves as before are looked at next."""

PATIENCE, RETURN = 8, 8
"""Looks in vain at which to give up: one for so many splits of inputs, as splits of neurons
are seldom without use, and so many more for each leaf that went."""

WIDTH, FIRST = 64, 16
"""Leaves that are looked at at a time, and before it is known how long one takes."""

ROOM = 1 << 25
"""Numbers of what is known at splits that are kept in memory."""

OPEN = (NodeKind.HOLE, NodeKind.CITE)
"""Leaves above which no split is tried."""


def collapse(work: Work, tops: Sequence[Node], until: float) -> None:
    """Replace splits below some nodes by a side that closes without them.

    Deterministic, but for the time.  Nothing is pending in ``work`` before and after.  Sweeps
    above splits should be left out before: they are taken again for all that is tried.

    Args:
        work: the draft.
        tops: the nodes, none below another.
        until: ``time.monotonic()`` at which to end, as far as can be told from the leaves
            looked at before.

    Raises:
        DeadlineError: the oracle's own time is over; what was done stays.
    """
    _Probes(work, tops, until).run()


@dataclass(eq=False)
class _Try:
    """A split that may go.

    Attributes:
        node: the split.
        side: which child takes its place.
        gone: leaves below the other one.
        paths: from that child to leaves that are still to be looked at.
        following: the next of them; ``None`` if all close.
        looked: how many were looked at.
    """

    node: Node
    side: int
    gone: int
    paths: Iterator[list[Node]]
    following: list[Node] | None
    looked: int = 0

    @property
    def more(self) -> int:
        """How many are looked at next, if there are as many."""
        return max(1, TIMES * self.looked)

    def taken(self) -> list[list[Node]]:
        """The leaves that are next."""
        found: list[list[Node]] = []
        while self.following is not None and len(found) < self.more:
            found.append(self.following)
            self.following = next(self.paths, None)
        self.looked += len(found)
        return found


class _Probes:
    """Tries on splits below some nodes."""

    def __init__(self, work: Work, tops: Sequence[Node], until: float) -> None:
        self._work, self._until = work, until
        self._looks, self._seconds = 0, 0.0
        self._in_vain = self._gone = 0
        self._tops = work.oracle.states(work.draft, [_unskipped(node) for node in tops])
        self._depth = splits_above(work, [state.node for state in self._tops])
        self._states = {id(state.node): state for state in self._tops}
        self._most = max(1, ROOM // (2 * sum(work.draft.query.network.sizes)))
        self._width = min(WIDTH, self._most)
        self._tried: set[tuple[int, int]] = set()
        self._ready: list[tuple[Node, int, int]] = []
        self._changed = True
        self._old: list[Node] = []  # kept, so that nothing else takes their identity

    def run(self) -> None:
        """Try splits until none is left, or it does not pay."""
        nodes = below([state.node for state in self._tops])
        patience = sum(node.kind is NodeKind.SPLIT_INPUT for node in nodes) // PATIENCE
        tries: list[_Try] = []
        while not self._over:
            active = self._highest(tries)
            tired = self._in_vain > patience + RETURN * self._gone
            room = min(self._width, WIDTH if self._looks else FIRST)
            room -= sum(each.more for each in active)
            fresh = [] if tired or room <= 0 else self._fresh(room, tries)
            if not (active or fresh):
                return
            tries = self._further([*tries, *fresh], [*active, *fresh])

    @property
    def _over(self) -> bool:
        return time.monotonic() > self._until

    def _fresh(self, room: int, tries: Sequence[_Try]) -> list[_Try]:
        """Some that were not tried, apart from what is tried now; the most promising first."""
        nodes = [each.node for each in tries]
        near = {id(node) for node in below(nodes)}
        near |= {id(above) for node in nodes for above in self._work.upwards(node)}
        if not self._ready and self._changed:
            self._ready, self._changed = self._untried(), False
        free = [each for each in self._ready if id(each[0]) not in near][:room]
        self._tried.update((id(node), side) for node, side, _ in free)
        self._ready = [each for each in self._ready if (id(each[0]), each[1]) not in self._tried]
        self._learn([node for node, _, _ in free], nodes)
        found = []
        for node, side, gone in free:
            if id(node) in self._states:
                paths = _paths(node.children[side])
                found.append(_Try(node, side, gone, paths, next(paths)))
        return found if found or not free else self._fresh(room, tries)

    def _untried(self) -> list[tuple[Node, int, int]]:
        """Splits, the sides that may take their place, and the leaves of the others."""
        leaves: dict[int, int] = {}  # 0: some are open
        shape: dict[int, int] = {}
        shapes: dict[Hashable, int] = {}
        nodes = below([state.node for state in self._tops])
        for node in reversed(nodes):
            counts = [leaves[id(child)] for child in node.children]
            leaves[id(node)] = 0 if node.kind in OPEN or 0 in counts else sum(counts) or 1
            key = (*_key(node), *(shape[id(child)] for child in node.children))
            shape[id(node)] = shapes.setdefault(key, len(shapes))
        found = []
        for node in nodes:
            if node.kind not in TWO_WAY or not leaves[id(node)]:
                continue
            one, other = node.children
            alike = shape[id(one)] == shape[id(other)]
            for side, stays, goes in ((0, one, other), (1, other, one))[: 1 if alike else 2]:
                stay, gone = leaves[id(stays)], leaves[id(goes)]
                worth = stay >= FEWEST and stay * stay <= PRICE * gone
                if worth and (id(node), side) not in self._tried:
                    found.append((node, side, gone))
        found.sort(key=lambda each: -each[2])
        return found

    def _learn(self, nodes: Sequence[Node], others: Sequence[Node]) -> None:
        """Find out what is known at splits; what is known at some others is kept."""
        if len(self._states) + len(nodes) > self._most:
            kept = [self._states[id(node)] for node in others]
            self._states = {id(state.node): state for state in [*self._tops, *kept]}
        wanted = {id(node) for node in nodes} - self._states.keys()
        among: set[int] = set()
        starts: dict[int, tuple[State, Node]] = {}
        for node in nodes:
            for above in self._work.upwards(node) if id(node) in wanted else ():
                among.add(id(above))
                if id(above) in self._states:
                    starts[id(above)] = self._states[id(above)], above
                    break
        if starts:
            _, states = self._work.oracle.walked(list(starts.values()), among, wanted)
            self._states.update((id(state.node), state) for state in states)

    def _highest(self, tries: Sequence[_Try]) -> list[_Try]:
        """One for each split that is below no other one that is tried."""
        splits = {id(each.node) for each in tries}
        found: dict[int, _Try] = {}
        for each in tries:
            above = islice(self._work.upwards(each.node), 1, None)
            if splits.isdisjoint(map(id, above)):
                found.setdefault(id(each.node), each)
        return list(found.values())

    def _further(self, tries: Sequence[_Try], active: Sequence[_Try]) -> list[_Try]:
        """Look further at some of the tries, and do what closes; what is left of them."""
        failed = self._look(active)
        self._in_vain += sum(each.looked for each in failed)
        left = [each for each in tries if each not in failed]
        for each in self._highest(left):
            if each.following is None:
                left = self._replace(each, left)
        return left

    def _look(self, tries: Sequence[_Try]) -> set[_Try]:
        """Look at more leaves; the tries of which one is not known to close."""
        listed = [(each, path) for each in tries for path in each.taken()]
        failed: set[_Try] = set()
        while listed and not self._over:
            room = float(FIRST)
            if self._looks:
                room = (self._until - time.monotonic()) * self._looks / self._seconds
            size = max(1, int(min(room, self._width)))
            some, listed = listed[:size], listed[size:]
            failed |= self._failing([(t, path) for t, path in some if t not in failed])
        return failed | {each for each, _ in listed}  # for which there was no time

    def _failing(self, listed: Sequence[tuple[_Try, list[Node]]]) -> set[_Try]:
        """Which of some tries have a leaf, at the end of a path, that does not close."""
        began = time.monotonic()
        alike: dict[Hashable, list[_Try]] = {}
        ends: dict[int, list[_Try]] = {}
        starts = []
        for each, path in listed:
            node = each.node
            key = (id(node), *(part for pair in _turns(path) for part in pair))
            if key not in alike:
                alike[key] = []
                chain, end = _chain(path)
                ends[id(end)] = alike[key]
                starts.append((self._states[id(node)], without(chain, self._depth[id(node)])))
            alike[key].append(each)
        failing, _ = self._work.oracle.walked(starts)
        self._looks += len(starts)
        self._seconds += time.monotonic() - began
        return {each for node in failing for each in ends[id(node)]}

    def _replace(self, chosen: _Try, tries: Sequence[_Try]) -> list[_Try]:
        """Do what was tried; what is left of other tries."""
        node = chosen.node
        below_it = list(node)
        inside = {id(each) for each in below_it}
        known = self._tried - {(id(each.node), each.side) for each in tries}
        self._tried -= {(id(node), 0), (id(node), 1)}  # another split may stand there now
        side = node.children[chosen.side]
        made = without(side.copy(), self._depth[id(node)])
        for old, new in zip(side, made, strict=True):
            own = id(node if new is made else new)
            self._tried.update((own, k) for k in (0, 1) if (id(old), k) in known)
        self._work.replace(node, made)
        self._work.settle([node], [])
        self._old += below_it
        self._depth |= splits_above(self._work, [node])
        self._gone += chosen.gone
        self._ready = [each for each in self._ready if id(each[0]) not in inside]
        self._changed = True
        return [each for each in tries if id(each.node) not in inside]


def _unskipped(node: Node) -> Node:
    while node.skipped:
        node = node.children[0]
    return node


def _key(node: Node) -> tuple[Hashable, ...]:
    arg = node.arg if isinstance(node.arg, int | tuple) else id(node.arg)
    return node.kind, arg, node.skipped


def _turns(path: Sequence[Node]) -> Iterator[tuple[Hashable, int]]:
    """The nodes of a path, and which child follows."""
    for node, after in pairwise(path):
        yield _key(node), node.children.index(after)
    yield _key(path[-1]), 0


def _paths(root: Node) -> Iterator[list[Node]]:
    """The paths to the leaves below a node, those with the fewest splits first."""
    waiting = deque([[root]])
    while waiting:
        path = waiting.popleft()
        under = path[-1].children
        if not under:
            yield path
        elif len(under) == 1:
            waiting.appendleft([*path, under[0]])
        else:
            waiting.extend([*path, child] for child in under)


def _chain(path: Sequence[Node]) -> tuple[Node, Node]:
    """A copy of a path with holes beside it, and its end."""
    end = made = Node(path[-1].kind, path[-1].arg)
    for node, after in zip(path[-2::-1], path[:0:-1], strict=True):
        if not node.skipped:
            under = [made if child is after else Node(NodeKind.HOLE, 0) for child in node.children]
            made = Node(node.kind, node.arg, under)
    return made, end
