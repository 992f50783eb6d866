"""The rule for removal: ceilings hold, what is true is shown, what is false or malformed is not."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.watermarks.removal import NORMS, LeafRule, Removal, Samples, Tree, refuted
from specs.errors import EvidenceError

F = Fraction
SLACK = F(1, 10**6)


def table(rows) -> np.ndarray:
    made = np.empty((len(rows), len(rows[0])), dtype=object)
    for k, row in enumerate(rows):
        made[k] = [int(v) for v in row]
    return made


def samples(hidden, margins, labels, trigger=None, blur=0) -> Samples:
    hidden = table(hidden)
    return Samples(
        hidden,
        hidden * 0 + blur,
        table(margins),
        table(margins),
        tuple(labels),
        tuple(trigger or [True] * len(labels)),
    )


def tree(nodes, leaves) -> Tree:
    """Nodes ``(sample, target)``, ``None`` a leaf; leaves as ``{(row, column): value}``."""
    pairs = [(-1, 0) if node is None else node for node in nodes]
    first = np.cumsum([0, *map(len, leaves)])
    entries = [(i, c, v) for leaf in leaves for (i, c), v in leaf.items()]
    columns = [np.array(part, dtype=np.int64) for part in zip(*pairs, strict=True)]
    flat = np.array(entries, dtype=np.int64).reshape(-1, 3).T
    return Tree(*columns, first, *(np.ascontiguousarray(part) for part in flat))


ONE = samples([[4]], [[0, 8]], [0])  # one trigger: h = 4, margin 8, two classes
LEAST = {"linf": F(1), "l1": F(2), "l2": F(math.isqrt(2 * 10**12), 10**6)}
SHOWN = tree([None], [{(0, 0): 1 << 40, (0, 1): -(1 << 40)}])


@pytest.mark.parametrize("norm", NORMS)
def test_one_trigger_and_two_classes(norm):
    below, above = LEAST[norm] * (1 - SLACK), LEAST[norm] * (1 + SLACK)
    assert refuted(Removal(ONE, norm, below, 1), SHOWN) is None
    assert refuted(Removal(ONE, norm, above, 1), SHOWN) is not None


def test_at_the_optimum_a_tie_counts_as_lost():
    assert refuted(Removal(ONE, "linf", F(1), 1), SHOWN) is not None


@pytest.mark.parametrize(
    ("nodes", "entries", "message"),
    [
        ([(1, 1), None, None], [{}, {}], "a split of sample 1"),
        ([(-2, 1), None, None], [{}, {}], "a split of sample -2"),
        ([(0, 0), None, None], [{}, {}], "at class 0"),
        ([(0, 2), None, None], [{}, {}], "at class 2"),
        ([(0, -1), None, None], [{}, {}], "at class -1"),
        ([(0, 1), None, (0, 1), None, None], [{}, {}, {}], "at class 1"),
        ([(0, 1), (0, 1), None, None, None], [{}, {}, {}], "at class 1"),
        ([None, (0, 1), None], [{(0, 0): 0}, {}], "ends before"),
        ([None, None], [{}, {}], "do not fit"),
        ([None], [{(1, 0): 1}], "an entry of sample 1"),
        ([None], [{(0, -1): 1}], "class -1"),
        ([None], [{}, {}], "do not fit"),
    ],
    ids=[
        *("no sample", "negative", "label", "no class", "below", "twice", "after loss"),
        *("early", "forest", "row", "column", "leaves"),
    ],
)
def test_malformed_trees_are_refused(nodes, entries, message):
    with pytest.raises(EvidenceError, match=message):
        refuted(Removal(ONE, "linf", F(1, 2), 1), tree(nodes, entries))


@pytest.mark.parametrize("first", [[0, 3], [1, 2], [0, 1]], ids=["long", "late", "short"])
def test_entries_that_belong_to_no_leaf_are_refused(first):
    with pytest.raises(EvidenceError, match="do not follow each other"):
        Tree(SHOWN.sample, SHOWN.target, np.array(first), SHOWN.row, SHOWN.column, SHOWN.value)


def test_arrays_of_other_types_are_refused():
    with pytest.raises(EvidenceError, match="64-bit integers"):
        Tree(*[np.zeros(1)] * 6)
    with pytest.raises(EvidenceError, match="no list"):
        Tree(*[np.zeros((1, 1), np.int64)] * 6)


def test_an_empty_leaf_shows_nothing_but_what_cannot_be():
    assert refuted(Removal(ONE, "linf", F(1, 2), 1), tree([None], [{}])) is not None
    assert refuted(Removal(ONE, "linf", F(1, 2), 1), tree([None], [{(0, 0): 0}])) is None
    assert refuted(Removal(ONE, "linf", F(1), 1), tree([None], [{(0, 0): 0}])) is not None
    split = tree([(0, 1), None, None], [{(0, 0): 1, (0, 1): -1}, {}])
    assert refuted(Removal(ONE, "linf", F(1, 2), 1), split) is None
    assert refuted(Removal(ONE, "linf", F(3, 2), 1), split) is not None


def test_any_of_several_triggers_counts():
    three = samples([[1]] * 3, [[0, 8], [0, 6], [0, 2]], [0] * 3)
    leaf = {(i, c): 1 - 2 * c for i in range(3) for c in range(2)}
    for lost, least in ((1, 1), (2, 3), (3, 4)):  # which triggers is left open in one leaf
        shown = tree([None], [{k: v for k, v in leaf.items() if k[0] == 3 - lost}])
        claim = Removal(three, "linf", F(least) - SLACK, lost)
        if lost == 3:
            assert refuted(claim, shown) is None
        assert refuted(Removal(three, "linf", F(least) + SLACK, lost), shown) is not None
    order = [(0, 1), None, (1, 1), None, (2, 1), None, None]
    leaves = [{(k, c): 1 - 2 * c for c in range(2)} for k in range(3)]
    assert refuted(Removal(three, "linf", F(1) - SLACK, 1), tree(order, [*leaves, {}])) is None
    assert refuted(Removal(three, "linf", F(1) + SLACK, 1), tree(order, [*leaves, {}])) is not None


def test_samples_that_are_kept_bound_the_change():
    """A trigger and another sample of the same hidden activations cannot be told apart."""
    both = samples([[1], [1]], [[0, 2], [0, 1]], [0, 0], [True, False])
    leaf = {(0, 0): 1, (0, 1): -1, (1, 0): -1, (1, 1): 1}
    for radius in (F(1, 2), F(100)):
        assert refuted(Removal(both, "linf", radius, 1, 1), tree([None], [leaf])) is None
    assert refuted(Removal(both, "linf", F(2), 1, 0), tree([None], [leaf])) is not None
    apart = samples([[1], [1]], [[0, 2], [0, 3]], [0, 0], [True, False])
    assert refuted(Removal(apart, "linf", F(100), 1, 1), tree([None], [leaf])) is not None


def test_blurred_activations_cost():
    blurred = samples([[4]], [[0, 8]], [0], blur=1)
    assert refuted(Removal(blurred, "linf", F(81, 100), 1), SHOWN) is not None
    assert refuted(Removal(blurred, "linf", F(79, 100), 1), SHOWN) is None


small = st.integers(-6, 6)


@st.composite
def situations(draw):
    """One sample, a path, a vector, and a change of the ball that agrees with the path."""
    classes, width = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    hidden = draw(st.lists(small, min_size=width, max_size=width))
    label = draw(st.integers(0, classes - 1))
    margins = [0 if c == label else draw(small) for c in range(classes)]
    vector = draw(st.lists(small, min_size=classes, max_size=classes))
    change = [draw(st.lists(small, min_size=width, max_size=width)) for _ in range(classes)]
    return hidden, label, margins, vector, change


@settings(max_examples=150, deadline=None)
@given(situations(), st.sampled_from(NORMS))
def test_ceilings_are_above_what_changes_reach(situation, norm):
    hidden, label, margins, vector, change = situation
    flat = [abs(v) for row in change for v in row]
    size = {"linf": max(flat), "l1": sum(flat), "l2": math.isqrt(sum(v * v for v in flat)) + 1}
    claim = Removal(samples([hidden], [margins], [label]), norm, F(size[norm]), 1)
    leaf = LeafRule(claim)
    steps = [sum(a * b for a, b in zip(row, hidden, strict=True)) for row in change]
    reached = sum(a * b for a, b in zip(vector, steps, strict=True))
    after = {c: margins[c] + steps[label] - steps[c] for c in range(len(margins)) if c != label}
    lost = [c for c, margin in after.items() if margin <= 0]
    positive = [c for c, margin in after.items() if margin >= 0]
    for count in range(len(positive) + 1):
        for spared in itertools.combinations(positive, count):
            for target in lost:
                if target not in spared:
                    found = leaf.lost(0, vector, target, frozenset(spared))
                    assert found is not None
                    assert found >= reached
                    assert leaf.lost(0, vector, None, frozenset(spared)) >= reached
            if len(positive) == len(after):
                assert leaf.kept(0, vector, frozenset(spared)) >= reached


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(NORMS))
def test_no_tree_refutes_a_change_that_is_there(data, norm):
    """Whatever the hints: a claim that some change refutes is not shown."""
    classes, width, count = 3, 2, 3
    hidden = [data.draw(st.lists(small, min_size=width, max_size=width)) for _ in range(count)]
    labels = [data.draw(st.integers(0, classes - 1)) for _ in range(count)]
    margins = [
        [0 if c == label else data.draw(st.integers(0, 9)) for c in range(classes)]
        for label in labels
    ]
    change = [data.draw(st.lists(small, min_size=width, max_size=width)) for _ in range(classes)]
    steps = np.array(hidden) @ np.array(change).T
    after = np.array(margins) + steps[np.arange(count), labels][:, None] - steps
    after[np.arange(count), labels] = 99
    gone = after.min(axis=1) <= 0
    trigger = [bool(v) for v in gone]
    flat = np.abs(np.array(change)).reshape(-1)
    radius = {"linf": flat.max(), "l1": flat.sum(), "l2": math.isqrt(int((flat**2).sum())) + 1}
    made = samples(hidden, margins, labels, trigger)
    claim = Removal(made, norm, F(int(radius[norm])), sum(trigger), count - sum(trigger))
    nodes, leaves = [], []

    def grow(depth, used):
        pairs = [(i, c) for i in range(count) for c in range(classes) if c != labels[i]]
        free = [p for p in pairs if p not in used and p[0] not in {i for i, _ in used}]
        if depth == 0 or not free or data.draw(st.booleans()):
            nodes.append(None)
            entries = st.dictionaries(
                st.tuples(st.integers(0, count - 1), st.integers(0, classes - 1)), small
            )
            leaves.append(data.draw(entries))
            return
        pair = data.draw(st.sampled_from(free))
        nodes.append(pair)
        grow(depth - 1, [*used, pair])
        grow(depth - 1, [*used, pair])

    grow(2, [])
    assert refuted(claim, tree(nodes, leaves)) is not None
