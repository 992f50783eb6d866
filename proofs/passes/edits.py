"""A draft at work: edits made all at once, and taken back where leaves no longer close."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from proofs.draft import Argument, Draft, Node, telling
from proofs.oracle import Oracle
from proofs.passes.coarse import ladder
from proofs.proof import NodeKind
from proofs.tables import Substitution


@dataclass(frozen=True, eq=False)
class _Edit:
    """What a node was before it was changed."""

    node: Node
    kind: NodeKind
    arg: Argument
    children: list[Node]
    skipped: bool

    def undo(self) -> None:
        node = self.node
        node.kind, node.arg, node.skipped = self.kind, self.arg, self.skipped
        node.children = list(self.children)


NEAR, FURTHER = 1, 2
"""Edits that are taken back above a failing leaf at first, and how many times as many next."""


class Work:
    """A draft that is being edited, part by part.

    Args:
        draft: is changed.
        oracle: says what closes.

    Attributes:
        ladder: roundings of hints, the coarsest first.
    """

    def __init__(self, draft: Draft, oracle: Oracle) -> None:
        self.draft, self.oracle = draft, oracle
        self.ladder = ladder()
        self._above = {id(child): node for node in draft.nodes() for child in node.children}
        self._made: list[Node] = []  # kept, so that nothing else takes their identity
        self._pending: dict[int, _Edit] = {}

    @property
    def pending(self) -> frozenset[int]:
        """The nodes, by identity, whose edits are not settled."""
        return frozenset(self._pending)

    def parts(self, leaves: int) -> Iterator[list[Node]]:
        """Subtrees that have about so many leaves together, in order; they cover all leaves."""
        roots = [tree.root for tree in self.draft.trees()]
        return subtrees(roots, leaves, lambda node: True)

    def failing(self, tops: Sequence[Node]) -> list[Node]:
        """The leaves below some nodes that do not close."""
        looked = {id(node) for top in tops for node in top}
        for top in tops:
            looked |= {id(node) for node in self.upwards(top)}
        return self.oracle.failing(self.draft, looked)

    def edit(self, node: Node) -> None:
        """To be called before a node is changed, so that the change can be taken back."""
        if id(node) not in self._pending:
            children = list(node.children)
            edit = _Edit(node, node.kind, node.arg, children, node.skipped)
            self._pending[id(node)] = edit

    def skip(self, node: Node) -> None:
        """Leave out an operation."""
        self.edit(node)
        node.skipped = True

    def close(self, node: Node, hints: Sequence[Substitution | None]) -> None:
        """Close a node with hints for each of the disjuncts that remain there."""
        self.edit(node)
        if all(own is hints[0] for own in hints):
            node.become(Node(NodeKind.CLOSE, telling(hints[0])))
            return
        leaves = [Node(NodeKind.CLOSE, telling(own)) for own in hints]
        self.replace(node, Node(NodeKind.SPLIT_DISJUNCT, 0, leaves))

    def replace(self, node: Node, other: Node) -> None:
        """Put another node, with what is below it, in the place of one."""
        self.edit(node)
        node.become(other)
        made = list(node)
        self._above.update((id(child), above) for above in made for child in above.children)
        self._made += made

    def settle(self, tops: Sequence[Node], failing: Sequence[Node] | None = None) -> frozenset[int]:
        """Take edits back until everything below some nodes closes again; what is left stays.

        Those next to failing leaves are taken back first, then more and more.  Leaves that
        fail with all edits above them taken back fail without them, too: they stay as they are.

        Args:
            tops: the nodes.
            failing: the leaves below them that do not close, if that is known.

        Returns:
            The nodes, by identity, whose edits were taken back.

        Raises:
            DeadlineError: the time is over.
        """
        if failing is None:
            failing = self.failing(tops) if self._pending else []
        gone: set[int] = set()
        most = NEAR
        while failing:
            undone, again = [], []
            for leaf in failing:
                near = [n for n in self.upwards(leaf) if id(n) in self._pending][:most]
                for node in near:
                    self._pending.pop(id(node)).undo()
                undone += near
                if near:
                    again.append(leaf)
            if not undone:
                break
            gone.update(map(id, undone))
            most *= FURTHER
            failing = self.failing([*again, *undone])
        for node in (node for top in tops for node in top):
            self._pending.pop(id(node), None)
        return frozenset(gone)

    def give_up(self) -> None:
        """Take back all edits that are not settled."""
        for edit in reversed(self._pending.values()):
            edit.undo()
        self._pending.clear()

    def upwards(self, node: Node) -> Iterator[Node]:
        """A node and all above it."""
        found: Node | None = node
        while found is not None:
            yield found
            found = self._above.get(id(found))

    def before(self, node: Node) -> Node | None:
        """The node above another one."""
        return self._above.get(id(node))


def subtrees(
    roots: Sequence[Node], leaves: int, wanted: Callable[[Node], bool]
) -> Iterator[list[Node]]:
    """The highest nodes that are wanted and have at most so many leaves; as many together."""
    count = leaves_below([node for root in roots for node in root])
    part: list[Node] = []
    held = 0
    stack = list(reversed(roots))
    while stack:
        node = stack.pop()
        size = count[id(node)]
        if size > leaves or not wanted(node):
            stack.extend(reversed(node.children))
            continue
        if held and held + size > leaves:
            yield part
            part, held = [], 0
        part.append(node)
        held += size
    if part:
        yield part


def leaves_below(nodes: Sequence[Node]) -> dict[int, int]:
    """How many leaves are below each of some nodes, in pre-order, by identity."""
    found: dict[int, int] = {}
    for node in reversed(nodes):
        found[id(node)] = sum(found[id(child)] for child in node.children) or 1
    return found
