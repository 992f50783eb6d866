"""A witness is decided exactly: regions, strictness, enclosures, numbers out of range."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.check import check_witness
from proofs.evaluate import evaluate
from proofs.witness import DENOMINATOR_LIMIT, Witness
from specs.enclosure import Enclosure
from specs.linear import MatMul
from specs.network import Univariate
from specs.property import Case, Constraint, constraint
from tests.proofs.helpers import (
    Net,
    at_least,
    box_case,
    extremes,
    member,
    outputs_at,
    query,
    random_network,
)
from tests.proofs.test_bounds_hold import boxes, points_of, wild_network

F = Fraction


def identity_query(*unsafe, low=0, high=1, constraints=(), strict=()):
    net = Net(1)
    net.dense(0, [[1.0]])
    case = Case((F(low),), (F(high),), unsafe, constraints)
    if "lower" in strict:
        case = replace(case, strict_lower=frozenset({0}))
    if "upper" in strict:
        case = replace(case, strict_upper=frozenset({0}))
    return query(net.done(), [case])


def said(stated, point, case=0, disjunct=0, question=None):
    witness = Witness(question or stated.digest, case, disjunct, tuple(point))
    return check_witness(stated, witness).verdict


def test_the_threshold_is_met_exactly():
    third = F(1, 3)
    stated = identity_query(at_least(0, third))
    assert said(stated, [third]) == "valid sat"
    assert said(stated, [third - F(1, 10**40)]) == "invalid"
    assert said(stated, [F(float(third))]) == "invalid"  # the nearest float lies below
    strict = identity_query(at_least(0, third, strict=True))
    assert said(strict, [third]) == "invalid"
    assert said(strict, [third + F(1, 10**40)]) == "valid sat"


def test_the_region_is_met_exactly():
    tenth = F(1, 10)  # which floats round up
    stated = identity_query(at_least(0, 0), low=F(0), high=tenth)
    assert said(stated, [tenth]) == "valid sat"
    assert said(stated, [F(0.1)]) == "invalid"
    assert said(stated, [F(-1, 10**50)]) == "invalid"
    for strict, point in (("upper", tenth), ("lower", F(0))):
        open_end = identity_query(at_least(0, 0), high=tenth, strict=(strict,))
        assert said(open_end, [point]) == "invalid"
        assert said(open_end, [F(1, 20)]) == "valid sat"


def test_constraints_of_the_region_count():
    for strict in (False, True):
        cut = Constraint(((0, F(3)),), (), F(-1), strict)  # x <= 1/3, or <
        stated = identity_query(at_least(0, 0), constraints=(cut,))
        assert said(stated, [F(1, 3)]) == ("invalid" if strict else "valid sat")
        assert said(stated, [F(1, 3) + F(1, 10**30)]) == "invalid"
        assert said(stated, [F(1, 3) - F(1, 10**30)]) == "valid sat"


def test_every_constraint_of_the_disjunct_counts():
    both = (constraint({}, {0: F(-1)}, F(1, 2)), constraint({0: F(1)}, {}, F(-3, 4)))
    stated = identity_query(both, at_least(0, 1))
    assert said(stated, [F(5, 8)]) == "valid sat"
    assert said(stated, [F(1, 4)]) == "invalid"
    assert said(stated, [F(1)]) == "invalid"
    assert said(stated, [F(1)], disjunct=1) == "valid sat"
    assert said(stated, [F(5, 8)], disjunct=1) == "invalid"


def test_numbers_that_are_out_of_range():
    stated = identity_query(at_least(0, 0))
    assert said(stated, [F(1)]) == "valid sat"
    for case, disjunct in ((-1, 0), (1, 0), (0, -1), (0, 1), (10**30, 0)):
        assert said(stated, [F(1)], case, disjunct) == "invalid"
    for point in ([], [F(1), F(1)], [F(10) ** 400], [-(F(10) ** 400)], [F(10) ** 3999]):
        assert said(stated, point) == "invalid"
    assert said(stated, [F(1)], question="0" * 64) == "unreadable"
    long = [F(1, 3 ** (DENOMINATOR_LIMIT))]
    assert said(stated, long) == "invalid"
    far = identity_query(at_least(0, F(10) ** 500))
    assert said(far, [F(1)]) == "invalid"


@pytest.mark.parametrize("part", ["weight", "offset"])
def test_all_members_of_an_enclosure_must_violate(part):
    """A witness for the middle is not one for the network that is meant."""
    net = Net(1)
    wide, narrow = np.full((1, 1), 2.0**-10), np.zeros((1, 1))
    weight = Enclosure(np.ones((1, 1)), wide if part == "weight" else narrow)
    offset = Enclosure(np.zeros(1), (wide if part == "offset" else narrow)[0])
    hidden = net.relu(net.linear((0, MatMul(weight)), offset=offset))
    net.dense(hidden, [[-3.0]])
    case = box_case([0], [1], at_least(0, -3), at_least(0, F(-3) - F(3, 1024)))
    stated = query(net.done(), [case])
    assert said(stated, [F(1)], disjunct=0) == "invalid"
    assert said(stated, [F(1)], disjunct=1) == "valid sat"
    nearly = replace(case, unsafe=(at_least(0, F(-3) - F(3, 1024) + F(1, 10**20)),))
    assert said(query(stated.network, [nearly]), [F(1)]) == "invalid"


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_evaluation_is_exact(seed):
    rng = np.random.default_rng(seed)
    radii = float(rng.choice([0.0, 0.5]))
    network = wild_network(rng, radii)
    real = member(rng, network)
    low, high = boxes(rng)
    for point in points_of(rng, low, high, 2):
        expected = outputs_at(real, point)[network.outputs[0]]
        found = evaluate(network, point)
        for value, (centre, radius) in zip(expected, found, strict=True):
            assert abs(value - centre) <= radius
            assert radii or (value == centre and radius == 0)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_the_maximum_is_a_witness_and_nothing_is_beyond_it(seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng, int(rng.integers(1, 3)))
    size = network.input_size
    case = box_case([-1] * size, [1] * size)
    _, high, at = extremes(network, case)
    stated = query(network, [replace(case, unsafe=(at_least(0, high),))])
    assert said(stated, at) == "valid sat"
    beyond = query(network, [replace(case, unsafe=(at_least(0, high, strict=True),))])
    assert said(beyond, at) == "invalid"


@pytest.mark.parametrize("name", ["sigmoid", "sin", "exp"])
def test_coordinates_of_thousands_of_digits_on_smooth_networks(name):
    """Units then count more than floats do."""
    net = Net(1)
    net.nodes.append(Univariate("f", (1,), 0, name))
    near = F(10**1500 + 1, 2 * 10**1500 + 7)
    for threshold, verdict in ((F(1, 4), "valid sat"), (F(3), "invalid")):
        stated = query(net.done(), [box_case([-1], [1], at_least(0, threshold))])
        assert said(stated, [near]) == verdict
    wide = query(net.done(), [box_case([0], [10**6], at_least(0, 3))])
    assert said(wide, [F(10**6)]) == "invalid"  # exp of it is too large to be evaluated
