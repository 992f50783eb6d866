"""Proofs of faulty networks: a tree of budget splits over sites, and how each site is closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from proofs.draft import CaseDraft, Draft, Node, TreeDraft, written
from proofs.proof import NodeKind, Proof
from proofs.tables import Step, Substitution
from specs.query import Query
from verifier.faults.bounding import Site
from verifier.faults.renumbered import Renumbered


@dataclass(frozen=True, eq=False)
class Closing:
    """How the domain of a site is closed.

    Attributes:
        site: its words.
        hints: for each disjunct of the case, or one for all of them.
    """

    site: Site
    hints: Sequence[Substitution | None]


@dataclass(frozen=True, eq=False)
class Writer:
    """Makes trees.

    Attributes:
        steps: bound steps, in the intact network's numbers, by target in order.
        first: by target the first word behind all that strike it: what is bounded at a node that
            no fault before this word concerns holds for all sites below.
        numbers: of the question's network.
    """

    steps: Sequence[Step]
    first: Mapping[int, int]
    numbers: Renumbered

    def single(self, closings: Sequence[Closing]) -> tuple[Node, list[Node]]:
        """The tree that asks which of some sites, all words in order, the one fault strikes.

        Returns:
            Its root, and for each site the node below which it is closed.
        """
        return self._single(closings, list(dict.fromkeys(step.target for step in self.steps)), True)

    def _single(
        self, closings: Sequence[Closing], targets: Sequence[int], first: bool
    ) -> tuple[Node, list[Node]]:
        if not targets:
            nodes = [self._leaf(own.hints) for own in closings]
            return (nodes[0] if len(nodes) == 1 else self._tree(closings, nodes)), nodes
        word = self.first[targets[0]]
        count = sum(own.site[0] < word for own in closings)
        below = [self._closed(own, targets) for own in closings[:count]]
        if count == len(closings):
            return self._tree(closings, below), below
        rest, nodes = self._single(closings[count:], targets[1:], False)
        own = [step for step in self.steps if step.target == targets[0]]
        rest = self._stepped(own, rest)
        if not count:
            return rest, nodes
        before = self._tree(closings[:count], below)
        split = (closings[count].site[0], 2)
        return Node(NodeKind.SPLIT_FAULTS, split, [rest, before]), below + nodes

    def _tree(self, closings: Sequence[Closing], nodes: Sequence[Node]) -> Node:
        if len(nodes) == 1:
            return nodes[0]
        half = len(nodes) // 2
        before, behind = (
            self._tree(closings[part], nodes[part]) for part in (slice(half), slice(half, None))
        )
        return Node(NodeKind.SPLIT_FAULTS, (closings[half].site[0], 2), [behind, before])

    def _closed(self, own: Closing, targets: Sequence[int]) -> Node:
        steps = [step for step in self.steps if step.target in targets]
        return self._stepped(steps, self._leaf(own.hints))

    def _leaf(self, given: Sequence[Substitution | None]) -> Node:
        """What closes a domain whose bounds are known."""
        hints = [self.numbers.hints(own) for own in given]
        if len(hints) == 1 or all(own is None for own in hints):
            return Node(NodeKind.CLOSE, hints[0])
        return Node(NodeKind.SPLIT_DISJUNCT, 0, [Node(NodeKind.CLOSE, own) for own in hints])

    def _stepped(self, steps: Sequence[Step], below: Node) -> Node:
        for step in reversed(steps):
            below = Node(NodeKind.BOUND, self._step(step), [below])
        return Node(NodeKind.SWEEP, 1, [below])

    def _step(self, step: Step) -> Step:
        if id(step) not in self._made:
            self._made[id(step)] = self.numbers.step(step)
        return self._made[id(step)]

    @cached_property
    def _made(self) -> dict[int, Step]:
        return {}


def one_case(query: Query, root: Node, case: int = 0) -> tuple[Proof, list[Node]]:
    """The proof whose one tree has this root, and its nodes by their position."""
    prelude: list[tuple[NodeKind, int | Step]] = [(NodeKind.SWEEP, 1)]
    return written(Draft(query, [CaseDraft(case, prelude, [TreeDraft(root)])]))
