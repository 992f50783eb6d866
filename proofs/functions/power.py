"""Powers ``x ** a`` by a constant exponent, other than 0 and 1.

For an exponent that is not an integer they are defined where ``x > 0``, and at 0 where the
exponent is positive.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flint import arb, fmpq

from proofs.analytic import Analytic
from proofs.arithmetic import Arithmetic, Interval, Numbers, bounded
from proofs.curves import Curve
from proofs.domains import above_zero, away_from_zero, everywhere, from_zero
from specs.enclosure import FloatArray
from specs.errors import UnsupportedOperatorError

LARGEST = 64
"""Exponents of a larger magnitude are refused.  From about 16 on float bounds get loose."""


def _repeated(x: Any, times: int) -> Any:
    """A product of factors ``x``; unlike flint's power also of a ball that contains 0."""
    if times == 1:
        return x
    root = _repeated(x, times // 2)
    return root * root if times % 2 == 0 else root * root * x


class Square(Curve):
    """``x ** 2``, of which bounds are a closed form in the arithmetic itself.

    A tangent bounds it from below and its value at an end from above, so it needs neither the
    search for a place nor the balls of other curves.
    """

    def _bounds(
        self,
        arithmetic: Arithmetic,
        lower: Numbers,
        upper: Numbers,
        below: Numbers | None,
        above: Numbers | None,
    ) -> Interval:
        finite = bounded((lower, upper))
        low, high = np.where(finite, lower, 0), np.where(finite, upper, 0)
        flat = low * 0
        under, over = (flat if slope is None else slope for slope in (below, above))
        # x^2 - s x is at least its tangent 2 m x - m^2 - s x, at most its value at an end.
        touching = np.clip(
            arithmetic.floats_down(under) * 0.5,
            arithmetic.floats_down(low),
            arithmetic.floats_up(high),
        )
        middle = arithmetic.lift_down(touching)
        tilted = np.minimum(
            *(
                arithmetic.add_down(
                    arithmetic.multiply_down(2 * middle, end),
                    arithmetic.multiply_down(-under, end),
                )
                for end in (low, high)
            )
        )
        least = arithmetic.add_down(tilted, -arithmetic.multiply_up(middle, middle))
        if below is None:
            least = np.maximum(least, flat)
        greatest = np.maximum(
            *(
                arithmetic.add_up(
                    arithmetic.multiply_up(end, end), arithmetic.multiply_up(-over, end)
                )
                for end in (low, high)
            )
        )
        none = np.where(np.asarray(under == 0, dtype=bool), flat, -math.inf)
        return np.where(finite, least, none), np.where(finite, greatest, math.inf)


def rule(exponent: float) -> Curve:
    """Convex or concave on either side of 0, by the signs of ``a (a - 1)`` and of the power.

    Raises:
        UnsupportedOperatorError: the exponent is 0 or 1, or too large.
    """
    if exponent in (0.0, 1.0) or not abs(exponent) <= LARGEST:
        raise UnsupportedOperatorError(f"the kernel has no rule for the power {exponent}")
    whole, odd = exponent == int(exponent), exponent % 2 == 1
    right = 1 if exponent * (exponent - 1) > 0 else -1
    left = -right if odd else right
    defined = {
        (True, True): everywhere,
        (True, False): away_from_zero,
        (False, True): from_zero,
        (False, False): above_zero,
    }[whole, exponent > 0]
    ratio = fmpq(*exponent.as_integer_ratio())

    def formula(x: Any) -> Any:
        if whole:
            return _repeated(x if exponent > 0 else 1 / x, abs(int(exponent)))
        if isinstance(x, arb) and exponent > 0:  # a ball around 0 stands for its upper half
            x = x.nonnegative_part()
        return x**ratio

    def value(x: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            return np.power(x, exponent)

    def derivative(x: FloatArray) -> FloatArray:
        with np.errstate(over="ignore", divide="ignore"):
            return exponent * np.power(x, exponent - 1.0)

    def touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
        return np.copysign(np.abs(slope / exponent) ** (1.0 / (exponent - 1.0)), a + b)

    return (Square if exponent == 2.0 else Curve)(
        formulas=(Analytic(formula),),
        curvatures=(left, right),
        bends=(0.0,),
        range=(-math.inf if odd else 0.0, math.inf),
        defined=defined,
        value=value,
        derivative=derivative,
        touching=touching,
    )
