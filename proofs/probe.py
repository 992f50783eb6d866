"""Asking the kernel "what if": leaves under other stops, and by how much they close.

Nothing here is trusted.  A probe is the kernel's own walker, which can also wait at nodes,
give up at the first leaf that stays open, or say by how much each leaf closes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from proofs.arithmetic import Arithmetic, Numbers
from proofs.check import case_root, tree_roots
from proofs.domain import Domains, Literal, Path
from proofs.facts import Facts
from proofs.frame import Batch, Frame, Stop
from proofs.outward import Outward
from proofs.proof import Fact, NodeKind, Proof, Side
from proofs.squares import with_squares_of
from proofs.substitution import Backward, chunks, linearize, substitute
from proofs.tables import EMPTY, Substitution, Tables
from proofs.tree import Found, Walker
from proofs.unsafe import Closer, Group, Unsafe
from specs.enclosure import FloatArray
from specs.errors import FarkasError
from specs.query import Query

Look = Callable[[Group, Sequence[int], Sequence[Substitution | None]], None]
"""Takes a group of rows, and the nodes and hints of its places."""


class OpenLeafError(FarkasError):
    """A leaf does not close, and that is all that was asked."""


class Probe(Walker):
    """A walker over the trees of one case.

    Attributes:
        stop: where CLOSE and CLIP stop substituting, in place of what the proof says.
        waits: whether to wait, in ``held``, at every node that ``stop`` makes a difference to.
        hasty: whether to raise ``OpenLeafError`` at the first leaf that does not close.
        look: called, instead of closing, with every group of rows that leaves are to be
            closed with, and the nodes and hints of its places.
        splits: takes the lower side of every split, by node.
    """

    def __init__(
        self, query: Query, tables: Tables, deadline: float | None, arithmetic: Arithmetic
    ) -> None:
        super().__init__(query, Frame(query.network, arithmetic), tables, deadline)
        self.stop: Stop | None = None
        self.waits = self.hasty = False
        self.held: list[Domains] = []
        self.look: Look | None = None
        self.splits: dict[int, Literal] | None = None
        self.roots: list[Domains] = []
        self._rows = _Remembering(self.frame, Facts(query, self.frame, tables, self.tick))
        self._closer = Closer(self.frame, self._rows, self.tick)

    def begin(self, position: int, case: int, tables: Tables) -> None:
        """Make the root state of a case, and of its trees."""
        root, _ = case_root(self, tables, position, case)
        self.roots = list(tree_roots(self, tables, root, tables.trees_of(case)))

    def remember(self, domains: Domains) -> None:
        """Make the rows of leaves once only, whatever ``stop`` will be."""
        self._rows.known[id(domains.batch)] = domains.batch, None

    def _hints(self, node: int) -> Substitution | None:
        found = super()._hints(node)
        return found if self.stop is None else replace(found or EMPTY, stop=self.stop)

    def _advance(self, key: Any, domains: Domains) -> Found:
        if self.waits and key is not None and key[0] in (NodeKind.CLOSE, NodeKind.CLIP):
            self.held.append(domains)
            return Found()
        found = super()._advance(key, domains)
        if self.hasty and found.rejected:
            raise OpenLeafError(found.rejected[0].reason)
        if key is None and self.splits is not None:
            for children in found.following:
                for node, path in zip(children.nodes.tolist(), children.paths, strict=True):
                    if path.trail is not None and path.trail.literal.side is Side.LOWER:
                        self.splits[node - 1] = path.trail.literal  # its parent is before it
        return found

    def _close(self, domains: Domains) -> Found:
        if self.look is None:
            return super()._close(domains)
        nodes = domains.nodes.tolist()
        hints = [self._hints(node) for node in nodes]
        for group in self._rows.groups(domains.paths, hints, domains.batch):
            places = group.places.tolist()
            self.look(group, [nodes[k] for k in places], [hints[k] for k in places])
        return Found(leaves=len(nodes))


class _Remembering(Unsafe):
    """Rows of batches that are asked for again and again.

    Attributes:
        known: by identity the batches, so that it stays theirs, and their groups.
    """

    def __init__(self, frame: Frame, facts: Facts) -> None:
        super().__init__(frame, facts)
        self.known: dict[int, tuple[Batch, list[Group] | None]] = {}

    def groups(
        self,
        paths: Sequence[Path],
        hints: Sequence[Substitution | None],
        batch: Batch,
        most: int | None = None,
    ) -> Iterator[Group]:
        """See :class:`Unsafe`; all hints stop alike where a batch is remembered."""
        held, groups = self.known.get(id(batch), (None, None))
        if held is None:
            yield from super().groups(paths, hints, batch, most)
            return
        if groups is None:
            groups = list(super().groups(paths, hints, batch, most))
            self.known[id(batch)] = held, groups
        stop = None if hints[0] is None else hints[0].stop
        for group in groups:
            yield replace(group, stop=stop)


def probes(query: Query, proof: Proof, deadline: float | None = None) -> Iterator[Probe]:
    """A probe for each case of a proof that has a tree for every case.

    Raises:
        EvidenceError: the proof does not fit the question.
        DeadlineError: the time is over.
    """
    stated = with_squares_of(query, proof)
    tables = Tables(stated, proof)
    for position, case in enumerate(tables.cases):
        probe = Probe(stated, tables, deadline, Outward())
        probe.begin(position, case, tables)
        yield probe


def slacks(probe: Probe, group: Group, hints: Sequence[Substitution | None]) -> FloatArray:
    """By how much the leaves of a group close, ``(P,)``; not positive where one does not.

    A leaf's slack is that of its worst disjunct, and a disjunct's that of its best row: the
    bound of a combination of constraints, divided by the sum of their weights.
    """
    least = substitute(
        probe.frame, group.batch, group.relaxations, group.rows, group.stop, probe.tick
    )
    found = probe.frame.arithmetic.floats_down(least)
    found = found / np.array([_total(own) for own in hints])[group.rows.owner]
    order = np.lexsort((group.disjunct, group.rows.owner))
    owner, disjunct = group.rows.owner[order], group.disjunct[order]
    change = (np.diff(owner, prepend=-1) != 0) | (np.diff(disjunct, prepend=-1) != 0)
    starts = np.flatnonzero(change)
    best = np.full(len(hints), np.inf)
    if starts.size:
        np.minimum.at(best, owner[starts], np.maximum.reduceat(found[order], starts))
    return best


def _total(hints: Substitution | None) -> float:
    """The sum of the weights of the unsafe constraints in a leaf's row."""
    if hints is None:
        return 1.0
    own = sum(max(0.0, weight) for weight in hints.weights) if hints.weights else 1.0
    again = sum(value for kind, _, value in hints.multipliers if kind is Fact.UNSAFE)
    return (own + again) or 1.0


@dataclass(eq=False)
class Survey:
    """What there is to see in the trees of a proof, by node.

    Attributes:
        slacks: of leaves that are closed by a bound; see :func:`slacks`.
        splits: the lower sides of splits, where some point is left to split.
    """

    slacks: dict[int, float] = field(default_factory=dict)
    splits: dict[int, Literal] = field(default_factory=dict)


def survey(query: Query, proof: Proof, deadline: float | None = None) -> Survey:
    """Walk through a valid proof that has a tree for every case, and look around."""
    found = Survey()
    with np.errstate(all="ignore"):
        for probe in probes(query, proof, deadline):

            def note(
                group: Group,
                nodes: Sequence[int],
                hints: Sequence[Substitution | None],
                probe: Probe = probe,
            ) -> None:
                found.slacks.update(zip(nodes, slacks(probe, group, hints).tolist(), strict=True))

            probe.look, probe.splits = note, found.splits
            probe.walk(probe.roots)
    return found


class _Reaching(Backward):
    """Remembers the coefficients that reach the tensor at which it stops."""

    def _stopped(self, stop: Stop, rows: Numbers) -> Numbers:
        lower, upper = (np.abs(end) for end in self._stored(stop.tensor))
        sizes = self._arithmetic.floats_up(np.maximum(lower, upper))[self._rows.owner]
        self.reached = np.abs(self._arithmetic.floats_up(rows)) * sizes
        return super()._stopped(stop, rows)


def reach(probe: Probe, group: Group, tensor: int) -> FloatArray:
    """The largest ``|coefficient| * |entry|`` of each entry of a tensor in a group, ``(n,)``.

    What Banerjee, Singh and Singh (*Interpreting robustness proofs*, ICLR 2024) order the
    features of a proof by.
    """
    best = np.zeros(probe.frame.network.sizes[tensor])
    stop = Stop(tensor, np.zeros(0, dtype=np.int64))
    args = probe.frame, group.batch, group.relaxations
    for some in chunks(*args, group.rows, stop, probe.tick):
        passage = _Reaching(*args, some)
        passage.reached = np.zeros((1, best.size))
        passage.run(stop)
        best = np.maximum(best, passage.reached.max(axis=0, initial=0.0))
    return best


def sensitivity(probe: Probe, group: Group) -> FloatArray:
    """The sizes of the inputs' coefficients in the bounds of a group's rows, ``(R, inputs)``."""
    affine = linearize(
        probe.frame, group.batch, group.relaxations, group.rows, group.stop, probe.tick
    )
    return np.abs(probe.frame.arithmetic.floats_up(affine.matrix))
