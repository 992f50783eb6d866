"""Bounds of the mean of a population from independent draws in [0, 1], which may be of any kind.

For a supposed mean ``m`` a gambler whose bets depend on what was seen before has the capital
``K(m) = product of 1 + b_i (x_i - m)``; with ``0 <= b_i < 1/m`` it is never negative, and its mean
is 1 if ``m`` is the true one.  So ``K(m) >= 1/level`` has at most the probability ``level``
(Markov), and ``m`` is refuted.  ``K`` falls with ``m``, so what is refuted lies below a number
(I. Waudby-Smith, A. Ramdas, *J. R. Stat. Soc. B* 86, 2024).  Bets follow the variance that was
seen, so that a population whose members are alike has a narrow interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from specs.decimals import round_up
from verifier.statistics.tails import PRECISIONS, ball, last_safe, precision

CAP = Fraction(9, 10)
"""Of ``1/m``: a bet is at most this."""


def mean_of_population(values: Sequence[Fraction], level: Fraction) -> tuple[float, float]:
    """Two bounds for the mean of a population; each fails with probability ``level`` at most.

    Args:
        values: of members that were drawn independently, in the order of drawing, in [0, 1].

    Raises:
        ValueError: a value or the level is out of range.
    """
    if not 0 < level < 1 or not all(0 <= value <= 1 for value in values):
        raise ValueError(f"values between 0 and 1 at a level of {level}")
    if not values:
        return 0.0, 1.0
    mirrored = [1 - value for value in values]
    return _lower(values, level), round_up(1 - Fraction(_lower(mirrored, level)))


def _lower(values: Sequence[Fraction], level: Fraction) -> float:
    bets = _bets([float(value) for value in values], level)

    def refuted(mean: float) -> bool:
        if not 0.0 < mean < 1.0:
            return mean <= 0.0
        with precision(PRECISIONS[0]):
            return bool(_capital(values, bets, Fraction(mean)) * ball(level) >= 1)

    return last_safe(refuted, float(sum(values) / len(values)), 0.0)


def _bets(values: Sequence[float], level: Fraction) -> list[float]:
    """Each from the values before it alone."""
    bets, total, squares = [], 0.5, 0.25
    scale = 2 * math.log(1 / level) / len(values)
    for number, value in enumerate(values, 1):
        bets.append(math.sqrt(scale * number / squares))
        total += value
        squares += (value - total / (number + 1)) ** 2
    return bets


def _capital(values: Sequence[Fraction], bets: Sequence[float], mean: Fraction) -> Any:
    """``K(mean)`` as a ball."""
    most, found = CAP / mean, ball(1)
    for value, bet in zip(values, bets, strict=True):
        found = found * (1 + ball(min(Fraction(bet), most)) * ball(value - mean))
    return found
