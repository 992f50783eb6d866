"""Leaving out what a proof does on its way to the leaves: sweeps, clips and bound steps."""

from __future__ import annotations

from collections.abc import Iterable

from proofs.draft import Draft, Node
from proofs.passes.edits import Edit
from proofs.proof import NodeKind

EVERY = 4
"""Of sweeps above splits, so many levels apart are kept: leaves begin from their bounds."""


def sweeps(draft: Draft) -> list[Edit]:
    """Sweeps above splits, but for some that leaves begin from."""
    level = levels(draft)
    return _skipped(
        node
        for node in draft.nodes()
        if node.kind is NodeKind.SWEEP
        and level[id(node)] % EVERY
        and _next(node).kind not in (NodeKind.CLOSE, NodeKind.CLIP)
    )


def clips(draft: Draft) -> list[Edit]:
    """Clips, with the sweeps that follow them."""
    chosen = []
    for node in draft.nodes():
        if node.kind is NodeKind.CLIP:
            chosen.append(node)
            if node.children[0].kind is NodeKind.SWEEP:
                chosen.append(node.children[0])
    return _skipped(chosen)


def steps(draft: Draft) -> list[Edit]:
    """Bound steps below a root."""
    return _skipped(node for node in draft.nodes() if node.kind is NodeKind.BOUND)


def _skipped(nodes: Iterable[Node]) -> list[Edit]:
    edits = [Edit.of(node) for node in nodes if not node.skipped]
    for edit in edits:
        edit.node.skipped = True
    return edits


def remove_skipped(draft: Draft) -> None:
    """Take skipped nodes out for good."""
    for tree in draft.trees():
        for node in tree.root:
            while node.skipped:
                node.become(node.children[0])


def levels(draft: Draft) -> dict[int, int]:
    """How many splits there are at most on a way from each node to a leaf, by identity."""
    found: dict[int, int] = {}
    for tree in draft.trees():
        for node in reversed(list(tree.root)):
            below = max((found[id(child)] for child in node.children), default=0)
            found[id(node)] = below + (len(node.children) > 1)
    return found


def _next(node: Node) -> Node:
    """What comes after a node, but for operations that are skipped and other sweeps."""
    node = node.children[0]
    while node.skipped or node.kind is NodeKind.SWEEP:
        node = node.children[0]
    return node
