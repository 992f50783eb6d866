"""Softsign, ``x / (1 + |x|)``."""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import arb

from proofs.analytic import Analytic
from proofs.curves import Curve
from specs.enclosure import FloatArray


def _left(x: Any) -> Any:
    if isinstance(x, arb):  # a ball around 0 stands for its lower half
        x = -(-x).nonnegative_part()
    return x / (1 - x)


def _right(x: Any) -> Any:
    if isinstance(x, arb):
        x = x.nonnegative_part()
    return x / (1 + x)


def _value(x: FloatArray) -> FloatArray:
    return x / (1.0 + np.abs(x))


def _derivative(x: FloatArray) -> FloatArray:
    return 1.0 / np.square(1.0 + np.abs(x))


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    return np.copysign(1.0 / np.sqrt(slope) - 1.0, a + b)


def rule() -> Curve:
    """Convex below 0, concave above; the derivative is 1 on both sides of 0."""
    return Curve(
        formulas=(Analytic(_left), Analytic(_right)),
        curvatures=(1, -1),
        bends=(0.0,),
        range=(-1.0, 1.0),
        value=_value,
        derivative=_derivative,
        touching=_touching,
    )
