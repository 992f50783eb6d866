"""Statements about a proportion that hold at every time at once, so that sampling may stop early.

A *test martingale*: for successes of probability ``p``, the mixture

    M_n(p) = (integral of t^k (1-t)^(n-k) Beta(a, b)(dt)) / (p^k (1-p)^(n-k)),

``k`` successes in ``n`` trials, is a non-negative martingale that starts at 1 (H. Robbins, *Ann.
Math. Statist.* 41, 1970).  By Ville's inequality (*Etude critique de la notion de collectif*, 1939)
it ever reaches ``1/level`` with probability ``level`` at most.  So

- ``{p : M_n(p) < 1/level}`` holds the true proportion at all ``n`` at once with probability
  ``1 - level``: a confidence sequence (:func:`confidence_sequence`);
- ``1 / M_n`` is a p-value at any time at which one chooses to stop, whatever the reason
  (:func:`p_value`).  Of a hypothesis of many proportions the least ``M_n`` of them counts.

``M_n`` of positive integers ``a, b`` is a rational function; it is evaluated in balls, and rounded
so that statements only become weaker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from flint import arb

from specs.decimals import round_up
from verifier.statistics.tails import (
    PRECISIONS,
    Number,
    ball,
    last_safe,
    precision,
    upper_bound,
)


@dataclass(frozen=True)
class Prior:
    """The mixture ``Beta(a, b)``: where proportions are looked for first.

    Attributes:
        a, b: positive integers.

    Raises:
        ValueError: they are not.
    """

    a: int = 1
    b: int = 1

    def __post_init__(self) -> None:
        if self.a < 1 or self.b < 1:
            raise ValueError(f"a mixture Beta({self.a}, {self.b})")


UNIFORM = Prior()


def near(share: Fraction) -> Prior:
    """A mixture that finds shares a little above a large one soon: ``Beta(1/(1-share), 1)``.

    Any choice is valid that is made before sampling.
    """
    return Prior(max(1, round(1 / (1 - share)))) if 0 < share < 1 else UNIFORM


@lru_cache(maxsize=1 << 16)
def p_value(
    hits: int, trials: int, share: Fraction, *, above: bool, prior: Prior = UNIFORM
) -> float:
    """An upper bound of the anytime-valid p-value of a hypothesis that is to be refuted.

    Args:
        hits, trials: seen when sampling stopped.
        share: strictly between 0 and 1.
        above: the statement wanted is that the proportion is more than ``share``, so that the
            hypothesis is that it is at most ``share``; otherwise the other way round.
        prior: chosen before sampling.

    Raises:
        ValueError: the numbers make no sense.
    """
    _guard(hits, trials)
    if not 0 < share < 1:
        raise ValueError(f"a proportion of {share}")
    seen = Fraction(hits, trials) if trials else share
    if not (seen > share if above else seen < share):
        return 1.0  # the least M_n is that of the proportion seen, at most 1
    return min(1.0, upper_bound(lambda: (-log_martingale(hits, trials, share, prior)).exp()))


@lru_cache(maxsize=1 << 16)
def confidence_sequence(
    hits: int, trials: int, level: Fraction, prior: Prior = UNIFORM
) -> tuple[float, float]:
    """The proportions that are not refuted, as an interval rounded outward.

    Args:
        hits, trials: seen so far.
        level: the probability with which the interval misses at any time.
        prior: chosen before sampling.

    Raises:
        ValueError: the numbers make no sense.
    """
    _guard(hits, trials)
    if not 0 < level < 1:
        raise ValueError(f"a confidence sequence that may fail with probability {level}")
    lower = _lower(hits, trials, level, prior)
    other = _lower(trials - hits, trials, level, Prior(prior.b, prior.a))
    return lower, round_up(1 - Fraction(other))


def _lower(hits: int, trials: int, level: Fraction, prior: Prior) -> float:
    """A proportion below which all are refuted: there ``M_n`` decreases."""
    if not hits:
        return 0.0

    def refuted(p: float) -> bool:
        if p <= 0.0:
            return True
        if Fraction(p) * trials >= hits:
            return False
        for bits in PRECISIONS[:3]:
            with precision(bits):
                spare = log_martingale(hits, trials, p, prior) + ball(level).log()
                if spare >= 0:
                    return True
                if spare < 0:
                    return False
        return False

    return last_safe(refuted, _guess(hits, trials, level, prior), 0.0)


def _guess(hits: int, trials: int, level: Fraction, prior: Prior) -> float:
    """Where ``M_n`` is about ``1 / level``, by bisection in floats."""
    a, b, misses = prior.a, prior.b, trials - hits
    mixed = _log_beta(a + hits, b + misses) - _log_beta(a, b) + math.log(level)
    low, high = 0.0, hits / trials
    while True:
        middle = (low + high) / 2
        if not low < middle < high or high - low < 1e-15 * high:
            return low or middle
        own = hits * math.log(middle) + (misses * math.log1p(-middle) if misses else 0.0)
        low, high = (middle, high) if mixed >= own else (low, middle)


def _log_beta(a: int, b: int) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def log_martingale(hits: int, trials: int, share: Number, prior: Prior = UNIFORM) -> Any:
    """``log M_n(share)`` in the present precision, ``0 < share < 1``."""
    a, b, misses = prior.a, prior.b, trials - hits

    def log_beta(x: int, y: int) -> Any:
        return arb(x).lgamma() + arb(y).lgamma() - arb(x + y).lgamma()

    p = ball(share)
    mixed = log_beta(a + hits, b + misses) - log_beta(a, b)
    return mixed - hits * p.log() - misses * (1 - p).log()


def _guard(hits: int, trials: int) -> None:
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} of {trials}")
