"""Neurons are split where a box nearly closes: nothing has to be swept for that.

A neuron is chosen for what the constraint's bound loses at its lines, as in BaBSR (Bunel, Lu,
Turkaslan, Torr, Kohli and Kumar, 2020); of a few the one whose phases come closest to closing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from proofs.domain import Domains
from proofs.draft import Node
from proofs.forms import Place
from proofs.frame import IndexArray
from proofs.proof import NodeKind
from proofs.tables import Substitution
from proofs.trial import Trial
from specs.enclosure import FloatArray

LEAVES = 3
"""How many an ending has at most: more would cost as much as a sweep of both halves."""

CANDIDATES = 4
"""Neurons that are tried."""


@dataclass(eq=False)
class _Ending:
    """A tree that is tried.

    Attributes:
        root: of the tree.
        leaves: that it will have at least.
        hints: that its leaves close with.
        failed: whether it is given up.
    """

    root: Node
    leaves: int
    hints: Substitution | None
    failed: bool = False


@dataclass(frozen=True, eq=False)
class _Open:
    """Leaves of endings that do not close, ``(B,)``."""

    endings: list[_Ending]
    nodes: list[Node]
    domains: Domains
    shortfall: FloatArray

    def pick(self, places: IndexArray) -> _Open:
        chosen = places.tolist()
        endings, nodes = [self.endings[k] for k in chosen], [self.nodes[k] for k in chosen]
        return _Open(endings, nodes, self.domains.pick(places), self.shortfall[places])


def endings(
    trial: Trial,
    domains: Domains,
    shortfall: FloatArray,
    hints: Sequence[Substitution | None],
) -> list[Node | None]:
    """Trees of splits of neurons that close domains; ``None`` where there is none so small.

    Args:
        trial: says what closes.
        domains: swept, of a single disjunct each, ``(B,)``.
        shortfall: by how much each fails to close with its hints, ``(B,)``.
        hints: which leaves are closed with.
    """
    made = [_Ending(Node(NodeKind.CLOSE, own), 2, own) for own in hints]
    nodes = [ending.root for ending in made]
    open_ = _Open(made, nodes, domains, shortfall)
    while open_.nodes:
        open_ = _split(trial, open_)
    return [None if ending.failed else ending.root for ending in made]


def _split(trial: Trial, open_: _Open) -> _Open:
    """Split each leaf that does not close once more; what is still open."""
    owner, neurons = _candidates(trial, open_)
    open_ = open_.pick(np.flatnonzero([not ending.failed for ending in open_.endings]))
    if not open_.nodes:
        return open_
    halves = trial.phases(open_.domains.pick(owner), neurons)
    hints = [open_.endings[k].hints for k in np.repeat(owner, 2).tolist()]
    found, used = _closed(trial, halves, hints)
    lacking = found.reshape(-1, 2)
    order = np.lexsort((lacking.sum(axis=1), np.count_nonzero(lacking, axis=1), owner))
    _, first = np.unique(owner[order], return_index=True)
    following: list[tuple[_Ending, Node, int]] = []
    for place, chosen in enumerate(order[first].tolist()):
        ending, node = open_.endings[place], open_.nodes[place]
        sides = [Node(NodeKind.CLOSE, used[2 * chosen + side]) for side in (0, 1)]
        node.become(Node(NodeKind.SPLIT_NEURON, neurons[chosen], sides))
        still = [side for side in (0, 1) if lacking[chosen, side] > 0]
        ending.leaves += len(still)
        ending.failed |= ending.leaves > LEAVES
        following += [(ending, sides[side], 2 * chosen + side) for side in still]
    following = [each for each in following if not each[0].failed]
    places = np.array([place for _, _, place in following], dtype=np.int64)
    rest = [ending for ending, _, _ in following], [node for _, node, _ in following]
    return _Open(*rest, halves.pick(places), found[places])


def _closed(
    trial: Trial, domains: Domains, hints: Sequence[Substitution | None]
) -> tuple[FloatArray, list[Substitution | None]]:
    """By how much domains do not close, and the hints used: none, where that is as good."""
    used: list[Substitution | None] = [None] * len(domains)
    found = trial.shortfalls(domains, used)
    found[domains.batch.empty] = 0.0
    places = [k for k in np.flatnonzero(found).tolist() if hints[k] is not None]
    if places:
        hinted = trial.shortfalls(domains.pick(np.array(places)), [hints[k] for k in places])
        for place, short in zip(places, hinted.tolist(), strict=True):
            if short < found[place]:
                found[place], used[place] = short, hints[place]
    return found, used


def _candidates(trial: Trial, open_: _Open) -> tuple[IndexArray, list[Place]]:
    """Neurons to try, and whose: positions among the endings that are not given up."""
    owner: list[int] = []
    neurons: list[Place] = []
    worthwhile = []
    losses = trial.losses(open_.domains, CANDIDATES)
    for ending, own, lacking in zip(open_.endings, losses, open_.shortfall.tolist(), strict=True):
        # If a phase is to close, the neuron has to be worth a good part of what lacks.
        worthwhile.append([place for loss, place in own if loss * LEAVES > lacking])
        ending.failed |= not worthwhile[-1]
    left = zip(worthwhile, open_.endings, strict=True)
    for place, chosen in enumerate([own for own, ending in left if not ending.failed]):
        owner += [place] * len(chosen)
        neurons += chosen
    return np.array(owner, dtype=np.int64), neurons
