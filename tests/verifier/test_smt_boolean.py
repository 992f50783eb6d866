"""Z3's part and the tree made of clauses: nothing here knows of networks."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("z3")

from verifier.bab_tree import LeafHint
from verifier.smt.clauses import Clause
from verifier.smt.reasoner import Clauses, Phase, Reasoner
from verifier.smt.refutation import Leaf, Refutation, leaves, refutation

NEURONS = 4
ASSIGNMENTS = [
    frozenset(2 * k + side for k, side in enumerate(sides))
    for sides in product((0, 1), repeat=NEURONS)
]


def clause(phases: frozenset[Phase], disjunct: int = 0) -> Clause:
    return Clause(disjunct, tuple(sorted(phases)), LeafHint([], np.zeros(len(phases))), 1.0)


def covered(clauses: list[frozenset[Phase]]) -> bool:
    return all(any(part <= whole for part in clauses) for whole in ASSIGNMENTS)


def paths(tree: Refutation) -> list[tuple[frozenset[Phase], Clause]]:
    found, stack = [], [(tree, frozenset[Phase]())]
    while stack:
        node, path = stack.pop()
        if isinstance(node, Leaf):
            found.append((path, node.clause))
        else:
            assert not path & {2 * node.neuron, 2 * node.neuron + 1}
            stack.append((node.below, path | {2 * node.neuron}))
            stack.append((node.above, path | {2 * node.neuron + 1}))
    return found


parts = st.lists(
    st.sets(st.integers(0, NEURONS - 1), max_size=NEURONS).flatmap(
        lambda neurons: st.tuples(*(st.sampled_from((2 * n, 2 * n + 1)) for n in sorted(neurons)))
    ),
    max_size=24,
)


@settings(max_examples=80, deadline=None)
@given(parts)
def test_there_is_a_tree_where_every_assignment_is_forbidden_and_nowhere_else(
    drawn: list[tuple[Phase, ...]],
) -> None:
    known = [frozenset(phases) for phases in drawn]
    tree = refutation([clause(phases) for phases in known], frozenset(), {}, lambda: None)
    assert (tree is not None) == covered(known)
    if tree is not None:
        ends = paths(tree)
        assert leaves(tree) == len(ends)
        assert all(set(used.phases) <= path for path, used in ends)


@settings(max_examples=25, deadline=None)
@given(parts)
def test_z3_finds_an_assignment_exactly_where_one_is_left(drawn: list[tuple[Phase, ...]]) -> None:
    known = [frozenset(phases) for phases in drawn]
    reasoner = Reasoner(NEURONS, 1, [(0, ())])
    for phases in known:
        reasoner.forbid(0, phases)
    found = reasoner.assignment()
    assert (found is None) == covered(known)
    if found is not None:
        assert len(found[1]) == NEURONS
        assert not any(phases <= set(found[1]) for phases in known)


def test_what_clauses_imply_is_found_and_their_contradiction_too() -> None:
    reasoner = Reasoner(3, 2, [(0, ()), (1, (5,))])
    reasoner.forbid(0, [1, 3])
    reasoner.forbid(0, [2, 5])
    found = reasoner.implied(0, [[1], [1, 5], [0], [1, 3]])
    assert [None if phases is None else sorted(phases) for phases in found] == [
        [2, 4],
        None,
        [],
        None,
    ]
    assert reasoner.implied(1, [[1, 3]]) == [[]]  # the clauses are about the other disjunct


@settings(max_examples=80, deadline=None)
@given(parts, st.integers(0, len(ASSIGNMENTS) - 1), st.integers(0, NEURONS))
def test_what_is_implied_holds_in_every_assignment_left(
    drawn: list[tuple[Phase, ...]], number: int, length: int
) -> None:
    known = Clauses(NEURONS)
    for phases in drawn:
        known.add(phases)
    path = sorted(ASSIGNMENTS[number])[:length]
    left = [
        whole
        for whole in ASSIGNMENTS
        if whole >= set(path) and not any(whole >= set(phases) for phases in drawn)
    ]
    (found,) = known.propagated([path])
    if found is None:
        assert not left
    else:
        assert all(whole >= set(found) for whole in left)
        assert len(set(found) | set(path)) == len(found) + len(path)
        assert len(path) < NEURONS or left  # a whole assignment is judged for good


def test_only_starts_are_searched() -> None:
    reasoner = Reasoner(2, 1, [(0, (1, 2))])
    found = reasoner.assignment()
    assert found is not None
    assert sorted(found[1]) == [1, 2]
    reasoner.forbid(0, [1])
    assert reasoner.assignment() is None
    assert Reasoner(2, 1, []).assignment() is None


def test_a_split_that_one_side_does_not_use_is_left_out() -> None:
    known = [clause(frozenset({2})), clause(frozenset({3}))]
    choice = {frozenset[Phase](): 0, frozenset({0}): 1, frozenset({1}): 1}
    tree = refutation(known, frozenset(), choice, lambda: None)
    assert tree is not None
    assert {path for path, _ in paths(tree)} == {frozenset({2}), frozenset({3})}
    assert leaves(tree) == 2


def test_a_tree_goes_on_below_a_path() -> None:
    known = [clause(frozenset({0, 2})), clause(frozenset({3})), clause(frozenset({1}))]
    tree = refutation(known, frozenset({0}), {}, lambda: None)
    assert tree is not None
    assert leaves(tree) == 2
    assert refutation(known[:2], frozenset({1}), {}, lambda: None) is None


def test_a_tree_that_grows_too_large_is_given_up_and_one_that_takes_too_long() -> None:
    known = [clause(whole) for whole in ASSIGNMENTS]
    assert refutation(known, frozenset(), {}, lambda: None, len(known)) is None
    assert refutation(known, frozenset(), {}, lambda: None, len(known) + 1) is not None

    def late() -> None:
        raise TimeoutError(time.monotonic())

    with pytest.raises(TimeoutError):
        refutation(known, frozenset(), {}, late)
