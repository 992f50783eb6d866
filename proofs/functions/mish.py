"""Mish, ``x tanh(log(1 + exp(x)))`` (Misra 2020)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.balls import positive
from proofs.curves import Curve
from specs.enclosure import FloatArray

BENDS = (-2.256376396360793, 1.4905711794854284)
"""Floats next to the zeros of the second derivative."""

LEAST = -0.3088434130172505
"""A float below the least value."""


def _formula(x: Any) -> Any:
    """``tanh(log w) = (w**2 - 1) / (w**2 + 1)``, with ``w = 1 + exp(x)``."""
    if positive(x):
        small = (-x).exp()
        return x - 2 * x * small * small / (1 + 2 * small + 2 * small * small)
    small = x.exp() * (2 + x.exp())
    return x * small / (small + 2)


def _value(x: FloatArray) -> FloatArray:
    return x * np.tanh(np.logaddexp(0.0, x))


def _derivative(x: FloatArray) -> FloatArray:
    factor = np.tanh(np.logaddexp(0.0, x))
    small = np.exp(-np.abs(x))
    sigmoid = np.where(x >= 0, 1.0, small) / (1.0 + small)
    return factor + x * sigmoid * (1.0 - factor * factor)


def rule() -> Curve:
    """Convex between the bends, concave outside."""
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(-1, 1, -1),
        bends=BENDS,
        range=(LEAST, math.inf),
        value=_value,
        derivative=_derivative,
        slack=2.0**-100,
    )
