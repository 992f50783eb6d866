"""Rationals in writing."""

from __future__ import annotations

from fractions import Fraction


def numeral(value: Fraction) -> str:
    """A rational as a decimal where it is one, otherwise as a quotient; always exact.

    >>> numeral(Fraction(-1, 8)), numeral(Fraction(1, 3)), numeral(Fraction(20))
    ('-0.125', '1/3', '20')
    """
    rest, powers = value.denominator, {2: 0, 5: 0}
    for prime in powers:
        while rest % prime == 0:
            rest //= prime
            powers[prime] += 1
    places = max(powers.values())
    sign, size = "-" if value < 0 else "", abs(value.numerator)
    if rest != 1:
        return f"{sign}{_digits(size)}/{_digits(value.denominator)}"
    digits = _digits(size * 10**places // value.denominator).rjust(places + 1, "0")
    whole, fraction = digits[: len(digits) - places], digits[len(digits) - places :]
    return sign + whole + ("." + fraction if fraction else "")


def _digits(value: int) -> str:
    """The decimal digits of a number of any length, which Python writes up to 4300 only."""
    rest, last = divmod(value, 10**4000)
    return _digits(rest) + str(last).rjust(4000, "0") if rest else str(last)
