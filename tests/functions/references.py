"""What functions are, independently of the kernel: bounds at rationals, from wide balls."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from flint import arb, ctx, fmpq

Bounds = tuple[fmpq, fmpq]
Reference = Callable[[fmpq], Bounds | None]
"""A lower and an upper bound of the value, equal where it is exact; ``None``: undefined."""

PRECISION = 600
LARGEST = 3000
"""Beyond ``2 ** LARGEST`` a value has no upper bound, below ``2 ** -LARGEST`` it is about 0."""

INFINITE = fmpq(1 << 5000)
"""Stands for infinity: beyond all numbers that occur, and so is what is near to it."""

ENDLESS = fmpq(1 << 4000)
"""Only what stands for infinity is beyond."""


def balls(formula: Callable[[Any], Any], defined: Callable[[fmpq], bool] | None = None):
    """A reference from a formula in balls."""

    @functools.cache
    def reference(x: fmpq) -> Bounds | None:
        if defined is not None and not defined(x):
            return None
        before, ctx.prec = ctx.prec, PRECISION
        try:
            value = formula(arb(x))
            assert value.is_finite(), x
            return _bounds(value)
        finally:
            ctx.prec = before

    return reference


def exactly(formula: Callable[[Fraction], Fraction | int]) -> Reference:
    """A reference from exact arithmetic."""

    @functools.cache
    def reference(x: fmpq) -> Bounds:
        value = Fraction(formula(Fraction(int(x.p), int(x.q))))
        return (fmpq(value.numerator, value.denominator),) * 2

    return reference


def rational(value: float | Fraction) -> fmpq:
    """A number as it stands, infinity as what stands for it."""
    if value in (math.inf, -math.inf):
        return INFINITE if value > 0 else -INFINITE
    return fmpq(*value.as_integer_ratio())


def _bounds(value: Any) -> Bounds:
    if abs(value) < arb((1, -LARGEST)):
        small = fmpq(1, 1 << LARGEST)
        return fmpq(0) if value >= 0 else -small, fmpq(0) if value <= 0 else small
    if not abs(value) < arb((1, LARGEST)):
        large = fmpq(1 << LARGEST)
        return (large, INFINITE) if value > 0 else (-INFINITE, -large)
    return value.lower().fmpq(), value.upper().fmpq()
