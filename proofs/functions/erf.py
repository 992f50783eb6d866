"""The error function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.curves import Curve
from specs.enclosure import FloatArray


def _formula(x: Any) -> Any:
    return x.erf()


def _derivative(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return 2.0 / math.sqrt(math.pi) * np.exp(-x * x)


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    return np.copysign(np.sqrt(-np.log(0.5 * math.sqrt(math.pi) * slope)), a + b)


def rule() -> Curve:
    """Convex below 0, concave above."""
    analytic = Analytic(_formula)
    return Curve(
        formulas=(analytic,),
        curvatures=(1, -1),
        bends=(0.0,),
        range=(-1.0, 1.0),
        value=analytic.value,
        derivative=_derivative,
        touching=_touching,
    )
