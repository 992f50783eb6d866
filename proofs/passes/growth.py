"""A tree of input splits is grown where the kernel says what closes.

Strong branching, as for integer programs (Applegate, Bixby, Chvatal and Cook, 1995): a box is
split at the input for which both halves come closest to being closed.  What closes is swept and
takes hints of old leaves (``pool.py``) or splits of neurons (``endings.py``); what does not is
swept, too, where that spares most of the sweeps below.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from proofs.domain import Domains
from proofs.draft import Node
from proofs.frame import IndexArray
from proofs.oracle import State
from proofs.passes.endings import endings
from proofs.passes.pool import Pool
from proofs.proof import NodeKind
from proofs.tables import Substitution
from proofs.trial import Trial
from specs.enclosure import FloatArray

FEWER, MORE = 0.9, 1.2
"""How many boxes there may be for each sweep before, and how many leaves for each leaf."""

SURE, DOUBT = 32, 1.5
"""Boxes that tell how many there will be, by their share of the volume, and by how much too many
that may be."""

SAMPLE, PRICE = 8, 6.0
"""Boxes that tell how long a sweep takes, and sweeps for each old split of an input."""

WIDTH = 40
"""Boxes that are split at a time."""

CANDIDATES, LEADING = 3, 0.1
"""Inputs that a box may be split at, and how much influence they have beside the largest."""

KEPT = 0.4
"""Part of the work of a sweep that is left for another one, up to which a box that does not
close is swept for all that is below it."""


def sweeps(node: Node) -> int:
    """How many sweeps there are below a node, which most of the work is."""
    return sum(under.kind is NodeKind.SWEEP and not (under.arg or under.skipped) for under in node)


def leaves(node: Node) -> int:
    """How many leaves there are below a node."""
    return sum(under.leaf for under in node)


@dataclass(eq=False)
class Tree:
    """A tree that is grown.

    Attributes:
        old: what it is to replace.
        root: of the new one.
        before: leaves of the old one; ``most``: boxes and ``ends``: leaves this one may have.
        boxes, leaves: closed so far.
        volume: share of the box that these have.
        open: boxes that do not close.
        failed: whether it does not close where it was put.
    """

    old: Node
    root: Node
    before: int
    most: float
    ends: float
    boxes: int = 0
    leaves: int = 0
    volume: float = 0.0
    open: int = 0
    failed: bool = False

    @staticmethod
    def of(old: Node, most: float | None = None, ends: float | None = None) -> Tree:
        """One that is to replace another, and has no split yet; by default it has to be cheaper."""
        before = leaves(old)
        ends = MORE * before if ends is None else ends
        most = min(FEWER * sweeps(old), ends) if most is None else most
        return Tree(old, Node(NodeKind.CLOSE, None), before, most, ends)

    @property
    def done(self) -> bool:
        """Whether everything is closed, with few boxes and leaves."""
        few = self.boxes <= self.most and self.leaves <= self.ends
        return few and not self.failed and not self.open

    @property
    def hopeless(self) -> bool:
        """Whether there will be too many boxes or leaves, as far as can be told."""
        part = max(self.boxes / self.most, self.leaves / self.ends)
        many = self.boxes + self.open > self.most or self.leaves + self.open > self.ends
        return many or (self.boxes >= SURE and part > DOUBT * self.volume)


@dataclass(frozen=True, eq=False)
class _Open:
    """A box that does not close.

    Attributes:
        tree: which it is part of; ``node``: its place there; ``depth``: splits above it.
        domains: the box, swept if that is kept.
        entries: inputs to split it at, the most promising first.
        old: the first split of an input there in the old tree.
    """

    tree: Tree
    node: Node
    depth: int
    domains: Domains
    entries: list[int]
    old: Node | None


@dataclass(frozen=True, eq=False)
class _Seen:
    """What became of boxes, ``(B,)``, and of their disjuncts, ``(P,)``.

    Attributes:
        domains: the boxes; ``swept``: afterwards.
        again: part of the work that is left for another sweep.
        owner: the box of each disjunct, in order.
        alone: swept, of that disjunct only; ``influence``: ``(P, inputs)``.
        lacking: by how much it does not close; 0 where it does.
        hints: what it closes with, or nearly.
        nodes: a tree that closes it, where it does.
    """

    domains: Domains
    swept: Domains
    again: FloatArray
    owner: IndexArray
    alone: Domains
    influence: FloatArray
    lacking: FloatArray
    hints: list[Substitution | None]
    nodes: list[Node | None]

    def parts(self, box: int) -> slice:
        """The disjuncts of a box."""
        start, end = np.searchsorted(self.owner, [box, box + 1]).tolist()
        return slice(start, end)

    @property
    def shortfall(self) -> FloatArray:
        """Of all disjuncts of each box; 0 where it closes."""
        found = np.zeros(len(self.domains))
        np.add.at(found, self.owner, self.lacking)
        return found


class Growth:
    """Grows trees anew.

    Args:
        trial: says what closes.
        states: of one case.
        trees: one for each state.
    """

    def __init__(self, trial: Trial, states: Sequence[State], trees: Sequence[Tree]) -> None:
        self._trial, self._states, self.trees = trial, states, list(trees)
        self._pool = Pool(trial, [state.node for state in states])
        self._waiting: deque[_Open] = deque()

    def grow(self, until: float) -> None:
        """Split until everything is closed, or it does not pay.

        Args:
            until: ``time.monotonic()`` at which to end.
        """
        olds = [_first_split(tree.old) for tree in self.trees]
        seen = self._look(Domains.joined([state.domains for state in self._states]), olds)
        self._end(seen, range(len(olds)))
        for place, (tree, old) in enumerate(zip(self.trees, olds, strict=True)):
            self._note(tree, tree.root, 0, old, seen, place)
        while time.monotonic() < until:
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
        domains, path = state.domains, _most_split(state.node)
        for depth, (entry, side) in enumerate(path):
            domains = self._trial.halves(domains, np.array([entry])).pick(np.array([side]))
            if depth == len(path) // 2:
                swept, again = self._trial.swept(domains)
                domains = swept if again[0] <= KEPT else domains
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
        olds = [
            old
            for own, at in zip(place, entry, strict=True)
            for old in _old_halves(boxes[own].old, at)
        ]
        seen = self._look(self._trial.halves(domains, np.array(entry)), olds)
        lacking = seen.shortfall.reshape(-1, 2)
        order = np.lexsort((lacking.sum(axis=1), np.count_nonzero(lacking, axis=1), place))
        _, first = np.unique(np.array(place)[order], return_index=True)
        best: list[int] = order[first].tolist()
        self._end(seen, [2 * chosen + side for chosen in best for side in (0, 1)])
        for box, chosen in zip(boxes, best, strict=True):
            sides = [Node(NodeKind.CLOSE, None), Node(NodeKind.CLOSE, None)]
            box.node.become(Node(NodeKind.SPLIT_INPUT, entry[chosen], sides))
            for side, node in enumerate(sides, 2 * chosen):
                self._note(box.tree, node, box.depth + 1, olds[side], seen, side)
            box.tree.open -= 1

    def _note(
        self, tree: Tree, node: Node, depth: int, old: Node | None, seen: _Seen, place: int
    ) -> None:
        """Make leaves of a box that closes; others wait."""
        parts = seen.parts(place)
        closing = [made for made in seen.nodes[parts] if made is not None]
        if len(closing) < parts.stop - parts.start:
            entries = _candidates(seen.influence[parts].max(axis=0))
            keeps = seen.again[place] <= KEPT
            if keeps:
                below = Node(NodeKind.CLOSE, None)
                node.become(Node(NodeKind.SWEEP, 0, [below]))
                node = below
            box = (seen.swept if keeps else seen.domains).pick(np.array([place]))
            self._waiting.append(_Open(tree, node, depth, box, entries, old))
            tree.open += 1
            return
        end = _joined(closing)
        node.become(Node(NodeKind.SWEEP, 0, [end]))
        tree.boxes += 1
        tree.leaves += leaves(end)
        tree.volume += 0.5**depth

    def _look(self, domains: Domains, olds: Sequence[Node | None]) -> _Seen:
        """Sweep boxes that lie somewhere in the old trees, and try to close them."""
        swept, again = self._trial.swept(domains)
        owner, alone = _by_disjunct(swept)
        lacking, hints = self._pool.close(alone, [olds[box] for box in owner.tolist()])
        nodes = [
            None if short > 0 else Node(NodeKind.CLOSE, own)
            for short, own in zip(lacking.tolist(), hints, strict=True)
        ]
        influence = np.zeros(alone.batch.lower.shape)
        places = np.flatnonzero(lacking)
        if places.size:
            influence[places] = self._trial.influence(alone.pick(places))
        return _Seen(domains, swept, again, owner, alone, influence, lacking, hints, nodes)

    def _end(self, seen: _Seen, boxes: Iterable[int]) -> None:
        """Split neurons of boxes that nearly close."""
        near = (seen.lacking > 0) & np.isfinite(seen.lacking)
        places = np.flatnonzero(near & np.isin(seen.owner, list(boxes)))
        if places.size:
            own = [seen.hints[place] for place in places.tolist()]
            found = endings(self._trial, seen.alone.pick(places), seen.lacking[places], own)
            for place, node in zip(places.tolist(), found, strict=True):
                seen.nodes[place] = node


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


def _joined(nodes: Sequence[Node]) -> Node:
    """What closes a box, given what closes each of its disjuncts."""
    if not nodes:
        return Node(NodeKind.CLOSE, None)
    first = nodes[0]
    if all(node.kind is NodeKind.CLOSE and node.arg is first.arg for node in nodes):
        return first
    return Node(NodeKind.SPLIT_DISJUNCT, 0, list(nodes))


def _first_split(node: Node) -> Node | None:
    """The first split of an input, where it is not seen on the way to most leaves."""
    while node.kind is not NodeKind.SPLIT_INPUT:
        if not node.children:
            return None
        single = len(node.children) == 1
        node = node.children[0] if single else max(node.children, key=leaves)
    return node


def _old_halves(old: Node | None, entry: int) -> list[Node | None]:
    """Where both halves of a box lie in the old tree."""
    if old is None or (old.kind, old.arg) != (NodeKind.SPLIT_INPUT, entry):
        return [old, old]
    return [_first_split(child) or child for child in old.children]


def _candidates(influence: FloatArray) -> list[int]:
    """Inputs that a box may be split at, given their influence, the largest first."""
    order = np.argsort(-influence, kind="stable")[:CANDIDATES]
    worthwhile = influence[order] > LEADING * influence[order[0]]
    found: list[int] = order[: max(1, int(np.count_nonzero(worthwhile)))].tolist()
    return found
