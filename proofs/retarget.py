"""An old proof as hints for another question: a changed network, or a changed property.

Tensors are matched by name, cases and disjuncts by number.  What has no place in the new
question is dropped piece by piece.  Nothing here needs to be trusted: the kernel says which
leaves of the result close.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from proofs.domain import Literal
from proofs.draft import CaseDraft, Draft, Node, TreeDraft, draft_of, place_without, written
from proofs.earlier import earlier
from proofs.faulty import Shares, parted, whole_budget
from proofs.forms import Place
from proofs.frame import Stop
from proofs.proof import Fact, NodeKind, Proof, neuron_tensors
from proofs.squares import with_squares_of
from proofs.tables import EMPTY, Block, Step, Substitution
from specs.errors import EvidenceError
from specs.query import Query

SQUARES = ("square_tensor", "square_scale")

Gone: TypeAlias = frozenset[int]
"""Which splits of a path were dropped, by their place on it."""


@dataclass(frozen=True, eq=False)
class Retargeted:
    """What is left of an old proof in another question.

    Attributes:
        draft: the proof as a tree.
        leaves: of the old proof; a case without a tree counts as one.
        dropped: how many pieces had no place, by what they are.
    """

    draft: Draft
    leaves: int
    dropped: Mapping[str, int]

    @cached_property
    def written(self) -> tuple[Proof, list[Node]]:
        """A proof of the new question, and the nodes by their positions in it."""
        return written(self.draft)

    @property
    def proof(self) -> Proof:
        """A proof of the new question, with holes where subtrees are gone."""
        return self.written[0]


def reused(query: Query, proof: Proof) -> Retargeted:
    """An old proof for another question.

    Args:
        query: the new question.
        proof: made for an earlier state of the network, or for another property.

    Raises:
        EvidenceError: the proof is malformed; or it does not say how large its network's
            tensors were, and does not fit the new ones.
    """
    before = earlier(query, proof)
    arrays = {**proof.arrays, **{name: proof.arrays[name][:0] for name in SQUARES}}
    old = draft_of(before, replace(proof, question=before.digest, arrays=arrays))
    dropped: Counter[str] = Counter()
    try:
        query = with_squares_of(query, proof)
    except EvidenceError:
        dropped["squares beside products"] = len(proof.arrays["square_tensor"])
    mover = _Mover(old.query, query, dropped)
    cases = [made for case in old.cases if (made := mover.case(case)) is not None]
    leaves = sum(node.leaf for node in old.nodes())
    leaves += len(query.property.cases) - len(cases)
    return Retargeted(Draft(query, cases), leaves, dict(+dropped))


@dataclass(frozen=True, eq=False)
class _Task:
    """A node of the old tree that is to be moved.

    Attributes:
        above: the new node whose child it becomes.
        disjuncts: how many remain on the path.
        depth: splits on the path before it, and those of them that are gone.
        shares: where how many faults strike on the new path.
    """

    node: Node
    above: Node
    disjuncts: int
    depth: int
    gone: Gone
    shares: Shares


class _Mover:
    """Moves the pieces of a draft to another query."""

    def __init__(self, old: Query, new: Query, dropped: Counter[str]) -> None:
        self._new, self._dropped = new, dropped
        names, tensors = [node.name for node in old.network.nodes], new.network.tensors
        self._tensors = [tensors.get(name) for name in names]
        self._nonlinear = set(new.network.nonlinear)
        self._stops = self._nonlinear | set(new.network.preactivations)
        self._budget = whole_budget(new.network)
        self._old_layers = neuron_tensors(old)
        self._old_starts = _starts(old, self._old_layers)
        layers = neuron_tensors(new)
        self._starts = dict(zip(layers, _starts(new, layers), strict=True))
        self._hints: dict[tuple[int, Gone], Substitution] = {}
        self._steps: dict[tuple[int, Gone], Step | None] = {}
        self._kept: list[object] = []  # so that no other object takes an identity

    def case(self, case: CaseDraft) -> CaseDraft | None:
        """A case of the new property; ``None`` where the empty proof has to do."""
        stated = self._new.property.cases
        if case.number >= len(stated) or not stated[case.number].unsafe:
            self._dropped["cases"] += 1
            return None
        count = len(stated[case.number].unsafe)
        prelude: list[tuple[NodeKind, int | Step]] = []
        for kind, arg in case.prelude:
            moved = self._step(arg, frozenset()) if isinstance(arg, Step) else arg
            if moved is not None:
                prelude.append((kind, moved))
        trees: dict[int, TreeDraft] = {}
        for tree in case.trees:
            literals = [self._literal(literal) for literal in tree.literals]
            known = [literal for literal in literals if literal is not None]
            if len(known) < len(literals) or (tree.disjunct is not None and tree.disjunct >= count):
                self._dropped["lemmas"] += 1
                continue
            left = count if tree.disjunct is None else 1
            root = self._tree(tree.root, left, len(known), trees)
            trees[id(tree)] = TreeDraft(root, tuple(known), tree.disjunct)
        if not any(tree.disjunct is None and not tree.literals for tree in trees.values()):
            self._dropped["cases"] += 1
            return None
        return CaseDraft(case.number, prelude, list(trees.values()))

    def _tree(self, root: Node, disjuncts: int, depth: int, trees: Mapping[int, TreeDraft]) -> Node:
        top = Node(NodeKind.HOLE, 0)
        stack = [_Task(root, top, disjuncts, depth, frozenset(), self._budget)]
        while stack:
            task = stack.pop()
            if task.node.kind is NodeKind.SPLIT_FAULTS:
                stack.extend(reversed(self._parted(task)))
                continue
            moved = self._node(task.node, task.gone, trees)
            children = task.node.children
            if moved is None:  # the first child takes its place: the lower side of a split
                gone = task.gone if len(children) == 1 else task.gone | {task.depth}
                below = replace(task, node=children[0], gone=gone)
                stack.append(replace(below, depth=task.depth + (len(children) > 1)))
                continue
            task.above.children.append(moved)
            if moved.kind is NodeKind.SPLIT_DISJUNCT:
                moved.arg = task.disjuncts
                if len(children) != task.disjuncts:
                    self._dropped["disjuncts"] += max(0, len(children) - task.disjuncts)
                    children = children[: task.disjuncts]
                missing = task.disjuncts - len(children)
                holes = [Node(NodeKind.HOLE, 0) for _ in range(missing)]
                each = [replace(task, node=n, above=moved, disjuncts=1) for n in children + holes]
            else:
                depth = task.depth + (len(children) == 2)
                each = [replace(task, node=n, above=moved, depth=depth) for n in children]
            stack.extend(reversed(each))
        return top.children[0]

    def _parted(self, task: _Task) -> list[_Task]:
        """A split of faults with as many children as the new budget asks for."""
        children, arg = task.node.children, task.node.arg
        word = arg[0] if isinstance(arg, tuple) else -1
        try:
            ways = parted(task.shares, word)
        except EvidenceError:  # nothing to split: its first child takes its place
            self._dropped["splits"] += 1
            return [replace(task, node=children[0])]
        self._dropped["splits"] += max(0, len(children) - len(ways))
        moved = Node(NodeKind.SPLIT_FAULTS, (word, len(ways)))
        task.above.children.append(moved)
        holes = [Node(NodeKind.HOLE, 0) for _ in ways[len(children) :]]
        pairs = zip(ways, [*children[: len(ways)], *holes], strict=True)
        return [replace(task, node=n, above=moved, shares=own) for own, n in pairs]

    def _node(self, node: Node, gone: Gone, trees: Mapping[int, TreeDraft]) -> Node | None:
        """A node without its children; ``None`` where its first child takes its place."""
        kind, arg = node.kind, node.arg
        if isinstance(arg, Substitution):
            return Node(kind, self._substitution(arg, gone))
        if isinstance(arg, Step):
            step = self._step(arg, gone)
            return None if step is None else Node(kind, step)
        if isinstance(arg, TreeDraft):
            cited = trees.get(id(arg))
            return Node(NodeKind.HOLE, 0) if cited is None else Node(kind, cited)
        if isinstance(arg, Literal):
            literal = self._literal(arg)
            return self._split(None if literal is None else Node(kind, literal))
        if isinstance(arg, tuple):
            place = self._place(arg)
            known = place is not None and place[0] in self._starts
            return self._split(Node(kind, place) if known else None)
        if kind is NodeKind.SPLIT_INPUT and isinstance(arg, int):
            return self._split(Node(kind, arg) if arg < self._new.network.input_size else None)
        return Node(kind, arg)

    def _split(self, made: Node | None) -> Node | None:
        self._dropped["splits"] += made is None
        return made

    def _place(self, place: Place) -> Place | None:
        tensor, index = self._tensors[place[0]], place[1]
        known = tensor is not None and index < self._new.network.sizes[tensor]
        return (tensor, index) if tensor is not None and known else None

    def _literal(self, literal: Literal) -> Literal | None:
        weights = [(self._place(place), weight) for place, weight in literal.weights]
        known = tuple((place, weight) for place, weight in weights if place is not None)
        return replace(literal, weights=known) if len(known) == len(weights) else None

    def _neuron(self, number: int) -> int | None:
        """The new number of a neuron."""
        layer = bisect_right(self._old_starts, number) - 1
        place = self._place((self._old_layers[layer], number - self._old_starts[layer]))
        if place is None or place[0] not in self._starts:
            return None
        return self._starts[place[0]] + place[1]

    def _substitution(self, hints: Substitution, gone: Gone) -> Substitution:
        key = id(hints), gone
        if key not in self._hints:
            blocks = [self._block(block) for block in hints.blocks]
            facts = [self._fact(fact, gone) for fact in hints.multipliers]
            moved = Substitution(
                tuple(block for block in blocks if block is not None),
                tuple(fact for fact in facts if fact is not None),
                hints.weights,
                self._stop(hints.stop),
            )
            self._dropped["blocks of slopes"] += len(blocks) - len(moved.blocks)
            self._dropped["multipliers"] += len(facts) - len(moved.multipliers)
            self._hints[key] = moved
            self._kept.append(hints)
        return self._hints[key]

    def _block(self, block: Block) -> Block | None:
        """Slopes of the entries that there are."""
        tensor = self._tensors[block.tensor]
        if tensor is None or tensor not in self._nonlinear:
            return None
        size, width = self._new.network.sizes[tensor], block.slopes.shape[1]
        entries = np.arange(width) if block.entries is None else block.entries
        there = entries < size
        if not there.any():
            return None
        if there.all() and (block.entries is not None or width == size):
            return replace(block, tensor=tensor)
        return replace(block, tensor=tensor, entries=entries[there], slopes=block.slopes[:, there])

    def _fact(self, fact: tuple[Fact, int, float], gone: Gone) -> tuple[Fact, int, float] | None:
        kind, index, value = fact
        if kind is Fact.SPLIT:
            place = place_without(index, gone)
            return None if place is None else (kind, place, value)
        if kind in (Fact.LOWER, Fact.UPPER):
            number = self._neuron(index)
            return None if number is None else (kind, number, value)
        return fact

    def _stop(self, stop: Stop | None) -> Stop | None:
        """Where there is no such tensor, rows are passed on to the inputs."""
        if stop is None:
            return None
        tensor = self._tensors[stop.tensor]
        if tensor is None or tensor not in self._stops:
            self._dropped["stops"] += 1
            return None
        return Stop(tensor, stop.kept[stop.kept < self._new.network.sizes[tensor]])

    def _step(self, step: Step, gone: Gone) -> Step | None:
        """A bound step, if all of its rows are there."""
        key = id(step), gone
        if key not in self._steps:
            tensor, moved = self._tensors[step.target], None
            if tensor is not None and tensor in self._starts and self._fits(step, tensor):
                hints = step.substitution
                if hints is not EMPTY:
                    hints = self._substitution(hints, gone)
                moved = replace(step, target=tensor, substitution=hints)
            self._dropped["bound steps"] += moved is None
            self._steps[key] = moved
            self._kept.append(step)
        return self._steps[key]

    def _fits(self, step: Step, tensor: int) -> bool:
        return step.rows is None or bool(step.rows.max(initial=0) < self._new.network.sizes[tensor])


def _starts(query: Query, layers: Sequence[int]) -> list[int]:
    """Number of the first neuron of every layer."""
    sizes = [query.network.sizes[layer] for layer in layers]
    return np.cumsum([0, *sizes]).tolist()[: len(sizes)]
