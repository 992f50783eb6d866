from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.builders import (
    COPY_PREFIX,
    ball,
    box,
    monotonicity,
    number,
    output_range,
    robustness,
    two_copies,
    vector,
)
from specs.enclosure import Enclosure
from specs.errors import QuestionError
from specs.linear import MatMul
from specs.network import Input, Linear, Network, Term, Univariate
from specs.query import ModelFile

HALF, TENTH = Fraction(1, 2), Fraction(1, 10)
WEIGHT = np.array([[1.0, 2.0, -1.0], [0.5, -1.0, 3.0]])
OFFSET = np.array([0.0, 0.25, -0.5])


def model() -> tuple[Network, ModelFile]:
    layer = Linear("pre", (1, 3), (Term(0, MatMul(Enclosure(WEIGHT))),), Enclosure(OFFSET))
    nodes = (Input("in", (1, 2)), layer, Univariate("out", (1, 3), 1, "relu"))
    return Network(nodes, (2,), {"flat": 1}), ModelFile(None, b"", "digest")


def evaluate(network: Network, x: list[Fraction]) -> list[Fraction]:
    """Only for the networks of this file: affine by ``WEIGHT`` and Relu."""
    values: list[list[Fraction]] = []
    for node in network.nodes:
        if isinstance(node, Input):
            size = math.prod(node.shape)
            values.append(x[:size])
            x = x[size:]
        elif isinstance(node, Linear):
            source = values[node.terms[0].source]
            values.append(
                [
                    Fraction(OFFSET[j])
                    + sum(v * Fraction(w) for v, w in zip(source, column, strict=True))
                    for j, column in enumerate(WEIGHT.T)
                ]
            )
        else:
            values.append([max(v, Fraction(0)) for v in values[node.source]])
    return [v for o in network.outputs for v in values[o]]


coordinates = st.fractions(-2, 2, max_denominator=8)


@settings(max_examples=50)
@given(st.tuples(coordinates, coordinates), st.tuples(coordinates, coordinates), st.integers(0, 2))
def test_robustness_means_what_it_says(centre, x, label: int) -> None:
    radius = Fraction(3, 4)
    query = robustness(model(), centre, label, radius)
    y = evaluate(query.network, list(x))
    inside = all(abs(a - c) <= radius for a, c in zip(x, centre, strict=True))
    wrong = any(y[j] >= y[label] for j in range(3) if j != label)
    assert query.property.violated(x, y) == (inside and wrong)


@settings(max_examples=50)
@given(st.tuples(coordinates, coordinates), coordinates, coordinates)
def test_output_range_means_what_it_says(x, first: Fraction, second: Fraction) -> None:
    low, high = sorted((first, second))
    query = output_range(model(), -1, [1, 2], 1, minimum=low, maximum=high)
    y = evaluate(query.network, list(x))
    inside = -1 <= x[0] <= 1 and -1 <= x[1] <= 2
    assert query.property.violated(x, y) == (inside and not low <= y[1] <= high)


@settings(max_examples=80)
@given(
    st.tuples(coordinates, coordinates),
    st.tuples(coordinates, coordinates),
    st.sampled_from(["increasing", "decreasing"]),
    st.sampled_from([0, 1, (0, 1)]),
)
def test_monotonicity_means_what_it_says(a, b, direction: str, features) -> None:
    query = monotonicity(model(), -1, 1, features, 2, direction)
    moved = {features} if isinstance(features, int) else set(features)
    if len(moved) == 1:
        b = tuple(b[i] if i in moved else a[i] for i in range(2))
    y = evaluate(query.network, [*a, *b])
    linked = all(a[i] <= b[i] if i in moved else a[i] == b[i] for i in range(2))
    inside = all(-1 <= v <= 1 for v in (*a, *b))
    wrong = y[2] > y[5] if direction == "increasing" else y[2] < y[5]
    assert query.property.violated((*a, *b), y) == (linked and inside and wrong)


def test_two_copies_compute_the_same() -> None:
    network = model()[0]
    double = two_copies(network)
    x = [HALF, -TENTH]
    assert evaluate(double, x + x) == evaluate(network, x) * 2
    assert (double.input_size, double.output_size) == (4, 6)
    assert double.tensors[COPY_PREFIX + "flat"] == double.tensors[COPY_PREFIX + "pre"] == 4
    assert len(double.tensors) == 2 * len(network.tensors)


def test_a_two_copy_query_lists_its_file_twice() -> None:
    assert len(monotonicity(model(), 0, 1, 0, 0).models) == 2


def test_targets_narrow_the_unsafe_set() -> None:
    assert len(robustness(model(), [0, 0], 1, 1).property.cases[0].unsafe) == 2
    (disjunct,) = robustness(model(), [0, 0], 1, 1, target=2).property.cases[0].unsafe
    assert disjunct[0].outputs == ((1, 1), (2, -1))


def test_regions_are_exact() -> None:
    low, high = ball(2, np.array([[0.1, 0.2]], dtype=np.float32), "0.1", lower=0)
    assert low == (
        Fraction(float(np.float32(0.1))) - TENTH,
        Fraction(float(np.float32(0.2))) - TENTH,
    )
    assert high[0] == Fraction(float(np.float32(0.1))) + TENTH
    assert ball(2, [0, 0], [TENTH, 1], upper=[HALF, HALF])[1] == (TENTH, HALF)
    assert box(2, [[Decimal("0.1")], [0]], 1) == ((TENTH, 0), (1, 1))
    assert number(0.1, "x") == Fraction(0.1) != TENTH
    assert vector(3, 2, "x") == [3, 3]


def test_equal_questions_have_equal_hashes() -> None:
    first = robustness(model(), [0, 0], 1, "0.5")
    assert first.digest == robustness(model(), np.zeros(2), 1, 0.5).digest
    others = [
        robustness(model(), [0, 0], 1, "0.5000000000000000000001"),
        robustness(model(), [0, 0], 2, "0.5"),
        robustness(model(), [0, 0], 1, "0.5", target=0),
        monotonicity(model(), -1, 1, 0, 0),
        monotonicity(model(), -1, 1, 0, 0, "decreasing"),
    ]
    assert len({q.digest for q in [first, *others]}) == 6


REFUSED = [
    (lambda: robustness(model(), [0, 0], 3, 1), "label 3 is out of range: there are 3"),
    (lambda: robustness(model(), [0, 0], -1, 1), "label -1 is out of range"),
    (lambda: robustness(model(), [0, 0], 1.0, 1), "label: 1.0 is not an integer"),
    (lambda: robustness(model(), [0, 0], True, 1), "label: True is not an integer"),
    (lambda: robustness(model(), [0, 0], 1, 1, target=1), "target 1 is the label itself"),
    (lambda: robustness(model(), [0, 0], 1, 1, target=7), "target 7 is out of range"),
    (lambda: robustness(model(), [0, 0], 1, -1), "radius -1 is negative"),
    (lambda: robustness(model(), [0, 0], 1, [1, -1]), "radius -1 is negative"),
    (lambda: robustness(model(), [0, 0], 1, math.inf), "radius: inf is not a finite number"),
    (lambda: robustness(model(), [0, math.nan], 1, 1), r"centre\[1\]: nan is not a finite"),
    (lambda: robustness(model(), [0, 0, 0], 1, 1), "centre: 3 numbers, but the network has 2"),
    (lambda: robustness(model(), 0, 1, 1), "centre: one number, but the network has 2"),
    (lambda: robustness(model(), [0, 0], 1, [1]), "radius: 1 numbers, but"),
    (lambda: robustness(model(), [0, 0], 1, None), "radius: None is not a number"),
    (lambda: robustness(model(), [0, 0], 1, True), "radius: True is not a number"),
    (lambda: robustness(model(), [0, 0], 1, 1, lower=2), "input 0: the lower bound 2 exceeds"),
    (lambda: output_range(model(), 1, 0, 0, maximum=1), "input 0: the lower bound 1 exceeds"),
    (lambda: output_range(model(), 0, 1, 0), "needs a minimum or a maximum"),
    (lambda: output_range(model(), 0, 1, 3, maximum=1), "output 3 is out of range"),
    (lambda: output_range(model(), 0, 1, 0, minimum=2, maximum=1), "the minimum 2 exceeds"),
    (lambda: output_range(model(), 0, 1, 0, minimum="x"), "minimum: x is not a finite"),
    (lambda: monotonicity(model(), 0, 1, 2, 0), "feature 2 is out of range"),
    (lambda: monotonicity(model(), 0, 1, [0, 0], 0), "each named once"),
    (lambda: monotonicity(model(), 0, 1, [], 0), "one or more features"),
    (lambda: monotonicity(model(), 0, 1, 0, 5), "output 5 is out of range"),
    (lambda: monotonicity(model(), 0, 1, 0, 0, "up"), "direction 'up' is neither"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_refused(build, message: str) -> None:
    with pytest.raises(QuestionError, match=message):
        build()
