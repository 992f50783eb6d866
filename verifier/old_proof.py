"""Trying an old proof on a new question, before there is any search."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from proofs.check import Checked, check_proof
from proofs.draft import CaseDraft, Draft, Node, TreeDraft
from proofs.oracle import Oracle, State
from proofs.proof import NodeKind, Proof
from proofs.retarget import reused
from specs.errors import EvidenceError
from specs.query import Query
from verifier.verdict import Reused


@dataclass(frozen=True, eq=False)
class Tried:
    """What a check found of an old proof in a new question.

    Attributes:
        reused: for the verdict.
        proof, checked: as it is in the new question; ``None``: it cannot be read there.
        rest: what a search can go on with.
    """

    reused: Reused
    proof: Proof | None = None
    checked: Checked | None = None
    rest: Rest | None = None


@dataclass(frozen=True, eq=False)
class Rest:
    """An old proof some of whose leaves are to be searched again.

    Attributes:
        draft: the proof; a lemma that fails is no part of it.
        failing: leaves of the cases' own trees.
        cases: that are in the draft, or that the empty proof leaves open.
    """

    draft: Draft
    failing: Sequence[Node]
    cases: tuple[int, ...]

    def states(self, deadline: float | None) -> tuple[list[State], Mapping[int, State]]:
        """What the kernel knows at the failing leaves, and by case at the roots of their trees.

        Raises:
            DeadlineError: the deadline came first.
        """
        oracle = Oracle(self.draft.query, deadline=deadline)
        leaves = oracle.states(self.draft, self.failing)
        among = {state.case for state in leaves}
        trees = [case.refutation() for case in self.draft.cases if case.number in among]
        roots = oracle.states(self.draft, [tree.root for tree in trees])
        return leaves, {state.case: state for state in roots}


def tried(query: Query, proof: Proof, deadline: float | None, least: float) -> Tried:
    """Check an old proof against a new question.

    Args:
        deadline: of the check, in ``time.monotonic()`` seconds.
        least: share of leaves that have to survive for going on with the others.
    """
    began = time.monotonic()
    try:
        found = reused(query, proof)
    except EvidenceError as error:
        seconds = time.monotonic() - began
        return Tried(Reused(proof.leaves, 0, seconds, why_not=str(error)))
    new, nodes = found.written
    checked = check_proof(query, new, deadline=deadline)
    rejected = [None if r.node is None else nodes[r.node] for r in checked.rejected]
    failing = {id(node) for node in rejected if node is not None}
    known = checked.ended  # one that was stopped, or found an overflow, says nothing of leaves
    closed = sum(n.leaf and n.kind is not NodeKind.HOLE and id(n) not in failing for n in nodes)
    closed += len(query.property.cases) - len(found.draft.cases) - rejected.count(None)
    seconds = time.monotonic() - began
    result = Reused(found.leaves, min(closed, found.leaves) if known else 0, seconds, found.dropped)
    if checked.valid:
        return Tried(replace(result, added=0), new, checked)
    if not known:
        return Tried(replace(result, why_not=checked.reason), new, checked)
    if result.share < least:
        return Tried(replace(result, why_not="too few to mend the others"), new, checked)
    return Tried(result, new, checked, _rest(found.draft, failing, checked))


def _rest(draft: Draft, failing: set[int], checked: Checked) -> Rest:
    """Without the lemmas that fail; what cites them fails, too."""
    cases, open_ = [], []
    for case in draft.cases:
        main, lemmas, lost = case.refutation(), [], set()
        for tree in (*(tree for tree in case.trees if tree is not main), main):
            bad = [n for n in tree.root if n.leaf and _fails(n, failing, lost)]
            if tree is main:
                open_ += bad
            elif bad:
                lost.add(id(tree))
            else:
                lemmas.append(tree)
        cases.append(CaseDraft(case.number, case.prelude, [*lemmas, main]))
    for node in open_:
        if isinstance(node.arg, TreeDraft):  # the lemma is gone
            node.kind, node.arg = NodeKind.HOLE, 0
    numbers = {case.number for case in cases}
    numbers |= {r.case for r in checked.rejected if r.node is None}
    return Rest(Draft(draft.query, cases), open_, tuple(sorted(numbers)))


def _fails(node: Node, failing: set[int], lost: set[int]) -> bool:
    cited = isinstance(node.arg, TreeDraft) and id(node.arg) in lost
    return cited or id(node) in failing
