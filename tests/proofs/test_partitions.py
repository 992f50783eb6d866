"""Partitions are replayed to exact intervals; what is said of a leaf is tried, not believed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.check import ARITHMETICS
from proofs.partitions.check import check_partition
from proofs.partitions.evidence import Kind, PartitionEvidence, read_tree
from proofs.partitions.measure import Measure
from proofs.partitions.probability import replay
from proofs.partitions.prover import Prover
from specs.network import Network
from specs.probability import negated
from specs.property import constraint
from tests.partition_models import partition, question, unsafe_above
from tests.proofs.helpers import BOTH, Net, outputs_at

HALF = Fraction(1, 2)
LITTLE_LESS = Fraction(49, 100)
"""A threshold that sides from one half on exceed by more than rounding costs."""


def hinge() -> Network:
    """``Relu(x0) - Relu(x1)``."""
    net = Net(2)
    return net.done(net.dense(net.relu(0), [[1.0, -1.0]]))


def small(seed: int, disjuncts: int = 1):
    """A random network with two inputs and a threshold that about half of them exceed."""
    rng = np.random.default_rng(seed)
    net = Net(2)
    first = net.relu(net.dense(0, rng.normal(size=(4, 2)).round(3), rng.normal(size=4).round(3)))
    net.dense(first, rng.normal(size=(2, 4)).round(3))
    unsafe = [unsafe_above(Fraction(round(64 * rng.normal()), 64), k) for k in range(disjuncts)]
    return question(net.done(), [-1, -1], [1, 1], *unsafe)


def volumes(asked, made, arithmetic: str = "outward"):
    size = asked.query.network.input_size
    tree = read_tree(made, size, len(asked.case.unsafe))
    return replay(Prover(asked.query, ARITHMETICS[arithmetic]()), Measure(asked), tree)


def verdict(asked, made, arithmetic: str = "outward") -> str:
    return check_partition(asked, made, arithmetic=arithmetic).checked.verdict


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("arithmetic", BOTH)
def test_an_exact_interval(arithmetic, strict):
    net = Net(1)
    asked = question(net.done(net.relu(0)), [-1], [1], unsafe_above(LITTLE_LESS, strict=strict))
    made = partition(asked, "/s/su", (0, 0.0), (0, 0.5))
    found = volumes(asked, made, arithmetic)
    assert found.unsafe == (Fraction(1, 4),) * 2
    assert found.interval == (Fraction(1, 4), HALF)  # the middle leaf is not safe, all of it
    assert found.unproved == 1


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize(
    ("ends", "claims", "wanted"),
    [
        ({"at_most": "0.5"}, "unsat", "valid unsat"),
        ({"at_most": "0.4999"}, "unsat", "invalid"),
        ({"at_most": "0.25", "at_least": "0.25"}, "unsat", "invalid"),
        ({"at_most": None, "at_least": "0.25"}, "unsat", "valid unsat"),
        ({"at_most": None, "at_least": "0.26"}, "unsat", "invalid"),
        ({"at_most": "0.24"}, "sat", "valid sat"),
        ({"at_most": "0.25"}, "sat", "invalid"),
        ({"at_most": None, "at_least": "0.51"}, "sat", "valid sat"),
        ({"at_most": None, "at_least": "0.5"}, "sat", "invalid"),
    ],
    ids=str,
)
def test_claims_are_compared_with_the_interval(arithmetic, ends, claims, wanted):
    net = Net(1)
    asked = question(net.done(net.relu(0)), [-1], [1], unsafe_above(LITTLE_LESS), **ends)
    made = partition(asked, "/s/ou", (0, 0.0), (0, 0.5), claims=claims)
    assert verdict(asked, made, arithmetic) == wanted


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("said", ["s", "u"])
def test_what_is_said_of_a_leaf_in_vain_counts_as_open(arithmetic, said):
    asked = question(hinge(), [-1, -1], [1, 1], unsafe_above(HALF))
    found = volumes(asked, partition(asked, f"/{said}{said}", (0, 0.0)), arithmetic)
    right = (HALF, HALF) if said == "s" else (Fraction(0), Fraction(0))  # x0 <= 0 is safe
    assert (found.safe if said == "s" else found.unsafe) == right
    assert found.open == (1 - right[0],) * 2
    assert found.unproved == (1 if said == "s" else 2)


def test_all_constraints_of_one_disjunct_have_to_hold():
    net = Net(2)
    identity = net.done(net.dense(0, np.eye(2)))
    below = Fraction(-1, 100)
    both = (*unsafe_above(below, 0), *unsafe_above(below, 1))
    asked = question(identity, [-1, -1], [1, 1], both)
    made = partition(asked, "/u/uu", (0, 0.0), (1, 0.0))
    assert volumes(asked, made).unsafe[0] == Fraction(1, 4)
    either = question(identity, [-1, -1], [1, 1], unsafe_above(below, 0), unsafe_above(below, 1))
    tree = ("/s/uu", (0, 0.0), (1, 0.0))
    assert volumes(either, partition(either, *tree)).unsafe[0] == HALF
    second = np.array([1, 1], dtype=np.int32)
    assert volumes(either, partition(either, *tree, disjunct=second)).unsafe[0] == Fraction(1, 4)


def test_an_unsafe_set_of_everything_and_of_nothing():
    asked = question(hinge(), [-1, -1], [1, 1], (), at_most=0)
    assert volumes(asked, partition(asked, "u")).unsafe == (1, 1)
    assert volumes(asked, partition(asked, "s")).safe == (0, 0)
    none = question(hinge(), [-1, -1], [1, 1], at_most=0)
    assert verdict(none, partition(none, "s")) == "valid unsat"


@pytest.mark.parametrize("arithmetic", BOTH)
def test_ends_of_a_box_that_are_no_floats(arithmetic):
    net = Net(2)
    identity = net.done(net.dense(0, np.eye(2)))
    tenth, third = Fraction(1, 10), Fraction(1, 3)
    asked = question(identity, [tenth, third], [1, third], unsafe_above(LITTLE_LESS))
    found = volumes(asked, partition(asked, "/ou", (0, 0.5)), arithmetic)
    assert found.unsafe == (Fraction(5, 9),) * 2
    inside = float(np.nextafter(1 / 3, 1))
    made = partition(asked, "/ou", (1, inside))
    assert verdict(asked, made, arithmetic) == "invalid"  # that side is a point


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_leaves_are_what_is_proved_of_them(seed, data):
    asked = small(seed, disjuncts=2)
    text, splits = "", []

    def grow(depth: int, low, high) -> None:
        nonlocal text
        if depth and data.draw(st.booleans()):
            axis = data.draw(st.integers(0, 1))
            point = 0.5 * low[axis] + 0.5 * high[axis]
            text += "/"
            splits.append((axis, point))
            grow(depth - 1, low, [point if k == axis else h for k, h in enumerate(high)])
            grow(depth - 1, [point if k == axis else v for k, v in enumerate(low)], high)
            return
        text += data.draw(st.sampled_from("suo"))

    grow(4, [-1.0, -1.0], [1.0, 1.0])
    made = partition(asked, text, *splits)
    prover, rng = Prover(asked.query, ARITHMETICS["outward"]()), np.random.default_rng(seed)
    tree, true = read_tree(made, 2, 2), []
    found = replay(prover, Measure(asked), tree)
    assert found.safe[0] + found.unsafe[0] + found.open[0] == 1
    assert volumes(asked, made, "exact").interval == found.interval
    from proofs.partitions.probability import judged
    from proofs.partitions.walk import walk

    def look(domains):
        kind = tree.kind[domains.nodes].astype(np.int64)
        return judged(prover, kind, tree.disjunct[domains.nodes], domains)

    for leaves in walk(prover, tree, look):
        for place in np.flatnonzero(leaves.proved):
            low, high = leaves.lower[place], leaves.upper[place]
            x = [Fraction(float(v)) for v in low + (high - low) * rng.integers(0, 2, 2)]
            y = [
                v
                for t in asked.query.network.outputs
                for v in outputs_at(asked.query.network, x)[t]
            ]
            bad = any(all(c.holds(x, y) for c in d) for d in asked.case.unsafe)
            assert bad == (tree.kind[leaves.nodes[place]] == Kind.UNSAFE)
            true.append(place)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": np.zeros(0, np.uint8)}, "no tree"),
        ({"kind": np.array([0, 1], np.uint8)}, "a child is missing"),
        ({"kind": np.array([1, 1, 1], np.uint8), "axis": np.zeros(0, np.int32),
          "point": np.zeros(0)}, "left over"),
        ({"kind": np.array([0, 1, 4], np.uint8)}, "no kind"),
        ({"kind": np.array([0, -1, 1], np.int8)}, "no kind"),
        ({"kind": np.array([0.0, 1.0, 1.0])}, "wrong type"),
        ({"axis": np.array([2], np.int32)}, "beyond the 2 that"),
        ({"axis": np.array([-1], np.int32)}, "beyond the 2 that"),
        ({"axis": np.array([0, 0], np.int32)}, "instead of 1"),
        ({"point": np.array([np.nan])}, "not finite"),
        ({"point": np.array([np.inf])}, "not finite"),
        ({"point": np.array([1.0])}, "not inside its side"),
        ({"point": np.array([-1.0])}, "not inside its side"),
        ({"point": np.array([7.0])}, "not inside its side"),
        ({"point": np.zeros(2)}, "instead of 1"),
        ({"disjunct": np.array([1], np.int32)}, "beyond the 1 that"),
        ({"disjunct": np.array([-1], np.int32)}, "beyond the 1 that"),
        ({"disjunct": np.zeros(2, np.int32)}, "instead of 1"),
        ({"volume": np.ones(1)}, "has no meaning here"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_partition_is_refused(change, says):
    asked = question(hinge(), [-1, -1], [1, 1], unsafe_above(HALF))
    made = partition(asked, "/su", (0, 0.0))
    assert verdict(asked, made) == "valid unsat"
    found = check_partition(asked, replace(made, arrays={**made.arrays, **change})).checked
    assert found.verdict == "invalid"
    assert says in found.reason


def test_a_split_below_a_split_stays_inside():
    asked = question(hinge(), [-1, -1], [1, 1], unsafe_above(HALF))
    assert verdict(asked, partition(asked, "//sss", (0, 0.0), (0, -0.5))) == "valid unsat"
    assert verdict(asked, partition(asked, "//sss", (0, 0.0), (0, 0.5))) == "invalid"
    assert verdict(asked, partition(asked, "//ooo", (0, 0.0), (0, 0.5))) == "invalid"


def test_evidence_for_another_question():
    asked = question(hinge(), [-1, -1], [1, 1], unsafe_above(HALF))
    other = question(hinge(), [-1, -1], [1, 1], unsafe_above(HALF), at_most=HALF)
    assert verdict(other, partition(asked, "s")) == "unreadable"


def test_splits_without_points_are_in_the_middle():
    asked = question(hinge(), [-1, 0], [0, 3], unsafe_above(HALF))
    made = partition(asked, "/os", axis=np.array([1], np.int32))
    assert volumes(asked, made).safe == (HALF, HALF)


def test_a_deadline_stops_it():
    asked = question(hinge(), [-1, -1], [1, 1], unsafe_above(HALF))
    found = check_partition(asked, partition(asked, "s"), deadline=0.0).checked
    assert (found.verdict, found.ended) == ("incomplete", False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), max_size=9),
    st.lists(st.integers(-1, 2), max_size=4),
    st.lists(st.floats(-2, 2) | st.just(float("nan")), max_size=4),
)
def test_arrays_of_any_kind_never_prove_too_much(kinds, axes, points):
    # Exactly a half is unsafe: x0 >= 0.
    net = Net(2)
    asked = question(net.done(net.dense(0, [[1.0, 0.0]])), [-1, -1], [1, 1], unsafe_above(0))
    arrays = {
        "kind": np.array(kinds, dtype=np.uint8),
        "axis": np.array(axes, dtype=np.int32),
        "point": np.array(points, dtype=np.float64),
    }
    made = PartitionEvidence(asked.digest, "unsat", arrays)
    found = check_partition(asked, made)
    if found.checked.verdict == "valid unsat":
        facts = dict(found.facts)
        low, high = (facts[f"proved: P(unsafe) at {end}"] for end in ("least", "most"))
        assert Fraction(low) <= HALF <= Fraction(high)
    else:
        assert found.checked.verdict == "invalid"


@given(st.booleans(), st.integers(-3, 3), st.integers(-3, 3))
def test_a_negation_holds_where_the_constraint_does_not(strict, weight, value):
    made = constraint({0: Fraction(weight)}, {0: Fraction(1)}, Fraction(value), strict)
    for x in (-2, 0, 1):
        for y in (-3, 0, 3):
            at = [Fraction(x)], [Fraction(y)]
            assert made.holds(*at) != negated(made).holds(*at)
    assert negated(negated(made)) == made


def test_a_deadline_stops_a_tree_of_open_leaves():
    asked = question(hinge(), [-1, -1], [1, 1], unsafe_above(HALF))
    found = check_partition(asked, partition(asked, "/oo", (0, 0.0)), deadline=0.0).checked
    assert found.verdict == "incomplete"
