"""The least change of a last layer that removes triggers: branch and bound, and its evidence.

A node of the search names a trigger and has one child for each class that it may be lost to, and
one in which it is kept where that is allowed.  Bounds come from ``removal_lp.Relaxation``, the
node of the least bound comes first, so that the least bound of all leaves is certified whenever
the search ends.  ``proofs.watermarks.removal`` checks the tree; nothing here is trusted.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from proofs.watermarks.last_layer import PRECISION
from proofs.watermarks.removal import LEAF, Ends, LeafRule, Removal, Samples, Tree, refuted
from specs.enclosure import FloatArray
from verifier.progress import Progress
from verifier.watermarks.removal_lp import (
    Bounding,
    Data,
    Facts,
    Moved,
    NoAnswerError,
    Relaxation,
    fixed_targets,
)
from verifier.watermarks.removal_norm import Distances, nearest_targets

SLACK = 1e-6
"""By which part the certified radius stays below the least bound of all leaves."""

BITS = 40
"""Of the largest entry of a leaf's vectors."""

ENOUGH, EXCHANGE = 200, 0.2
"""Nodes after which classes of the best change are exchanged, for this part of the time left."""

REBUILT = 0.995
"""Relaxations are made anew when the best known radius falls below this part of theirs."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found.

    Attributes:
        radius: no change within it removes enough; ``tree`` shows it.
        tree: evidence; ``None``: not even the radius 0 was shown.
        moved: the least change found that does; ``None``: none was found.
        nodes: of the search, all told.
        closed: whether the search ended by itself: radius and change differ by rounding only,
            or there is no change that does it.
    """

    radius: Fraction
    tree: Tree | None
    moved: Moved | None
    nodes: int
    closed: bool


@dataclass(eq=False)
class _Node:
    ends: Ends
    bound: float
    vectors: FloatArray
    change: FloatArray
    split: int = -1
    order: list[int] = field(default_factory=list)
    children: list[_Node] = field(default_factory=list)


def least_removal(
    samples: Samples,
    norm: str,
    lost: int,
    kept: int = 0,
    seconds: float = math.inf,
    gap: float = 1e-7,
    progress: Progress | None = None,
) -> Found:
    """The least change that does what a ``Removal`` speaks of.

    Args:
        samples: triggers and others, in units of ``2**-PRECISION``.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        lost, kept: how many triggers, and how many of the others, at least.
        seconds: after which the search ends with what it has.
        gap: relative; between the best change and the least bound, at which it ends.
        progress: where to say how far it is.

    Raises:
        NoAnswerError: a linear program was not solved.
    """
    search = _Search(Data.of(samples, norm, PRECISION), lost, kept, gap)
    search.run(time.monotonic() + seconds, progress or Progress(enabled=False))
    needed = min((node.bound for node in _leaves(search.root)), default=0.0)
    tree, radius = None, Fraction(0)
    for slack in (SLACK, 10 * SLACK, 1000 * SLACK):
        radius = _rounded_down(min(needed, search.radius) * (1 - slack))
        claim = Removal(samples, norm, radius, lost, kept)
        tree = written(search.root, claim)
        if radius > 0 and refuted(claim, tree) is None:
            break
        tree, radius = None, Fraction(0)
    closed = search.closed and (search.best is None or needed >= search.radius * (1 - SLACK))
    return Found(radius, tree, search.best, search.nodes, closed)


class _Search:
    """The state of one search."""

    def __init__(self, data: Data, lost: int, kept: int, gap: float) -> None:
        self._data, self._lost, self._kept, self._gap = data, lost, kept, gap
        self.best: Moved | None = None
        self.nodes, self.closed = 0, False
        self._tried: set[tuple[tuple[int, int], ...]] = set()
        self._targets: dict[int, int] = {}
        self._offer(np.zeros((data.margins.shape[1], data.hidden.shape[1])))
        others = int((~data.trigger).sum())
        self._hulls = data.norm != "l2" and (
            lost < int(data.trigger.sum()) or kept not in (0, others)
        )
        self._relaxation: Bounding
        if self._hulls:
            self._relaxation = self._relaxed()
        elif data.norm == "l2":
            self._relaxation = Distances(data, 0 < kept == others)
        else:
            self._relaxation = Facts(data, kept > 0)
        self._exchanged = False
        self.root = self._node({})

    @property
    def radius(self) -> float:
        """Of the best change, or one that is surely large enough."""
        return math.inf if self.best is None else self.best.radius

    def run(self, end: float, progress: Progress) -> None:
        """Search until a time."""
        count = itertools.count()
        heap = [(self.root.bound, next(count), self.root)]
        begun = time.monotonic()
        while heap and time.monotonic() < end:
            if self.nodes > ENOUGH and not self._exchanged:
                self._exchange(min(end, time.monotonic() + EXCHANGE * (end - begun)), progress)
            bound, _, node = heapq.heappop(heap)
            if bound >= self.radius * (1 - self._gap):
                heap = []
                break
            if self.nodes < 200 or self.nodes % 20 == 0:
                self._offer(node.change)
            split = self._split(node)
            if split is None:
                continue  # all is decided, and the linear program is as good as exact
            progress.leaves("removal", len(heap), self.nodes, bound)
            self._expand(node, split)
            for child in node.children:
                if child.bound < self.radius * (1 - self._gap):
                    heapq.heappush(heap, (child.bound, next(count), child))
        self.closed = not heap

    def _expand(self, node: _Node, split: int) -> None:
        target, spared = node.ends.get(split, (None, frozenset()))
        assert target is None
        margins = self._data.after(node.change)[split]
        left = [c for c in self._data.others(split) if c not in spared]
        left.sort(key=lambda c: (margins[c], c))
        if self._hulls and self.radius < REBUILT * self._made_for:
            self._relaxation = self._relaxed()
        node.split, node.order = split, left
        for number in range(len(left) + 1):
            gone = spared | set(left[:number])
            target = left[number] if number < len(left) else None
            child = self._node({**node.ends, split: (target, gone)}, node.bound)
            node.children.append(child)

    def _node(self, ends: Ends, bound: float = 0.0) -> _Node:
        self.nodes += 1
        data = self._data
        if any(self._spent(ends)):
            return _Node(ends, math.inf, np.zeros(data.margins.shape), np.zeros(0))
        found = self._relaxation.solve(ends)
        if found is None:
            return _Node(ends, math.inf, np.zeros(data.margins.shape), np.zeros(0))
        return _Node(ends, found.bound, found.vectors, found.change)

    def _spent(self, ends: Ends) -> Iterator[bool]:
        """Whether more triggers are kept than may be."""
        all_others = self._data.margins.shape[1] - 1
        kept = [i for i, (c, spared) in ends.items() if c is None and len(spared) == all_others]
        triggers = sum(bool(self._data.trigger[i]) for i in kept)
        yield triggers > int(self._data.trigger.sum()) - self._lost

    def _split(self, node: _Node) -> int | None:
        """The undecided trigger that is farthest from being lost after the node's change."""
        if sum(c is not None and self._data.trigger[i] for i, (c, _) in node.ends.items()) >= (
            self._lost
        ):
            return None
        margins = self._data.after(node.change)
        found, most = None, -math.inf
        for i in np.flatnonzero(self._data.trigger).tolist():
            target, spared = node.ends.get(i, (None, frozenset()))
            left = [c for c in self._data.others(i) if c not in spared]
            if target is not None or not left:
                continue
            need = float(min(margins[i, c] for c in left)) / max(float(self._data.size[i]), 1e-300)
            if need > most:
                found, most = i, need
        return found

    def _exchange(self, end: float, progress: Progress) -> None:
        """Give one trigger after the other another class, as long as that makes less do."""
        self._exchanged, stale = True, 0
        if self._hulls:
            return
        for i in itertools.cycle(list(self._targets)):
            for c in self._data.others(i):
                if time.monotonic() > end or stale > len(self._targets):
                    return
                progress.stage(f"removal: exchanging classes, {self.radius:.4g}")
                ends = {k: (own, frozenset[int]()) for k, own in self._targets.items()}
                found = self._relaxation.solve({**ends, i: (c, frozenset())})
                if found is not None and found.bound < self.radius * (1 - self._gap):
                    keep = np.flatnonzero(~self._data.trigger).tolist() if self._kept else []
                    self.improve({**self._targets, i: c}, keep)
                    stale = 0
            stale += 1

    def _relaxed(self) -> Relaxation:
        self._made_for = self.radius if math.isfinite(self.radius) else self._far()
        return Relaxation(self._data, self._lost, self._kept, self._made_for)

    def _far(self) -> float:
        """A radius within which every trigger can be lost to every class."""
        size = np.maximum(self._data.size, 1e-12)
        return 10.0 * float(np.max(np.abs(self._data.margins) / size[:, None], initial=1e-9))

    def _offer(self, change: FloatArray) -> None:
        """Round a change to targets, and see what these cost at least."""
        margins = self._data.after(change)
        margins[np.arange(len(margins)), self._data.labels] = np.inf
        triggers = np.flatnonzero(self._data.trigger)
        near = sorted(triggers.tolist(), key=lambda i: float(margins[i].min()))[: self._lost]
        others = np.flatnonzero(~self._data.trigger)
        safe = sorted(others.tolist(), key=lambda i: -float(margins[i].min()))[: self._kept]
        self.improve({i: int(np.argmin(margins[i])) for i in near}, safe)

    def improve(self, targets: dict[int, int], keep: list[int]) -> None:
        """See what targets cost, and go on from the change that they need while that helps."""
        while True:
            key = tuple(sorted(targets.items()))
            if key in self._tried:
                return
            self._tried.add(key)
            moved = least(self._data, targets, keep)
            if moved is None or moved.radius >= self.radius:
                return
            self.best, self._targets = moved, dict(targets)
            margins = self._data.after(moved.change)
            margins[np.arange(len(margins)), self._data.labels] = np.inf
            targets = {i: int(np.argmin(margins[i])) for i in targets}


def least(data: Data, targets: Mapping[int, int], keep: Sequence[int] = ()) -> Moved | None:
    """The least change, in the norm of the data, that loses samples to given classes.

    Args:
        data: the samples.
        targets: by sample, the class it is lost to.
        keep: samples whose margins stay at least 0.

    Raises:
        NoAnswerError: the solver has no answer.
    """
    find = nearest_targets if data.norm == "l2" else fixed_targets
    return find(data, targets, keep)


def _leaves(root: _Node) -> Iterator[_Node]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.children:
            waiting += node.children
        else:
            yield node


def written(root: _Node, claim: Removal) -> Tree:
    """The search's tree as evidence for a radius; what bounds at inner nodes show is cut off."""
    sample: list[int] = []
    target: list[int] = []
    first, rows = [0], []
    hopeless, radius = _hopeless(claim), float(claim.radius)

    def leaf(node: _Node) -> None:
        sample.append(LEAF)
        target.append(0)
        rows.append(_entries(node.vectors, hopeless, claim.samples))
        first.append(first[-1] + len(rows[-1]))

    waiting: list[tuple[_Node, int]] = [(root, 0)]
    while waiting:
        node, number = waiting.pop()
        if number == 0 and (not node.children or node.bound * (1 - SLACK / 2) > radius):
            leaf(node)
            continue
        if number < len(node.order):
            sample.append(node.split)
            target.append(node.order[number])
            waiting.append((node, number + 1))
            waiting.append((node.children[number], 0))
        else:
            waiting.append((node.children[number], 0))
    flat = np.array([e for part in rows for e in part], dtype=np.int64).reshape(-1, 3)
    return Tree(
        np.array(sample, dtype=np.int64),
        np.array(target, dtype=np.int64),
        np.array(first, dtype=np.int64),
        *(np.ascontiguousarray(flat[:, k]) for k in range(3)),
    )


def _entries(
    vectors: FloatArray, hopeless: Iterable[int], samples: Samples
) -> list[tuple[int, int, int]]:
    """A leaf's vectors as whole numbers."""
    top = float(np.abs(vectors).max(initial=0.0))
    whole = np.rint(vectors * (2.0**BITS / top)) if top > 0 else np.zeros(vectors.shape)
    row, column = np.nonzero(whole)
    found = list(
        zip(row.tolist(), column.tolist(), whole[row, column].astype(int).tolist(), strict=True)
    )
    return found + [(i, samples.labels[i], 0) for i in hopeless]


def _hopeless(claim: Removal) -> list[int]:
    """Triggers that no change within the radius loses; leaves have to name them."""
    rule = LeafRule(claim)
    triggers = (i for i, own in enumerate(claim.samples.trigger) if own)
    return [i for i in triggers if rule.lost(i, None, None, frozenset()) is None]


def _rounded_down(value: float) -> Fraction:
    """The greatest decimal of seven significant digits that does not exceed a number."""
    if not math.isfinite(value) or value <= 0:
        return Fraction(0)
    unit = Fraction(10) ** (math.floor(math.log10(value)) - 6)
    return math.floor(Fraction(value) / unit) * unit


def exact_removal(samples: Samples, norm: str, lost: int) -> Moved | None:
    """The least change by trying all choices of triggers and of classes that they are lost to.

    Raises:
        NoAnswerError: a linear program was not solved.
    """
    data = Data.of(samples, norm, PRECISION)
    best: Moved | None = None
    triggers = np.flatnonzero(data.trigger).tolist()
    for chosen in itertools.combinations(triggers, lost):
        for classes in itertools.product(*(data.others(i) for i in chosen)):
            found = least(data, dict(zip(chosen, classes, strict=True)))
            if found is not None and (best is None or found.radius < best.radius):
                best = found
    return best


def second_best(samples: Samples, norm: str) -> Moved | None:
    """The published bound: every trigger is lost to the class that comes second.

    Goldberger et al., Minimal Modifications of Deep Neural Networks using Verification, LPAR 2020.

    Raises:
        NoAnswerError: a linear program was not solved.
    """
    data = Data.of(samples, norm, PRECISION)
    triggers = np.flatnonzero(data.trigger).tolist()
    return least(
        data, {i: min(data.others(i), key=lambda c: float(data.margins[i, c])) for i in triggers}
    )


__all__ = ["Found", "NoAnswerError", "exact_removal", "least_removal", "second_best"]
