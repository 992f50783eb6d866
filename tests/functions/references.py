"""What functions are, independently of the kernel: bounds at rationals, from wide balls."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from flint import arb, ctx, fmpq

Bounds = tuple[Fraction | float, Fraction | float]
Reference = Callable[[Fraction], Bounds | None]
"""A lower and an upper bound of the value, equal where it is exact; ``None``: undefined."""

PRECISION = 600
LARGEST = 3000
"""Beyond ``2 ** LARGEST`` a bound is infinite, below ``2 ** -LARGEST`` a value is about 0."""


def balls(formula: Callable[[Any], Any], defined: Callable[[Fraction], bool] | None = None):
    """A reference from a formula in balls."""

    @functools.cache
    def reference(x: Fraction) -> Bounds | None:
        if defined is not None and not defined(x):
            return None
        before, ctx.prec = ctx.prec, PRECISION
        try:
            value = formula(arb(fmpq(x.numerator, x.denominator)))
            assert value.is_finite(), x
            return _down(value), -_down(-value)
        finally:
            ctx.prec = before

    return reference


def exactly(formula: Callable[[Fraction], Fraction | int]) -> Reference:
    """A reference from exact arithmetic."""
    return lambda x: (Fraction(formula(x)),) * 2


def _down(value: Any) -> Fraction | float:
    if not abs(value) < arb((1, LARGEST)):
        return Fraction(1 << LARGEST) if value > 0 else -math.inf
    if abs(value) < arb((1, -LARGEST)):
        return Fraction(0) if value >= 0 else Fraction(-1, 1 << LARGEST)
    mantissa, exponent = map(int, value.lower().man_exp())
    return mantissa * Fraction(2) ** exponent
