"""Bounds of the mean of a population: right as often as they say, whatever the population."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.statistics.betting import _bets, _capital, mean_of_population
from verifier.statistics.tails import precision

LEVELS = st.sampled_from([Fraction(1, 3), Fraction(1, 10), Fraction(1, 1000)])
SHARES = st.fractions(0, 1, max_denominator=50)


@settings(max_examples=8, deadline=None)
@given(SHARES, SHARES, st.integers(1, 99), LEVELS)
def test_each_end_fails_no_more_often_than_stated(one, other, percent, level):
    values, chances = (one, other), (Fraction(percent, 100), Fraction(100 - percent, 100))
    true = one * chances[0] + other * chances[1]
    wrong = [Fraction(0), Fraction(0)]
    for drawn in itertools.product(range(2), repeat=4):  # every outcome, with its probability
        ends = mean_of_population([values[k] for k in drawn], level)
        chance = math.prod((chances[k] for k in drawn), start=Fraction(1))
        wrong[0] += chance * (Fraction(ends[0]) > true)
        wrong[1] += chance * (Fraction(ends[1]) < true)
    assert max(wrong) <= level


@settings(max_examples=15, deadline=None)
@given(st.lists(SHARES, min_size=1, max_size=12), LEVELS)
def test_ends_lie_around_the_mean_that_was_seen(values, level):
    low, high = mean_of_population(values, level)
    assert 0.0 <= low <= sum(values) / len(values) <= high <= 1.0
    mirrored = mean_of_population([1 - value for value in values], level)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(SHARES, min_size=1, max_size=10), st.fractions(Fraction(1, 50), Fraction(49, 50)))
def test_capital_falls_with_the_mean_and_is_never_negative(values, mean):
    bets = _bets([float(value) for value in values], Fraction(1, 100))
    with precision(200):
        here, above = (_capital(values, bets, m) for m in (mean, mean + Fraction(1, 100)))
        assert here >= 0
        assert not above > here


def test_bets_depend_on_what_was_before():
    one, other = (_bets([0.2, 0.9, last], Fraction(1, 10)) for last in (0.1, 0.8))
    assert one == other
    assert _bets([0.2, 0.9, 0.5], Fraction(1, 10))[:2] == one[:2]
    assert _bets([0.3, 0.9, 0.5], Fraction(1, 10))[1] != one[1]


def test_alike_members_have_a_narrow_interval():
    low, high = mean_of_population([Fraction(9, 10)] * 400, Fraction(1, 1000))
    assert 0.88 < low < 0.9 < high < 0.91


def test_what_makes_no_sense_is_refused():
    assert mean_of_population([], Fraction(1, 10)) == (0.0, 1.0)
    for values, level in (([Fraction(2)], Fraction(1, 10)), ([Fraction(1)], Fraction(1))):
        with pytest.raises(ValueError, match="between 0 and 1"):
            mean_of_population(values, level)
