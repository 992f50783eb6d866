"""Softplus, ``log(1 + exp(x))``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.balls import positive
from proofs.curves import Curve
from specs.enclosure import FloatArray


def _formula(x: Any) -> Any:
    if positive(x):
        return x + (1 + (-x).exp()).log()
    return (1 + x.exp()).log()


def _value(x: FloatArray) -> FloatArray:
    return np.logaddexp(0.0, x)


def _derivative(x: FloatArray) -> FloatArray:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    return np.log(slope / (1.0 - slope))


def rule() -> Curve:
    """Convex."""
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(1,),
        range=(0.0, math.inf),
        value=_value,
        derivative=_derivative,
        touching=_touching,
    )
