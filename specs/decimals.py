"""Exact decimals, and their outward rounding to float64."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MAX_LENGTH = 1000
"""Characters of the longest literal that is read."""
MAX_EXPONENT = 1000
"""Largest decimal exponent, in magnitude, that is read."""

DECIMAL = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_DECIMAL = re.compile(DECIMAL)


def split_decimal(lexeme: str) -> tuple[int, int]:
    """The integers ``(m, e)`` with ``lexeme == m * 10**e``.

    Raises:
        ValueError: not a decimal, or one too long or too large to work with.

    >>> split_decimal("-0.125"), split_decimal("2e3")
    ((-125, -3), (2, 3))
    """
    if len(lexeme) > MAX_LENGTH:
        raise ValueError(f"a number of {len(lexeme)} characters (the limit is {MAX_LENGTH})")
    if not _DECIMAL.fullmatch(lexeme):
        raise ValueError(f"'{lexeme}' is not a decimal number")
    mantissa, _, exponent = lexeme.replace("E", "e").partition("e")
    whole, _, digits = mantissa.partition(".")
    power = int(exponent) if exponent else 0
    if abs(power) > MAX_EXPONENT:
        raise ValueError(f"the exponent of {lexeme} exceeds {MAX_EXPONENT} in magnitude")
    return int(whole + digits), power - len(digits)


def parse_decimal(lexeme: str) -> Fraction:
    """The rational that a decimal literal denotes.

    Raises:
        ValueError: not a decimal, or one too long or too large to work with.

    >>> parse_decimal("0.1")
    Fraction(1, 10)
    """
    return scaled(*split_decimal(lexeme))


def scaled(mantissa: int, power: int) -> Fraction:
    """``mantissa * 10**power``, exactly."""
    if power < 0:
        return Fraction(mantissa, 10**-power)
    return Fraction(mantissa * 10**power)


def round_down(number: Fraction) -> float:
    """The largest float64 (or -inf) that is not above ``number``.

    >>> round_down(Fraction(1, 2)), round_down(Fraction(1, 10)) < 0.1
    (0.5, True)
    """
    n, d = number.numerator, number.denominator
    try:
        nearest = n / d
    except OverflowError:
        return math.nextafter(math.inf, 0.0) if n > 0 else -math.inf
    p, q = nearest.as_integer_ratio()
    return nearest if p * d <= n * q else math.nextafter(nearest, -math.inf)


def round_up(number: Fraction) -> float:
    """The smallest float64 (or inf) that is not below ``number``."""
    return 0.0 - round_down(-number)


def outward(lower: Iterable[Fraction], upper: Iterable[Fraction]) -> tuple[FloatArray, FloatArray]:
    """Lower bounds rounded down and upper bounds rounded up, as read-only arrays."""
    low = np.fromiter(map(round_down, lower), dtype=np.float64)
    high = np.fromiter(map(round_up, upper), dtype=np.float64)
    low.flags.writeable = False
    high.flags.writeable = False
    return low, high
