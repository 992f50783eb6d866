"""Attacks: gradients, regions in float32, what is found and what is not."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.convolution import Conv
from specs.enclosure import Enclosure, zeros
from specs.errors import UnsupportedOperatorError
from specs.linear import Gather, MatMul
from specs.network import Input, Linear, Network, Term, Univariate
from specs.property import Case, Property, constraint
from specs.query import Query
from tests.verifier.small import box_query, identity, random_mlp
from verifier.attack import Attack, Settings
from verifier.attack_forward import NumpyEvaluator, multiplications
from verifier.attack_targets import InnerBox, compile_targets, rounded_to_float32

F = Fraction
Y0 = {0: F(-1)}


def convolutional() -> Network:
    """A convolution, a Relu, a residual sum and a selection of outputs."""
    rng = np.random.default_rng(1)
    conv = Conv(
        Enclosure(rng.normal(size=(2, 2, 3, 3))), (1, 2, 4, 4), (1, 2, 4, 4), (1, 1), (1, 1), (1, 1)
    )
    nodes = (
        Input("x", (1, 2, 4, 4)),
        Linear("z", (1, 2, 4, 4), (Term(0, conv),), Enclosure(rng.normal(size=32))),
        Univariate("a", (1, 2, 4, 4), 1, "relu"),
        Linear(
            "y",
            (3,),
            (Term(2, Gather(np.array([0, 5, -1]), 32)), Term(0, Gather(np.array([1, 2, 3]), 32))),
            zeros(3),
        ),
    )
    return Network(nodes, (3,))


def differences(network: Network, x: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Central differences of ``direction @ network(x)``, row by row."""
    evaluator, step = NumpyEvaluator(network), 1e-6
    columns = []
    for i in range(x.shape[1]):
        move = np.zeros_like(x)
        move[:, i] = step
        rise = evaluator.evaluate(x + move)[0] - evaluator.evaluate(x - move)[0]
        columns.append((rise * direction).sum(axis=1) / (2 * step))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("network", [random_mlp([5, 7, 3], 0)[0], convolutional()])
def test_pullback_is_the_gradient(network: Network) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, network.input_size))
    direction = rng.normal(size=(4, network.output_size))
    y, pull_back = NumpyEvaluator(network).evaluate(x)
    assert y.shape == direction.shape
    np.testing.assert_allclose(pull_back(direction), differences(network, x, direction), atol=1e-6)


@pytest.mark.parametrize("network", [random_mlp([5, 7, 3], 0)[0], convolutional()])
def test_torch_evaluator_agrees_with_numpy(network: Network) -> None:
    pytest.importorskip("torch")
    from verifier.attack_torch import TorchEvaluator

    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, network.input_size))
    direction = rng.normal(size=(4, network.output_size))
    y, pull_back = NumpyEvaluator(network).evaluate(x)
    y_torch, pull_back_torch = TorchEvaluator(network).evaluate(x)
    np.testing.assert_allclose(y_torch, y, atol=1e-4)
    np.testing.assert_allclose(pull_back_torch(direction), pull_back(direction), atol=1e-4)


def test_unknown_function_is_refused_not_guessed() -> None:
    nodes = (Input("x", (1,)), Univariate("a", (1,), 0, "cube"))
    with pytest.raises(UnsupportedOperatorError, match="'a'"):
        NumpyEvaluator(Network(nodes, (1,)))


def test_multiplications_counts_dense_layers_and_windows() -> None:
    assert multiplications(random_mlp([5, 7, 3], 0)[0]) == 5 * 7 + 7 * 3
    assert multiplications(convolutional()) == 32 * 2 * 9 + 3 + 3


def attack(query: Query, **chosen: float) -> Attack[tuple[int, int, np.ndarray]]:
    return Attack(
        query,
        NumpyEvaluator(query.network),
        lambda case, disjunct, x: (case, disjunct, x.copy()),
        deadline=time.monotonic() + chosen.pop("seconds", 20.0),
        settings=Settings(**chosen),  # type: ignore[arg-type]
    )


def test_limits_that_no_float_holds_do_not_stop_the_search() -> None:
    huge = F(10**400)
    query = box_query(identity(), [-huge], [huge], [[constraint({}, Y0, -huge)]])
    (case,) = query.property.cases
    largest = float(np.finfo(np.float32).max)
    box = InnerBox(case)
    assert (box.lower.tolist(), box.upper.tolist()) == ([-largest], [largest])
    attack(query, seconds=1.0).sample()


def test_sampling_finds_a_corner() -> None:
    query = box_query(identity(), [0], [1], [[constraint({}, Y0, F(1))]])
    found = attack(query).sample()
    assert found is not None
    assert found[:2] == (0, 0)
    assert found[2] == pytest.approx([1.0])


def test_nothing_is_found_where_nothing_is() -> None:
    query = box_query(identity(), [0], [1], [[constraint({}, Y0, F(11, 10))]])
    assert attack(query).sample() is None
    assert attack(query, rounds=2).descend() is None


def test_descent_beats_sampling() -> None:
    made = random_mlp([12, 24, 24, 2], 5)
    rng = np.random.default_rng(0)
    y, _ = NumpyEvaluator(made[0]).evaluate(rng.uniform(-1, 1, (20000, 12)))
    threshold = F(float(1.3 * y[:, 0].max()))
    query = box_query(made, [-1] * 12, [1] * 12, [[constraint({}, Y0, threshold)]])
    assert attack(query).sample() is None
    found = attack(query).descend()
    assert found is not None
    assert NumpyEvaluator(made[0]).evaluate(found[2][None])[0][0, 0] >= float(threshold)


def test_descent_hits_a_conjunction_and_names_the_disjunct() -> None:
    made = random_mlp([4, 12, 3], 7)
    y, _ = NumpyEvaluator(made[0]).evaluate(np.array([[0.3, -0.2, 0.55, 0.1]]))
    near = [
        constraint({}, {j: F(sign)}, F(-sign) * F(float(y[0, j])) - F(1, 50))
        for j in range(2)
        for sign in (1, -1)
    ]
    never = (constraint({}, {}, F(1)),)
    query = box_query(made, [-1] * 4, [1] * 4, [never, near])
    found = attack(query, rounds=8).descend()
    assert found is not None
    assert found[1] == 1


def test_constraints_on_inputs_are_aimed_at() -> None:
    # x0 <= x1 cuts the box; y >= 1 with x0 >= 0.9 is asked of what is left.
    made = random_mlp([2, 6, 1], 1)
    region = [constraint({0: F(1), 1: F(-1)}, {}, F(0))]
    unsafe = [[constraint({0: F(-1)}, {}, F(9, 10))]]
    query = box_query(made, [0, 0], [1, 1], unsafe, region)
    found = attack(query).descend()
    assert found is not None
    assert found[2][1] >= found[2][0] >= 0.9


def test_every_case_of_many_is_looked_at() -> None:
    network, model = identity()
    cases = [
        Case((F(k),), (F(k) + F(1, 2),), ((constraint({}, Y0, F(777)),),)) for k in range(1000)
    ]
    prop = Property(1, 1, tuple(cases))
    query = Query(network, prop, (model,), prop.digest)
    found = attack(query, seconds=60.0).sample()
    assert found is not None
    assert found[2][0] >= 777


def test_late_attack_stops() -> None:
    query = box_query(identity(), [0], [1], [[constraint({}, Y0, F(2))]])
    began = time.monotonic()
    assert attack(query, seconds=0.0, rounds=10**6).descend() is None
    assert time.monotonic() - began < 5


def test_property_without_cases_or_disjuncts() -> None:
    network, model = identity()
    for prop in (Property(1, 1, ()), Property(1, 1, (Case((F(0),), (F(1),), ()),))):
        query = Query(network, prop, (model,), prop.digest)
        assert attack(query).sample() is None
        assert attack(query).descend() is None


def test_margins_are_the_constraint_values() -> None:
    made = random_mlp([2, 3, 2], 0)
    unsafe = [
        [constraint({0: F(2)}, {1: F(-3)}, F(1, 4)), constraint({}, {0: F(1)}, F(-1))],
        [constraint({}, {0: F(1), 1: F(1)}, F(5))],
    ]
    query = box_query(made, [0, 0], [1, 1], unsafe)
    targets = compile_targets(query, [0])
    x, y = np.array([[0.5, 0.25], [0.0, 1.0]]), np.array([[3.0, 2.0], [1.0, -1.0]])
    margins = targets.margins(np.array([0, 1]), x, y)
    np.testing.assert_array_equal(margins[0], [2 * 0.5 - 3 * 2.0 + 0.25, 2.0])
    np.testing.assert_array_equal(margins[1], [5.0, -np.inf])


def box(lower: Fraction, upper: Fraction, **strict: frozenset[int]) -> InnerBox:
    return InnerBox(Case((lower,), (upper,), (), **strict))


def test_interval_without_a_float32_number_keeps_its_rational() -> None:
    inner = box(F(1, 10), F(1, 10))
    assert inner.empty == 1
    assert inner.point(np.array([0.7])) == (F(1, 10),)
    assert box(F(1, 2), F(1, 2)).empty == 0


def test_strict_bounds_are_not_touched() -> None:
    inner = box(F(0), F(1), strict_lower=frozenset({0}), strict_upper=frozenset({0}))
    low, high = inner.point(np.array([-5.0]))[0], inner.point(np.array([5.0]))[0]
    assert 0 < low < F(1, 10**30)
    assert F(999, 1000) < high < 1


def test_open_interval_between_neighbours_gets_its_middle() -> None:
    low = F(1)
    high = F(float(np.nextafter(np.float32(1), np.float32(2))))
    inner = box(low, high, strict_lower=frozenset({0}), strict_upper=frozenset({0}))
    assert inner.empty == 1
    assert inner.point(np.array([1.0])) == ((low + high) / 2,)


def test_beyond_float32_is_not_infinite() -> None:
    inner = box(F(-(10**60)), F(10**60))
    assert inner.point(np.array([1e300]))[0] == F(float(np.finfo(np.float32).max))


decimals = st.decimals(-100, 100, places=4, allow_nan=False).map(Fraction)


@given(decimals, decimals, st.floats(-200, 200))
@settings(max_examples=200, deadline=None)
def test_points_lie_in_the_box_and_are_float32_where_possible(
    a: Fraction, b: Fraction, x: float
) -> None:
    low, high = min(a, b), max(a, b)
    inner = box(low, high)
    (point,) = inner.point(np.array([x]))
    assert low <= point <= high
    if not inner.empty:
        assert F(float(np.float32(float(point)))) == point
        assert F(float(rounded_to_float32([point])[0])) == point


def test_linear_regions_are_repaired_exactly() -> None:
    equal = [constraint({0: F(1), 1: F(-1)}, {}, F(0)), constraint({0: F(-1), 1: F(1)}, {}, F(0))]
    case = Case((F(0), F(0)), (F(1), F(1)), (), tuple(equal))
    point = InnerBox(case).point(np.array([0.3, 0.7]))
    assert point[0] == point[1]
    assert case.contains(point)


def test_impossible_linear_region_is_given_up() -> None:
    case = Case((F(0),), (F(1),), (), (constraint({0: F(-1)}, {}, F(2)),))
    assert not case.contains(InnerBox(case).point(np.array([0.5])))


def staircase(size: int) -> Network:
    """Stairs in every input, added up: from 0 to 4 ``size``, and flat nearly everywhere."""
    up = np.where(np.random.default_rng(3).random(size) < 0.5, -1.0, 1.0)
    places, steep = np.array([-0.6, -0.2, 0.2, 0.6]), 2.0**30
    weight = np.zeros((size, size * 8))
    offset = np.zeros(size * 8)
    output = np.zeros((size * 8, 1))
    for i in range(size):
        for k, place in enumerate(places):
            at = 8 * i + 2 * k
            weight[i, at : at + 2] = steep * up[i]
            offset[at : at + 2] = -steep * place - np.array([0.0, 1.0])
            output[at : at + 2, 0] = 1.0, -1.0
    return Network(
        (
            Input("x", (size,)),
            Linear("z", (size * 8,), (Term(0, MatMul(Enclosure(weight))),), Enclosure(offset)),
            Univariate("h", (size * 8,), 1, "relu"),
            Linear("y", (1,), (Term(2, MatMul(Enclosure(output))),), zeros(1)),
        ),
        (3,),
    )


@pytest.mark.parametrize("jumps", [True, False])
def test_where_gradients_vanish_entries_jump(jumps: bool, monkeypatch) -> None:
    if not jumps:
        monkeypatch.setattr(Attack, "_jumped", lambda self, u, share: u)
    high = constraint({}, {0: Fraction(-1)}, Fraction(78))
    case = Case((Fraction(-1),) * 20, (Fraction(1),) * 20, ((high,),))
    query = Query(staircase(20), Property(20, 1, (case,)), (), "stairs")
    tried = attack(query, samples=64, rows=64, steps=120, rounds=4)
    assert tried.sample() is None
    assert (tried.descend() is not None) == jumps
