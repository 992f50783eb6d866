"""Arithmetic on enclosures of real constants that never loses the true value.

Every operation returns the float64 result of the operation on the values, and a radius
that covers the rounding and the radii of the operands; the radius is ``None`` where an
error-free transformation shows that nothing was rounded (Dekker 1971; Ogita, Rump and
Oishi 2005).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.enclosure import Enclosure, FloatArray
from specs.errors import ModelError
from specs.linear import LinearMap

UNIT = 2.0**-53
TINY = 2.0**-1022
SMALLEST = 2.0**-1074

Array = npt.NDArray[Any]


def add(a: Enclosure, b: Enclosure) -> Enclosure:
    """``a + b`` elementwise, broadcast."""
    with np.errstate(all="ignore"):
        total = a.value + b.value
        shadow = total - a.value
        error = np.abs((a.value - (total - shadow)) + (b.value - shadow))
    return _enclosure(total, sum_up(sum_up(error, _radius(a)), _radius(b)))


def negate(a: Enclosure) -> Enclosure:
    """``-a``, which is never rounded."""
    return Enclosure(-a.value, a.radius)


def subtract(a: Enclosure, b: Enclosure) -> Enclosure:
    """``a - b`` elementwise, broadcast."""
    return add(a, negate(b))


def multiply(a: Enclosure, b: Enclosure) -> Enclosure:
    """``a * b`` elementwise, broadcast."""
    with np.errstate(all="ignore"):
        product = a.value * b.value
    error = np.where(_product_is_exact(a.value, b.value), 0.0, _rounding(product))
    if not a.exact or not b.exact:
        reach = sum_up(np.abs(a.value), _radius(a))
        error = sum_up(error, product_up(reach, _radius(b)))
        error = sum_up(error, product_up(np.abs(b.value), _radius(a)))
    return _enclosure(product, error)


def divide(a: Enclosure, b: Enclosure) -> Enclosure:
    """``a / b`` elementwise, broadcast.

    Raises:
        ModelError: a divisor may be 0.
    """
    gap = np.nextafter(np.abs(b.value) - _radius(b), -np.inf) if not b.exact else np.abs(b.value)
    if np.any(gap <= 0):
        raise ModelError("a constant is divided by 0")
    with np.errstate(all="ignore"):
        quotient = a.value / b.value
        back = quotient * b.value
    whole = _product_is_exact(quotient, b.value) & (back == a.value)
    error = np.where(whole, 0.0, _rounding(quotient))
    if not a.exact or not b.exact:
        magnitude = sum_up(np.abs(quotient), _rounding(quotient))
        spread = sum_up(_radius(a), product_up(magnitude, _radius(b)))
        error = sum_up(error, quotient_up(spread, gap))
    return _enclosure(quotient, error)


def reciprocal(a: Enclosure) -> Enclosure:
    """``1 / a`` elementwise."""
    return divide(Enclosure(np.ones(a.shape)), a)


def square_root(a: Enclosure) -> Enclosure:
    """The square root of every entry.

    Raises:
        ModelError: an argument may be negative.
    """
    if np.any(a.value < _radius(a)):
        raise ModelError("a square root of a constant that may be negative")
    root = np.sqrt(a.value)
    whole = _product_is_exact(root, root) & (root * root == a.value)
    error = np.where(whole, 0.0, _rounding(root))
    if not a.exact:
        # |sqrt(x') - sqrt(x)| <= |x' - x| / sqrt(x)
        lower = np.nextafter(root, -np.inf)
        error = sum_up(error, quotient_up(_radius(a), np.where(a.value > 0, lower, 1.0)))
    return _enclosure(root, error)


def power(a: Enclosure, exponent: int) -> Enclosure:
    """``a ** exponent`` for an exponent of at least 1."""
    result = a
    for bit in bin(exponent)[3:]:
        result = multiply(result, result)
        if bit == "1":
            result = multiply(result, a)
    return result


def maximum(a: Enclosure, b: Enclosure) -> Enclosure:
    """The larger of two constants, elementwise, broadcast."""
    radius = np.maximum(_radius(a), _radius(b))
    return _enclosure(np.maximum(a.value, b.value), radius)


def enclose(numbers: list[Fraction]) -> Enclosure:
    """A vector of rationals, each rounded to the nearest float64."""
    value = np.array([float(number) for number in numbers], dtype=np.float64)
    gaps = [abs(n - Fraction(v)) for n, v in zip(numbers, value.tolist(), strict=True)]
    radius = [0.0 if not gap else math.nextafter(float(gap), math.inf) for gap in gaps]
    return _enclosure(value, np.array(radius, dtype=np.float64))


def image(linear: LinearMap, x: Enclosure) -> Enclosure:
    """The image of a flat constant under a linear map.

    Sound for every order of summation: ``n`` products and additions err by at most
    ``2 n u`` times the sum of magnitudes, plus what underflows.
    """
    values = x.value.reshape(1, -1)
    radii = _radius(x).reshape(1, -1)
    if linear.weight is None and linear.fan_in == 1:
        moved = linear.forward(values, None, np.matmul)[0]
        return _enclosure(moved, linear.forward(radii, None, np.matmul)[0])
    weight, width = None, None
    if linear.weight is not None:
        weight, width = linear.weight.value, linear.weight.radius
    magnitudes = None if weight is None else np.abs(weight)
    with np.errstate(all="ignore"):
        value = linear.forward(values, weight, np.matmul)[0]
        reach = linear.forward(np.abs(values), magnitudes, np.matmul)[0]
        if x.exact and width is None and _fits_a_grid(values, weight, reach):
            return Enclosure(value)
        terms = linear.fan_in + 8
        total = reach * (terms * 2.0**-52) + terms * 2.0**-1060
        if not x.exact:
            wider = magnitudes if width is None or magnitudes is None else magnitudes + width
            total = total + linear.forward(radii, wider, np.matmul)[0]
        if width is not None:
            total = total + linear.forward(np.abs(values), width, np.matmul)[0]
        return Enclosure(value, total * (1.0 + terms * 2.0**-50) + terms * 2.0**-1060)


def sum_up(a: Array, b: Array) -> FloatArray:
    """An upper bound of the sum of non-negative numbers; exact when one is 0."""
    with np.errstate(all="ignore"):
        bound = np.nextafter(a + b, np.inf)
    return np.where(a == 0, b, np.where(b == 0, a, bound))


def product_up(a: Array, b: Array) -> FloatArray:
    """An upper bound of the product of non-negative numbers; 0 when one is 0."""
    with np.errstate(all="ignore"):
        bound = np.nextafter(a * b, np.inf)
    return np.where((a == 0) | (b == 0), 0.0, bound)


def quotient_up(a: Array, b: Array) -> FloatArray:
    """An upper bound of ``a / b`` for ``a >= 0`` and ``b > 0``; 0 when ``a`` is."""
    with np.errstate(all="ignore"):
        bound = np.nextafter(a / b, np.inf)
    return np.where(a == 0, 0.0, bound)


def _radius(a: Enclosure) -> FloatArray:
    return np.zeros(a.shape) if a.radius is None else a.radius


def _enclosure(value: Array, radius: Array) -> Enclosure:
    value = np.asarray(value, dtype=np.float64)
    radius = np.broadcast_to(radius, value.shape)
    return Enclosure(value, radius if np.any(radius) else None)


def _rounding(result: Array) -> FloatArray:
    """What rounding to nearest may have moved a result by, underflow included."""
    bound: FloatArray = np.nextafter(np.abs(result) * UNIT, np.inf)
    return bound


def _product_is_exact(a: Array, b: Array) -> npt.NDArray[np.bool_]:
    """Whether the float64 product of two finite numbers is their product."""
    with np.errstate(all="ignore"):
        left, right = np.frexp(a)[0], np.frexp(b)[0]
        left_high, right_high = _high_part(left), _high_part(right)
        left_low, right_low = left - left_high, right - right_high
        product = left * right
        error = left_low * right_low - (
            ((product - left_high * right_high) - left_low * right_high) - left_high * right_low
        )
        no_underflow = (np.abs(a * b) >= TINY) | (a == 0) | (b == 0)
    exact: npt.NDArray[np.bool_] = (error == 0) & no_underflow
    return exact


def _high_part(x: Array) -> Array:
    shifted = x * 134217729.0
    return np.asarray(shifted - (shifted - x))


def _fits_a_grid(values: Array, weight: Array | None, reach: Array) -> bool:
    """Whether all products lie on a grid so coarse that no sum of them is rounded."""
    exponent = _grid(values) + (0 if weight is None else _grid(weight))
    if exponent < -1074 or exponent > 900:
        return False
    largest = float(np.max(reach, initial=0.0))
    return largest < math.ldexp(1.0, exponent + 52)


def _grid(values: Array) -> int:
    """The largest ``k`` such that every entry is a multiple of ``2**k``."""
    nonzero = values[values != 0]
    if not nonzero.size:
        return 0
    mantissa, exponent = np.frexp(nonzero)
    whole = np.abs(np.ldexp(mantissa, 53)).astype(np.int64)
    lowest = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    return int(np.min(exponent - 53 + lowest))
