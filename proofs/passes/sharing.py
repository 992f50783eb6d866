"""Hints that several leaves have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from proofs.draft import Node, telling
from proofs.oracle import State
from proofs.passes.edits import Work
from proofs.passes.thin import below
from proofs.proof import Fact, NodeKind
from proofs.tables import EMPTY, Substitution

CANDIDATES = 48
"""Hints that are tried on all leaves."""

AT_ONCE = 1024
"""Leaves whose states are held in memory."""


def share(work: Work, tops: Sequence[Node]) -> list[Node]:
    """Give leaves hints in fewer bits, and those of others where these close them, too.

    What a hint says of splits belongs to its path, and is not shared.

    Returns:
        Those that do not close, as everything is now.
    """
    leaves = [n for n in below(tops) if n.kind is NodeKind.CLOSE]
    failing: list[Node] = []
    for start in range(0, len(leaves), AT_ONCE):
        states = work.oracle.states(work.draft, leaves[start : start + AT_ONCE])
        if states:
            failing += _share(work, states)
    return failing


def _own(state: State) -> Substitution:
    return state.node.hints or EMPTY


def _share(work: Work, states: Sequence[State]) -> list[Node]:
    own = [_own(state) for state in states]
    good = work.oracle.closed(states, own)
    closing = [state for state, closes in zip(states, good, strict=True) if closes]
    _share_among(work, [state for state in closing if state.node.hints is not None])
    return [state.node for state, closes in zip(states, good, strict=True) if not closes]


def _share_among(work: Work, states: Sequence[State]) -> None:
    """The same with states that close with their own hints."""
    own = [_own(state) for state in states]
    _shorten(work, states, own)
    open_ = list(range(len(states)))
    for _ in range(CANDIDATES):
        if not open_ or work.oracle.hurried:
            break
        first = open_.pop(0)  # none of those before closed it; leaves near it are like it
        tried = [_with_own(own[first], own[place]) for place in open_]
        closed = work.oracle.closed([states[place] for place in open_], tried)
        for place, hints, good in zip(open_, tried, closed, strict=True):
            if good:
                own[place] = hints
        open_ = [place for place, good in zip(open_, closed, strict=True) if not good]
    for state, hints in zip(states, own, strict=True):
        if hints is not state.node.arg:
            work.edit(state.node)
            state.node.arg = telling(hints)


def _shorten(work: Work, states: Sequence[State], own: list[Substitution]) -> None:
    """Round hints as far as all leaves that have them close."""
    open_ = list(range(len(states)))
    for coarse in work.ladder:
        if work.oracle.hurried:
            return
        users = Counter(id(own[k]) for k in open_)
        tried = []
        for k in open_:
            hints = coarse.hints(own[k])
            alone = users[id(own[k])] == 1
            tried.append(work.oracle.needed(hints, states[k]) if alone else hints)
        done = _take(work, states, own, open_, tried)
        open_ = [k for k in open_ if k not in done]
    drop_blocks(work, states, own)


def drop_blocks(work: Work, states: Sequence[State], own: list[Substitution]) -> None:
    """Leave out blocks of slopes, one after the other, where states close without them."""
    listed = [hints.blocks for hints in own]
    for number in range(max(map(len, listed), default=0)):
        if work.oracle.hurried:
            break
        places = [k for k, blocks in enumerate(listed) if number < len(blocks)]
        made: dict[int, Substitution] = {}
        for k in places:
            left = tuple(block for block in own[k].blocks if block is not listed[k][number])
            made.setdefault(id(own[k]), replace(own[k], blocks=left))
        _take(work, states, own, places, [made[id(own[k])] for k in places])


def _take(
    work: Work,
    states: Sequence[State],
    own: list[Substitution],
    places: Sequence[int],
    tried: Sequence[Substitution],
) -> set[int]:
    """Take other hints at places where all leaves that share hints close with them."""
    closed = work.oracle.closed([states[k] for k in places], tried)
    failing = {id(own[k]) for k, good in zip(places, closed, strict=True) if not good}
    done = {k: hints for k, hints in zip(places, tried, strict=True) if id(own[k]) not in failing}
    for k, hints in done.items():
        own[k] = hints
    return set(done)


def _with_own(shared: Substitution, own: Substitution) -> Substitution:
    """Shared hints, with a leaf's own multiples of facts of its path."""
    if not (own.multipliers or shared.multipliers):
        return shared
    path = [part for part in own.multipliers if part[0] is not Fact.REGION]
    region = [part for part in shared.multipliers if part[0] is Fact.REGION]
    listed = (*path, *region)
    if listed == shared.multipliers:
        return shared
    return replace(shared, multipliers=listed)
