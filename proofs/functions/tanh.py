"""The hyperbolic tangent."""

from __future__ import annotations

from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.balls import positive
from proofs.curves import Curve
from specs.enclosure import FloatArray


def _formula(x: Any) -> Any:
    small = (-2 * x if positive(x) else 2 * x).exp()
    return (1 if positive(x) else -1) * (1 - 2 * small / (1 + small))


def _derivative(x: FloatArray) -> FloatArray:
    small = np.exp(-2.0 * np.abs(x))
    return 4.0 * small / np.square(1.0 + small)


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """The slope is ``1 - f(x) ** 2``."""
    return np.copysign(np.arctanh(np.sqrt(1.0 - slope)), a + b)


def rule() -> Curve:
    """Convex below 0, concave above."""
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(1, -1),
        bends=(0.0,),
        range=(-1.0, 1.0),
        value=np.tanh,
        derivative=_derivative,
        touching=_touching,
    )
