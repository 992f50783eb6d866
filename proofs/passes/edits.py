"""Edits that are made all at once, and taken back where leaves below them no longer close."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from proofs.draft import Argument, Draft, Node
from proofs.oracle import Oracle
from proofs.proof import NodeKind


@dataclass(frozen=True, eq=False)
class Edit:
    """What a node was before it was changed."""

    node: Node
    kind: NodeKind
    arg: Argument
    children: list[Node]
    skipped: bool

    @staticmethod
    def of(node: Node) -> Edit:
        """To be taken before the change."""
        return Edit(node, node.kind, node.arg, list(node.children), node.skipped)

    def undo(self) -> None:
        """Make the node what it was."""
        node = self.node
        node.kind, node.arg, node.skipped = self.kind, self.arg, self.skipped
        node.children = list(self.children)


def parents(draft: Draft) -> dict[int, Node]:
    """The node above each node that is no root, by identity."""
    return {id(child): node for node in draft.nodes() for child in node.children}


def keep_what_closes(
    draft: Draft, oracle: Oracle, edits: Iterable[Edit], *, first: int = 1, harmless: bool = False
) -> int:
    """Take edits back, those next to failing leaves first, until everything closes again.

    Leaves that fail with all edits above them taken back fail without them, too: they stay as
    they are.

    Args:
        first: how many edits above a failing leaf are taken back at a time; twice as many
            every time it fails again.
        harmless: whether leaves are hardly ever worse off when more edits above them are
            taken back, so that only those that failed need to be looked at again.

    Returns:
        How many edits are left.
    """
    open_ = {id(edit.node): edit for edit in edits}
    failing = oracle.failing(draft) if open_ else []
    while failing:
        above = parents(draft)
        undone: list[Node] = []
        looked: set[int] = set()
        for leaf in failing:
            taken, node = 0, above.get(id(leaf))
            for node in _upwards(leaf, above):
                if taken < first and id(node) in open_:
                    open_.pop(id(node)).undo()
                    undone.append(node)
                    taken += 1
            if taken:
                looked |= {id(node) for node in leaf}
        if not undone:
            break
        if not harmless:
            looked |= {id(node) for top in undone for node in top}
        for top in (*undone, *failing):
            looked |= {id(node) for node in _upwards(top, above)}
        first *= 2
        failing = oracle.failing(draft, looked)
    return len(open_)


def _upwards(node: Node, above: dict[int, Node]) -> Iterable[Node]:
    found: Node | None = node
    while found is not None:
        yield found
        found = above.get(id(found))
