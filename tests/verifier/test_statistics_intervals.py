"""Intervals cover, for certain: checked by exact sums over all outcomes."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.watermarks.tails import binomial_tail, poisson_binomial_tail
from verifier.statistics import tails
from verifier.statistics.intervals import (
    clopper_pearson,
    holm,
    lower_end,
    mean_interval,
    population_share,
    sample_size,
    upper_end,
)
from verifier.statistics.tails import (
    ball,
    last_safe,
    normal_cdf,
    normal_quantile_below,
    precision,
    product_above,
    product_below,
    tail_above,
    tail_at_most,
)

GRID = [Fraction(j, 60) for j in range(61)] + [Fraction(1, 10**6), 1 - Fraction(1, 10**6)]
LEVELS = [Fraction(1, 4), Fraction(1, 10), Fraction(1, 40), Fraction(1, 2000)]


def counts(trials: int):
    return st.integers(0, trials)


def mass(trials: int, p: Fraction, k: int) -> Fraction:
    return math.comb(trials, k) * p**k * (1 - p) ** (trials - k)


@pytest.mark.parametrize("confidence", [Fraction(1, 2), Fraction(9, 10), Fraction(999, 1000)])
@pytest.mark.parametrize("trials", [1, 2, 5, 11])
def test_the_interval_covers_every_proportion(trials, confidence):
    ends = [clopper_pearson(k, trials, confidence) for k in range(trials + 1)]
    for p in GRID:
        covered = sum(mass(trials, p, k) for k, (low, high) in enumerate(ends) if low <= p <= high)
        assert covered >= confidence


@given(st.integers(1, 40), st.sampled_from(LEVELS), st.data())
@settings(max_examples=60, deadline=None)
def test_ends_satisfy_their_definition_exactly_and_hardly_more(trials, level, data):
    hits = data.draw(counts(trials))
    low, high = lower_end(hits, trials, level), upper_end(hits, trials, level)
    assert 0 <= low <= hits / trials <= high <= 1
    if hits:
        assert binomial_tail(trials, Fraction(low), hits) <= level
        assert binomial_tail(trials, Fraction(low) * (1 + Fraction(1, 10**12)), hits) > level
    else:
        assert low == 0.0
    if hits < trials:
        assert binomial_tail(trials, 1 - Fraction(high), trials - hits) <= level
    else:
        assert high == 1.0


@pytest.mark.parametrize("wrong", [math.nan, 0.0, 1.0, 0.999999, 1e-9, -1.0, math.inf])
def test_a_library_that_is_wrong_makes_no_end_wrong(monkeypatch, wrong):
    right = lower_end(17, 20, Fraction(1, 20))
    lower_end.cache_clear()
    monkeypatch.setattr(scipy.stats.beta, "ppf", lambda *_: wrong)
    found = lower_end(17, 20, Fraction(1, 20))
    lower_end.cache_clear()
    assert binomial_tail(20, Fraction(found), 17) <= Fraction(1, 20)
    assert found == pytest.approx(right, rel=1e-12) or wrong == 1e-9  # safe already: kept
    assert found <= right * (1 + 1e-12)


@given(st.integers(0, 30), st.integers(-1, 31), st.sampled_from(GRID), st.sampled_from(LEVELS))
@settings(max_examples=80, deadline=None)
def test_tails_are_decided_as_exactly(trials, hits, p, level):
    exact = binomial_tail(trials, p, hits)
    assert tail_at_most(trials, hits, p, level) == (exact <= level)
    found = tail_above(trials, hits, p)
    assert exact <= found <= exact * (1 + Fraction(1, 10**12))


def test_what_is_equal_is_not_certain():
    assert not tail_at_most(1, 1, Fraction(1, 3), Fraction(1, 3))
    assert tail_at_most(1, 1, Fraction(1, 4), Fraction(1, 4))  # a float: the balls are points


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: lower_end(3, 2, Fraction(1, 2)), "3 of 2"),
        (lambda: lower_end(-1, 2, Fraction(1, 2)), "-1 of 2"),
        (lambda: lower_end(1, 2, Fraction(0)), "may fail with probability 0"),
        (lambda: lower_end(1, 2, Fraction(1)), "may fail with probability 1"),
        (lambda: clopper_pearson(1, 2, 0), "confidence 0"),
        (lambda: mean_interval(1, 2, Fraction(1, 3)), "level 1/3; at most 1/4"),
        (lambda: sample_size(1, Fraction(1, 2)), "more than 1"),
        (lambda: sample_size(0.5, Fraction(1, 2), -1), "-1 failures"),
        (lambda: sample_size(1 - Fraction(1, 10**15), Fraction(1, 100)), "more than 1099511627776"),
        (lambda: holm([0.5, 1.5], Fraction(1, 20)), "no probability"),
        (lambda: holm([math.nan], Fraction(1, 20)), "no probability"),
        (lambda: population_share(3, 2, 4, Fraction(0), Fraction(1, 20)), "3 and 2 of 4"),
        (lambda: population_share(1, 0, 4, Fraction(1), Fraction(1, 20)), "level 1"),
        (lambda: normal_quantile_below(1.5), "quantile at 1.5"),
    ],
)
def test_numbers_that_make_no_sense(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


# ------------------------------------------------------------------------ means of unlike trials


@given(st.lists(st.sampled_from(GRID), min_size=1, max_size=7), st.sampled_from(LEVELS))
@settings(max_examples=60, deadline=None)
def test_means_of_unlike_trials_are_covered(rates, level):
    trials, mean = len(rates), sum(rates) / len(rates)
    chance = [poisson_binomial_tail(rates, k) for k in range(trials + 2)]
    ends = [mean_interval(k, trials, level) for k in range(trials + 1)]
    above = sum(chance[k] - chance[k + 1] for k, (low, _) in enumerate(ends) if low > mean)
    below = sum(chance[k] - chance[k + 1] for k, (_, high) in enumerate(ends) if high < mean)
    assert above <= level
    assert below <= level


def test_one_success_of_unlike_trials_needs_a_bound_of_its_own():
    """One trial of probability a bit above the level, and nine of none: it succeeds too often."""
    level, trials = Fraction(1, 10), 10
    plain = Fraction(lower_end(1, trials, level))
    rates = [plain * trials * Fraction(999, 1000)] + [Fraction(0)] * 9
    assert sum(rates) / trials < plain
    assert poisson_binomial_tail(rates, 1) > level
    assert mean_interval(1, trials, level)[0] <= level / trials < plain
    assert mean_interval(9, trials, level)[1] >= 1 - level / trials


# ---------------------------------------------------------------------------------- sample sizes


def test_sample_sizes_that_are_known():
    assert sample_size(Fraction(99, 100), Fraction(1, 1000)) == 688
    assert sample_size(Fraction(99, 100), Fraction(1, 20)) == 299
    assert lower_end(100, 100, Fraction(1, 1000)) == pytest.approx(0.93325, abs=1e-5)
    assert lower_end(688, 688, Fraction(1, 1000)) >= 0.99 > lower_end(687, 687, Fraction(1, 1000))


@given(st.integers(1, 19), st.sampled_from(LEVELS), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_sample_sizes_are_the_fewest(twentieths, level, failures):
    share = Fraction(twentieths, 20)
    found = sample_size(share, level, failures)
    assert found > failures
    assert binomial_tail(found, share, found - failures) <= level
    if found - 1 > failures:
        assert binomial_tail(found - 1, share, found - 1 - failures) >= level  # equal: undecided


# ------------------------------------------------------------------------- several at once


@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.0125, 0.02, 0.05, 0.3, 1.0]), max_size=6))
@settings(max_examples=60, deadline=None)
def test_holm_is_the_closed_procedure_of_bonferroni(p_values):
    level, every = Fraction(1, 20), range(len(p_values))
    groups = [g for size in every for g in itertools.combinations(every, size + 1)]
    passed = {g: min(Fraction(p_values[j]) for j in g) * len(g) <= level for g in groups}
    wanted = [all(passed[g] for g in groups if i in g) for i in every]
    assert holm(p_values, level) == wanted


@pytest.mark.parametrize("test_level", [Fraction(0), Fraction(1, 20), Fraction(1, 3)])
@pytest.mark.parametrize("share", [Fraction(0), Fraction(1, 3), Fraction(9, 10), Fraction(1)])
def test_shares_of_a_population_are_bounded_in_two_levels(test_level, share):
    """With tests that are as misleading as their level allows."""
    inputs, level = 12, Fraction(1, 10)
    for true, side in ((share, 0), (1 - share, 1)):
        rate = true + test_level * (1 - true)
        missed = Fraction(0)
        for k in range(inputs + 1):
            ends = population_share(*((k, 0) if side == 0 else (0, k)), inputs, test_level, level)
            if (ends[0] > share) if side == 0 else (ends[1] < share):
                missed += mass(inputs, rate, k)
        assert missed <= level


def test_without_the_price_of_tests_a_population_would_be_misjudged():
    level, test_level = Fraction(1, 10), Fraction(1, 3)
    low, _ = population_share(6, 0, 12, test_level, level)
    assert low < lower_end(6, 12, level)


# ------------------------------------------------------------------------------------- quantiles


@given(st.floats(1e-300, 1, exclude_max=True).filter(lambda share: share != 0.5))
@settings(max_examples=150, deadline=None)
def test_normal_quantiles_are_below_and_hardly(share):
    z = normal_quantile_below(share)
    with precision(400):
        assert normal_cdf(z) <= ball(share)
        assert normal_cdf(Fraction(z) + Fraction(abs(z)) / 10**14) > ball(share)


@pytest.mark.parametrize("near", [0.0, 3.0902323061678136, 3.1, 40.0, -50.0])
def test_a_wrong_start_makes_no_quantile_wrong(monkeypatch, near):
    monkeypatch.setattr(tails, "_quantile_near", lambda share: near)
    z = normal_quantile_below(0.999)
    with precision(200):
        assert normal_cdf(z) <= ball(0.999)
    assert normal_quantile_below(0.0) == -math.inf
    assert normal_quantile_below(1.0) == math.inf
    assert normal_quantile_below(0.5) == 0.0


@given(st.floats(-100, 100), st.floats(-100, 100))
@settings(max_examples=50, deadline=None)
def test_the_last_safe_float_is_safe(edge, start):
    found = last_safe(lambda x: x <= edge, start, -1000.0)
    assert found <= edge
    assert start <= edge or edge - found <= 8 * np.spacing(max(abs(edge), abs(found)))
    assert last_safe(lambda _: False, start, -1000.0) == -1000.0
    assert last_safe(lambda _: False, start, -math.inf) == -math.inf


def test_products_are_rounded_to_one_side():
    low, high = product_below(0.1, 0.1), product_above(0.1, 0.1)
    assert Fraction(low) < Fraction(0.1) ** 2 < Fraction(high)
    assert high == math.nextafter(low, 1)


@cache
def large() -> tuple[float, float]:
    return clopper_pearson(99_000, 100_000, Fraction(998, 1000))


def test_many_samples_are_bounded_as_tightly_as_few():
    low, high = large()
    assert low == pytest.approx(scipy.stats.beta.ppf(0.001, 99_000, 1_001), rel=1e-11)
    assert high == pytest.approx(scipy.stats.beta.ppf(0.999, 99_001, 1_000), rel=1e-11)
