"""Cells that are drawn, and what an evaluation with a bounded error says of them."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.exact import Exact
from proofs.outward import Outward
from proofs.partitions.cells import CELL_BITS, LEAF_BITS, Draw, _thresholds
from proofs.partitions.evidence import read_tree
from proofs.partitions.measure import Measure, quantiles
from proofs.partitions.points import Points, _errors, _values
from proofs.partitions.probability import replay
from proofs.partitions.prover import Prover
from proofs.partitions.sampling import draw
from specs.probability import Distribution, Sampling
from specs.property import constraint
from tests.partition_models import UNIFORM, partition, question, unsafe_above
from tests.proofs.helpers import Net

NORMAL = Distribution("normal", (Fraction(0), Fraction(1, 3)), (Fraction(1), Fraction(1, 2)))
THIRD = Fraction(1, 3)


def network(weights: list[float], scale: float):
    net = Net(2)
    w = np.array(weights)
    hidden = net.relu(net.dense(0, w[:6].reshape(3, 2) * scale, w[6:9]))
    hidden = net.relu(net.dense(hidden, w[9:18].reshape(3, 3)))
    return net.done(net.dense(hidden, w[18:21].reshape(1, 3) / scale))


def exactly(net, x: list[Fraction]) -> list[list[Fraction]]:
    """All tensors at a rational point."""
    values: list[list[Fraction]] = [x]
    for node in net.nodes[1:]:
        if not hasattr(node, "terms"):
            values.append([max(v, Fraction(0)) for v in values[node.source]])
            continue
        total = [Fraction(float(v)) for v in node.offset.value]
        for term in node.terms:
            matrix = np.array([[Fraction(float(v)) for v in row] for row in term.map.weight.value])
            total = [a + b for a, b in zip(total, values[term.source] @ matrix, strict=True)]
        values.append(total)
    return values


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=21, max_size=21),
    st.sampled_from([1.0, 1e-8, 3e7]),
    st.lists(st.fractions(-1, 1), min_size=4, max_size=4),
    st.sampled_from([0.0, 1e-12, 1e-3]),
)
def test_errors_are_bounded_at_every_input_of_a_cell(weights, scale, numbers, radius):
    net = network(weights, scale)
    asked = question(net, [-2, -2], [2, 2], unsafe_above(0))
    prover = Prover(asked.query, Outward())
    prover.root()
    errors = _errors(prover.frame, np.full(2, radius))
    assert errors is not None
    x = np.array([[float(n) for n in numbers[:2]]])
    moved = [
        Fraction(float(v)) + n * Fraction(radius) for v, n in zip(x[0], numbers[2:], strict=True)
    ]
    for tensor, true in enumerate(exactly(net, moved)):
        computed = _values(prover.frame, x)[tensor][0]
        for value, at, bound in zip(computed, true, errors[tensor], strict=True):
            assert abs(Fraction(float(value)) - at) <= Fraction(float(bound))


def of(asked, radius: float = 2.0**-40) -> tuple[Points, Prover]:
    prover = Prover(asked.query, Outward())
    points = Points.of(prover, prover.root().batch, np.full(2, radius))
    assert points is not None
    return points, prover


def diagonal():
    net = Net(2)
    return net.done(net.dense(0, [[1.0, 1.0]]))


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(-3, 3).map(lambda e: e * 2.0**-39), st.booleans())
def test_what_is_near_the_boundary_is_neither(first, off, strict):
    asked = question(diagonal(), [0, 0], [2, 2], unsafe_above(THIRD * 3, strict=strict))
    points, _ = of(asked)
    x = np.array([[first, 1.0 - first + off]])
    (safe,), (unsafe,) = points.look(x)
    total = sum(Fraction(float(v)) for v in x[0])
    assert not safe or total + 2 * Fraction(1, 1 << 40) < 1
    assert not unsafe or total - 2 * Fraction(1, 1 << 40) >= 1
    if abs(total - 1) <= Fraction(1, 1 << 39):
        assert not safe
        assert not unsafe


def test_several_constraints_and_disjuncts():
    low = (constraint({}, {0: Fraction(1)}, -THIRD), constraint({0: Fraction(1)}, {}, -THIRD))
    asked = question(diagonal(), [0, 0], [2, 2], low, unsafe_above(3))
    points, _ = of(asked)
    x = np.array([[0.1, 0.1], [0.4, 0.1], [0.2, 0.5], [1.6, 1.6], [1.0, 1.0]])
    safe, unsafe = points.look(x)
    assert safe.tolist() == [False, True, True, False, True]
    assert unsafe.tolist() == [True, False, False, True, False]
    always = question(diagonal(), [0, 0], [2, 2], ())
    safe, unsafe = of(always)[0].look(x)
    assert not safe.any()
    assert unsafe.all()


def test_other_networks_and_exact_arithmetic_have_no_points():
    net = Net(2)
    factors = net.dense(0, [[1.0, 1.0]]), net.dense(0, [[1.0, -1.0]])
    bent = question(net.done(net.product(*factors)), [0, 0], [1, 1], unsafe_above(THIRD))
    for asked, arithmetic in (
        (bent, Outward()),
        (question(diagonal(), [0, 0], [1, 1], unsafe_above(1)), Exact()),
    ):
        prover = Prover(asked.query, arithmetic)
        assert Points.of(prover, prover.root().batch, np.zeros(2)) is None


def test_samples_are_the_same_with_points_and_without(monkeypatch):
    net = Net(2)
    bent = net.done(net.dense(net.relu(0), [[1.0, 1.0]]))
    sampling = Sampling(Fraction(9, 10), 700, 5)
    asked = question(bent, [-1, -THIRD], [1, 1], unsafe_above(THIRD), sampling=sampling)
    made = partition(asked, "/o/oo", (0, 0.25), (1, 0.5))

    def drawn():
        prover = Prover(asked.query, Outward())
        return draw(asked, made, prover, replay(prover, Measure(asked), read_tree(made, 2, 1)))

    found = drawn()
    monkeypatch.setattr(Points, "of", classmethod(lambda *_: None))
    assert drawn() == found
    assert 0 < found.unsafe == found.not_safe < 700


@pytest.mark.parametrize("steep", [2.0**900, -(2.0**900)], ids=["up", "down"])
@pytest.mark.parametrize("part", [0, Fraction(1, 2), Fraction(3, 2)], ids=str)
def test_inputs_between_subnormal_floats_are_not_taken_for_floats(steep, part):
    """A share of such an input underflows; steep weights make much of what was left out."""
    net, tiny = Net(2), Fraction(1, 2**1074)
    sampling = Sampling(Fraction(9, 10), 20, 0)
    true = Fraction(steep) * tiny * part
    off = abs(Fraction(steep)) * tiny / 8
    for shift, held in ((-off, True), (off, False)):
        asked = question(
            net.done(net.dense(0, [[steep, 0.0]])), [tiny * part, 0], [tiny * part, 1],
            unsafe_above(true + shift), sampling=sampling,
        )  # fmt: skip
        made, prover = partition(asked, "o"), Prover(asked.query, Outward())
        found = draw(asked, made, prover, replay(prover, Measure(asked), read_tree(made, 2, 1)))
        assert found.not_safe == 20 if held else found.unsafe == 0


@pytest.mark.parametrize("distribution", [UNIFORM, NORMAL], ids=["uniform", "normal"])
@pytest.mark.parametrize("bits", [0, 1, (1 << CELL_BITS) - 1, 0xABCDEF1234], ids=str)
def test_cells_lie_around_what_was_drawn(distribution, bits):
    tenth = Fraction(1, 10)
    sampling = Sampling(Fraction(9, 10), 1, 0)
    asked = question(
        diagonal(), [tenth, -THIRD], [THIRD * 7, THIRD], unsafe_above(1),
        distribution=distribution, sampling=sampling,
    )  # fmt: skip
    low, high = asked.case.box()
    half = 0.5 * low + 0.5 * high
    lower, upper = np.array([low, half]), np.array([half, high])
    stream = Draw(asked, partition(asked, "o"), lower, upper, [(THIRD, THIRD)] * 2)
    stream._words = lambda count: np.array(  # type: ignore[method-assign]
        [[word << 63, bits << 24, bits << 24] for word in (0, 1)], dtype=np.uint64
    ).reshape(-1)
    below, above = stream.take(2)
    measure = Measure(asked)
    for leaf in (0, 1):
        for axis in (0, 1):
            ends = float(lower[leaf, axis]), float(upper[leaf, axis])
            least, most = quantiles(measure, axis, *ends, bits, CELL_BITS)
            assert ends[0] <= below[leaf, axis] < above[leaf, axis] <= ends[1]
            assert Fraction(below[leaf, axis]) <= least
            assert Fraction(above[leaf, axis]) >= most
            assert above[leaf, axis] - below[leaf, axis] < 1e-11


@settings(deadline=None)
@given(st.lists(st.fractions(0, 1), min_size=1, max_size=6).filter(any))
def test_leaves_are_chosen_with_their_probabilities(parts):
    first, end = _thresholds([(part, part) for part in parts])
    assert first[0] == 0
    assert end[-1] == 1 << LEAF_BITS
    for k, part in enumerate(parts):
        share = Fraction(int(end[k]) - int(first[k]), 1 << LEAF_BITS)
        assert share <= part / sum(parts)
        assert part / sum(parts) - share <= Fraction(2, 1 << LEAF_BITS)
        assert k == 0 or end[k - 1] <= first[k] <= end[k - 1] + 1


def test_what_is_enclosed_may_be_no_leaf():
    first, end = _thresholds([(THIRD, THIRD * 2), (THIRD, THIRD * 2)])
    assert end[0] < first[1]  # what lies between may be either
    assert end[1] < 1 << LEAF_BITS
    assert [len(ends) for ends in _thresholds([(Fraction(0), THIRD)])] == [0, 0]


def test_arrays_that_are_empty_do_not_change_what_is_drawn():
    asked = question(
        diagonal(), [0, 0], [1, 1], unsafe_above(1), sampling=Sampling(Fraction(9, 10), 9, 0)
    )
    box = np.zeros((1, 2)), np.ones((1, 2)), [(Fraction(1), Fraction(1))]
    empty = partition(asked, "o", axis=np.zeros(0, np.int32), point=np.zeros(0))  # not in files
    one, other = (Draw(asked, made, *box).take(50)[0] for made in (empty, partition(asked, "o")))
    assert np.array_equal(one, other)


def test_batches_do_not_change_what_is_drawn():
    asked = question(
        diagonal(), [0, 0], [1, 1], unsafe_above(1), sampling=Sampling(Fraction(9, 10), 9, 0)
    )
    box = np.zeros((1, 2)), np.ones((1, 2)), [(Fraction(1), Fraction(1))]
    whole = Draw(asked, partition(asked, "o"), *box).take(1000)
    stream = Draw(asked, partition(asked, "o"), *box)
    pieces = [stream.take(size) for size in (1, 499, 500)]
    for side in (0, 1):
        assert np.array_equal(whole[side], np.concatenate([piece[side] for piece in pieces]))
    assert abs(float(whole[0].mean()) - 0.5) < 0.03
    other = SimpleNamespace(**{**vars(asked), "draws": "another"})
    other.case, other.distribution = asked.case, asked.distribution
    assert not np.array_equal(
        whole[0],
        Draw(other, partition(asked, "o"), *box).take(1000)[0],  # type: ignore[arg-type]
    )
