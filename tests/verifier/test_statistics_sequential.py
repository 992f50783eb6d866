"""Statements that hold at every time: checked by exact sums over all paths."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.statistics.intervals import clopper_pearson
from verifier.statistics.sequential import (
    UNIFORM,
    Prior,
    confidence_sequence,
    log_martingale,
    near,
    p_value,
)
from verifier.statistics.tails import ball, precision

PRIORS = [UNIFORM, Prior(5, 1), Prior(2, 3)]
LONGEST = 24


def exact(hits: int, trials: int, p: Fraction, prior: Prior) -> Fraction:
    """M_n(p) by factorials."""

    def beta(x: int, y: int) -> Fraction:
        return Fraction(math.factorial(x - 1) * math.factorial(y - 1), math.factorial(x + y - 1))

    misses = trials - hits
    mixed = beta(prior.a + hits, prior.b + misses) / beta(prior.a, prior.b)
    return mixed / (p**hits * (1 - p) ** misses)


def ever(p: Fraction, bad) -> Fraction:
    """The probability that a path of at most LONGEST trials ever meets ``bad(hits, trials)``."""
    alive, met = {0: Fraction(1)}, Fraction(0)
    for trials in range(1, LONGEST + 1):
        after: dict[int, Fraction] = {}
        for hits, chance in alive.items():
            for more, part in ((1, p), (0, 1 - p)):
                after[hits + more] = after.get(hits + more, Fraction(0)) + chance * part
        alive = {}
        for hits, chance in after.items():
            if bad(hits, trials):
                met += chance
            else:
                alive[hits] = chance
    return met


@given(st.integers(0, 12), st.integers(1, 19), st.sampled_from(PRIORS), st.data())
@settings(max_examples=60, deadline=None)
def test_the_mixture_is_a_martingale(trials, twentieths, prior, data):
    hits, p = data.draw(st.integers(0, trials)), Fraction(twentieths, 20)
    now = exact(hits, trials, p, prior)
    after = p * exact(hits + 1, trials + 1, p, prior)
    after += (1 - p) * exact(hits, trials + 1, p, prior)
    assert after == now
    assert exact(0, 0, p, prior) == 1
    with precision(200):
        log = log_martingale(hits, trials, p, prior)
        assert log.overlaps(ball(now).log())
        assert log.rel_accuracy_bits() > 100 or now == 1


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("p", [Fraction(1, 50), Fraction(2, 5), Fraction(19, 20)])
def test_the_sequence_ever_misses_as_rarely_as_stated(p, prior):
    level = Fraction(1, 5)

    def misses(hits: int, trials: int) -> bool:
        low, high = confidence_sequence(hits, trials, level, prior)
        return not low <= p <= high

    assert 0 < ever(p, misses) <= level


def test_intervals_of_a_fixed_size_miss_more_often_when_looked_at_all_the_time():
    def misses(hits: int, trials: int) -> bool:
        low, high = clopper_pearson(hits, trials, Fraction(4, 5))
        return not low <= Fraction(2, 5) <= high

    assert ever(Fraction(2, 5), misses) > Fraction(1, 5)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("above", [True, False])
def test_p_values_are_small_as_rarely_as_stated_whenever_one_stops(above, prior):
    level, share = Fraction(1, 5), Fraction(7, 10)
    true = share  # the hardest of the hypothesis

    def small(hits: int, trials: int) -> bool:
        return p_value(hits, trials, share, above=above, prior=prior) <= level

    assert 0 < ever(true, small) <= level
    easier = share - Fraction(1, 10) if above else share + Fraction(1, 10)
    assert ever(easier, small) < ever(true, small)


@given(st.integers(0, 60), st.sampled_from([Fraction(1, 20), Fraction(1, 1000)]), st.data())
@settings(max_examples=60, deadline=None)
def test_ends_are_refuted_exactly_and_hardly_more(trials, level, data):
    hits, prior = data.draw(st.integers(0, trials)), data.draw(st.sampled_from(PRIORS))
    low, high = confidence_sequence(hits, trials, level, prior)
    assert 0 <= low <= high <= 1
    if low > 0:
        assert exact(hits, trials, Fraction(low), prior) >= 1 / level
        inner = Fraction(low) * (1 + Fraction(1, 10**12))
        assert exact(hits, trials, inner, prior) < 1 / level
    if high < 1:
        assert exact(hits, trials, Fraction(high), prior) >= 1 / level * (1 - Fraction(1, 10**12))
    if trials:
        assert low <= hits / trials <= high


@given(st.integers(0, 40), st.integers(1, 19), st.sampled_from(PRIORS), st.booleans(), st.data())
@settings(max_examples=60, deadline=None)
def test_p_values_are_the_worst_of_the_hypothesis(trials, twentieths, prior, above, data):
    hits, share = data.draw(st.integers(0, trials)), Fraction(twentieths, 20)
    found = p_value(hits, trials, share, above=above, prior=prior)
    inside = [Fraction(j, 100) for j in range(1, 100)]
    for p in inside:
        if p <= share if above else p >= share:
            assert found >= min(Fraction(1), 1 / exact(hits, trials, p, prior))


def test_failures_end_sampling_soon_and_successes_later():
    claim = near(Fraction(99, 100))
    assert (claim.a, claim.b) == (100, 1)
    assert p_value(70, 100, Fraction(99, 100), above=False, prior=claim) < 1e-20
    assert p_value(1000, 1000, Fraction(99, 100), above=True, prior=claim) < 1e-3
    assert p_value(1000, 1000, Fraction(99, 100), above=False, prior=claim) == 1.0
    assert p_value(0, 0, Fraction(99, 100), above=True) == 1.0
    assert near(Fraction(0)) == near(Fraction(1)) == UNIFORM


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Prior(0, 1), "Beta\\(0, 1\\)"),
        (lambda: p_value(3, 2, Fraction(1, 2), above=True), "3 of 2"),
        (lambda: p_value(1, 2, Fraction(1), above=True), "a proportion of 1"),
        (lambda: p_value(1, 2, Fraction(0), above=False), "a proportion of 0"),
        (lambda: confidence_sequence(-1, 2, Fraction(1, 2)), "-1 of 2"),
        (lambda: confidence_sequence(1, 2, Fraction(0)), "fail with probability 0"),
        (lambda: confidence_sequence(1, 2, Fraction(1)), "fail with probability 1"),
    ],
)
def test_sequences_of_nonsense(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
