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


def keep_what_closes(draft: Draft, oracle: Oracle, edits: Iterable[Edit]) -> int:
    """Take edits back, those next to failing leaves first, until everything closes again.

    Edits do not change which nodes lie above which.  Leaves that fail with all edits above
    them taken back fail without them, too: they stay as they are.

    Returns:
        How many edits are left.
    """
    open_ = {id(edit.node): edit for edit in edits}
    if not open_:
        return 0
    above = parents(draft)
    failing, most = oracle.failing(draft), 1
    while failing:
        undone: list[Node] = []
        for leaf in failing:
            node: Node | None = leaf
            left = most
            while node is not None and left:
                edit = open_.pop(id(node), None)
                if edit is not None:
                    edit.undo()
                    undone.append(node)
                    left -= 1
                node = above.get(id(node))
        if not undone:
            break
        most *= 2
        looked = {id(node) for top in undone for node in top}
        for node in undone:
            up = above.get(id(node))
            while up is not None and id(up) not in looked:
                looked.add(id(up))
                up = above.get(id(up))
        failing = oracle.failing(draft, looked)
    return len(open_)
