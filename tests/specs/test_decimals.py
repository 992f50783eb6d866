from __future__ import annotations

import doctest
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from specs import decimals
from specs.decimals import outward, parse_decimal, round_down, round_up, split_decimal

MAX = Fraction(1.7976931348623157e308)

rationals = st.one_of(
    st.fractions(),
    st.floats(allow_nan=False, allow_infinity=False).map(Fraction),
    st.tuples(st.integers(-(10**25), 10**25), st.integers(-340, 320)).map(
        lambda t: Fraction(t[0]) * Fraction(10) ** t[1]
    ),
)


@given(rationals)
@example(Fraction(0))
@example(Fraction(1, 10**400))
@example(Fraction(-1, 10**400))
@example(MAX)
@example(MAX + 1)
@example(-MAX - 1)
@example(Fraction(10) ** 400)
def test_rounding_is_outward_and_tight(number: Fraction) -> None:
    low, high = round_down(number), round_up(number)
    assert low == -math.inf or Fraction(low) <= number
    assert high == math.inf or number <= Fraction(high)
    after, before = math.nextafter(low, math.inf), math.nextafter(high, -math.inf)
    assert after == math.inf or Fraction(after) > number
    assert before == -math.inf or Fraction(before) < number
    if low != -math.inf and Fraction(low) == number:
        assert low == high


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_round_to_themselves(number: float) -> None:
    assert round_down(Fraction(number)) == round_up(Fraction(number)) == number


def test_zero_has_no_sign() -> None:
    assert math.copysign(1, round_up(Fraction(0))) == 1
    assert math.copysign(1, round_down(Fraction(0))) == 1


def test_outward_boxes_are_read_only_float64() -> None:
    low, high = outward([Fraction(1, 10), Fraction(1, 2)], [Fraction(1, 10), Fraction(1, 2)])
    assert low.dtype == high.dtype == np.float64
    assert low[0] < high[0]
    assert low[1] == high[1] == 0.5
    assert not low.flags.writeable
    assert not high.flags.writeable


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12))
def test_decimals_are_exact(number) -> None:
    assert parse_decimal(str(number)) == Fraction(number)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", Fraction(0)),
        ("+1.50", Fraction(3, 2)),
        ("-.5", Fraction(-1, 2)),
        ("2.", Fraction(2)),
        ("1e3", Fraction(1000)),
        ("12.5E-2", Fraction(1, 8)),
        ("007", Fraction(7)),
        ("1e-1000", Fraction(1, 10**1000)),
    ],
)
def test_accepted_literals(text: str, value: Fraction) -> None:
    assert parse_decimal(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "-", "--1", "e5", "1e", "1.2.3", "0x10", "1_000", "inf", "nan", "1/3"),
        *("\N{ARABIC-INDIC DIGIT ONE}", " 1", "1 ", "1\n", "1e999999999", "1e-1001", "1" * 1001),
    ],
)
def test_refused_literals(text: str) -> None:
    with pytest.raises(ValueError, match=r"decimal|exponent|characters"):
        split_decimal(text)


def test_the_examples_in_the_documentation() -> None:
    assert doctest.testmod(decimals).failed == 0
    assert doctest.testmod(decimals).attempted
