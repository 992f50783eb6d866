"""Edits that are made all at once, and taken back where leaves below them no longer close."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


class Work:
    """A draft that is being edited, part by part.

    Args:
        draft: is changed.
        oracle: says what closes.
    """

    def __init__(self, draft: Draft, oracle: Oracle) -> None:
        self.draft, self.oracle = draft, oracle
        self.above = {id(child): node for node in draft.nodes() for child in node.children}
        """The node above each one that was ever part of the draft, by identity."""
        self.everything = list(draft.nodes())  # what is taken out keeps its identity

    def parts(self, leaves: int) -> Iterator[list[Node]]:
        """Subtrees that have about so many leaves together, in order; they cover all leaves."""
        count: dict[int, int] = {}
        for tree in self.draft.trees():
            for node in reversed(list(tree.root)):
                count[id(node)] = sum(count[id(child)] for child in node.children) or 1
        part: list[Node] = []
        held = 0
        stack = [tree.root for tree in self.draft.trees()][::-1]
        while stack:
            node = stack.pop()
            size = count[id(node)]
            if size > leaves:
                stack.extend(reversed(node.children))
                continue
            if held and held + size > leaves:
                yield part
                part, held = [], 0
            part.append(node)
            held += size
        if part:
            yield part

    def failing(self, tops: Sequence[Node]) -> list[Node]:
        """The leaves below some nodes that do not close."""
        looked = {id(node) for top in tops for node in top}
        for top in tops:
            looked |= {id(node) for node in self.upwards(top)}
        return self.oracle.failing(self.draft, looked)

    def keep_what_closes(
        self,
        tops: Sequence[Node],
        edits: Sequence[Edit],
        *,
        first: int = 1,
        harmless: bool = False,
    ) -> int:
        """Take edits below some nodes back until everything there closes again.

        Those next to failing leaves are taken back first.  Leaves that fail with all edits
        above them taken back fail without them, too: they stay as they are.

        Args:
            first: how many edits above a failing leaf are taken back at a time; twice as many
                every time it fails again.
            harmless: whether leaves are hardly ever worse off when more edits above them are
                taken back, so that only those that failed need to be looked at again.

        Returns:
            How many edits are left.

        Raises:
            DeadlineError: the time is over; all edits are taken back.
        """
        open_ = {id(edit.node): edit for edit in edits}
        try:
            failing = self.failing(tops) if open_ else []
            while failing:
                undone, again = [], []
                for leaf in failing:
                    near = [n for n in self.upwards(leaf) if id(n) in open_][:first]
                    for node in near:
                        open_.pop(id(node)).undo()
                    undone += near
                    if near:
                        again.append(leaf)
                if not undone:
                    break
                first *= 2
                failing = self.failing(again if harmless else [*again, *undone])
        except BaseException:
            for edit in open_.values():
                edit.undo()
            raise
        return len(open_)

    def upwards(self, node: Node) -> Iterator[Node]:
        """A node and all above it."""
        found: Node | None = node
        while found is not None:
            yield found
            found = self.above.get(id(found))
