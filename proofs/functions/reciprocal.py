"""The reciprocal, ``1 / x`` for ``x`` other than 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.curves import Curve
from proofs.domains import away_from_zero
from specs.enclosure import FloatArray


def _formula(x: Any) -> Any:
    return 1 / x


def _value(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore", divide="ignore"):
        return 1.0 / x


def _derivative(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore", divide="ignore"):
        return -1.0 / x / x


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    return np.copysign(np.sqrt(-1.0 / slope), a)


def rule() -> Curve:
    """Concave below 0, convex above."""
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(-1, 1),
        bends=(0.0,),
        defined=away_from_zero,
        value=_value,
        derivative=_derivative,
        touching=_touching,
    )
