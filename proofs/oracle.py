"""The kernel as an oracle: which leaves of a draft close.

What is known to close may be left out, and the root state of a case is kept as long as its
prelude stays the same, so that asking again costs what has changed.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proofs.check import ARITHMETICS, case_root, tree_roots
from proofs.domain import Domains
from proofs.draft import CaseDraft, Draft, Node, TreeDraft, written
from proofs.frame import Frame
from proofs.needed import needed
from proofs.proof import NodeKind
from proofs.tables import Substitution, Tables
from proofs.tree import Walker
from proofs.trial import Trial
from specs.query import Query

SPARE = 1.5
"""Times that the next look at leaves may take as long as the longest one so far."""

MARGIN = 1e-9
"""By how much a leaf has to close, so that it still does where rounding goes another way."""


@dataclass(frozen=True, eq=False)
class State:
    """What the kernel knows at a node of a case's tree; ``domains`` is a single one."""

    node: Node
    case: int
    domains: Domains


class Oracle:
    """Asks the kernel about drafts of one query.

    Args:
        query: with the squares that the drafts' proofs have.
        arithmetic: ``"outward"`` or ``"exact"``.
        deadline: ``time.monotonic()`` after which ``DeadlineError`` is raised.
        margin: by how much bounds have to exceed 0.
    """

    def __init__(
        self,
        query: Query,
        *,
        arithmetic: str = "outward",
        deadline: float | None = None,
        margin: float = MARGIN,
    ) -> None:
        self._query, self._deadline, self._margin = query, deadline, margin
        self._arithmetic = ARITHMETICS[arithmetic]()
        self._longest = 0.0
        self._roots: dict[int, tuple[tuple[object, ...], Frame, Domains]] = {}

    @property
    def hurried(self) -> bool:
        """Whether there may be no time for more than to see what closes."""
        if self._deadline is None:
            return False
        return time.monotonic() + SPARE * self._longest > self._deadline

    def hurry(self, deadline: float) -> None:
        """Take an earlier deadline."""
        self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)

    def failing(self, draft: Draft, among: set[int] | None = None) -> list[Node]:
        """The leaves that do not close, with what leads to them, of those that are asked for.

        Args:
            draft: the whole proof.
            among: nodes by identity; nothing is looked at below others.

        Raises:
            DeadlineError: the time is over.
            EvidenceError: a prelude proves too little, or hints are no hints.
        """
        failed: list[Node] = []
        self._walk(draft, among, among, failed, None)
        return failed

    def states(self, draft: Draft, nodes: Iterable[Node]) -> list[State]:
        """What the kernel knows before it takes nodes, none below another.

        Where it knows that there is no point left, there is no state.
        """
        wanted = {id(node) for node in nodes}
        above: set[int] = set()  # or wanted itself
        for tree in draft.trees():
            for node in reversed(list(tree.root)):
                if id(node) in wanted or any(id(child) in above for child in node.children):
                    above.add(id(node))
        found: list[State] = []
        self._walk(draft, above, above - wanted, [], found)
        return [state for state in found if id(state.node) in wanted]

    def closed(
        self, states: Sequence[State], hints: Sequence[Substitution | None]
    ) -> npt.NDArray[np.bool_]:
        """Which of some states close with hints of their own, ``(S,)``."""
        done = np.zeros(len(states), dtype=bool)
        for case in {state.case for state in states}:
            own = [k for k, state in enumerate(states) if state.case == case]
            walker = self.trial(states[own[0]])
            domains = Domains.joined([states[k].domains for k in own])
            with np.errstate(all="ignore"):
                done[own] = walker.closed(domains, [hints[k] for k in own])
        return done

    def walked(
        self,
        starts: Sequence[tuple[State, Node]],
        among: set[int] | None = None,
        keep: Collection[int] = (),
    ) -> tuple[list[Node], list[State]]:
        """Look at subtrees that stand where other nodes stood.

        Args:
            starts: what the kernel knows before the root of each, and the root; no tree is
                cited.
            among: nodes by identity; nothing is looked at below others.
            keep: splits and holes, by identity.

        Returns:
            The leaves that do not close, and what is known before the nodes in ``keep``.  Where
            the kernel knows that there is no point left, there is no state.

        Raises:
            DeadlineError: the time is over.
        """
        failed: list[Node] = []
        kept: list[State] = []
        for case in dict.fromkeys(state.case for state, _ in starts):
            own = [(state, node) for state, node in starts if state.case == case]
            draft = Draft(self._query, [CaseDraft(case, [], [TreeDraft(n) for _, n in own])])
            proof, nodes = written(draft, among)
            tables = Tables(self._query, proof)
            places = {place for place, node in enumerate(nodes) if id(node) in keep}
            walker = self._trial(self._roots[case][1], tables, places)
            joined = Domains.joined([state.domains for state, _ in own])
            first = np.array([tables.tree_root(tree) for tree in tables.trees_of(case)])
            with np.errstate(all="ignore"):
                walker.walk([Domains(first, joined.paths, joined.batch)])
            failed += _failing(walker, tables, nodes)
            kept += [State(nodes[n], case, d) for n, d in walker.kept]
        return failed, kept

    def needed(self, hints: Substitution, state: State) -> Substitution:
        """Hints without slopes that make no difference in a state."""
        return needed(self._query.network, self._arithmetic, hints, state.domains)

    def trial(self, state: State) -> Trial:
        """A walker for what is below a state."""
        return self._trial(self._roots[state.case][1], self._tables)

    def _trial(self, frame: Frame, tables: Tables, keep: Collection[int] = ()) -> Trial:
        return Trial(self._query, frame, tables, self._deadline, self._margin, keep)

    def _walk(
        self,
        draft: Draft,
        started: set[int] | None,
        among: set[int] | None,
        failed: list[Node],
        found: list[State] | None,
    ) -> None:
        began = time.monotonic()
        proof, nodes = written(draft, among)
        self._tables = tables = Tables(draft.query, proof)
        with np.errstate(all="ignore"):
            for position, case in enumerate(draft.cases):
                frame, root = self._root(tables, position, case)
                holes = np.flatnonzero(tables.node_kind == NodeKind.HOLE)
                walker = self._trial(frame, tables, () if found is None else set(holes.tolist()))
                trees = tables.trees_of(case.number)
                starts = [
                    tree
                    for tree in trees
                    if started is None or id(nodes[tables.tree_root(tree)]) in started
                ]
                walker.walk(tree_roots(walker, tables, root, starts))
                failed += _failing(walker, tables, nodes)
                if found is not None:
                    found += [State(nodes[n], case.number, d) for n, d in walker.kept]
        self._longest = max(self._longest, time.monotonic() - began)

    def _root(self, tables: Tables, position: int, case: CaseDraft) -> tuple[Frame, Domains]:
        key = tuple(case.prelude)
        known = self._roots.get(case.number)
        if known is None or known[0] != key:
            frame = Frame(self._query.network, self._arithmetic)
            walker = Walker(self._query, frame, tables, self._deadline)
            root, _ = case_root(walker, tables, position, case.number)
            known = self._roots[case.number] = key, frame, root
        return known[1], known[2]


def _failing(walker: Walker, tables: Tables, nodes: Sequence[Node]) -> list[Node]:
    """The leaves that were looked at and do not close; holes are none."""
    places = [rejected.node for rejected in walker.rejected if rejected.node is not None]
    return [nodes[place] for place in places if not tables.is_hole(place)]
