"""What a proof leaves open, as phases to be refuted; and trees of clauses in its place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from proofs.draft import CaseDraft, Node, TreeDraft
from proofs.forms import Place
from proofs.proof import NodeKind
from verifier.smt.clauses import Clause, lemma, substitution
from verifier.smt.reasoner import Phase
from verifier.smt.refutation import Choice, Leaf, Refutation, leaves, refutation


class _LateError(Exception):
    """A second tree takes too long."""


@dataclass(frozen=True, eq=False)
class Hole:
    """An open leaf.

    Attributes:
        phases: of neurons split at 0 on its path; other splits only make it easier.
        disjunct: the only one that remains; ``None``: all do.
        bare: whether nothing but the case's root is above it.
    """

    node: Node
    phases: frozenset[Phase]
    disjunct: int | None
    bare: bool


def holes(case: CaseDraft, neurons: Mapping[Place, int]) -> list[Hole]:
    """The holes of a case's own tree; ``neurons``: the numbers of those that have a phase."""
    found = []
    root = case.refutation().root
    stack: list[tuple[Node, frozenset[Phase], int | None]] = [(root, frozenset(), None)]
    while stack:
        node, phases, disjunct = stack.pop()
        if node.kind is NodeKind.HOLE:
            found.append(Hole(node, phases, disjunct, node is root))
        for side, child in enumerate(node.children):
            below, only = phases, disjunct
            if node.kind is NodeKind.SPLIT_DISJUNCT and disjunct is None:
                only = side
            elif isinstance(node.arg, tuple) and node.arg in neurons:  # a neuron's split
                below = phases | {2 * neurons[node.arg] + side}
            stack.append((child, below, only))
    return found


class Filling:
    """Trees of clauses for the holes of one case.

    Args:
        clauses: of all disjuncts; ``choices``: by disjunct, which neurons the search split.
        places: of the neurons that have phases.
        disjuncts: how many the case has.
        tick: called now and then; may raise to stop.

    Attributes:
        lemmas: that the trees cite, by their clauses' identity.
        owners: by identity of the leaf that holds its hints, each clause that is used.
        leaves: of the trees, lemmas not counted.
    """

    def __init__(
        self,
        clauses: Sequence[Clause],
        choices: Mapping[int, Choice],
        places: Sequence[Place],
        disjuncts: int,
        tick: Callable[[], None],
    ) -> None:
        self._clauses, self._choices, self._places = clauses, choices, places
        self._count, self._tick = disjuncts, tick
        self._trees: list[tuple[Hole, list[Refutation]]] = []
        self._used: dict[int, int] = {}
        self.lemmas: dict[int, TreeDraft] = {}
        self.owners: dict[int, Clause] = {}
        self.leaves = 0

    def fill(self, open_: Sequence[Hole]) -> None:
        """Put trees in place of holes; those that the clauses do not close stay."""
        for hole in open_:
            hole.node.become(Node(NodeKind.HOLE, 0))
            wanted = range(self._count) if hole.disjunct is None else (hole.disjunct,)
            trees = [self._tree(disjunct, hole.phases) for disjunct in wanted]
            made = [tree for tree in trees if tree is not None]
            if len(made) == len(trees):
                self._trees.append((hole, made))
        for _, trees in self._trees:
            for tree in trees:
                self._count_uses(tree)
        for hole, trees in self._trees:
            parts = [self._node(tree, hole) for tree in trees]
            if hole.disjunct is None and self._count > 1:
                hole.node.become(Node(NodeKind.SPLIT_DISJUNCT, 0, parts))
            else:
                hole.node.become(parts[0])

    def _tree(self, disjunct: int, phases: frozenset[Phase]) -> Refutation | None:
        """The smaller one of two trees: as the search split, and as the clauses suggest."""
        own = [clause for clause in self._clauses if clause.disjunct == disjunct]
        choice = self._choices.get(disjunct, {})
        begun = time.monotonic()
        guided = refutation(own, phases, choice, self._tick)
        if guided is None:
            return refutation(own, phases, {}, self._tick)
        until = time.monotonic() + 3.0 * (time.monotonic() - begun)

        def enough() -> None:
            if time.monotonic() > until:
                raise _LateError

        try:
            free = refutation(own, phases, {}, enough, leaves(guided))
        except _LateError:
            return guided
        return guided if free is None else min(guided, free, key=leaves)

    def _count_uses(self, tree: Refutation) -> None:
        stack = [tree]
        while stack:
            node = stack.pop()
            if isinstance(node, Leaf):
                self.leaves += 1
                self._used[id(node.clause)] = self._used.get(id(node.clause), 0) + 1
            else:
                stack += [node.below, node.above]

    def _node(self, tree: Refutation, hole: Hole) -> Node:
        top = Node(NodeKind.HOLE, 0)
        stack: list[tuple[Refutation, Node, tuple[Phase, ...]]] = [(tree, top, ())]
        while stack:
            part, node, path = stack.pop()
            if isinstance(part, Leaf):
                self._close(node, part.clause, path, hole)
                continue
            node.kind, node.arg = NodeKind.SPLIT_NEURON, self._places[part.neuron]
            node.children = [Node(NodeKind.HOLE, 0), Node(NodeKind.HOLE, 0)]
            for side, below in enumerate((part.below, part.above)):
                stack.append((below, node.children[side], (*path, 2 * part.neuron + side)))
        return top

    def _close(self, node: Node, clause: Clause, path: tuple[Phase, ...], hole: Hole) -> None:
        alone = self._used[id(clause)] == 1
        if alone and hole.bare and set(path) == set(clause.phases):
            node.kind, node.arg = NodeKind.CLOSE, substitution(clause, path)
            self.owners[id(node)] = clause
            return
        if id(clause) not in self.lemmas:
            made = self.lemmas[id(clause)] = lemma(clause, self._places)
            self.owners[id(made.root)] = clause
        node.kind, node.arg = NodeKind.CITE, self.lemmas[id(clause)]
