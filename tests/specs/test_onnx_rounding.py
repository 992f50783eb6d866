"""Enclosures contain the true rational numbers, and are exact where nothing is rounded."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from specs.convolution import Conv
from specs.enclosure import Enclosure
from specs.errors import ModelError
from specs.linear import Gather, LinearMap, MatMul, Scale, Scatter
from specs.network import Linear, Network
from specs.onnx_reader import read_model_bytes
from specs.reader import rounding
from tests.networks import model_bytes

NUMBERS = st.one_of(
    st.floats(-1e6, 1e6),
    st.floats(-1e-300, 1e-300),
    st.floats(-1e150, 1e150),
    st.integers(-64, 64).map(lambda n: n / 8),
)
RADII = st.one_of(st.just(0.0), st.floats(0, 1e-3), st.floats(0, 1e-310))


@st.composite
def enclosed(draw: st.DrawFn) -> tuple[Enclosure, Fraction]:
    """An enclosure of one number, and a number in it."""
    value, radius = draw(NUMBERS), draw(RADII)
    share = Fraction(draw(st.integers(-8, 8)), 8)
    true = Fraction(value) + share * Fraction(radius)
    return Enclosure(np.array([value]), np.array([radius])), true


def contains(enclosure: Enclosure, true: Fraction, entry: int = 0) -> bool:
    radius = 0.0 if enclosure.radius is None else float(enclosure.radius.reshape(-1)[entry])
    value = float(enclosure.value.reshape(-1)[entry])
    return abs(true - Fraction(value)) <= Fraction(radius)


BINARY: dict[str, tuple[Any, Callable[[Fraction, Fraction], Fraction]]] = {
    "add": (rounding.add, lambda a, b: a + b),
    "subtract": (rounding.subtract, lambda a, b: a - b),
    "multiply": (rounding.multiply, lambda a, b: a * b),
    "divide": (rounding.divide, lambda a, b: a / b),
    "maximum": (rounding.maximum, max),
}


@settings(deadline=None, max_examples=200)
@pytest.mark.parametrize("name", BINARY)
@given(enclosed(), enclosed())
def test_binary_operations_contain_the_truth(
    name: str, a: tuple[Enclosure, Fraction], b: tuple[Enclosure, Fraction]
) -> None:
    ours, truth = BINARY[name]
    try:
        found = ours(a[0], b[0])
    except ModelError:
        assume(False)
    assert contains(found, truth(a[1], b[1]))


@settings(deadline=None, max_examples=200)
@given(enclosed(), st.integers(1, 9))
def test_powers_and_roots_contain_the_truth(a: tuple[Enclosure, Fraction], exponent: int) -> None:
    try:
        assert contains(rounding.power(a[0], exponent), a[1] ** exponent)
        root = rounding.square_root(a[0])
    except ModelError:
        assume(False)
    radius = Fraction(0 if root.radius is None else float(root.radius[0]))
    value = Fraction(float(root.value[0]))
    assert a[1] <= (value + radius) ** 2
    assert value < radius or (value - radius) ** 2 <= a[1]


@given(st.lists(st.fractions(), min_size=1, max_size=5))
def test_rationals_are_enclosed(numbers: list[Fraction]) -> None:
    found = rounding.enclose(numbers)
    for entry, number in enumerate(numbers):
        assert contains(found, number, entry)


@given(st.integers(-(2**20), 2**20), st.integers(-(2**20), 2**20))
def test_what_is_not_rounded_stays_exact(a: int, b: int) -> None:
    left, right = Enclosure(np.array([a / 8])), Enclosure(np.array([b / 16]))
    for operation in (rounding.add, rounding.subtract, rounding.multiply, rounding.maximum):
        assert operation(left, right).exact
    assert rounding.divide(left, Enclosure(np.array([0.25]))).exact
    assert rounding.square_root(Enclosure(np.array([float(a) ** 2]))).exact


@pytest.mark.parametrize(
    ("operation", "entries"),
    [
        (rounding.divide, (1.0, 3.0)),
        (rounding.multiply, (0.1, 0.1)),
        (rounding.add, (1.0, 2.0**-60)),
        (rounding.multiply, (1e-200, 1e-200)),
    ],
)
def test_what_is_rounded_is_not_called_exact(operation: Any, entries: tuple[float, float]) -> None:
    a, b = (Enclosure(np.array([entry])) for entry in entries)
    assert not operation(a, b).exact


@pytest.mark.parametrize(("value", "radius"), [(0.0, 0.0), (1.0, 1.0), (1.0, 2.0), (-1.0, 1.0)])
def test_a_divisor_that_may_be_0_is_refused(value: float, radius: float) -> None:
    divisor = Enclosure(np.array([value]), np.array([radius]))
    with pytest.raises(ModelError, match="divided by 0"):
        rounding.divide(Enclosure(np.ones(1)), divisor)


@pytest.mark.parametrize(("value", "radius"), [(-1.0, 0.0), (1.0, 2.0)])
def test_a_root_of_what_may_be_negative_is_refused(value: float, radius: float) -> None:
    with pytest.raises(ModelError, match="square root"):
        rounding.square_root(Enclosure(np.array([value]), np.array([radius])))


def test_overflow_is_refused() -> None:
    huge = Enclosure(np.array([1e308]))
    for operation in (rounding.add, rounding.multiply):
        with pytest.raises(ModelError, match="finite"):
            operation(huge, huge)


def vectors(size: int) -> st.SearchStrategy[list[float]]:
    return st.lists(NUMBERS, min_size=size, max_size=size)


def matrix_of(linear: LinearMap) -> list[list[Fraction]]:
    """The coefficients, from the images of unit vectors, which are not rounded."""
    weight = None if linear.weight is None else linear.weight.value
    images = linear.forward(np.eye(linear.source_size), weight, np.matmul)
    return [[Fraction(float(entry)) for entry in row] for row in images]


@st.composite
def maps(draw: st.DrawFn) -> LinearMap:
    def weights(*shape: int) -> Enclosure:
        return Enclosure(np.array(draw(vectors(math.prod(shape)))).reshape(shape))

    index = np.array(draw(st.lists(st.integers(-1, 2), min_size=4, max_size=4)))
    return draw(
        st.sampled_from(
            [
                Gather(index, 4),
                Scatter(index, 3),
                Scale(weights(4)),
                MatMul(weights(2, 3), 2),
                Conv(weights(2, 1, 2), (1, 1, 4), (1, 2, 3), (1,), (0,), (1,)),
                Conv(weights(1, 2, 2), (1, 2, 5), (1, 1, 4), (1,), (0,), (1,), 1, True),
            ]
        )
    )


@settings(deadline=None, max_examples=300)
@given(maps(), vectors(4), st.lists(RADII, min_size=4, max_size=4), st.integers(-1, 1))
def test_images_contain_the_truth(
    linear: LinearMap, values: list[float], radii: list[float], side: int
) -> None:
    try:
        found = rounding.image(linear, Enclosure(np.array(values), np.array(radii)))
    except ModelError:
        assume(False)
    x = [Fraction(v) + side * Fraction(r) for v, r in zip(values, radii, strict=True)]
    rows = matrix_of(linear)
    for entry in range(linear.target_size):
        true = sum((a * row[entry] for a, row in zip(x, rows, strict=True)), Fraction(0))
        assert contains(found, true, entry)


def linear_nodes(network: Network) -> list[Linear]:
    return [node for node in network.nodes if isinstance(node, Linear)]


def only_weights(network: Network) -> list[Enclosure]:
    terms = [term for node in linear_nodes(network) for term in node.terms]
    return [term.map.weight for term in terms if term.map.weight is not None]


def test_an_average_is_the_rational_one() -> None:
    inputs: list[Any] = [(1, 1, 3, 3)]
    content = model_bytes("AveragePool", inputs, {"kernel_shape": [3, 3]})
    (share,) = only_weights(read_model_bytes(content, None, "m"))
    assert not share.exact
    assert all(contains(share, Fraction(1, 9), entry) for entry in range(9))
    assert float(np.max(share.radius)) < 1e-16  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [2, 4, 8])
def test_an_average_over_a_power_of_two_is_exact(size: int) -> None:
    content = model_bytes("GlobalAveragePool", [(1, 1, size)])
    (share,) = only_weights(read_model_bytes(content, None, "m"))
    assert share.exact
    assert np.all(share.value == 1 / size)


def test_linear_resizing_takes_rational_shares() -> None:
    none, sizes = np.array([], np.float32), np.array([1, 1, 1, 4])
    content = model_bytes(
        "Resize",
        [(1, 1, 1, 3), none, none, sizes],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    )
    (mixer,) = only_weights(read_model_bytes(content, None, "m"))
    truth = [Fraction(0)] * 12
    for row, position in enumerate([Fraction(0), Fraction(2, 3), Fraction(4, 3), Fraction(2)]):
        for column in range(3):
            truth[3 * row + column] = max(Fraction(0), 1 - abs(position - column))
    assert all(contains(mixer, true, entry) for entry, true in enumerate(truth))


@settings(deadline=None)
@given(*[st.floats(-100, 100, width=32) for _ in range(3)], st.floats(0.0078125, 100, width=32))
def test_a_batch_normalisation_contains_the_true_line(
    gamma: float, beta: float, mean: float, variance: float
) -> None:
    parameters = [np.array([p], dtype=np.float32) for p in (gamma, beta, mean, variance)]
    epsilon = float(np.float32(1e-5))
    content = model_bytes("BatchNormalization", [(1, 1), *parameters])
    network = read_model_bytes(content, None, "m")
    factors = only_weights(network)
    factor = factors[0] if factors else None
    root = Fraction(variance) + Fraction(epsilon)
    if factor is not None:
        value = Fraction(float(factor.value[0]))
        radius = Fraction(0 if factor.radius is None else float(factor.radius[0]))
        # factor = gamma / sqrt(root): compared through squares, both ends apart.
        ends = sorted([abs(value) - radius, abs(value) + radius])
        assert max(ends[0], Fraction(0)) ** 2 * root <= Fraction(gamma) ** 2
        assert Fraction(gamma) ** 2 <= ends[1] ** 2 * root
        assert float(radius) <= 1e-14 * max(1.0, abs(float(value)))
    shift = sum(float(node.offset.value[0]) for node in linear_nodes(network))
    plain = beta - mean * gamma / math.sqrt(variance + epsilon)
    assert math.isclose(shift, plain, rel_tol=1e-9, abs_tol=1e-9)


def test_a_folded_scalar_stays_a_scalar() -> None:
    """An outer axis appears nowhere: shapes computed from such constants would be wrong."""
    two = Enclosure(np.array(2.0))
    for folded in (rounding.add(two, two), rounding.divide(two, two), rounding.square_root(two)):
        assert folded.shape == ()
