"""SiLU (swish), ``x / (1 + exp(-x))``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.balls import positive
from proofs.curves import Curve
from specs.enclosure import FloatArray

BEND = 2.3993572805154675
"""A float next to the positive zero of the second derivative."""

LEAST = -0.2784645427610738
"""A float below the least value."""


def _formula(x: Any) -> Any:
    if positive(x):
        return x / (1 + (-x).exp())
    return x * x.exp() / (1 + x.exp())


def _sigmoid(x: FloatArray) -> FloatArray:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _value(x: FloatArray) -> FloatArray:
    return x * _sigmoid(x)


def _derivative(x: FloatArray) -> FloatArray:
    return _sigmoid(x) * (1.0 + x * _sigmoid(-x))


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
