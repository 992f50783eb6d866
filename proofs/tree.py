"""Walking the trees of a proof, in batches of domains: the rule Split, and lemmas."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from proofs.arithmetic import Arithmetic, Numbers
from proofs.bounds import propagate, sweep
from proofs.clip import Clipper
from proofs.domain import NO_NODE, TO_CLOSE, Domains, Literal, Path, assume, literals, middle
from proofs.facts import Facts
from proofs.faulty import Shares, parted
from proofs.frame import Batch, Frame, IndexArray, shares_of
from proofs.proof import NodeKind, Side
from proofs.steps import Steps
from proofs.tables import Step, Substitution, Tables
from proofs.unsafe import Closer, Unsafe
from proofs.workers import answers
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


@dataclass(eq=False)
class Found:
    """What a step, or several, lead to.

    Attributes:
        following: domains that are to be looked at next.
        leaves: how many were looked at.
        rejected: those of them that do not close.
    """

    following: list[Domains] = field(default_factory=list)
    leaves: int = 0
    rejected: list[Rejected] = field(default_factory=list)

    def reject(self, path: Path, node: int, shortfall: float | None, why: str) -> None:
        """Note a leaf that does not close."""
        named = None if node < 0 else node
        self.rejected.append(Rejected(path.case, named, shortfall, why))

    def add(self, other: Found) -> Found:
        """Put what was found elsewhere to this."""
        self.following += other.following
        self.leaves += other.leaves
        self.rejected += other.rejected
        return self


@dataclass(frozen=True, eq=False)
class Setting:
    """A walker, for another process.

    Attributes:
        seconds: that are left.
    """

    query: Query
    tables: Tables | None
    arithmetic: type[Arithmetic]
    magnitudes: tuple[Numbers | None, ...]
    seconds: float | None

    def walker(self) -> Walker:
        """A walker in this process."""
        frame = Frame(self.query.network, self.arithmetic())
        for tensor, magnitude in enumerate(self.magnitudes):
            if magnitude is not None:
                frame.record(tensor, (-magnitude[None], magnitude[None]))
        deadline = None if self.seconds is None else time.monotonic() + self.seconds
        return Walker(self.query, frame, self.tables, deadline)


PARCELS, EACH = 64, 8
"""Into how many parts a large tree is cut at most, and of how many subtrees each is made,
whatever the number of processes: so that batches, and with them the last bit of every bound,
do not depend on it."""

FILLED = 16
"""Nodes of a part, in batches: a part has narrow batches where it begins and ends."""

WORTH = 4.0
"""Seconds of work, as far as can be told, that other processes are worth being started for."""


class Walker:
    """Checks trees whose cases share a frame.

    Args:
        query: the question.
        frame: magnitudes that hold for all cases walked.
        tables: the proof's arrays; ``None``: every case has the empty proof.
        deadline: ``time.monotonic()`` after which ``DeadlineError`` is raised.
        report: called with the number of leaves done so far.
        processes: how many to use; what is found does not depend on it.
    """

    def __init__(
        self,
        query: Query,
        frame: Frame,
        tables: Tables | None,
        deadline: float | None = None,
        report: Callable[[int], None] = lambda _: None,
        processes: int = 1,
    ) -> None:
        self._query, self.frame, self._tables = query, frame, tables
        self._deadline, self._report = deadline, report
        self._processes = processes
        facts = Facts(query, frame, tables, self.tick)
        self._unsafe = unsafe = Unsafe(frame, facts)
        self._steps = Steps(frame, facts, self.tick)
        self._clipper = Clipper(frame, unsafe, self.tick)
        self._closer = Closer(frame, unsafe, self.tick)
        self.rejected: list[Rejected] = []
        self.leaves = 0
        places = max(1, sum(query.network.sizes))
        self._room = max(1, frame.arithmetic.entry_budget // places)
        self._width = min(2048, self._room)
        self._held = 8 * self._room

    def root(self, case: int, *, record: bool = False) -> Domains:
        """The state of a case before its prelude: its box and the intervals it implies."""
        stated = self._query.property.cases[case]
        domains = Domains.root(case, *stated.box(), len(stated.unsafe))
        propagate(self.frame, domains.batch, record=record)
        return domains

    def prelude(self, domains: Domains, operations: Iterable[tuple[NodeKind, int]]) -> None:
        """Improve the root state of a case; magnitudes are taken from it."""
        for kind, arg in operations:
            self.tick()
            if kind is NodeKind.SWEEP and arg == 0:
                sweep(self.frame, domains.batch, record=True, tick=self.tick)
            elif kind is NodeKind.SWEEP:
                propagate(self.frame, domains.batch, record=True)
            else:
                self._steps.take(self._step(arg), domains.paths, domains.batch)
                propagate(self.frame, domains.batch, record=True)

    def close(self, domains: Domains) -> None:
        """Check leaves without hints, whose bounds are what they are."""
        self._take(self._close(domains))

    def walk(self, roots: Iterable[Domains]) -> None:
        """Check the subtrees whose roots are given."""
        source = iter(roots)
        while waiting := list(islice(source, self._held)):
            self._walk(waiting)

    def _walk(self, waiting: list[Domains]) -> None:
        seconds, started = 0.0, time.monotonic()
        total = self._nodes(waiting)
        wanted = min(PARCELS, total // (FILLED * self._width), self._held // EACH)
        if wanted > 1:
            waiting = self._widened(waiting, EACH * wanted)
            left = self._nodes(waiting)
            seconds = (time.monotonic() - started) * left / max(1, total - left)
        parcels = self._cut(waiting, wanted)
        processes = min(self._processes, len(parcels))
        if processes > 1 and seconds > WORTH:
            done: Iterable[Found] = answers(self.setting(), parcels, processes)
        else:
            done = map(self.finish, parcels)
        for found in done:
            self._take(found)

    def finish(self, roots: list[Domains]) -> Found:
        """Check the subtrees below domains."""
        waiting, done = _Waiting(), Found()
        for root in roots:
            self._put(waiting, root, done)
        while waiting.count:
            self.tick()
            # Small steps, and depth first, where many wait: trees must not fill the memory.
            crowded = waiting.count // (2 * self._room)
            width = max(1, self._width // (1 + crowded))
            found = self._advance(*waiting.taken(width, newest=crowded > 0))
            for domains in found.following:
                self._put(waiting, domains, done)
            done.add(replace(found, following=[]))
            self._report(self.leaves + done.leaves)
        return done

    def setting(self) -> Setting:
        """What another process needs to go on."""
        frame, deadline = self.frame, self._deadline
        seconds = None if deadline is None else deadline - time.monotonic()
        magnitudes = tuple(frame.known_magnitudes())
        return Setting(self._query, self._tables, type(frame.arithmetic), magnitudes, seconds)

    def tick(self) -> None:
        """Raise when the deadline is over."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise DeadlineError("the time limit is over")

    def _widened(self, waiting: list[Domains], count: int) -> list[Domains]:
        """Take steps until so many domains wait, or none."""
        while waiting and sum(map(len, waiting)) < count:
            self.tick()
            queues, found = _Waiting(), Found()
            for domains in waiting:
                self._put(queues, domains, found)
            while queues.count:
                found.add(self._advance(*queues.taken(self._width)))
            waiting = found.following
            self._take(found)
        return waiting

    def _cut(self, waiting: list[Domains], wanted: int) -> list[list[Domains]]:
        """Subtrees in parts with about as many nodes."""
        if wanted < 2 or not waiting:
            return [waiting]
        whole = Domains.joined(waiting)
        ends = np.cumsum(self._nodes_below(whole))
        part = (ends - 1) * wanted // ends[-1]
        return [[whole.pick(np.flatnonzero(part == number))] for number in np.unique(part)]

    def _nodes(self, waiting: list[Domains]) -> int:
        return sum(int(self._nodes_below(domains).sum()) for domains in waiting)

    def _nodes_below(self, domains: Domains) -> IndexArray:
        """How many nodes each domain's subtree has."""
        if self._tables is None:
            return np.ones(len(domains), dtype=np.int64)
        return np.asarray(self._tables.subtree, dtype=np.int64)[domains.nodes]

    def _take(self, found: Found) -> None:
        self.leaves += found.leaves
        self.rejected += found.rejected
        self._report(self.leaves)

    def _put(self, waiting: _Waiting, domains: Domains, done: Found) -> None:
        """Let domains wait with those whose next step is of the same kind."""
        empty = domains.batch.empty
        done.leaves += int(np.count_nonzero(empty))
        keys: dict[_Key, list[int]] = {}
        for place in np.flatnonzero(~empty).tolist():
            keys.setdefault(self._key(int(domains.nodes[place])), []).append(place)
        for key, places in keys.items():
            every = len(places) == len(domains)
            waiting.put(key, domains if every else domains.pick(np.array(places)))

    def _key(self, node: int) -> _Key:
        kind, arg = self._node(node)
        if kind in (NodeKind.SWEEP, NodeKind.BOUND):
            return kind, arg
        if kind in (NodeKind.CLOSE, NodeKind.CLIP):  # hints differ within a batch
            return kind, 0
        return None

    def _advance(self, key: _Key, domains: Domains) -> Found:
        """One step of domains that have the same before them."""
        if key is None:
            return self._branch(domains)
        kind, arg = key
        if kind is NodeKind.CLOSE:
            return self._close(domains)
        old, nodes = domains.batch, domains.nodes
        batch = Batch(old.lower, old.upper, dict(old.bounds), old.empty, old.shares)
        if kind is NodeKind.SWEEP and arg == 0:
            sweep(self.frame, batch, tick=self.tick)
        elif kind is NodeKind.SWEEP:
            propagate(self.frame, batch)
        elif kind is NodeKind.BOUND:
            self._steps.take(self._step(arg), domains.paths, batch)
        else:
            hints = [self._hints(node) for node in nodes.tolist()]
            self._clipper.clip(domains.paths, hints, batch)
        nodes = np.where(nodes == NO_NODE, TO_CLOSE, nodes + 1)
        return Found([Domains(nodes, domains.paths, batch)])

    def _close(self, domains: Domains) -> Found:
        nodes = domains.nodes.tolist()
        found = Found(leaves=len(nodes))
        hints = [self._hints(node) for node in nodes]
        for place, shortfall, why in self._closer.close(domains.paths, hints, domains.batch):
            if why is not None:
                found.reject(domains.paths[place], nodes[place], shortfall, why)
        return found

    def _node(self, node: int) -> tuple[NodeKind, int]:
        if node == NO_NODE:  # the empty proof: sweep, then close
            return NodeKind.SWEEP, 0
        if node == TO_CLOSE:
            return NodeKind.CLOSE, 0
        if self._tables is None:
            raise EvidenceError("the empty proof has no nodes")
        return NodeKind(int(self._tables.node_kind[node])), int(self._tables.node_arg[node])

    def _hints(self, node: int) -> Substitution | None:
        arg = self._node(node)[1]
        return None if not arg or self._tables is None else self._tables.substitution(arg - 1)

    def _step(self, number: int) -> Step:
        if self._tables is None:
            raise EvidenceError("the empty proof has no bound steps")
        return self._tables.step(number)

    def _branch(self, domains: Domains) -> Found:
        """Children of splits, and the verdict on leaves that are no CLOSE."""
        if self._tables is None:
            raise EvidenceError("the empty proof has no splits")
        found, subtree = Found(), self._tables.subtree
        children: list[tuple[int, int, Path, Literal | None, Shares]] = []  # parent, node, ...
        known = shares_of(self.frame, domains.batch)
        for place, (node, path) in enumerate(
            zip(domains.nodes.tolist(), domains.paths, strict=True)
        ):
            kind, arg = self._node(node)
            why: str | None = None
            if kind is NodeKind.HOLE:
                why = "the proof leaves it open"
            elif kind is NodeKind.CITE:
                why = self._citation(node, arg, path)
            elif kind is NodeKind.SPLIT_FAULTS:
                word, count = self._tables.fault_split(arg)
                ways = parted(known[place], word)
                if count == len(ways):
                    child = node + 1
                    for shares in ways:
                        children.append((place, child, path, None, shares))
                        child += int(subtree[child])
                    continue
                why = "a split of faults does not list every number of faults"
            elif kind is not NodeKind.SPLIT_DISJUNCT:
                below, own = self._literal(kind, arg, domains.batch, place), known[place]
                children.append((place, node + 1, path, below, own))
                second = node + 1 + int(subtree[node + 1])
                children.append((place, second, path, replace(below, side=Side.UPPER), own))
                continue
            elif arg != len(path.disjuncts):
                why = "a disjunct split does not list every disjunct"
            else:
                child = node + 1
                for disjunct in path.disjuncts:
                    only = replace(path, disjuncts=(disjunct,))
                    children.append((place, child, only, None, known[place]))
                    child += int(subtree[child])
                continue
            found.leaves += 1
            if why is not None:
                found.reject(path, node, None, why)
        if children:
            parents, nodes, paths, made, shares_below = zip(*children, strict=True)
            batch = domains.batch.pick(np.array(parents))
            batch.shares = shares_below
            made_of = Domains(np.array(nodes), paths, batch)
            found.following.append(assume(self.frame, made_of, made))
        return found

    def _literal(self, kind: NodeKind, arg: int, batch: Batch, place: int) -> Literal:
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
                point = middle(batch, place, arg)
                return Literal((((tensor, index), 1.0),), point, Side.LOWER)
        raise EvidenceError("a split of an input that does not exist")

    def _citation(self, node: int, tree: int, path: Path) -> str | None:
        """Why a leaf does not follow from the tree that it cites, or ``None``."""
        tables = self._tables
        if tables is None or tree >= tables.tree_of(node):
            return "it cites a tree that is not an earlier one"
        if tables.tree_case(tree) != path.case:
            return "it cites a tree of another case"
        disjunct = tables.tree_disjunct(tree)
        if disjunct is not None and set(path.disjuncts) - {disjunct}:
            return "it cites a tree that does not refute all its disjuncts"
        wanted, splits = tables.tree_literals(tree), literals(path.trail)
        closest: dict[tuple[object, Side], Literal] = {}
        for literal in splits if wanted else ():
            key = literal.weights, literal.side
            if key not in closest or literal.entails(closest[key]):
                closest[key] = literal
        for needed in wanted:
            found = closest.get((needed.weights, needed.side))
            if found is None or not found.entails(needed):
                return "it cites a tree whose splits are not on its path"
        return None


_Key = tuple[NodeKind, int] | None
"""What comes next: an operation, with its argument where that must be the same for all of a
batch; ``None``: a split, or a leaf that is no CLOSE."""


def _turn(key: _Key) -> int:
    """Which kind of step is taken rather than others."""
    if key is None:
        return 2
    return 1 if key[0] is NodeKind.BOUND else -1 if key[0] is NodeKind.CLOSE else 0


class _Waiting:
    """Domains by what comes next."""

    def __init__(self) -> None:
        self.count = 0
        self._queues: dict[_Key, list[tuple[int, Domains]]] = {}
        self._length: dict[_Key, int] = {}
        self._put = 0

    def put(self, key: _Key, domains: Domains) -> None:
        """Add some."""
        self._put += 1
        self._queues.setdefault(key, []).append((self._put, domains))
        self._add(key, len(domains))

    def taken(self, most: int, *, newest: bool = False) -> tuple[_Key, Domains]:
        """Take the newest ones, at most so many, of those of which there are most.

        Splits come first and leaves last, so that there are more of the others.  With
        ``newest`` of those that came last.
        """
        there = [key for key, queue in self._queues.items() if queue]
        if newest:
            key = max(there, key=lambda key: self._queues[key][-1][0])
        else:
            key = max(there, key=lambda key: (_turn(key), self._length[key]))
        queue, parts, room = self._queues[key], [], most
        while queue and room:
            number, last = queue.pop()
            if len(last) > room:
                cut = len(last) - room
                queue.append((number, last.pick(np.arange(cut))))
                last = last.pick(np.arange(cut, len(last)))
            parts.append(last)
            room -= len(last)
        self._add(key, room - most)
        return key, Domains.joined(parts)

    def _add(self, key: _Key, number: int) -> None:
        self.count += number
        self._length[key] = self._length.get(key, 0) + number


def hull(cases: Iterable[Case]) -> tuple[FloatArray, FloatArray]:
    """The smallest box around the boxes of some cases."""
    lowers, uppers = zip(*(case.box() for case in cases), strict=True)
    return np.min(np.stack(lowers), axis=0), np.max(np.stack(uppers), axis=0)
