"""Exact probabilities of matching a mark by chance, as rationals, and how they are printed.

A verifier who saw at least ``t`` of ``n`` positions match asks how probable that is where the
null hypothesis holds: matches are independent, position ``i`` matches with probability ``p_i``.
With one rate for all it is a binomial tail, else a Poisson-binomial one.  Nothing here rounds but
:func:`log2_text`, upwards, and :func:`log2_nearest`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from fractions import Fraction

PRINTED_BITS = 192
"""Significant bits to which a number is rounded up before its logarithm is printed."""
MOST_DIGITS = 4
"""Most digits after the point of a logarithm: it takes the ``10 ** digits``-th power."""


def binomial_tail(n: int, p: Fraction, t: int) -> Fraction:
    """``P[Bin(n, p) >= t]``, exactly.

    Args:
        n: positions, at least 0.
        p: the probability that one matches.
        t: matches; 0 or less gives 1, more than ``n`` gives 0.

    Raises:
        ValueError: ``n`` is negative, or ``p`` no probability.

    >>> binomial_tail(3, Fraction(1, 2), 2)
    Fraction(1, 2)
    """
    _guard(n, (p,))
    if t <= 0:
        return Fraction(1)
    if t > n:
        return Fraction(0)
    hit, miss = p.numerator, p.denominator - p.numerator
    # a^t * sum over j misses of C(n, j) * c^j * a^(n-t-j), by Horner's rule in a.
    total, choices, misses = 0, 1, 1
    for j in range(n - t + 1):
        total = total * hit + choices * misses
        choices = choices * (n - j) // (j + 1)
        misses *= miss
    return Fraction(hit**t * total, p.denominator**n)


def poisson_binomial_tail(rates: Sequence[Fraction], t: int) -> Fraction:
    """``P[X_1 + ... + X_n >= t]`` for independent ``X_i`` that are 1 with probability ``rates[i]``.

    Args:
        rates: ``(n,)`` probabilities.
        t: matches; 0 or less gives 1, more than ``n`` gives 0.

    Raises:
        ValueError: a rate is no probability.

    >>> poisson_binomial_tail([Fraction(1, 2), Fraction(1, 3)], 1)
    Fraction(2, 3)
    """
    _guard(0, rates)
    if t <= 0:
        return Fraction(1)
    if t > len(rates):
        return Fraction(0)
    counts, whole = _counts(rates)
    return Fraction(sum(counts[t:]), whole)


def threshold(n: int, p: Fraction, level: Fraction) -> int:
    """The least ``t`` with ``P[Bin(n, p) >= t] <= level``; ``n + 1`` where no ``t <= n`` will do.

    Raises:
        ValueError: as for :func:`binomial_tail`, or the level is negative.

    >>> [threshold(256, Fraction(1, 2), Fraction(1, 2**k)) for k in (40, 64, 80, 128)]
    [184, 200, 208, 227]
    """
    _guard(n, (p,))
    _level(level)
    # Tails do not grow with t: the first t for which the answer is True.
    return bisect_left(range(n + 1), True, key=lambda t: binomial_tail(n, p, t) <= level)


def poisson_binomial_threshold(rates: Sequence[Fraction], level: Fraction) -> int:
    """The least ``t`` with ``P[X_1 + ... + X_n >= t] <= level``; ``n + 1`` where none will do.

    Raises:
        ValueError: as for :func:`poisson_binomial_tail`, or the level is negative.
    """
    _guard(0, rates)
    _level(level)
    counts, whole = _counts(rates)
    beyond = 0
    for t in range(len(rates), -1, -1):
        beyond += counts[t]
        if beyond > level * whole:
            return t + 1
    return 0


def several_keys(tail: Fraction, keys: int) -> Fraction:
    """What a tail comes to when the best of ``keys`` keys is shown: at most their sum (Boole).

    It needs no independence of the keys.

    Raises:
        ValueError: fewer than one key, or the tail is no probability.
    """
    _guard(0, (tail,))
    if keys < 1:
        raise ValueError(f"{keys} keys; at least the one shown was tried")
    return min(Fraction(1), tail * keys)


def log2_text(probability: Fraction, digits: int = 2) -> str:
    """An upper bound of a probability as a power of two: the least one of so many digits.

    Args:
        probability: at least 0; 0 is printed as it is.
        digits: after the point of the logarithm, at most ``MOST_DIGITS``.

    Raises:
        ValueError: the number is negative, or too many digits are wanted.

    >>> log2_text(Fraction(1, 1024)), log2_text(Fraction(1, 1000)), log2_text(Fraction(0))
    ('2^-10.00', '2^-9.96', '0')
    """
    return _power(probability, digits, lambda x: _ceil_log2(x, 10**digits))


def log2_nearest(probability: Fraction, digits: int = 2) -> str:
    """The power of two, of so many digits, whose logarithm is nearest: how tables print tails.

    It may be a little less than the probability; :func:`log2_text` never is.

    Raises:
        ValueError: as for :func:`log2_text`.

    >>> tail = binomial_tail(256, Fraction(1, 2), 226)
    >>> log2_nearest(tail), log2_text(tail)
    ('2^-126.06', '2^-126.05')
    >>> log2_nearest(binomial_tail(100, Fraction(1, 10), 40), 1)
    '2^-48.3'
    """
    # ceil(l - 1/2) = floor(ceil(2 l) / 2) for every l.
    return _power(probability, digits, lambda x: _ceil_log2(x, 2 * 10**digits) // 2)


def _power(probability: Fraction, digits: int, steps_of: Callable[[Fraction], int]) -> str:
    if probability < 0 or not 0 <= digits <= MOST_DIGITS:
        raise ValueError(f"a logarithm of {probability} to {digits} digits")
    if probability == 0:
        return "0"
    steps = steps_of(probability)
    units, rest = divmod(abs(steps), 10**digits)
    sign = "-" if steps < 0 else ""
    return f"2^{sign}{units}" + (f".{rest:0{digits}d}" if digits else "")


def _ceil_log2(x: Fraction, scale: int) -> int:
    """``ceil(scale * log2(x))``, of ``x > 0`` rounded up to ``PRINTED_BITS`` bits."""
    top, bottom = x.numerator, x.denominator
    shift = PRINTED_BITS - (top.bit_length() - bottom.bit_length())
    whole = -((-top << shift) // bottom) if shift >= 0 else -(-top // (bottom << -shift))
    # 2^k >= whole^scale at the least k = ceil(log2(whole^scale)).
    return (whole**scale - 1).bit_length() - shift * scale


def _counts(rates: Sequence[Fraction]) -> tuple[list[int], int]:
    """By number of matches its probability, as whole numbers over one denominator."""
    counts, whole = [1], 1
    for rate in rates:
        hit, miss = rate.numerator, rate.denominator - rate.numerator
        before = [0, *counts]
        counts = [
            below * hit + same * miss for below, same in zip(before, [*counts, 0], strict=True)
        ]
        whole *= rate.denominator
    return counts, whole


def _guard(n: int, rates: Sequence[Fraction]) -> None:
    if n < 0:
        raise ValueError(f"{n} positions")
    for place, rate in enumerate(rates):
        if not 0 <= rate <= 1:
            raise ValueError(f"rate {place} is {rate}, no probability")


def _level(level: Fraction) -> None:
    if level < 0:
        raise ValueError(f"a level of {level}")
