"""Dropping what a proof does on its way to the leaves: sweeps, clips and bound steps."""

from __future__ import annotations

from proofs.draft import Draft, Node
from proofs.oracle import Oracle
from proofs.passes.edits import Edit, keep_what_closes
from proofs.proof import NodeKind

EVERY = 4
"""Of inner sweeps, so many levels apart are kept: leaves begin from their bounds."""


def sweeps(draft: Draft, oracle: Oracle) -> int:
    """Drop sweeps above splits, where the leaves below close by their own."""
    level = levels(draft)
    chosen = [
        node
        for node in draft.nodes()
        if node.kind is NodeKind.SWEEP
        and _next(node).kind not in (NodeKind.CLOSE, NodeKind.CLIP)
        and level[id(node)] % EVERY
    ]
    return _drop(draft, oracle, chosen)


def clips(draft: Draft, oracle: Oracle) -> int:
    """Drop clips, and the sweeps that serve them alone."""
    chosen = []
    for node in draft.nodes():
        if node.kind is NodeKind.CLIP and not node.skipped:
            chosen.append(node)
            if node.children[0].kind is NodeKind.SWEEP:
                chosen.append(node.children[0])
    return _drop(draft, oracle, chosen)


def steps(draft: Draft, oracle: Oracle) -> int:
    """Drop bound steps on the way to leaves."""
    chosen = [node for node in draft.nodes() if node.kind is NodeKind.BOUND]
    return _drop(draft, oracle, chosen)


def _drop(draft: Draft, oracle: Oracle, chosen: list[Node]) -> int:
    edits = [Edit.of(node) for node in chosen]
    for node in chosen:
        node.skipped = True
    left = keep_what_closes(draft, oracle, edits)
    for tree in draft.trees():
        removed(tree.root)
    return left


def removed(root: Node) -> None:
    """Take skipped nodes out of a tree for good."""
    for node in root:
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
