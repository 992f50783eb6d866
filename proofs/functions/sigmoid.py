"""The logistic sigmoid, ``1 / (1 + exp(-x))``."""

from __future__ import annotations

from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.balls import positive
from proofs.curves import Curve
from specs.enclosure import FloatArray


def _formula(x: Any) -> Any:
    if positive(x):
        return 1 / (1 + (-x).exp())
    return x.exp() / (1 + x.exp())


def _value(x: FloatArray) -> FloatArray:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _derivative(x: FloatArray) -> FloatArray:
    small = np.exp(-np.abs(x))
    return small / np.square(1.0 + small)


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """With ``y = f(x)`` the slope is ``y (1 - y)``, so the smaller ``y`` a root's."""
    small = 2.0 * slope / (1.0 + np.sqrt(np.maximum(1.0 - 4.0 * slope, 0.0)))
    return np.copysign(np.log(small / (1.0 - small)), a + b)


def rule() -> Curve:
    """Convex below 0, concave above."""
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(1, -1),
        bends=(0.0,),
        range=(0.0, 1.0),
        value=_value,
        derivative=_derivative,
        touching=_touching,
    )
