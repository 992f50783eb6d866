"""Feedback below a root: which leaves are fed, and what the tree records of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verifier.alpha import bounded
from verifier.bab_leaves import Leaves, Root, joined
from verifier.bab_settings import Settings
from verifier.bab_tree import Tree
from verifier.bounds import Domains
from verifier.feedback import Fed, Worth, feed

AGAIN, ROOT_AGAIN = 0.3, 0.05
"""Share of what is missing by which a leaf has to gain to be fed once more."""


@dataclass(frozen=True, eq=False)
class Optimised:
    """What optimising a batch of leaves came to.

    Attributes:
        leaves: with their new multipliers.
        closed: which of them close; ``bound``: of their rows.
        points: where the rows are least; empty where nobody asked.
    """

    leaves: Leaves
    closed: Tensor
    bound: Tensor
    points: Tensor


class Feeder:
    """Feeds leaves where that pays, and learns where it does."""

    def __init__(self, tree: Tree, settings: Settings) -> None:
        self._tree, self._settings = tree, settings
        self.worth = Worth()

    def feed(
        self,
        root: Root,
        leaves: Leaves,
        attempt: Callable[[Leaves], Optimised],
        close: Callable[[Root, Leaves], None],
    ) -> tuple[Leaves, Leaves]:
        """Bound late neurons by the leaves' rows, then optimise those leaves again.

        Returns:
            Leaves that are open, and open ones that gained enough for another time.
        """
        nothing = torch.zeros(0, dtype=torch.long, device=leaves.signs.device)
        if root.late is None or not len(leaves.node):
            return leaves, leaves.take(nothing)
        begun = time.monotonic()
        problem, stored = root.problem(leaves), leaves.multipliers.rounded()
        before = bounded(problem, stored).bound
        first = not bool(leaves.signs.any())  # what is gained before any split is gained below
        due = torch.ones_like(before, dtype=torch.bool) if first else self.worth.pays(before)
        chosen, rest = due.nonzero()[:, 0], leaves.take((~due).nonzero()[:, 0])
        leaves, before = leaves.take(chosen), before[chosen]
        if not len(chosen):
            return rest, leaves
        problem, stored = problem.take(chosen), stored.take(chosen)
        settings = self._settings
        most = settings.root_feed_neurons if first else settings.feed_neurons
        room, tried = settings.work_bytes, self.worth.exponents
        fed = feed(root.nets, problem, stored, root.late, most, room, tried)
        self.worth.learn(fed.relative)
        hints = root.hints(problem, stored, leaves, self._tree, weighted=True)
        for node, gained, hint in zip(leaves.node.tolist(), fed.gained, hints, strict=True):
            if gained is not None:
                self._tree.feed(int(node), root.fed(gained, hint))
        after = torch.full_like(before, float("inf"))
        left = self._left(leaves, fed)
        again = leaves.take(nothing)
        if len(left):
            result = attempt(self._tightened(leaves, fed).take(left))
            close(root, result.leaves.take(result.closed.nonzero()[:, 0]))
            after[left] = result.bound.to(after)
            gain = after[left] - before[left]
            enough = ROOT_AGAIN if first else AGAIN
            more = ~result.closed & (gain > enough * before[left].abs())
            rest = joined(rest, result.leaves.take((~result.closed & ~more).nonzero()[:, 0]))
            again = result.leaves.take(more.nonzero()[:, 0])
        self.worth.fed(before, after, time.monotonic() - begun)
        return rest, again

    def _left(self, leaves: Leaves, fed: Fed) -> Tensor:
        """The leaves whose bounds do not contradict each other; the others are closed."""
        empty = (fed.state.lower > fed.state.upper + self._settings.margin).any(-1)
        for node in leaves.node[empty.cpu()].tolist():
            self._tree.close(int(node))
        return (~empty).nonzero()[:, 0]

    def _tightened(self, leaves: Leaves, fed: Fed) -> Leaves:
        state, count = fed.state, len(leaves.node)
        lower = torch.minimum(state.lower, state.upper)
        upper = torch.maximum(state.lower, state.upper)
        boxes = state.low.expand(count, -1), state.high.expand(count, -1)
        return replace(leaves, state=Domains(*boxes, lower, upper))
