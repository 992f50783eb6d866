"""Hard swish: 0 up to -3, ``x`` from 3 on, ``x (x + 3) / 6`` between."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.curves import Curve
from specs.enclosure import FloatArray


def _left(x: Any) -> Any:
    return 0 * x


def _middle(x: Any) -> Any:
    return x * (x + 3) / 6


def _right(x: Any) -> Any:
    return x


def _value(x: FloatArray) -> FloatArray:
    return x * np.clip(x + 3.0, 0.0, 6.0) / 6.0


def _derivative(x: FloatArray) -> FloatArray:
    return np.where(x >= 3.0, 1.0, np.where(x <= -3.0, 0.0, x / 3.0 + 0.5))


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    return 3.0 * slope - 1.5


def rule() -> Curve:
    """Convex between the corners, where the slope falls."""
    return Curve(
        formulas=(Analytic(_left), Analytic(_middle), Analytic(_right)),
        curvatures=(0, 1, 0),
        bends=(-3.0, 3.0),
        corners=(-3.0, 3.0),
        range=(-0.375, math.inf),
        value=_value,
        derivative=_derivative,
        touching=_touching,
    )
