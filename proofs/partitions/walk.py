"""Walking a partition: the kernel makes the children's boxes, and looks at every leaf itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from proofs.domain import Domains
from proofs.frame import IndexArray
from proofs.partitions.evidence import Kind, Tree
from proofs.partitions.prover import BoolArray, Boxes
from specs.enclosure import FloatArray
from specs.errors import EvidenceError

Look = Callable[[Domains], BoolArray]
"""Whether what is said of leaves is proved."""


@dataclass(frozen=True, eq=False)
class Leaves:
    """Leaves of a partition and their boxes.

    Attributes:
        nodes: ``(n,)`` their places in the tree.
        lower, upper: ``(n, inputs)`` their boxes, with the ends of the whole box rounded outward.
        proved: ``(n,)`` whether what the tree says of them is proved; ``False`` for OPEN ones.
    """

    nodes: IndexArray
    lower: FloatArray
    upper: FloatArray
    proved: BoolArray


def walk(
    boxes: Boxes, tree: Tree, look: Look, report: Callable[[int], None] = lambda _: None
) -> Iterator[Leaves]:
    """All leaves of a partition of a box, each once.

    Args:
        look: called with some leaves that the tree calls SAFE or UNSAFE, bounded anew.
        report: called with the number of leaves so far.

    Raises:
        EvidenceError: a split is not inside the box, or its input is a point there.
    """
    waiting = [boxes.root()]
    done = 0
    while waiting:
        boxes.tick()
        domains = _taken(waiting, boxes.width)
        nodes = domains.nodes
        tried = tree.wanted[nodes]
        if tried.any():
            some = domains if tried.all() else domains.pick(np.flatnonzero(tried))
            batch = replace(some.batch, bounds=dict(some.batch.bounds))
            boxes.tighten(batch)
            some = replace(some, batch=batch)
        ends = tree.kind[nodes] != Kind.SPLIT
        if ends.any():
            proved = np.zeros(len(nodes), dtype=bool)
            own = np.flatnonzero((ends & tried)[tried]) if tried.any() else np.zeros(0, np.int64)
            if own.size:
                proved[np.flatnonzero(ends & tried)] = look(some.pick(own))
            done += int(ends.sum())
            report(done)
            yield Leaves(
                nodes[ends], domains.batch.lower[ends], domains.batch.upper[ends], proved[ends]
            )
        if tried.any() and (inner := np.flatnonzero(~ends[tried])).size:
            waiting.append(_children(tree, some.pick(inner)))
        if (untried := np.flatnonzero(~tried & ~ends)).size:
            waiting.append(_children(tree, domains.pick(untried)))


def _taken(waiting: list[Domains], most: int) -> Domains:
    """The newest domains, at most so many."""
    parts: list[Domains] = []
    room = most
    while waiting and room:
        last = waiting.pop()
        if len(last) > room:
            cut = len(last) - room
            waiting.append(last.pick(np.arange(cut)))
            last = last.pick(np.arange(cut, len(last)))
        parts.append(last)
        room -= len(last)
    return Domains.joined(parts)


def _children(tree: Tree, domains: Domains) -> Domains:
    """Both halves of every box, lower ones first."""
    nodes, batch = domains.nodes, domains.batch
    axis, count = tree.axis[nodes], len(nodes)
    place = np.arange(count)
    low, high = batch.lower[place, axis], batch.upper[place, axis]
    given = tree.point[nodes]
    point = np.where(np.isnan(given), 0.5 * low + 0.5 * high, given)
    inside = (low < point) & (point < high)  # refuses NaN as well
    if not inside.all():
        bad = int(np.flatnonzero(~inside)[0])
        raise EvidenceError(
            f"node {nodes[bad]} splits input {axis[bad]} at {float(point[bad])!r}, which is not "
            f"inside its side, from {float(low[bad])!r} to {float(high[bad])!r}"
        )
    twice = np.concatenate([place, place])
    made = batch.pick(twice)
    made.upper[place, axis] = point
    made.lower[place + count, axis] = point
    paths = [domains.paths[k] for k in twice.tolist()]
    return Domains(np.concatenate([nodes + 1, tree.upper_child[nodes]]), paths, made)
