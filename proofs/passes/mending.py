"""Sweeps above those of the leaves are left out, and what then fails is grown anew.

That takes little more than one look at the leaves, and growing a tree several; but the tree
becomes no smaller.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proofs.draft import Node
from proofs.passes import thin
from proofs.passes.edits import Work
from proofs.passes.growth import Growth, Tree, leaves, sweeps
from proofs.proof import NodeKind

FAILING = 0.5
"""Part of the leaves up to which it pays to mend what fails."""

BOXES, LEAVES = 4.0, 8.0
"""What the box of a leaf that fails may be replaced by; otherwise sweeps above it come back."""


def mended(work: Work, tops: Sequence[Node], until: float) -> bool:
    """Leave out sweeps below nodes of one case, and mend leaves that do not close without.

    Leaves that cannot be mended get back the sweeps above them, as far as they need them.

    Args:
        work: the draft; nothing is pending before and after.
        tops: the nodes.
        until: ``time.monotonic()`` at which to end.

    Returns:
        Whether it was worth it.

    Raises:
        DeadlineError: the oracle's own time is over; edits may be pending.
    """
    before, count = sum(map(sweeps, tops)), sum(map(leaves, tops))
    thin.sweeps(work, tops, count)
    failing = work.failing(tops) if work.pending else []
    if not work.pending or len(failing) > FAILING * count:
        work.give_up()
        return False
    _mend(work, failing, until)
    work.settle(tops)
    return sum(map(sweeps, tops)) < before


def _mend(work: Work, failing: Sequence[Node], until: float) -> None:
    """Grow boxes of leaves that fail anew."""
    boxes = {id(node): node for leaf in failing for node in _swept(work, leaf)}
    states = work.oracle.states(work.draft, boxes.values())
    if not states:
        return
    trees = [Tree.of(state.node, BOXES, LEAVES) for state in states]
    with np.errstate(all="ignore"):
        Growth(work.oracle.trial(states[0]), states, trees).grow(until)
    for tree in trees:
        if tree.done:
            work.replace(tree.old, tree.root)


def _swept(work: Work, leaf: Node) -> list[Node]:
    """The last sweep on the way to a leaf."""
    above = (node for node in work.upwards(leaf) if node.kind is NodeKind.SWEEP)
    return [node for node in above if not node.arg and not node.skipped][:1]
