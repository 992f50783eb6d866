"""GELU's approximation ``x (1 + tanh(z)) / 2``, ``z = sqrt(2/pi) (x + 0.044715 x**3)``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flint import arb, fmpq

from proofs.analytic import Analytic
from proofs.balls import positive
from proofs.curves import Curve
from specs.enclosure import FloatArray

BEND = 1.4185040087908283
"""A float next to the positive zero of the second derivative."""

LEAST = -0.1700407505712541
"""A float below the least value."""

CUBIC = fmpq(44715, 1000000)


def _formula(x: Any) -> Any:
    """``(1 + tanh z) / 2 = 1 / (1 + exp(-2 z))``."""
    twice = (8 / arb.pi()).sqrt() * (x + CUBIC * x * x * x)
    if positive(x):
        return x / (1 + (-twice).exp())
    return x * twice.exp() / (1 + twice.exp())


def _factor(x: FloatArray) -> FloatArray:
    return np.tanh(math.sqrt(2.0 / math.pi) * (x + float(CUBIC) * x * x * x))


def _value(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return 0.5 * x * (1.0 + _factor(x))


def _derivative(x: FloatArray) -> FloatArray:
    near = np.clip(x, -64.0, 64.0)
    factor = _factor(near)
    inner = math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * float(CUBIC) * near * near)
    return 0.5 * (1.0 + factor) + 0.5 * near * (1.0 - factor * factor) * inner


def rule() -> Curve:
    """Convex between the bends, concave outside."""
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(-1, 1, -1),
        bends=(-BEND, BEND),
        range=(LEAST, math.inf),
        value=_value,
        derivative=_derivative,
        slack=2.0**-100,
    )
