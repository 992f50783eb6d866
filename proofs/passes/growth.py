"""A tree of input splits is grown where the kernel says what closes.

Strong branching, as for integer programs (Applegate, Bixby, Chvatal and Cook, 1995): a box is
split at the input for which both halves come closest to being closed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from proofs.domain import Domains
from proofs.draft import Node
from proofs.frame import IndexArray
from proofs.oracle import State
from proofs.proof import Fact, NodeKind
from proofs.tables import Substitution
from proofs.trial import Trial
from specs.enclosure import FloatArray

MORE = 1.2
"""How many leaves there may be for each sweep before, if there were more leaves."""

SURE, DOUBT = 32, 1.5
"""Leaves that tell how many there will be, by their share of the volume, and by how much too many
that may be."""

SAMPLE, PRICE = 16, 5.0
"""Boxes that tell how long a sweep takes, and sweeps for each old split of an input."""

FARTHER = 4.0
"""Hints are tried on boxes that lack at most so many times what hints made up for so far."""

WIDTH = 40
"""Boxes that are split at a time."""

CANDIDATES, LEADING = 3, 0.1
"""Inputs that a box may be split at, and how much influence they have beside the largest."""

HINTS, TRIED = 16, 5
"""Hints that are known, from leaves all over the old trees, and how many are tried on a box."""


def worth(node: Node) -> float:
    """How many leaves that sweep cost as much as what is below a node, roughly; at most its own."""
    sweeps = sum(under.kind is NodeKind.SWEEP and not under.arg for under in node)
    return min(MORE * sweeps, sum(under.leaf for under in node))


@dataclass(eq=False)
class Tree:
    """A tree that is grown.

    Attributes:
        old: what it is to replace.
        root: of the new one.
        most: leaves that it may have; ``leaves``: closed so far.
        volume: share of the box that these have.
        open: boxes that do not close.
        failed: whether it does not close where it was put.
    """

    old: Node
    root: Node
    most: float
    leaves: int = 0
    volume: float = 0.0
    open: int = 0
    failed: bool = False

    @property
    def done(self) -> bool:
        """Whether everything is closed, with few leaves."""
        return not self.failed and not self.open and self.leaves <= self.most

    @property
    def hopeless(self) -> bool:
        """Whether there will be too many leaves, as far as can be told."""
        seems = self.leaves > DOUBT * self.most * self.volume
        return self.leaves + self.open > self.most or (self.leaves >= SURE and seems)


@dataclass(eq=False)
class _Open:
    """A box that does not close, before it is swept.

    Attributes:
        tree: which it is part of; ``node``: its place there; ``depth``: splits above it.
        domains: the box.
        entries: inputs to split it at, the most promising first.
    """

    tree: Tree
    node: Node
    depth: int
    domains: Domains
    entries: list[int]


@dataclass(eq=False)
class _Hints:
    """Hints of an old leaf, how often they were tried, and how many boxes they closed."""

    hints: Substitution
    tries: int = 0
    wins: int = 0


@dataclass(frozen=True, eq=False)
class _Seen:
    """What became of boxes, ``(B,)``.

    Attributes:
        domains: the boxes, before they were swept.
        shortfall: of all their disjuncts; 0 where they close.
        hints: what each disjunct closes with.
        influence: ``(B, inputs)`` where they do not close, see :meth:`Trial.influence`.
    """

    domains: Domains
    shortfall: FloatArray
    hints: list[list[Substitution | None]]
    influence: FloatArray


class Growth:
    """Grows the trees of some states anew.

    Args:
        trial: says what closes.
        states: of one case.
        until: ``time.monotonic()`` at which to end.
    """

    def __init__(self, trial: Trial, states: Sequence[State], until: float) -> None:
        self._trial, self._states = trial, states
        self._until = until
        self.trees = [
            Tree(state.node, Node(NodeKind.CLOSE, None), worth(state.node)) for state in states
        ]
        self._hints = _hints([node for state in states for node in state.node])
        self._waiting: deque[_Open] = deque()
        self._made_up = np.inf  # the most that hints made up for

    def grow(self) -> None:
        """Split until everything is closed, or it does not pay."""
        seen = self._look(Domains.joined([state.domains for state in self._states]))
        for place, tree in enumerate(self.trees):
            self._note(tree, tree.root, 0, seen, place)
        while time.monotonic() < self._until:
            boxes: list[_Open] = []
            while self._waiting and len(boxes) < WIDTH:
                box = self._waiting.pop()  # the newest: so that one tree is done after the other
                if not box.tree.hopeless:
                    boxes.append(box)
            if not boxes:
                return
            self._split(boxes)

    @property
    def seconds(self) -> float:
        """How long it takes, judging by the smallest boxes of the first old tree."""
        state = self._states[0]
        domains = state.domains
        for entry, side in _most_split(state.node):
            domains = self._trial.halves(domains, np.array([entry])).pick(np.array([side]))
        some = domains.pick(np.zeros(SAMPLE, dtype=np.int64))
        began = time.monotonic()
        self._trial.swept(some)
        each = (time.monotonic() - began) / SAMPLE
        # Where neurons were split, hints close larger boxes more often than not.
        kinds = [node.kind for state in self._states for node in state.node]
        return PRICE * each * kinds.count(NodeKind.SPLIT_INPUT)

    def _split(self, boxes: Sequence[_Open]) -> None:
        """Split boxes where that gains most; what does not close then waits."""
        place, entry = zip(
            *((place, entry) for place, box in enumerate(boxes) for entry in box.entries),
            strict=True,
        )
        domains = Domains.joined([box.domains for box in boxes]).pick(np.array(place))
        seen = self._look(self._trial.halves(domains, np.array(entry)))
        lacking = seen.shortfall.reshape(-1, 2)
        order = np.lexsort((lacking.sum(axis=1), np.count_nonzero(lacking, axis=1), place))
        _, first = np.unique(np.array(place)[order], return_index=True)
        for box, chosen in zip(boxes, order[first].tolist(), strict=True):
            sides = [Node(NodeKind.CLOSE, None), Node(NodeKind.CLOSE, None)]
            box.node.become(Node(NodeKind.SPLIT_INPUT, entry[chosen], sides))
            box.tree.open -= 1
            for side, node in enumerate(sides):
                self._note(box.tree, node, box.depth + 1, seen, 2 * chosen + side)

    def _note(self, tree: Tree, node: Node, depth: int, seen: _Seen, place: int) -> None:
        """Make a leaf of a box that closes; others wait."""
        if seen.shortfall[place] > 0:
            box = seen.domains.pick(np.array([place]))
            entries = _candidates(seen.influence[place])
            self._waiting.append(_Open(tree, node, depth, box, entries))
            tree.open += 1
            return
        leaf = _leaf(seen.hints[place])
        node.become(Node(NodeKind.SWEEP, 0, [leaf]))
        tree.leaves += len(leaf.children) or 1
        tree.volume += 0.5**depth

    def _look(self, domains: Domains) -> _Seen:
        """Sweep boxes and try to close them: as they are, or with hints."""
        trial = self._trial
        owner, alone = _by_disjunct(trial.swept(domains))
        hints: list[Substitution | None] = [None] * len(alone)
        lacking = trial.shortfalls(alone, hints)
        for known in self._favourites():
            places = np.flatnonzero((lacking > 0) & (lacking <= FARTHER * self._made_up))
            if not places.size:
                break
            found = trial.shortfalls(alone.pick(places), [known.hints] * places.size)
            closed = places[found == 0]
            for place in closed.tolist():
                hints[place] = known.hints
            if closed.size:
                most = float(lacking[closed].max())
                self._made_up = max(most, 0.0 if np.isinf(self._made_up) else self._made_up)
            known.wins += closed.size
            known.tries += 1
            lacking[places] = np.minimum(lacking[places], found)
        shortfall, influence = np.zeros(len(domains)), np.zeros(domains.batch.lower.shape)
        np.add.at(shortfall, owner, lacking)
        places = np.flatnonzero(lacking)
        if places.size:
            np.maximum.at(influence, owner[places], trial.influence(alone.pick(places)))
        ends = np.searchsorted(owner, np.arange(len(domains) + 1)).tolist()
        own = [hints[start:end] for start, end in pairwise(ends)]
        return _Seen(domains, shortfall, own, influence)

    def _favourites(self) -> list[_Hints]:
        """What closed most so far, and what was tried least."""
        best = sorted(self._hints, key=lambda known: -known.wins)[: TRIED - 1]
        rest = [known for known in self._hints if known not in best]
        return [*best, *sorted(rest, key=lambda known: known.tries)[:1]]


def _hints(nodes: Sequence[Node]) -> list[_Hints]:
    """Hints of leaves at equal distances, without what they say of their paths' splits."""
    found = {
        id(node.arg): node.arg
        for node in nodes
        if node.kind is NodeKind.CLOSE and isinstance(node.arg, Substitution)
    }
    chosen = list(found.values())[:: max(1, len(found) // HINTS)][:HINTS]
    return [
        _Hints(
            replace(own, multipliers=tuple(m for m in own.multipliers if m[0] is not Fact.SPLIT))
        )
        for own in chosen
    ]


def _most_split(root: Node) -> list[tuple[int, int]]:
    """The splits of inputs on the way to a leaf that has most of them: entries and sides."""
    best: list[tuple[int, int]] = []
    stack = [(root, best)]
    while stack:
        node, path = stack.pop()
        best = max(best, path, key=len)
        for side, child in enumerate(node.children):
            if node.kind is NodeKind.SPLIT_INPUT and isinstance(node.arg, int):
                stack.append((child, [*path, (node.arg, side)]))
            else:
                stack.append((child, path))
    return best


def _by_disjunct(domains: Domains) -> tuple[IndexArray, Domains]:
    """A domain for each disjunct of each domain, and which one that is."""
    count = [len(path.disjuncts) for path in domains.paths]
    owner = np.repeat(np.arange(len(domains)), count)
    if len(owner) == len(domains):
        return owner, domains
    parts = domains.pick(owner)
    paths = [replace(path, disjuncts=(d,)) for path in domains.paths for d in path.disjuncts]
    return owner, Domains(parts.nodes, paths, parts.batch)


def _leaf(hints: Sequence[Substitution | None]) -> Node:
    """A leaf that closes, given the hints of each disjunct."""
    if all(own is hints[0] for own in hints):
        return Node(NodeKind.CLOSE, hints[0] if hints else None)
    return Node(NodeKind.SPLIT_DISJUNCT, 0, [Node(NodeKind.CLOSE, own) for own in hints])


def _candidates(influence: FloatArray) -> list[int]:
    """Inputs that a box may be split at, given their influence, the largest first."""
    order = np.argsort(-influence, kind="stable")[:CANDIDATES]
    worthwhile = influence[order] > LEADING * influence[order[0]]
    found: list[int] = order[: max(1, int(np.count_nonzero(worthwhile)))].tolist()
    return found
