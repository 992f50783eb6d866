"""Walking the trees of a proof, in batches of domains: the rule Split, and lemmas."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from proofs.bounds import propagate, sweep
from proofs.clip import Clipper
from proofs.domain import Domain, Literal, assume, literals, middle, stack, unstack
from proofs.facts import Facts
from proofs.frame import Batch, Frame
from proofs.proof import NodeKind, Side
from proofs.steps import Steps
from proofs.tables import Step, Substitution, Tables
from proofs.unsafe import Closer, Unsafe
from specs.enclosure import FloatArray
from specs.errors import EvidenceError, FarkasError
from specs.property import Case
from specs.query import Query


class DeadlineError(FarkasError):
    """The time limit of a check is over."""


@dataclass(frozen=True)
class Rejected:
    """A leaf that does not close.

    Attributes:
        case: of the property.
        node: position in the proof's node arrays; ``None`` for a case without a tree.
        shortfall: how far the best row of the worst disjunct stays below 0; ``None``
            where no row was there to try or a citation fails.
        reason: in words.
    """

    case: int
    node: int | None
    shortfall: float | None
    reason: str


Task = tuple[int | None, Domain]


class Walker:
    """Checks trees whose cases share a frame.

    Args:
        query: the question.
        frame: magnitudes that hold for all cases walked.
        tables: the proof's arrays; ``None``: every case has the empty proof.
        deadline: ``time.monotonic()`` after which ``DeadlineError`` is raised.
        report: called with the number of leaves done so far.
    """

    def __init__(
        self,
        query: Query,
        frame: Frame,
        tables: Tables | None,
        deadline: float | None = None,
        report: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._query, self.frame, self._tables = query, frame, tables
        self._deadline, self._report = deadline, report
        facts = Facts(query, frame, tables, self.tick)
        unsafe = Unsafe(frame, facts)
        self._steps = Steps(frame, facts, self.tick)
        self._clipper = Clipper(frame, unsafe, self.tick)
        self._closer = Closer(frame, unsafe, self.tick)
        self.rejected: list[Rejected] = []
        self.leaves = 0
        places = max(1, sum(query.network.sizes))
        self._room = max(1, frame.arithmetic.entry_budget // places)
        self._width = min(2048, self._room)

    def root(self, case: int, *, record: bool = False) -> Domain:
        """The state of a case before its prelude: its box and the intervals it implies."""
        stated = self._query.property.cases[case]
        lower, upper = stated.box()
        domain = Domain(case, lower, upper, {}, tuple(range(len(stated.unsafe))))
        domain = replace(domain, empty=bool(np.any(lower > upper)))
        batch = stack([domain])
        propagate(self.frame, batch, record=record)
        return unstack([domain], batch)[0]

    def prelude(self, domain: Domain, operations: Iterable[tuple[NodeKind, int]]) -> Domain:
        """The root state of a case; magnitudes are taken from it."""
        for kind, arg in operations:
            self.tick()
            batch = stack([domain])
            if kind is NodeKind.SWEEP and arg == 0:
                sweep(self.frame, batch, record=True, tick=self.tick)
            elif kind is NodeKind.SWEEP:
                propagate(self.frame, batch, record=True)
            else:
                self._steps.take(self._step(arg), [domain], batch)
                propagate(self.frame, batch, record=True)
            domain = unstack([domain], batch)[0]
        return domain

    def close(self, domain: Domain) -> None:
        """Check a leaf without hints, whose bounds are what they are."""
        if domain.empty:
            self.leaves += 1
        else:
            self._close([None], [domain], stack([domain]))
        self._report(self.leaves)

    def walk(self, tasks: Iterable[Task]) -> None:
        """Check subtrees, given as first node (``None``: the empty proof) and domain."""
        source = iter(tasks)
        waiting: list[Task] = []
        while True:
            while len(waiting) < self._width:
                task = next(source, None)
                if task is None:
                    break
                waiting.append(task)
            if not waiting:
                return
            self.tick()
            # Small steps where many domains wait: deep trees must not fill the memory.
            width = max(1, self._width // (1 + len(waiting) // (2 * self._room)))
            batch, waiting = waiting[-width:], waiting[:-width]
            waiting += self._advance(batch)
            self._report(self.leaves)

    def tick(self) -> None:
        """Raise when the deadline is over."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise DeadlineError("the time limit is over")

    def _advance(self, tasks: Sequence[Task]) -> list[Task]:
        """One step of every task, those of a kind together; returns what they lead to."""
        following: list[Task] = []
        operations: dict[tuple[NodeKind, int], list[Task]] = {}
        for node, domain in tasks:
            if domain.empty:
                self.leaves += 1
                continue
            kind, arg = self._node(node)
            if kind in (NodeKind.CLOSE, NodeKind.CLIP):  # hints differ within a batch
                operations.setdefault((kind, 0), []).append((node, domain))
            elif kind in (NodeKind.SWEEP, NodeKind.BOUND):
                operations.setdefault((kind, arg), []).append((node, domain))
            elif node is not None:
                following += self._branch(node, kind, arg, domain)
        for (kind, arg), group in operations.items():
            following += self._operate(kind, arg, group)
        return following

    def _operate(self, kind: NodeKind, arg: int, tasks: list[Task]) -> list[Task]:
        """Change the bounds of a batch, and close those whose next node is a CLOSE."""
        nodes, domains = [node for node, _ in tasks], [domain for _, domain in tasks]
        batch = stack(domains)
        if kind is NodeKind.SWEEP and arg == 0:
            sweep(self.frame, batch, tick=self.tick)
        elif kind is NodeKind.SWEEP:
            propagate(self.frame, batch)
        elif kind is NodeKind.BOUND:
            self._steps.take(self._step(arg), domains, batch)
        elif kind is NodeKind.CLIP:
            self._clipper.clip(domains, [self._hints(node) for node in nodes], batch)
        if kind is not NodeKind.CLOSE:
            nodes = [None if node is None else node + 1 for node in nodes]
        closing = [k for k, n in enumerate(nodes) if n is None or self._closes(n)]
        if closing:  # no need to take the batch apart
            every = len(closing) == len(nodes)
            sub = batch if every else batch.pick(np.array(closing, dtype=np.int64))
            self._close([nodes[k] for k in closing], [domains[k] for k in closing], sub)
            if every:
                return []
        held, kept = unstack(domains, batch), set(range(len(nodes))) - set(closing)
        return [(nodes[k], held[k]) for k in sorted(kept)]

    def _close(self, nodes: Sequence[int | None], domains: Sequence[Domain], batch: Batch) -> None:
        self.leaves += int(np.count_nonzero(batch.empty))
        hints = [self._hints(node) for node in nodes]
        for place, shortfall, why in self._closer.close(domains, hints, batch):
            self._done(nodes[place], domains[place], shortfall, why)

    def _node(self, node: int | None) -> tuple[NodeKind, int]:
        if node is None:  # the empty proof: sweep, then close
            return NodeKind.SWEEP, 0
        if self._tables is None:
            raise EvidenceError("the empty proof has no nodes")
        return NodeKind(int(self._tables.node_kind[node])), int(self._tables.node_arg[node])

    def _hints(self, node: int | None) -> Substitution | None:
        arg = 0 if node is None else self._node(node)[1]
        return None if not arg or self._tables is None else self._tables.substitution(arg - 1)

    def _closes(self, node: int) -> bool:
        return self._node(node)[0] is NodeKind.CLOSE

    def _step(self, number: int) -> Step:
        if self._tables is None:
            raise EvidenceError("the empty proof has no bound steps")
        return self._tables.step(number)

    def _branch(self, node: int, kind: NodeKind, arg: int, domain: Domain) -> list[Task]:
        """Children of a split, or the verdict on a leaf that is no CLOSE."""
        if self._tables is None:
            raise EvidenceError("the empty proof has no splits")
        if kind is NodeKind.HOLE:
            self._done(node, domain, None, "the proof leaves it open")
            return []
        if kind is NodeKind.CITE:
            self._done(node, domain, None, self._citation(node, arg, domain))
            return []
        if kind is NodeKind.SPLIT_DISJUNCT:
            if arg != len(domain.disjuncts):
                self._done(node, domain, None, "a disjunct split does not list every disjunct")
                return []
            children: list[Task] = []
            place = node + 1
            for disjunct in domain.disjuncts:
                children.append((place, replace(domain, disjuncts=(disjunct,))))
                place += int(self._tables.subtree[place])
            return children
        below = self._literal(kind, arg, domain)
        above = replace(below, side=Side.UPPER)
        second = node + 1 + int(self._tables.subtree[node + 1])
        return [
            (node + 1, assume(self.frame, domain, below)),
            (second, assume(self.frame, domain, above)),
        ]

    def _literal(self, kind: NodeKind, arg: int, domain: Domain) -> Literal:
        """The lower side of a split; the kernel alone makes the other one from it."""
        if self._tables is None:
            raise EvidenceError("the empty proof has no splits")
        if kind is NodeKind.SPLIT_AT:
            return self._tables.literal(arg, Side.LOWER)
        if kind is NodeKind.SPLIT_NEURON:
            return Literal(((self._tables.neuron(arg), 1.0),), 0.0, Side.LOWER)
        for tensor in self.frame.network.inputs:
            index = arg - int(self.frame.box_columns(tensor)[0])
            if 0 <= index < self.frame.network.sizes[tensor]:
                return Literal((((tensor, index), 1.0),), middle(domain, arg), Side.LOWER)
        raise EvidenceError("a split of an input that does not exist")

    def _citation(self, node: int, tree: int, domain: Domain) -> str | None:
        """Why a leaf does not follow from the tree that it cites, or ``None``."""
        tables = self._tables
        if tables is None or tree >= tables.tree_of(node):
            return "it cites a tree that is not an earlier one"
        if tables.tree_case(tree) != domain.case:
            return "it cites a tree of another case"
        disjunct = tables.tree_disjunct(tree)
        if disjunct is not None and set(domain.disjuncts) - {disjunct}:
            return "it cites a tree that does not refute all its disjuncts"
        wanted, path = tables.tree_literals(tree), literals(domain.trail)
        closest: dict[tuple[object, Side], Literal] = {}
        for literal in path if wanted else ():
            key = literal.weights, literal.side
            if key not in closest or literal.entails(closest[key]):
                closest[key] = literal
        for needed in wanted:
            found = closest.get((needed.weights, needed.side))
            if found is None or not found.entails(needed):
                return "it cites a tree whose splits are not on its path"
        return None

    def _done(self, node: int | None, domain: Domain, value: float | None, why: str | None) -> None:
        self.leaves += 1
        if why is not None:
            self.rejected.append(Rejected(domain.case, node, value, why))


def hull(cases: Iterable[Case]) -> tuple[FloatArray, FloatArray]:
    """The smallest box around the boxes of some cases."""
    lowers, uppers = zip(*(case.box() for case in cases), strict=True)
    return np.min(np.stack(lowers), axis=0), np.max(np.stack(uppers), axis=0)
