"""Leaving out what a proof does on its way to the leaves: sweeps, clips and bound steps."""

from __future__ import annotations

from collections.abc import Sequence

from proofs.draft import Draft, Node
from proofs.passes.edits import Work, leaves_below
from proofs.proof import NodeKind

KEPT = (NodeKind.CLOSE, NodeKind.CLIP)
"""What comes after a sweep that is kept."""


MANY, FEW = 3, 8
"""A sweep spares the leaves below more than it costs where they are more than this part of all,
and more than a few."""


def sweeps(work: Work, tops: Sequence[Node], most: int | None = None) -> None:
    """Sweeps after which all leaves sweep once more, but for those near the top.

    Args:
        work: the draft.
        tops: below which nodes.
        most: leaves below a sweep that is left out.
    """
    nodes = below(tops)
    count, own = leaves_below(nodes), swept(nodes)
    if most is None:
        most = max(FEW, sum(node.leaf for node in nodes) // MANY)
    for node in nodes:
        inner = node.kind is NodeKind.SWEEP and not node.skipped and _next(node).kind not in KEPT
        if inner and own[id(node.children[0])] and count[id(node)] <= most:
            work.skip(node)


def swept(nodes: Sequence[Node]) -> dict[int, bool]:
    """Whether all leaves below each of some nodes, in pre-order, are swept there."""
    found: dict[int, bool] = {}
    for node in reversed(nodes):
        sweeps = node.kind is NodeKind.SWEEP and not node.arg and not node.skipped
        below = bool(node.children) and all(found[id(child)] for child in node.children)
        found[id(node)] = sweeps or below
    return found


def clips(work: Work, tops: Sequence[Node]) -> None:
    """Clips, with the sweeps that follow them."""
    for node in below(tops):
        if node.kind is NodeKind.CLIP and not node.skipped:
            _skip_clip(work, node)


def inner_clips(work: Work, tops: Sequence[Node]) -> None:
    """Clips above splits, with the sweeps that follow them."""
    level = levels(tops)
    for node in below(tops):
        if node.kind is NodeKind.CLIP and not node.skipped and level[id(node)]:
            _skip_clip(work, node)


def _skip_clip(work: Work, node: Node) -> None:
    work.skip(node)
    if node.children[0].kind is NodeKind.SWEEP:
        work.skip(node.children[0])


def steps(work: Work, tops: Sequence[Node]) -> None:
    """Bound steps below a root."""
    for node in below(tops):
        if node.kind is NodeKind.BOUND and not node.skipped:
            work.skip(node)


def below(tops: Sequence[Node]) -> list[Node]:
    """Some nodes and all below them."""
    return [node for top in tops for node in top]


def remove_skipped(draft: Draft) -> None:
    """Take skipped nodes out for good."""
    for tree in draft.trees():
        for node in tree.root:
            while node.skipped:
                node.become(node.children[0])


def levels(tops: Sequence[Node]) -> dict[int, int]:
    """How many splits there are at most on a way from each node to a leaf, by identity."""
    found: dict[int, int] = {}
    for node in reversed(below(tops)):
        most = max((found[id(child)] for child in node.children), default=0)
        found[id(node)] = most + (len(node.children) > 1)
    return found


def _next(node: Node) -> Node:
    """What comes after a node, but for operations that are skipped and other sweeps."""
    node = node.children[0]
    while node.skipped or node.kind is NodeKind.SWEEP:
        node = node.children[0]
    return node
