"""Exact intervals for proportions, sample sizes, and several statements at once.

Every end is rounded outward *and verified*: a lower end ``p`` that is returned satisfies
``P[Bin(n, p) >= k] <= level`` for certain (``tails.py``), so that it is not above the one of
Clopper and Pearson and covers as that does.  Libraries' quantiles only say where to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from specs.decimals import round_down, round_up
from verifier.needs import need
from verifier.statistics.tails import Number, last_safe, tail_at_most

LARGEST = 1 << 40
"""Samples beyond which no sample size is looked for."""
HOEFFDING = Fraction(1, 4)
"""The largest level at which :func:`mean_interval` holds."""


def clopper_pearson(hits: int, trials: int, confidence: Number = 0.95) -> tuple[float, float]:
    """The interval of Clopper and Pearson (*Biometrika* 26, 1934) for a binomial proportion.

    It covers the true proportion with at least the stated probability, however rare the event.

    Args:
        hits: how often it was seen.
        trials: independent trials, as many as were decided upon beforehand.
        confidence: between 0 and 1.

    Raises:
        ValueError: the numbers make no sense.
        MissingExtraError: scipy is not installed.

    >>> clopper_pearson(0, 0)
    (0.0, 1.0)
    """
    _guard(hits, trials)
    if not 0 < confidence < 1:
        raise ValueError(f"{hits} of {trials} at confidence {confidence}")
    level = (1 - Fraction(confidence)) / 2
    return lower_end(hits, trials, level), upper_end(hits, trials, level)


@lru_cache(maxsize=1 << 16)
def lower_end(hits: int, trials: int, level: Fraction) -> float:
    """A one-sided lower bound of a proportion: it is too large with probability ``level``.

    Raises:
        ValueError: the numbers make no sense.
        MissingExtraError: scipy is not installed.

    >>> round(lower_end(688, 688, Fraction(1, 1000)), 6)
    0.99001
    """
    _guard(hits, trials)
    if not 0 < level < 1:
        raise ValueError(f"a bound that may fail with probability {level}")
    if not hits:
        return 0.0
    need(("scipy",), "an exact binomial interval")
    from scipy.stats import beta

    near = float(beta.ppf(float(level), hits, trials - hits + 1))
    start = near if 0.0 < near < 1.0 else hits / (trials + 1)
    return last_safe(lambda p: tail_at_most(trials, hits, p, level), start, 0.0)


def upper_end(hits: int, trials: int, level: Fraction) -> float:
    """A one-sided upper bound of a proportion: it is too small with probability ``level``.

    Raises:
        ValueError: as for :func:`lower_end`.
    """
    return round_up(1 - Fraction(lower_end(trials - hits, trials, level)))


def mean_interval(hits: int, trials: int, level: Fraction) -> tuple[float, float]:
    """Two bounds for the mean of the probabilities of independent trials that need not be alike.

    The trials may succeed with different probabilities.  Among these, successes are spread most
    where all are alike (W. Hoeffding, *Ann. Math. Statist.* 27, 1956, theorem 4: for integers
    ``k >= n p + 1``, ``P[S >= k] <= P[Bin(n, p) >= k]``), so the ends of Clopper and Pearson hold
    wherever they are not about a single success, or a single failure; there the bound of a sum
    takes their place, ``P[S >= 1] <= n p``.  For levels of at most 1/4, as ``P[Bin(n, p) >= n p]``
    is more than 1/4 for ``p > 1/n`` (S. Greenberg, M. Mohri, *Stat. Probab. Lett.* 86, 2014).

    Args:
        hits: successes.
        trials: their number, decided upon beforehand.
        level: the probability with which each of the bounds may fail.

    Raises:
        ValueError: the numbers make no sense, or the level is above 1/4.
    """
    _guard(hits, trials)
    if level > HOEFFDING:
        raise ValueError(f"a mean at level {level}; at most {HOEFFDING}")
    return _mean_lower(hits, trials, level), round_up(
        1 - Fraction(_mean_lower(trials - hits, trials, level))
    )


def _mean_lower(hits: int, trials: int, level: Fraction) -> float:
    found = lower_end(hits, trials, level)
    return min(found, round_down(level / trials)) if hits == 1 else found


def sample_size(share: Number, level: Fraction, failures: int = 0) -> int:
    """The fewest trials that show a proportion of more than ``share`` in spite of some failures.

    Args:
        share: what is to be exceeded, between 0 and 1.
        level: the probability with which the statement may fail.
        failures: how many trials may fail.

    Raises:
        ValueError: the numbers make no sense, or no number of trials that can be made will do.

    >>> sample_size(Fraction(99, 100), Fraction(1, 1000)), sample_size(0.99, Fraction(1, 20))
    (688, 299)
    """
    if not (0 < share < 1 and 0 < level < 1 and failures >= 0):
        raise ValueError(f"more than {share} at level {level} with {failures} failures")

    def enough(n: int) -> bool:
        return tail_at_most(n, n - failures, share, level)

    most = failures + 1
    while not enough(most):
        most *= 2
        if most > LARGEST:
            raise ValueError(f"more than {share} at level {level}: more than {LARGEST} samples")
    few, many = max(failures, most // 2), most
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many


def holm(p_values: Sequence[float], level: Fraction) -> list[bool]:
    """Which hypotheses are rejected, all rejections being right with probability ``1 - level``.

    The step-down procedure of S. Holm (*Scand. J. Statist.* 6, 1979); it asks for no independence.

    Args:
        p_values: upper bounds of p-values, one for each hypothesis.
        level: of the family.

    Raises:
        ValueError: a p-value is none.

    >>> holm([0.01, 0.04, 0.03], Fraction(1, 20))
    [True, False, False]
    """
    if not all(0.0 <= p <= 1.0 for p in p_values):
        raise ValueError("a p-value that is no probability")
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    rejected = [False] * len(p_values)
    for rank, place in enumerate(order):
        if Fraction(p_values[place]) * (len(p_values) - rank) > level:
            break
        rejected[place] = True
    return rejected


def population_share(
    shown: int, refuted: int, inputs: int, test_level: Fraction, level: Fraction
) -> tuple[float, float]:
    """Two bounds for the share of a population that has a property, tested on random members.

    Members are drawn independently; each is tested twice, for having the property and for not
    having it, by tests that are wrong with probability ``test_level`` at most.  If a share ``q``
    has it, a member is shown to with probability at most ``q + test_level (1 - q)``; so
    ``q >= (L - test_level) / (1 - test_level)`` for a lower bound ``L`` of that probability, and
    likewise above.  Wrong tests are paid for once, not for each member.

    Args:
        shown: members that were shown to have the property.
        refuted: members that were shown not to have it.
        inputs: members drawn, as many as were decided upon beforehand.
        test_level: of each test.
        level: the probability with which each of the bounds may fail.

    Raises:
        ValueError: the numbers make no sense.
    """
    if not (0 <= test_level < 1 and min(shown, refuted) >= 0 and shown + refuted <= inputs):
        raise ValueError(f"{shown} and {refuted} of {inputs} by tests of level {test_level}")
    lower, other = (
        max(Fraction(0), (Fraction(lower_end(count, inputs, level)) - test_level))
        / (1 - test_level)
        for count in (shown, refuted)
    )
    return round_down(lower), round_up(1 - other)


def _guard(hits: int, trials: int) -> None:
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} of {trials} at confidence between 0 and 1")
