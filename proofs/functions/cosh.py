"""The hyperbolic cosine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.curves import Curve
from specs.enclosure import FloatArray


def _formula(x: Any) -> Any:
    large = x.exp()
    return (large + 1 / large) / 2


def _value(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.cosh(x)


def _derivative(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.sinh(x)


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    return np.arcsinh(slope)


def rule() -> Curve:
    """Convex."""
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(1,),
        range=(1.0, math.inf),
        value=_value,
        derivative=_derivative,
        touching=_touching,
    )
