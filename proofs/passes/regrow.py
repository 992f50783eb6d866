"""Trees of input splits, grown anew where fewer splits do.

A search splits before it knows what its hints will close, and sweeps on the way.  With the
hints at hand less has to be split, and few sweeps other than those of leaves are worth their
time (``growth.py``).  Where there is not the time for that, the old tree is mended
(``mending.py``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from proofs.draft import CaseDraft, Node
from proofs.passes import preludes
from proofs.passes.edits import Work, subtrees
from proofs.passes.growth import Growth, Tree, leaves, sweeps
from proofs.passes.mending import mended
from proofs.proof import NodeKind

NARROW = 32
"""Inputs that may vary: a box of more has too many halves."""

LARGEST = 256
"""Leaves of a tree that is grown anew; of larger ones, subtrees are, as many at a time."""

GAIN, ENOUGH = 0.8, 16
"""Boxes for each leaf before up to which it pays to go on, as leaving out the sweeps above
leaves does nearly as much as growing does, and leaves that tell how many there are."""

KNOWN = (
    NodeKind.SWEEP,
    NodeKind.CLIP,
    NodeKind.CLOSE,
    NodeKind.SPLIT_INPUT,
    NodeKind.SPLIT_NEURON,
    NodeKind.SPLIT_DISJUNCT,
)
"""What may stand in a tree that is grown anew."""


def regrow(work: Work, until: float) -> bool:
    """Grow trees anew as far as that makes them cheaper to check.

    Deterministic, but for the time.  Nothing is pending in ``work`` before and after.

    Args:
        work: the draft.
        until: ``time.monotonic()`` at which to end.

    Returns:
        Whether half of the leaves or more are below trees that were grown or mended.

    Raises:
        DeadlineError: the oracle's own time is over; what was done stays.
    """
    trees, done = list[Tree](), 0
    for case in work.draft.cases:
        if len(case.trees) > 1:
            continue
        for tops in list(subtrees([case.refutation().root], LARGEST, _wanted)):
            if time.monotonic() > until or _in_vain(trees):
                break
            grown, size = _grown_in(work, case, tops, until), sum(map(leaves, tops))
            trees += grown or []
            if grown is None and mended(work, tops, until):
                done += size
    done += sum(tree.leaves for tree in trees if tree.done)
    return 2 * done >= sum(leaves(tree.root) for tree in work.draft.trees())


def _in_vain(trees: Sequence[Tree]) -> bool:
    """Whether little was gained so far."""
    before = sum(tree.before for tree in trees)
    now = sum(tree.boxes if tree.done else tree.before for tree in trees)
    return before >= ENOUGH and now > GAIN * before


def _grown_in(work: Work, case: CaseDraft, tops: Sequence[Node], until: float) -> list[Tree] | None:
    """Grow subtrees of a case anew; the whole tree, without sweeps in the prelude."""
    if list(tops) != [case.refutation().root]:
        return _grown(work, tops, until)
    before, case.prelude = case.prelude, preludes.without_sweeps(case)
    done = False
    try:
        trees = _grown(work, tops, until)
        done = trees is not None and any(tree.done for tree in trees)
    finally:
        if not done:
            case.prelude = before
    return trees


def _grown(work: Work, tops: Sequence[Node], until: float) -> list[Tree] | None:
    """Grow subtrees of a case anew, and take what is better; ``None`` for want of time."""
    states = [
        state
        for state in work.oracle.states(work.draft, tops)
        if np.count_nonzero(state.domains.batch.lower < state.domains.batch.upper) <= NARROW
    ]
    if not states:
        return []
    growth = Growth(work.oracle.trial(states[0]), states, [Tree.of(s.node) for s in states])
    with np.errstate(all="ignore"):
        if growth.seconds > until - time.monotonic():
            return None
        growth.grow(until)
    for tree in growth.trees:
        if tree.done:
            work.replace(tree.old, tree.root)
    gone = work.settle([tree.old for tree in growth.trees if tree.done])
    for tree in growth.trees:
        tree.failed = id(tree.old) in gone
    return growth.trees


def _wanted(node: Node) -> bool:
    """Whether what is below a node may be grown anew."""
    return all(under.kind in KNOWN for under in node) and sweeps(node) > 1 and leaves(node) > 1
