"""Enclosures of elementary functions contain what Arb says, and are narrow."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest
from flint import arb
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader import elementary
from specs.reader.elementary import PLAIN, Span, image

PRECISION = 2400
NUMBERS = st.one_of(
    st.floats(-20, 20),
    st.floats(-700, 700),
    st.floats(-1e-10, 1e-10),
    st.floats(-1e300, 1e300),
    st.integers(-64, 64).map(lambda n: n / 8),
)
RADII = st.one_of(st.just(0.0), st.floats(0, 1e-3), st.floats(0, 1e-16))


def ball(x: Fraction) -> arb:
    return arb(flint.fmpq(x.numerator, x.denominator))


def truth(name: str) -> Callable[[arb], arb]:
    def tanh_gelu(x: arb) -> arb:
        inner = (2 / arb.pi()).sqrt() * (x + arb(flint.fmpq(44715, 10**6)) * x**3)
        return x * (1 + inner.tanh()) / 2

    def log1p_exp(x: arb) -> arb:
        return (1 + x.exp()).log()

    formulas: dict[str, Callable[[arb], arb]] = {
        "sigmoid": lambda x: 1 / (1 + (-x).exp()),
        "softplus": log1p_exp,
        "softsign": lambda x: x / (1 + abs(x)),
        "silu": lambda x: x / (1 + (-x).exp()),
        "gelu": lambda x: x * (1 + (x / arb(2).sqrt()).erf()) / 2,
        "gelu_tanh": tanh_gelu,
        "mish": lambda x: x * log1p_exp(x).tanh(),
        "hardswish": lambda x: x * (x / 6 + arb(0.5)).max(arb(0)).min(arb(1)),
    }
    return formulas.get(name) or (lambda x: getattr(x, name)())


@pytest.fixture(autouse=True)
def precise() -> Any:
    before, flint.ctx.prec = flint.ctx.prec, PRECISION
    yield
    flint.ctx.prec = before


def holds(enclosure: Enclosure, true: arb) -> bool:
    value = Fraction(float(enclosure.value[0]))
    radius = Fraction(0 if enclosure.radius is None else float(enclosure.radius[0]))
    distance = abs(true - ball(value))
    return bool(distance <= ball(radius) + arb(2) ** -600)


@pytest.mark.parametrize("name", [*PLAIN, "cosh"])
@settings(deadline=None, max_examples=60)
@given(NUMBERS, RADII, st.integers(-8, 8))
def test_a_function_of_an_enclosure_contains_the_truth(
    name: str, value: float, radius: float, place: int
) -> None:
    given_ = Enclosure(np.array([value]), np.array([radius]))
    inside = Fraction(value) + Fraction(place, 8) * Fraction(radius)
    try:
        found = image(name, (), given_)
    except ModelError:
        undefined = name == "log" and Fraction(value) <= Fraction(radius)
        assert undefined or abs(value) > 700
        assume(False)
    true = truth(name)(ball(inside))
    assert holds(found, true)
    if not radius and found.radius is not None:
        assert found.radius[0] <= 2.0**-52 * abs(float(true)) + 2.0**-250 * (1 + abs(value))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("elu", (1.0,)), ("elu", (-0.75,)), ("selu", (1.6732632, 1.0507009)), ("selu", (2.0, -3.0))],
)
@settings(deadline=None, max_examples=60)
@given(st.floats(-50, 50), RADII, st.integers(-8, 8))
def test_exponential_units_contain_the_truth(
    name: str, parameters: tuple[float, ...], value: float, radius: float, place: int
) -> None:
    found = image(name, parameters, Enclosure(np.array([value]), np.array([radius])))
    inside = Fraction(value) + Fraction(place, 8) * Fraction(radius)
    alpha, gamma = [*map(arb, parameters), arb(1)][:2]
    x = ball(inside)
    assert holds(found, gamma * (x if inside > 0 else alpha * (x.exp() - 1)))


@pytest.mark.parametrize("name", ["exp", "erf", "gelu", "tanh", "atan", "sin"])
def test_a_span_that_misses_the_truth_would_be_seen(name: str) -> None:
    """The comparison itself: values moved by an ulp are told apart."""
    found = image(name, (), Enclosure(np.array([0.7])))
    moved = Enclosure(np.nextafter(found.value, np.inf), found.radius)
    assert holds(found, truth(name)(arb(0.7)))
    assert not holds(moved, truth(name)(arb(0.7)))


def test_far_arguments_cost_little() -> None:
    huge = Enclosure(np.array([1e300, -1e300]))
    for name in ("sigmoid", "tanh", "erf", "sin", "cos", "atan", "softsign"):
        found = image(name, (), huge)
        assert np.all(np.abs(found.value) <= 2)
    for name in ("exp", "sinh", "cosh"):
        with pytest.raises(ModelError):
            image(name, (), Enclosure(np.array([1e308])))


def test_pi_is_pi() -> None:
    for bits in (64, 400, 1500):
        span = elementary.pi(bits)
        assert span.high - span.low < Fraction(1, 2 ** (bits - 16))
        assert bool(ball(span.low) < arb.pi())
        assert bool(arb.pi() < ball(span.high))


def test_spans_divide_only_by_what_is_not_0() -> None:
    one = Span(Fraction(1), Fraction(1))
    for low, high in ((-1, 1), (0, 1), (-1, 0)):
        with pytest.raises(ModelError, match="divided"):
            one / Span(Fraction(low), Fraction(high))


def test_an_unknown_function_is_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match="'tan'"):
        image("tan", (), Enclosure(np.ones(1)))
