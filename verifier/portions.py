"""The open leaves of an unfinished proof in portions, each searched on its own, and grafted.

What a search has handed over (:class:`verifier.options.HandOver`) is a proof with holes.  A
portion is some of them; it may be searched anywhere, and what is found there takes their place.
Nothing here needs to be trusted: the kernel checks the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proofs.check import Checked
from proofs.draft import CaseDraft, Draft, Node, TreeDraft, draft_of
from proofs.oracle import Oracle
from proofs.proof import NodeKind, Proof
from proofs.tree import DeadlineError
from proofs.witness import Witness
from specs.errors import EvidenceError
from specs.query import Query
from verifier.attack_confirm import Confirm, Confirmed
from verifier.memory import ran_out
from verifier.needs import need_torch

if TYPE_CHECKING:
    from verifier.attack_forward import FloatArray
    from verifier.bab import Progress


@dataclass(frozen=True, eq=False)
class Searched:
    """What came of a portion.

    Attributes:
        status: as of a search: ``"closed"``, ``"violated"``, ``"timeout"``, ``"exhausted"`` or
            ``"memory"``; or ``"ended"`` where it was not wanted any more.
        proof: with what was closed, and holes for all that belongs to others.
        witness: of ``"violated"``.
    """

    status: str
    proof: Proof | None = None
    witness: Witness | None = None


def holes(draft: Draft) -> list[Node]:
    """The open leaves, from the left to the right."""
    found: list[Node] = []
    for case in draft.cases:
        found += (node for node in case.refutation().root if node.kind is NodeKind.HOLE)
    return found


def dealt(leaves: Sequence[Node], count: int, number: int) -> Sequence[Node]:
    """The leaves of portion ``number`` of ``count``: neighbours, as far as numbers go."""
    return leaves[len(leaves) * number // count : len(leaves) * (number + 1) // count]


def search_portion(
    query: Query,
    proof: Proof,
    number: int,
    count: int,
    *,
    deadline: float,
    margin: float | None = None,
    device: str = "cpu",
    unwanted: Callable[[], bool] = lambda: False,
) -> Searched:
    """Search below a portion of the open leaves.

    Args:
        query: the question.
        proof: the unfinished one.
        number: of the portion, of ``count``.
        deadline: in ``time.monotonic`` seconds.
        margin: a bound counts as positive only above this; ``None``: as in any search.
        device: where the search runs.
        unwanted: asked now and then, whether to stop.

    Raises:
        MissingExtraError: torch or onnxruntime is not installed.
        EvidenceError: the unfinished proof is none of this question.
    """
    try:
        portion = _Portion(query, proof, number, count, unwanted)
        return portion.searched(deadline, margin, device)
    except Exception as error:
        if not ran_out(error):
            raise
        return Searched("memory")


class _Portion:
    def __init__(
        self,
        query: Query,
        proof: Proof,
        number: int,
        count: int,
        unwanted: Callable[[], bool],
    ) -> None:
        self._query, self._unwanted = query, unwanted
        self._draft = draft_of(query, proof)
        leaves = dealt(holes(self._draft), count, number)
        self._numbers, self._leaves = _reduced(self._draft, leaves)
        self._confirm = Confirm(query)
        self._found: Confirmed | None = None

    def searched(self, deadline: float, margin: float | None, device: str) -> Searched:
        need_torch(device)
        from verifier import bab

        oracle = Oracle(self._draft.query, deadline=deadline)
        trees = [case.refutation() for case in self._draft.cases]
        try:
            states = oracle.states(self._draft, self._leaves)
            roots = oracle.states(self._draft, [tree.root for tree in trees])
            open_ = {id(state.node) for state in states}
            for leaf in self._leaves:  # where the kernel knows that there is no point left
                if id(leaf) not in open_:
                    leaf.kind, leaf.arg = NodeKind.CLOSE, None
            search = bab.Search(
                self._query,
                deadline=deadline,
                device=device,
                settings=bab.Settings() if margin is None else bab.Settings(margin=margin),
                on_candidate=self._on_candidate,
                on_round=self._on_round,
                cases=self._numbers,
                old=self._draft,
            )
            search.extend(deadline)
            if not search.take_up(states, {state.case: state for state in roots}):
                return Searched("exhausted")
            status = search.run()
        except (DeadlineError, bab.OutOfTimeError):
            return Searched("timeout")
        if self._found is not None:
            return Searched("violated", witness=self._found.witness)
        return Searched("ended" if status == "violated" else status, search.proof())

    def _on_candidate(self, points: FloatArray) -> bool:
        for point in points:
            if self._found is None:
                self._found = self._confirm.anywhere(point)
        return self._found is not None

    def _on_round(self, far: Progress) -> bool:
        return self._unwanted()


def _reduced(draft: Draft, leaves: Sequence[Node]) -> tuple[tuple[int, ...], list[Node]]:
    """Make holes of all that does not lead to some leaves; cases that are holes go.

    Returns:
        The numbers of the cases with such leaves, and the leaves in cases that stay.
    """
    wanted = {id(leaf) for leaf in leaves}
    numbers, cases, left = [], [], []
    for case in draft.cases:
        root = case.refutation().root
        above: set[int] = set()
        for node in reversed(list(root)):
            if id(node) in wanted or any(id(child) in above for child in node.children):
                above.add(id(node))
        if id(root) not in above:
            continue
        numbers.append(case.number)
        if id(root) in wanted:  # the case was not begun; the search knows best how to
            continue
        cases.append(case)
        for node in root:
            if id(node) not in above:
                node.become(Node(NodeKind.HOLE, 0))
            elif id(node) in wanted:
                left.append(node)
    draft.cases = cases
    return tuple(numbers), left


def graft(base: Draft, part: Draft, leaves: Collection[Node]) -> None:
    """Put what a portion found in the place of its leaves.

    Args:
        base: the unfinished proof; it is changed.
        part: what came of the portion.
        leaves: of the base, those of the portion.

    Raises:
        EvidenceError: the portion is none of this proof.
    """
    mine = {id(leaf) for leaf in leaves}
    others = {case.number: case for case in part.cases}
    cases = []
    for case in base.cases:
        root, other = case.refutation().root, others.pop(case.number, None)
        if id(root) in mine:  # without a tree: it closes as it is
            cases += [] if other is None else [other]
            continue
        cases.append(case)
        if other is not None:
            _graft(root, other.refutation().root, mine)
    if others:
        raise EvidenceError("a portion has a case that the unfinished proof has not")
    base.cases = cases


def _graft(root: Node, other: Node, mine: set[int]) -> None:
    stack = [(root, other)]
    while stack:
        old, new = stack.pop()
        if id(old) in mine:
            old.become(new)
        elif not new.leaf:
            if _shape(old) != _shape(new):
                raise EvidenceError("a portion was made of another unfinished proof")
            stack += zip(old.children, new.children, strict=True)


def _shape(node: Node) -> tuple[object, ...]:
    """What copies of a node have in common."""
    arg = node.arg if isinstance(node.arg, int | tuple) else None
    return node.kind, arg, len(node.children)


def reopened(draft: Draft, nodes: Sequence[Node], checked: Checked) -> None:
    """Make holes of what the kernel rejects.

    Args:
        draft: a proof.
        nodes: by their position in it as it was written.
        checked: what the kernel said of that.
    """
    for rejected in checked.rejected:
        hole = Node(NodeKind.HOLE, 0)
        if rejected.node is not None:
            nodes[rejected.node].become(hole)
        else:
            case = CaseDraft(rejected.case, [(NodeKind.SWEEP, 0)], [TreeDraft(hole)])
            draft.cases.append(case)
    draft.cases.sort(key=lambda case: case.number)
