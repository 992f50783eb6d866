"""From clauses to a tree of splits, each of whose leaves a clause closes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from verifier.smt.clauses import Clause
from verifier.smt.reasoner import Phase


@dataclass(frozen=True, eq=False)
class Leaf:
    """Closed by a clause."""

    clause: Clause


@dataclass(frozen=True, eq=False)
class Split:
    """Of a neuron; ``below``: its phase ``z <= 0``, ``above``: ``z >= 0``."""

    neuron: int
    below: Refutation
    above: Refutation


Refutation = Leaf | Split

Choice = Mapping[frozenset[Phase], int]
"""The neuron to split below some phases."""


@dataclass(eq=False)
class _Frame:
    """A node in the making: its path, what clauses still want below it, and its children."""

    path: frozenset[Phase]
    wanted: list[tuple[frozenset[Phase], Clause]]
    neuron: int = -1
    done: list[tuple[Refutation, frozenset[Phase]]] | None = None


def refutation(
    clauses: Sequence[Clause],
    path: frozenset[Phase],
    choice: Choice,
    tick: Callable[[], None],
    most: int | None = None,
) -> Refutation | None:
    """A tree below a path that clauses of one disjunct close; ``None``: they do not.

    Nor is there one where it would have to end ``most`` branches or more on the way.

    A split whose phase no leaf on one of its sides uses is left out.  Where there is no
    choice of a neuron, clauses of one phase come first, then the neuron in many short ones.
    """
    start = [
        (frozenset(clause.phases) - path, clause)
        for clause in clauses
        if not any(phase ^ 1 in path for phase in clause.phases)
    ]
    stack = [_Frame(path, start)]
    ready: tuple[Refutation, frozenset[Phase]] | None = None
    ended = 0
    while stack:
        tick()
        top = stack[-1]
        if top.done is None:
            closing = [clause for left, clause in top.wanted if not left]
            if closing:
                chosen = min(closing, key=lambda clause: len(clause.phases))
                ready = Leaf(chosen), frozenset(chosen.phases)
                stack.pop()
                ended += 1
                if most is not None and ended >= most:
                    return None
                continue
            if not top.wanted:
                return None
            top.neuron, top.done = _decide(top, choice), []
        elif ready is not None:
            top.done.append(ready)
            used = 2 * top.neuron + len(top.done) - 1
            if used not in ready[1]:  # this side alone refutes the whole
                stack.pop()
                continue
            if len(top.done) == 2:
                (below, left), (above, right) = top.done
                needed = (left | right) - {2 * top.neuron, 2 * top.neuron + 1}
                ready = Split(top.neuron, below, above), needed
                stack.pop()
                continue
        ready = None
        stack.append(_child(top, 2 * top.neuron + len(top.done)))
    return None if ready is None else ready[0]


def _child(top: _Frame, phase: Phase) -> _Frame:
    wanted = [
        (left - {phase} if phase in left else left, clause)
        for left, clause in top.wanted
        if phase ^ 1 not in left
    ]
    return _Frame(top.path | {phase}, wanted)


def _decide(top: _Frame, choice: Choice) -> int:
    given = choice.get(top.path)
    if given is not None:
        return given
    weight: dict[Phase, float] = {}
    for left, _ in top.wanted:
        if len(left) == 1:
            return next(iter(left)) // 2
        share = 4.0 ** -min(len(left), 500)
        for phase in left:
            weight[phase] = weight.get(phase, 0.0) + share

    def merit(neuron: int) -> tuple[float, int]:
        one, other = weight.get(2 * neuron, 0.0), weight.get(2 * neuron + 1, 0.0)
        return one * other + 1e-3 * (one + other) ** 2, -neuron

    return max(sorted({phase // 2 for phase in weight}), key=merit)


def leaves(tree: Refutation) -> int:
    """How many leaves a tree has."""
    count, stack = 0, [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, Leaf):
            count += 1
        else:
            stack += [node.below, node.above]
    return count
