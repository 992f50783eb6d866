"""A proof as a tree of objects, to be cut down, mended and written again.

Nothing here needs to be trusted: what a draft is written to, the kernel checks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from proofs.domain import Literal
from proofs.forms import Place
from proofs.proof import NodeKind, Proof, ProofBuilder, Side, SlopeHint
from proofs.squares import with_squares_of
from proofs.tables import EMPTY, Block, Step, Substitution, Tables
from specs.enclosure import FloatArray
from specs.errors import EvidenceError
from specs.query import Query

LEAVES = (NodeKind.CLOSE, NodeKind.HOLE, NodeKind.CITE)
TWO_WAY = (NodeKind.SPLIT_INPUT, NodeKind.SPLIT_NEURON, NodeKind.SPLIT_AT)
"""Splits that facts of the kind SPLIT count."""

Argument: TypeAlias = "int | Place | Substitution | Step | Literal | TreeDraft | None"


@dataclass(eq=False, slots=True)
class Node:
    """A node of a tree; see ``FORMAT.md``.

    Attributes:
        arg: a number (SWEEP, SPLIT_INPUT), a pre-activation tensor and an index
            (SPLIT_NEURON), the lower side of a split (SPLIT_AT), hints or ``None`` (CLOSE,
            CLIP), a step (BOUND), a lemma (CITE), otherwise 0.
        skipped: whether it is left out when the draft is written; it has one child.
    """

    kind: NodeKind
    arg: Argument
    children: list[Node] = field(default_factory=list)
    skipped: bool = False

    @property
    def leaf(self) -> bool:
        """Whether it ends a path."""
        return self.kind in LEAVES

    @property
    def hints(self) -> Substitution | None:
        """Hints of a CLOSE, a CLIP or a BOUND."""
        if isinstance(self.arg, Step):
            return self.arg.substitution
        return self.arg if isinstance(self.arg, Substitution) else None

    def become(self, other: Node) -> None:
        """Take the place of another node, with what is below it."""
        self.kind, self.arg = other.kind, other.arg
        self.children, self.skipped = other.children, other.skipped

    def copy(self) -> Node:
        """This node and all below it, hints shared."""
        made = Node(self.kind, self.arg, skipped=self.skipped)
        stack = [(self, made)]
        while stack:
            old, new = stack.pop()
            new.children = [Node(c.kind, c.arg, skipped=c.skipped) for c in old.children]
            stack.extend(zip(old.children, new.children, strict=True))
        return made

    def __iter__(self) -> Iterator[Node]:
        """This node and all below it, in pre-order."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


@dataclass(eq=False)
class TreeDraft:
    """A tree: what is assumed at its root, and its nodes."""

    root: Node
    literals: tuple[Literal, ...] = ()
    disjunct: int | None = None


@dataclass(eq=False)
class CaseDraft:
    """A case: what makes its root state, and its trees, lemmas first.

    Attributes:
        number: of the case in the property.
        prelude: SWEEP with a number, BOUND with a step.
    """

    number: int
    prelude: list[tuple[NodeKind, int | Step]]
    trees: list[TreeDraft]

    def refutation(self) -> TreeDraft:
        """The tree that is no lemma; the last one, if there are several.

        Raises:
            EvidenceError: there is none.
        """
        for tree in reversed(self.trees):
            if tree.disjunct is None and not tree.literals:
                return tree
        raise EvidenceError(f"no tree refutes the whole case {self.number}")


@dataclass(eq=False)
class Draft:
    """A proof of a query; the query has the squares that the proof puts beside products."""

    query: Query
    cases: list[CaseDraft]

    def trees(self) -> Iterator[TreeDraft]:
        """All trees in order."""
        for case in self.cases:
            yield from case.trees

    def nodes(self) -> Iterator[Node]:
        """All nodes in the order in which they are written."""
        for tree in self.trees():
            yield from tree.root

    def copy(self) -> Draft:
        """A draft whose trees can be changed without changing this one's."""
        copies: dict[int, TreeDraft] = {}
        cases = []
        for case in self.cases:
            trees = []
            for tree in case.trees:
                made = TreeDraft(tree.root.copy(), tree.literals, tree.disjunct)
                copies[id(tree)] = made
                trees.append(made)
            cases.append(CaseDraft(case.number, list(case.prelude), trees))
        for node in (node for case in cases for tree in case.trees for node in tree.root):
            if isinstance(node.arg, TreeDraft):
                node.arg = copies[id(node.arg)]
        return Draft(self.query, cases)


def telling(hints: Substitution | None) -> Substitution | None:
    """Hints of a leaf, if they say anything."""
    if hints is None or hints.blocks or hints.multipliers or hints.weights or hints.stop:
        return hints
    return None


def place_without(place: int, gone: Collection[int]) -> int | None:
    """The place of a split on a path of which some are gone; ``None``: it is one of them."""
    return None if place in gone else place - sum(other < place for other in gone)


def draft_of(query: Query, proof: Proof) -> Draft:
    """A proof as a draft.

    Raises:
        EvidenceError: it is malformed, or does not fit the question.
    """
    if proof.question != query.digest:
        raise EvidenceError("the proof was made for another question")
    query = with_squares_of(query, proof)
    tables = Tables(query, proof)
    trees: dict[int, TreeDraft] = {}
    cases = []
    for position, number in enumerate(tables.cases):
        for tree in tables.trees_of(number):
            root = _tree(tables, tables.tree_root(tree), trees)
            literals = tuple(tables.tree_literals(tree))
            trees[tree] = TreeDraft(root, literals, tables.tree_disjunct(tree))
        prelude: list[tuple[NodeKind, int | Step]] = [
            (kind, tables.step(arg) if kind is NodeKind.BOUND else arg)
            for kind, arg in tables.prelude(position)
        ]
        cases.append(CaseDraft(number, prelude, [trees[t] for t in tables.trees_of(number)]))
    return Draft(query, cases)


def _tree(tables: Tables, first: int, trees: dict[int, TreeDraft]) -> Node:
    """The subtree whose first node is at a position."""
    kinds, subtree = tables.node_kind.tolist(), tables.subtree.tolist()
    made: dict[int, Node] = {}
    for position in range(first, first + subtree[first]):
        kind, number = NodeKind(kinds[position]), int(tables.node_arg[position])
        arg: Argument = number
        if kind in (NodeKind.CLOSE, NodeKind.CLIP):
            arg = tables.substitution(number - 1) if number else None
        elif kind is NodeKind.BOUND:
            arg = tables.step(number)
        elif kind is NodeKind.SPLIT_NEURON:
            arg = tables.neuron(number)
        elif kind is NodeKind.SPLIT_FAULTS:
            arg = tables.fault_split(number)
        elif kind is NodeKind.SPLIT_AT:
            arg = tables.literal(number, Side.LOWER)
        elif kind is NodeKind.CITE:
            if number not in trees:
                raise EvidenceError("it cites a tree that is not an earlier one of its case")
            arg = trees[number]
        made[position] = Node(kind, arg)
    for position, node in made.items():
        if node.leaf:
            continue
        child, end = position + 1, position + subtree[position]
        while child < end:
            node.children.append(made[child])
            child += subtree[child]
    return made[first]


def written(draft: Draft, wanted: set[int] | None = None) -> tuple[Proof, list[Node]]:
    """The proof that a draft stands for, and its nodes by their position in it.

    Nodes that are not ``wanted``, by identity, become holes, with all that is below them.
    """
    writer = Writer(draft.query, wanted)
    for case in draft.cases:
        writer.begin(case)
        for tree in case.trees:
            writer.tree(tree)
    return _in_one_unit(writer.builder.finish()), writer.nodes


def _in_one_unit(proof: Proof) -> Proof:
    """The same slopes, all in the unit of the finest block where bytes hold them: packs better."""
    slopes, exponent = proof.arrays["slope"], proof.arrays["block_exponent"]
    ends: npt.NDArray[np.int64] = proof.arrays["block_ptr"].astype(np.int64)
    length = ends[1:] - ends[:-1]
    shift = np.repeat(exponent.astype(np.int64) - int(exponent.min(initial=0)), length)
    if not slopes.size or int(shift.max()) >= BYTE:
        return proof
    shifted = slopes.astype(np.int64) << shift if slopes.dtype.kind in "iu" else None
    if shifted is None or shifted.min() < 0 or int(shifted.max()) >> BYTE:
        return proof
    unit = np.full_like(exponent, exponent.min())
    arrays = {**proof.arrays, "slope": shifted.astype(np.uint8), "block_exponent": unit}
    return replace(proof, arrays=arrays)


class Writer:
    """Writes drafts piece by piece; hints that are the same object are written once.

    Attributes:
        builder: receives them.
        nodes: those written so far, also as holes.
    """

    def __init__(self, query: Query, wanted: set[int] | None = None) -> None:
        """Nodes that are not ``wanted``, by identity, become holes."""
        self.builder = ProofBuilder(query)
        self._wanted = wanted
        self.nodes: list[Node] = []
        self._hints: dict[int, int] = {}
        self._steps: dict[int, int] = {}
        self._trees: dict[int, int] = {}

    def begin(self, case: CaseDraft) -> None:
        """Start a case, with what makes its root state; its trees are to follow."""
        prelude = [(kind, self._operation(arg)) for kind, arg in case.prelude]
        self.builder.begin_case(case.number, prelude)

    def tree(self, tree: TreeDraft) -> None:
        """A tree of the case begun."""
        literals = [(self._form(literal), literal.side) for literal in tree.literals]
        self._trees[id(tree)] = self.builder.begin_tree(literals, tree.disjunct)
        stack = [tree.root]
        while stack:
            node = stack.pop()
            if node.skipped:
                stack.append(node.children[0])
                continue
            self.nodes.append(node)
            if self._wanted is None or id(node) in self._wanted:
                self.node(node)
                stack.extend(reversed(node.children))
            else:
                self.builder.hole()

    def _operation(self, arg: int | Step) -> int:
        return self._step(arg) if isinstance(arg, Step) else arg

    def node(self, node: Node) -> None:
        """A node without what is below it."""
        builder, kind, arg = self.builder, node.kind, node.arg
        if kind in (NodeKind.CLOSE, NodeKind.CLIP):
            hints = self._substitution(arg) if isinstance(arg, Substitution) else None
            (builder.close if kind is NodeKind.CLOSE else builder.clip)(hints)
        elif kind is NodeKind.HOLE:
            builder.hole()
        elif isinstance(arg, TreeDraft):
            builder.cite(self._trees[id(arg)])
        elif isinstance(arg, Step):
            builder.bound(self._step(arg))
        elif isinstance(arg, Literal):
            builder.split_form(self._form(arg))
        elif kind is NodeKind.SWEEP:
            builder.sweep(bool(arg))
        elif kind is NodeKind.SPLIT_DISJUNCT:
            builder.split_disjunct(len(node.children))
        elif kind is NodeKind.SPLIT_FAULTS and isinstance(arg, tuple):
            builder.split_faults(arg[0], len(node.children))
        elif isinstance(arg, int) and kind is NodeKind.SPLIT_INPUT:
            builder.split_input(arg)
        elif isinstance(arg, tuple):
            builder.split_neuron(*arg)
        else:
            raise EvidenceError(f"a {kind.name} node has an argument of another kind")

    def _form(self, literal: Literal) -> int:
        entries = ((tensor, index, weight) for (tensor, index), weight in literal.weights)
        return self.builder.form(entries, literal.point)

    def _substitution(self, hints: Substitution) -> int:
        if id(hints) not in self._hints:
            self._hints[id(hints)] = self.builder.substitution(
                [_slopes(block) for block in hints.blocks],
                hints.multipliers,
                hints.weights,
                None if hints.stop is None else hints.stop.tensor,
                hints.stop.kept if hints.stop is not None and hints.stop.kept.size else None,
            )
        return self._hints[id(hints)]

    def _step(self, step: Step) -> int:
        if id(step) not in self._steps:
            hints = None if step.substitution is EMPTY else self._substitution(step.substitution)
            self._steps[id(step)] = self.builder.step(
                step.target, step.rows, step.sides, hints, step.scales, not step.propagates
            )
        return self._steps[id(step)]


def _slopes(block: Block) -> SlopeHint:
    exponent, whole = coded(block.slopes)
    return SlopeHint(block.tensor, block.side, whole, block.entries, exponent)


def slope_block(hint: SlopeHint) -> Block:
    """Slopes as a search writes them, ``(n,)``, with their exponent, as a block of one row."""
    values = np.asarray(hint.values, dtype=np.float64)
    slopes = np.ldexp(values, 0 if hint.exponent is None else hint.exponent)
    return Block(hint.tensor, hint.side, hint.indices, np.atleast_2d(slopes))


BYTE = 8
"""Bits."""

BITS = 30
"""Of slopes that have more: the rest is rounded off."""


def coded(values: FloatArray) -> tuple[int, npt.NDArray[np.float64]]:
    """Values as whole numbers of units ``2 ** exponent``, the largest unit that will do."""
    used = values[values != 0]
    if not used.size:
        return 0, values
    mantissa, exponent = np.frexp(used)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = np.ldexp((whole & -whole).astype(np.float64), exponent - 53)
    unit = max(int(np.frexp(lowest.min())[1]) - 1, int(exponent.max()) - BITS)
    return unit, np.rint(np.ldexp(values, -unit))
