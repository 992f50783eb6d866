"""Probabilities of patterns of independent bit errors, as upper bounds.

Computed in balls of arbitrary precision (python-flint) whose upper ends are rounded up; in exact
rationals where numbers are small, the same values come out (a test compares them).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import flint

START, LAST = 256, 1 << 16
"""Bits of precision, doubled from the first up to the last."""


def exactly(cells: int, rate: Fraction, count: int) -> flint.arb:
    """``P(Bin(cells, rate) = count)`` in the present precision."""
    if count > cells:
        return flint.arb(0)
    p = _ball(rate)
    ways = flint.arb(math.comb(cells, count))
    return ways * p**count * (1 - p) ** (cells - count)


def tail(cells: int, rate: Fraction, count: int) -> flint.arb:
    """``P(Bin(cells, rate) >= count)`` in the present precision."""
    found = flint.arb(1)
    for few in range(count):
        found -= exactly(cells, rate, few)
    return found


def tail_above(cells: int, rate: Fraction, count: int) -> float:
    """An upper bound of ``P(Bin(cells, rate) >= count)``, tight to a part in 2**40."""
    if count > cells:
        return 0.0
    return rounded_up(lambda: tail(cells, rate, count))


def single_above(cells: int, rate: Fraction, harmful: Fraction) -> float:
    """An upper bound of the probability that one cell fails alone, and is harmful.

    ``c p (1-p)^(N-1)``, ``c`` harmful cells of ``N``; an average over samples may be a fraction.
    """

    def value() -> flint.arb:
        p = _ball(rate)
        return _ball(harmful) * p * (1 - p) ** max(0, cells - 1)

    return rounded_up(value)


def several_above(cells: int, rate: Fraction, certified: int = 0, k: int = 1) -> float:
    """An upper bound of the probability that two or more cells fail and may do harm.

    They may not if all of them lie among ``certified`` cells, and are at most ``k``::

        P(Bin(N,p) >= 2) - (1-p)^(N-n) (P(Bin(n,p) >= 2) - P(Bin(n,p) >= k+1))
    """

    def value() -> flint.arb:
        found = tail(cells, rate, 2)
        if k >= 2:
            spared = tail(certified, rate, 2) - tail(certified, rate, k + 1)
            found -= (1 - _ball(rate)) ** (cells - certified) * spared
        return found

    return min(1.0, rounded_up(value))


def rounded_up(value: Callable[[], flint.arb]) -> float:
    """A float that is at least a number, whose ball is made finer until it is tight."""
    before = flint.ctx.prec
    precision = START
    try:
        while True:
            flint.ctx.prec = precision
            found = value()
            if precision >= LAST or found.rel_accuracy_bits() > 60 or found.is_zero():
                return max(0.0, _above(found))
            precision *= 2
    finally:
        flint.ctx.prec = before


def _above(ball: flint.arb) -> float:
    mantissa, exponent = ball.upper().man_exp()
    exact = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    near = float(exact)
    return near if Fraction(near) >= exact else math.nextafter(near, math.inf)


def _ball(number: Fraction | int) -> flint.arb:
    exact = Fraction(number)
    return flint.arb(exact.numerator) / flint.arb(exact.denominator)
