"""The search's own record of its trees, and their translation into a proof."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.draft import CaseDraft, Node, Writer
from proofs.proof import Fact, NodeKind, Proof, ProofBuilder, Side, SlopeHint
from proofs.tables import Substitution
from specs.query import Query
from verifier.bounds import Domains

Array = npt.NDArray[Any]


class Kind(IntEnum):
    """What became of a node."""

    OPEN = 0
    CLOSED = 1
    INPUT = 2
    NEURON = 3
    DISJUNCT = 4
    OTHER = 5


@dataclass(frozen=True, eq=False)
class LeafHint:
    """Hints of a closed leaf.

    Attributes:
        slopes: of lines, and weights of planes, ``(n,)`` each.
        beta: multipliers of the neuron splits on the path, from the root down; float32.
        weights: of the disjunct's constraints; empty: each constraint alone.
        region: multipliers of the constraints of the case's region.
        bounds: multipliers of stored bounds: which one, of which neuron, how often.
    """

    slopes: Sequence[SlopeHint]
    beta: Array
    weights: Sequence[float] = ()
    region: Sequence[float] = ()
    bounds: Sequence[tuple[Fact, int, float]] = ()


@dataclass(frozen=True, eq=False)
class BoundStep:
    """Bounds of one side of some neurons of a tensor, by slopes of their own.

    Attributes:
        target: pre-activation tensor; ``rows``: its entries; ``side``: which bound.
        slopes: of lines, and weights of planes, ``(rows, n)`` each.
    """

    target: int
    rows: Array
    side: Side
    slopes: Sequence[SlopeHint]


@dataclass(frozen=True, eq=False)
class Feedback:
    """Bounds of some neurons by multiples of a leaf's row.

    Attributes:
        neurons: ``m`` of one tensor; ``exponents``: ``(2, m)``: how often the row counts for
            their lower and upper bounds, as powers of two.
        hint: the row; its weights are those of the constraints, also where there is one.
    """

    neurons: Sequence[int]
    exponents: Array
    hint: LeafHint


@dataclass(frozen=True, eq=False)
class Open:
    """A leaf of an old proof that has to be searched again.

    Attributes:
        node: its number in the tree.
        state: a single domain with bounds of all neurons, as the kernel knows them there.
        hints: those that were not enough.
    """

    node: int
    state: Domains
    hints: Substitution | None


@dataclass(frozen=True)
class Sweep:
    """All unstable neurons are bounded anew."""


class Tree:
    """Trees of all cases in one set of columns; nodes are numbered as they are made."""

    def __init__(self, neuron_starts: Mapping[int, int]) -> None:
        """``neuron_starts``: number of the first neuron of every pre-activation tensor."""
        self._starts = sorted((start, tensor) for tensor, start in neuron_starts.items())
        self.kind: list[int] = []
        self.arg: list[int] = []
        self.child: list[int] = []
        self.parent: list[int] = []
        self.swept: list[bool] = []
        self.points: dict[int, float] = {}
        self.hints: dict[int, LeafHint] = {}
        self.tightened: dict[int, list[LeafHint | Feedback | Sweep | Node | None]] = {}
        self.roots: dict[int, int] = {}
        self.preludes: dict[int, list[BoundStep]] = {}
        self.old: dict[int, Node] = {}  # leaves and OTHER splits of an old proof, as they were
        self.old_cases: dict[int, CaseDraft] = {}  # their preludes and lemmas
        self._written: dict[int, int] = {}

    def add_root(self, case: int) -> int:
        """An open root for a case; its sweep is the case's prelude."""
        self.roots[case] = self._add(-1, False)
        return self.roots[case]

    def split(
        self,
        node: int,
        kind: Kind,
        arg: int,
        count: int = 2,
        swept: bool = False,
        point: float = 0.0,
    ) -> int:
        """Give an open node ``count`` children; returns the first one's number.

        Args:
            arg: input entry, or neuron number.
            swept: whether the children's bounds are improved by a sweep.
            point: where a neuron is split.
        """
        first = len(self.kind)
        if point:
            self.points[node] = point
        self.kind[node], self.arg[node], self.child[node] = kind, arg, first
        for _ in range(count):
            self._add(node, swept)
        return first

    def clip(self, node: int, hint: LeafHint | None) -> None:
        """Clip an open node's region, after what was done there before."""
        self.tightened.setdefault(node, []).append(hint)

    def sweep(self, node: int) -> None:
        """Sweep in an open node, after what was done there before."""
        self.tightened.setdefault(node, []).append(Sweep())

    def feed(self, node: int, feedback: Feedback) -> None:
        """Bound neurons in an open node, after what was done there before."""
        self.tightened.setdefault(node, []).append(feedback)

    def close(self, node: int, hint: LeafHint | None = None) -> None:
        """Mark a leaf as closed."""
        self.kind[node] = Kind.CLOSED
        if hint is not None:
            self.hints[node] = hint

    def open(self, node: int) -> None:
        """Mark a closed leaf as open again."""
        self.kind[node] = Kind.OPEN
        self.hints.pop(node, None)
        self.old.pop(node, None)

    def locate(self, neuron: int) -> tuple[int, int]:
        """Pre-activation tensor and entry of a neuron."""
        start, tensor = self._starts[bisect_right(self._starts, (neuron, 1 << 62)) - 1]
        return tensor, neuron - start

    def path(self, node: int) -> list[tuple[int, int]]:
        """Ancestors from the root down, each with which of its children is on the path."""
        steps = []
        while self.parent[node] >= 0:
            above = self.parent[node]
            steps.append((above, node - self.child[above]))
            node = above
        return steps[::-1]

    def attached(self, node: int) -> bool:
        """Whether a node still belongs to its tree: what was above it was not opened again."""
        while (above := self.parent[node]) >= 0:
            count = self.arg[above] if self.kind[above] == Kind.DISJUNCT else 2
            if self.kind[above] <= Kind.CLOSED or not 0 <= node - self.child[above] < count:
                return False
            node = above
        return True

    def case_of(self, node: int) -> int:
        """The case in whose tree a node stands."""
        while self.parent[node] >= 0:
            node = self.parent[node]
        return next(case for case, root in self.roots.items() if root == node)

    def written(self, position: int) -> int:
        """The node that was written at a position of the last proof's node arrays."""
        return self._written[position]

    def open_leaves(self) -> int:
        """How many leaves are open."""
        return self.kind.count(Kind.OPEN)

    def proof(self, query: Query, tick: Callable[[], None] = lambda: None) -> Proof:
        """All trees as a proof; open leaves become holes.

        ``tick`` is called now and then and may raise to stop it.
        """
        writer = Writer(query)
        builder = writer.builder
        self._written = {}
        position = 0
        for case in sorted(self.roots):
            root = self.roots[case]
            steps, old = self.preludes.get(case, []), self.old_cases.get(case)
            needs = root in self.hints or root in self.tightened or steps or old
            if self.kind[root] == Kind.CLOSED and not needs:
                continue
            if old is not None:
                writer.begin(old)
                for lemma in old.trees:
                    writer.tree(lemma)
                    position += sum(1 for _ in lemma.root)
            else:
                prelude = [(NodeKind.SWEEP, 0)]
                prelude += [(NodeKind.BOUND, _write_step(builder, step)) for step in steps]
                builder.begin_case(case, prelude)
            builder.begin_tree()
            position = self._write(writer, root, position, tick)
        return builder.finish()

    def _write(self, writer: Writer, root: int, position: int, tick: Callable[[], None]) -> int:
        builder = writer.builder
        stack = [root]
        while stack:
            tick()
            node = stack.pop()
            kind = self.kind[node]
            if self.swept[node] and kind != Kind.OPEN:
                builder.sweep()
                position += 1
            if kind != Kind.OPEN:
                for done in self.tightened.get(node, ()):
                    if isinstance(done, Feedback):
                        builder.bound(self._write_feedback(builder, done))
                    elif isinstance(done, Sweep):
                        builder.sweep()
                    elif isinstance(done, Node):
                        writer.node(done)
                    else:
                        builder.clip(_write_leaf(builder, done))
                    position += 1
            if kind == Kind.OPEN:
                builder.hole()
            elif node in self.old:
                writer.node(self.old[node])
            elif kind == Kind.CLOSED:
                builder.close(_write_leaf(builder, self.hints.get(node)))
            elif kind == Kind.INPUT:
                builder.split_input(self.arg[node])
            elif kind == Kind.NEURON:
                point = self.points.get(node, 0.0)
                builder.split_neuron(*self.locate(self.arg[node]), point)
            else:
                builder.split_disjunct(self.arg[node])
            self._written[position] = node
            position += 1
            count = self.arg[node] if kind == Kind.DISJUNCT else 2
            if kind > Kind.CLOSED:
                stack += reversed(range(self.child[node], self.child[node] + count))
        return position

    def _write_feedback(self, builder: ProofBuilder, done: Feedback) -> int:
        places = [self.locate(neuron) for neuron in done.neurons]
        hint = done.hint
        unsafe = [(Fact.UNSAFE, index, value) for index, value in enumerate(hint.weights)]
        row = builder.substitution(hint.slopes, _multipliers(hint) + unsafe)
        rows = np.array([entry for _, entry in places])
        return builder.step(
            places[0][0], rows, substitution=row, scales=done.exponents, as_stored=True
        )

    def _add(self, parent: int, swept: bool) -> int:
        self.kind.append(Kind.OPEN)
        self.arg.append(0)
        self.child.append(-1)
        self.parent.append(parent)
        self.swept.append(swept)
        return len(self.kind) - 1


def _write_step(builder: ProofBuilder, step: BoundStep) -> int:
    hints = builder.substitution(step.slopes)
    return builder.step(step.target, step.rows, (step.side,), hints)


def _write_leaf(builder: ProofBuilder, hint: LeafHint | None) -> int | None:
    if hint is None:
        return None
    return builder.substitution(hint.slopes, _multipliers(hint), hint.weights)


def _multipliers(hint: LeafHint) -> list[tuple[Fact, int, float]]:
    splits = enumerate(np.asarray(hint.beta, dtype=np.float32))
    found = [(Fact.SPLIT, depth, float(value)) for depth, value in splits if value > 0]
    found += hint.bounds
    return found + [
        (Fact.REGION, index, value) for index, value in enumerate(hint.region) if value > 0
    ]
