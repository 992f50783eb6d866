"""Rationals are written exactly, however long they are."""

from __future__ import annotations

import doctest
from fractions import Fraction

import pytest

from specs import numerals

F = Fraction


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (F(0), "0"),
        (F(-7), "-7"),
        (F(1, 8), "0.125"),
        (F(-1, 20), "-0.05"),
        (F(1, 3), "1/3"),
        (F(-22, 7), "-22/7"),
        (F(0.1), "0.1000000000000000055511151231257827021181583404541015625"),
        (F(12345678901234567890, 100), "123456789012345678.9"),
        (F(10**30), "1" + "0" * 30),
        (F(1, 10**20), "0." + "0" * 19 + "1"),
    ],
)
def test_numbers_are_exact(value, text):
    assert numerals.numeral(value) == text
    assert F(text) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (F(10**9000), "1" + "0" * 9000),
        (F(10**4000), "1" + "0" * 4000),
        (F(10**9000 - 1), "9" * 9000),
        (F(-1, 10**9000), "-0." + "0" * 8999 + "1"),
        (F(10**9000, 7), "1" + "0" * 9000 + "/7"),
        (F(-7, 3 * 10**9000), "-7/3" + "0" * 9000),
    ],
)
def test_numbers_of_any_length_have_a_text(value, text):
    """A property may state coefficients as products of decimals; Python's own limit is 4300."""
    assert numerals.numeral(value) == text


def test_the_examples_in_the_documentation():
    found = doctest.testmod(numerals)
    assert found.attempted > 0
    assert found.failed == 0
