"""Evidence that is a partition of a box: a tree of splits, and what is said of its leaves.

Arrays, in the pre-order of the tree:

kind     a ``Kind`` for each node
axis     for each SPLIT the input that is split
point    for each SPLIT where; left out: every split is in the middle of the side (in float64)
disjunct for each UNSAFE leaf which disjunct of the unsafe set holds there; left out: the first
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from proofs.arrays import ArrayEvidence
from proofs.frame import IndexArray
from specs.enclosure import FloatArray
from specs.errors import EvidenceError


class Kind(IntEnum):
    """Of a node.  What is said of a leaf is tried, not believed."""

    SPLIT = 0
    SAFE = 1
    UNSAFE = 2
    OPEN = 3


@dataclass(frozen=True, eq=False)
class PartitionEvidence(ArrayEvidence):
    """A partition that is said to decide a claim."""

    format = "farkas-partition"
    subject = "partition"
    about = "a partition of a box"


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree of splits, checked to be one.

    Attributes:
        kind: ``(n,)`` a ``Kind`` for each node, in pre-order.
        upper_child: ``(n,)`` of a SPLIT; the lower child follows its parent.
        axis: ``(n,)`` of a SPLIT; -1 elsewhere.
        point: ``(n,)`` of a SPLIT; NaN: the middle.
        disjunct: ``(n,)`` of an UNSAFE leaf; -1 elsewhere.
        wanted: ``(n,)`` nodes below which, or at which, something is to be tried.
    """

    kind: npt.NDArray[np.uint8]
    upper_child: IndexArray
    axis: IndexArray
    point: FloatArray
    disjunct: IndexArray
    wanted: npt.NDArray[np.bool_]


def read_tree(evidence: ArrayEvidence, inputs: int, disjuncts: int) -> Tree:
    """The tree of evidence.

    Args:
        inputs, disjuncts: how many there are in the question.

    Raises:
        EvidenceError: it is none: nodes are missing or left over, or numbers out of range.
    """
    evidence.only("kind", "axis", "point", "disjunct")
    kind = evidence.integers("kind")
    if not kind.size:
        raise EvidenceError("array 'kind' is missing: there is no tree")
    if np.any((kind < 0) | (kind > max(Kind))):
        raise EvidenceError("array 'kind' holds a number that is no kind of node")
    splits = np.flatnonzero(kind == Kind.SPLIT)
    listed = evidence.integers("axis", splits.size)
    if np.any((listed < 0) | (listed >= inputs)):
        raise EvidenceError(f"array 'axis' names an input beyond the {inputs} that there are")
    axis = np.full(kind.size, -1, dtype=np.int64)
    axis[splits] = listed
    point = np.full(kind.size, np.nan)
    if "point" in evidence.arrays:
        point[splits] = evidence.floats("point", splits.size)
    unsafe = np.flatnonzero(kind == Kind.UNSAFE)
    disjunct = np.full(kind.size, -1, dtype=np.int64)
    disjunct[unsafe] = 0
    if "disjunct" in evidence.arrays:
        disjunct[unsafe] = evidence.integers("disjunct", unsafe.size)
    if np.any(disjunct[unsafe] < 0) or np.any(disjunct[unsafe] >= disjuncts):
        raise EvidenceError(f"array 'disjunct' names one beyond the {disjuncts} that there are")
    upper, wanted = _links(kind)
    return Tree(kind.astype(np.uint8), upper, axis, point, disjunct, wanted)


def _links(kind: IndexArray) -> tuple[IndexArray, npt.NDArray[np.bool_]]:
    """Upper children, and which nodes something is to be tried at or below.

    Read from behind, every node finds its children complete: each is used exactly once.
    """
    upper = np.full(kind.size, -1, dtype=np.int64)
    wanted = (kind == Kind.SAFE) | (kind == Kind.UNSAFE)
    complete: list[int] = []  # roots of the subtrees behind, the first one last
    for node in range(kind.size - 1, -1, -1):
        if kind[node] == Kind.SPLIT:
            if len(complete) < 2:
                raise EvidenceError(f"node {node} splits, and a child is missing")
            lower, second = complete.pop(), complete.pop()
            upper[node] = second
            wanted[node] = wanted[lower] or wanted[second]
        complete.append(node)
    if len(complete) != 1:
        raise EvidenceError(f"{len(complete) - 1} nodes are left over behind the tree")
    return upper, wanted
