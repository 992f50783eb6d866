"""A partition that grows: a tree of splits of a box, some leaves of which are open."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from proofs.partitions.evidence import Kind, PartitionEvidence, Tree


@dataclass(eq=False)
class Growing:
    """A tree of splits; node 0 is its root, which is open at first.

    Attributes:
        kind, axis, point, disjunct: of each node, as in ``Tree``.
        lower_child: of a split; the upper one follows it.
    """

    kind: list[int] = field(default_factory=lambda: [int(Kind.OPEN)])
    axis: list[int] = field(default_factory=lambda: [-1])
    point: list[float] = field(default_factory=lambda: [0.0])
    disjunct: list[int] = field(default_factory=lambda: [-1])
    lower_child: list[int] = field(default_factory=lambda: [-1])

    def split(self, node: int, axis: int, point: float) -> int:
        """Split an open leaf; its lower child, which the upper one follows."""
        first = len(self.kind)
        self.kind[node] = int(Kind.SPLIT)
        self.axis[node], self.point[node], self.lower_child[node] = axis, point, first
        for _ in range(2):
            self.kind.append(int(Kind.OPEN))
            self.axis.append(-1)
            self.point.append(0.0)
            self.disjunct.append(-1)
            self.lower_child.append(-1)
        return first

    def close(self, node: int, kind: Kind, disjunct: int = -1) -> None:
        """Say something of an open leaf."""
        self.kind[node], self.disjunct[node] = int(kind), disjunct

    def first(self, nodes: int) -> Growing:
        """The tree as it was when it had so many nodes, with SAFE leaves."""
        kinds = [
            int(Kind.SAFE) if self.lower_child[node] >= nodes or kind != Kind.SPLIT else kind
            for node, kind in enumerate(self.kind[:nodes])
        ]
        parts = (self.axis, self.point, self.disjunct, self.lower_child)
        return Growing(kinds, *(part[:nodes] for part in parts))

    def evidence(self, question: str, claims: str) -> PartitionEvidence:
        """The partition as evidence, with leaves joined whose siblings are open as well."""
        kinds, order = self._thinned(), []
        waiting = [0]
        while waiting:
            node = waiting.pop()
            order.append(node)
            if kinds[node] == Kind.SPLIT:
                waiting += [self.lower_child[node] + 1, self.lower_child[node]]
        kind = np.array([kinds[node] for node in order], dtype=np.uint8)
        axis = np.array([self.axis[n] for n in order if kinds[n] == Kind.SPLIT], dtype=np.int32)
        point = np.array([self.point[n] for n in order if kinds[n] == Kind.SPLIT])
        unsafe = [self.disjunct[node] for node in order if kinds[node] == Kind.UNSAFE]
        arrays = {"kind": kind, "axis": axis, "point": point}
        if any(unsafe):
            arrays["disjunct"] = np.array(unsafe, dtype=np.int32)
        return PartitionEvidence(question, claims, arrays)

    def _thinned(self) -> list[int]:
        """Kinds, with OPEN for splits below which everything is open."""
        kinds = list(self.kind)
        for node in range(len(kinds) - 1, -1, -1):  # children come after their parents
            if kinds[node] == Kind.SPLIT:
                first = self.lower_child[node]
                if kinds[first] == kinds[first + 1] == Kind.OPEN:
                    kinds[node] = int(Kind.OPEN)
        return kinds

    @classmethod
    def of(cls, tree: Tree) -> Growing:
        """A tree that was read; what it says of its leaves is kept."""
        made = cls()
        waiting = [(0, 0)]
        while waiting:
            node, place = waiting.pop()
            kind = Kind(int(tree.kind[node]))
            if kind is not Kind.SPLIT:
                made.close(place, kind, int(tree.disjunct[node]))
                continue
            first = made.split(place, int(tree.axis[node]), float(tree.point[node]))
            waiting += [(node + 1, first), (int(tree.upper_child[node]), first + 1)]
        return made
