"""The hyperbolic sine."""

from __future__ import annotations

from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.curves import Curve
from specs.enclosure import FloatArray


def _formula(x: Any) -> Any:
    large = x.exp()
    return (large - 1 / large) / 2


def _value(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.sinh(x)


def _derivative(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.cosh(x)


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    return np.copysign(np.arccosh(slope), a + b)


def rule() -> Curve:
    """Concave below 0, convex above."""
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(-1, 1),
        bends=(0.0,),
        value=_value,
        derivative=_derivative,
        touching=_touching,
    )
