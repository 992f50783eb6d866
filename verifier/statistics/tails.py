"""Decisions about probabilities that hold for certain, and roundings of them to one side.

Everything is computed in balls of arbitrary precision (python-flint), which are made finer until
they decide; what stays open is answered on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import flint
from flint import arb

from proofs.balls import float_above
from specs.decimals import round_down, round_up

PRECISIONS = (96, 192, 384, 768, 1536)
"""Bits that are tried, in this order."""

Number = Fraction | float | int


def tail_at_most(trials: int, hits: int, share: Number, level: Number) -> bool:
    """Whether ``P[Bin(trials, share) >= hits] <= level`` is certain.

    ``False`` where it is not, or not decided with the last precision.
    """
    if hits <= 0:
        return Fraction(level) >= 1
    if hits > trials or share <= 0:
        return Fraction(level) >= 0
    return _at_most(lambda: tail(trials, hits, share), level)


def tail_above(trials: int, hits: int, share: Number) -> float:
    """An upper bound of ``P[Bin(trials, share) >= hits]``, rounded up and tight.

    >>> 0.5 <= tail_above(3, 2, 0.5) < 0.5 + 1e-15
    True
    """
    if hits <= 0:
        return 1.0
    if hits > trials or share <= 0:
        return 0.0
    return min(1.0, upper_bound(lambda: tail(trials, hits, share)))


def tail(trials: int, hits: int, share: Number) -> Any:
    """``P[Bin(trials, share) >= hits]``, ``0 < hits <= trials``, as a ball.

    It is the regularised incomplete beta function ``I_share(hits, trials - hits + 1)``.
    """
    p = ball(share)
    if hits == trials:
        return p**trials
    return p.beta_lower(arb(hits), arb(trials - hits + 1), 1)


def normal_quantile_below(share: Number) -> float:
    """A float ``z`` with ``Phi(z) <= share`` for certain, and hardly less than the quantile.

    ``Phi`` is the standard normal distribution function; ``-inf`` and ``inf`` for 0 and 1.

    Raises:
        ValueError: the share is no probability.

    >>> normal_quantile_below(0.5)
    0.0
    """
    exact = Fraction(share)
    if not 0 <= exact <= 1:
        raise ValueError(f"a quantile at {share}")
    if exact in (0, 1):
        return -math.inf if exact == 0 else math.inf
    if exact == Fraction(1, 2):
        return 0.0

    def below(z: float) -> bool:
        return _at_most(lambda: normal_cdf(z), exact)

    return last_safe(below, _quantile_near(exact), -math.inf)


def normal_cdf(z: Number) -> Any:
    """``Phi(z)`` as a ball."""
    return (-ball(z) / arb(2).sqrt()).erfc() / 2


def _quantile_near(share: Fraction) -> float:
    """The quantile to about 15 digits, by arb: libm's functions promise nothing."""
    with precision(PRECISIONS[1]):
        z = -arb(2).sqrt() * (2 * ball(share)).erfcinv()
        return float(z.mid()) if z.is_finite() else 0.0


def last_safe(safe: Callable[[float], bool], start: float, least: float) -> float:
    """About the largest float at which ``safe`` holds, found from one nearby.

    Args:
        safe: holds up to some point, not above; may say no too often.
        start: where to look.
        least: returned where nothing above it is safe.

    Returns:
        A float that ``safe`` held for, or ``least``.
    """
    if safe(start):
        return start
    bad, step = start, math.ulp(start)
    good = max(least, start - step)
    while good > least and not safe(good):
        bad, step = good, step * 4
        good = max(least, start - step)
    if not math.isfinite(good):
        return good
    while bad - good > 4 * math.ulp(max(abs(good), abs(bad))):
        middle = good + (bad - good) / 2
        if not good < middle < bad:
            break
        good, bad = (middle, bad) if safe(middle) else (good, middle)
    return good


def upper_bound(value: Callable[[], Any]) -> float:
    """A float that is at least a number that is not negative, tight to 50 bits if it can be."""
    found = math.inf
    for bits in PRECISIONS:
        with precision(bits):
            number = value()
            found = min(found, float_above(number))
            if number.rel_accuracy_bits() > 60:
                break
    return found


def ball(number: Number) -> Any:
    """A rational as a ball of the present precision."""
    exact = Fraction(number)
    return arb(exact.numerator) / arb(exact.denominator)


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Compute with so many bits."""
    before = flint.ctx.prec
    flint.ctx.prec = bits
    try:
        yield
    finally:
        flint.ctx.prec = before


def _at_most(left: Callable[[], Any], right: Number) -> bool:
    """Whether a number is certainly at most another; open in the last precision: no."""
    for bits in PRECISIONS:
        with precision(bits):
            spare = ball(right) - left()
            if spare >= 0:
                return True
            if spare < 0:
                return False
    return False


def product_below(*factors: Number) -> float:
    """The largest float that is not above a product."""
    return round_down(_product(factors))


def product_above(*factors: Number) -> float:
    """The smallest float that is not below a product."""
    return round_up(_product(factors))


def _product(factors: tuple[Number, ...]) -> Fraction:
    found = Fraction(1)
    for factor in factors:
        found *= Fraction(factor)
    return found
