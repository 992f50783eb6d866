import doctest
import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.watermarks import tails
from proofs.watermarks.tails import (
    binomial_tail,
    log2_nearest,
    log2_text,
    poisson_binomial_tail,
    poisson_binomial_threshold,
    several_keys,
    threshold,
)

HALF = Fraction(1, 2)
RATES = st.fractions(0, 1, max_denominator=50)


def enumerated(rates, t):
    """The tail by enumeration of all outcomes."""
    total = Fraction(0)
    for outcome in itertools.product((False, True), repeat=len(rates)):
        if sum(outcome) >= t:
            parts = (p if hit else 1 - p for p, hit in zip(rates, outcome, strict=True))
            total += math.prod(parts, start=Fraction(1))
    return total


def test_documented_values_hold():
    assert doctest.testmod(tails).failed == 0


@pytest.mark.parametrize(
    ("n", "p", "t", "digits", "printed"),
    [
        (256, HALF, 226, 2, "2^-126.06"),
        (100, Fraction(1, 10), 40, 1, "2^-48.3"),
    ],
    ids=["hashed-filter-226-of-256", "ten-classes-40-of-100"],
)
def test_known_tails(n, p, t, digits, printed):
    tail = binomial_tail(n, p, t)
    assert log2_nearest(tail, digits) == printed
    assert poisson_binomial_tail([p] * n, t) == tail


def test_known_thresholds():
    levels = {40: 184, 64: 200, 80: 208, 128: 227}
    for power, wanted in levels.items():
        assert threshold(256, HALF, Fraction(1, 2**power)) == wanted
        assert poisson_binomial_threshold([HALF] * 256, Fraction(1, 2**power)) == wanted


@given(st.lists(RATES, max_size=7), st.integers(-1, 8))
def test_poisson_binomial_is_enumeration(rates, t):
    assert poisson_binomial_tail(rates, t) == enumerated(rates, t)


@given(st.integers(0, 8), RATES, st.integers(-1, 9))
def test_binomial_is_enumeration(n, p, t):
    assert binomial_tail(n, p, t) == enumerated([p] * n, t)


@given(st.lists(RATES, max_size=9), st.fractions(0, 1, max_denominator=10**6))
def test_a_threshold_is_the_least(rates, level):
    t = poisson_binomial_threshold(rates, level)
    assert t == next(i for i in range(99) if poisson_binomial_tail(rates, i) <= level)


@given(st.integers(0, 30), RATES, st.fractions(0, 1, max_denominator=10**6))
def test_a_binomial_threshold_is_the_least(n, p, level):
    assert threshold(n, p, level) == poisson_binomial_threshold([p] * n, level)


def test_a_threshold_that_no_count_meets():
    assert threshold(3, Fraction(1), HALF) == 4
    assert poisson_binomial_threshold([Fraction(1)] * 3, HALF) == 4
    assert threshold(4, HALF, Fraction(0)) == 5
    assert threshold(4, HALF, Fraction(1)) == 0


def as_power(text, digits):
    """The printed number to the power ``10 ** digits``, exactly."""
    steps = Fraction(text.removeprefix("2^")) * 10**digits
    assert steps.denominator == 1
    return Fraction(2) ** int(steps)


@given(
    st.fractions(min_value=Fraction(1, 10**30), max_value=4, max_denominator=10**30),
    st.integers(0, 2),
)
def test_a_printed_bound_is_above_and_the_least(x, digits):
    power, scale = as_power(log2_text(x, digits), digits), 10**digits
    assert power / 2 < x**scale <= power
    nearest = as_power(log2_nearest(x, digits), digits)
    assert nearest**2 / 2 < x ** (2 * scale) <= nearest**2 * 2


@given(st.integers(-400, 400), st.integers(0, 4))
def test_powers_of_two_are_printed_exactly(k, digits):
    wanted = f"2^{k}" + ("." + "0" * digits if digits else "")
    assert log2_text(Fraction(2) ** k, digits) == log2_nearest(Fraction(2) ** k, digits) == wanted


def test_long_fractions_are_rounded_up():
    just_above = HALF + Fraction(1, 10**3000)
    assert log2_text(just_above) == "2^-0.99"
    assert log2_text(Fraction(0)) == log2_nearest(Fraction(0)) == "0"


@given(RATES, st.integers(1, 100))
def test_keys_add_up(tail, keys):
    assert several_keys(tail, keys) == min(1, tail * keys)


@pytest.mark.parametrize(
    "call",
    [
        lambda: binomial_tail(-1, HALF, 0),
        lambda: binomial_tail(3, Fraction(-1, 2), 1),
        lambda: binomial_tail(3, Fraction(3, 2), 1),
        lambda: poisson_binomial_tail([HALF, Fraction(2)], 1),
        lambda: poisson_binomial_threshold([Fraction(-1)], HALF),
        lambda: poisson_binomial_threshold([HALF], Fraction(-1)),
        lambda: threshold(3, Fraction(2), HALF),
        lambda: threshold(3, HALF, Fraction(-1)),
        lambda: several_keys(HALF, 0),
        lambda: several_keys(Fraction(2), 3),
        lambda: log2_text(Fraction(-1)),
        lambda: log2_nearest(Fraction(-1)),
        lambda: log2_text(HALF, 5),
        lambda: log2_text(HALF, -1),
    ],
    ids=range(14),
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(ValueError, match=r"\w"):
        call()
