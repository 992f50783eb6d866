"""Balls and power series over balls: how rigorous values of functions are come by.

A function is written once, as a formula that takes a ball (flint's ``arb``) or a power
series over balls (``arb_series``); it may branch on :func:`positive` between two ways of
writing the same function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flint import arb, arb_series, ctx

Formula = Callable[[Any], Any]
"""A function of a ball or of a series over balls."""

LARGEST = 1100
"""Values of ``2 ** LARGEST`` or more count as infinite."""

PRECISIONS = (96, 192, 384, 768, 1536, 3072)
"""Bits of working precision, in the order in which they are tried."""


def positive(x: Any) -> bool:
    """Whether the middle of a ball, or of the constant term of a series, is positive."""
    head = x[0] if isinstance(x, arb_series) else x
    return bool(head.mid() > 0)


@contextmanager
def working(precision: int, length: int = 2) -> Iterator[None]:
    """Compute with so many bits, and with series of so many coefficients."""
    before = ctx.prec, ctx.cap
    ctx.prec, ctx.cap = precision, length
    try:
        yield
    finally:
        ctx.prec, ctx.cap = before


def image(formula: Formula, x: Any) -> Any:
    """The values on a ball; NaN where the formula is undefined."""
    try:
        return formula(x)
    except (ValueError, ZeroDivisionError):  # division by a ball that contains 0
        return arb.nan()


def taylor(formula: Formula, centre: Any, step: Any, length: int) -> list[Any]:
    """Coefficients of ``formula(centre + step * t)`` as balls; NaN where it is undefined.

    With a ball for a centre, coefficient ``k`` encloses the ``k``-th one at each of its
    points.
    """
    try:
        series = formula(arb_series([centre, step], length))
        if series.prec >= length:
            return [series[k] for k in range(length)]
    except (ValueError, ZeroDivisionError):
        pass
    return [arb.nan()] * length


def units(value: Any, bits: int, largest: int = LARGEST) -> tuple[Any, Any]:
    """The integers nearest to a ball from below and above, as multiples of ``2 ** -bits``.

    Infinite where it reaches ``2 ** largest``.
    """
    precision = largest + abs(bits) + 64
    with working(precision):
        if not (value.is_finite() and abs(value) < arb((1, largest))):
            return -math.inf, math.inf
        low, high = value.lower().man_exp(), value.upper().man_exp()
    return (
        _shifted(int(low[0]), int(low[1]) + bits, 2 * precision),
        -_shifted(-int(high[0]), int(high[1]) + bits, 2 * precision),
    )


def _shifted(mantissa: int, shift: int, most: int) -> int:
    return mantissa << shift if shift >= 0 else mantissa >> min(-shift, most)


def float_above(value: Any) -> float:
    """A float that is at least a ball, infinite where there is none."""
    if not value.is_finite():
        return math.inf
    found = float(value.upper())
    while not arb(found) >= value:
        found = math.nextafter(found, math.inf)
    return found
