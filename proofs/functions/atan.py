"""The inverse tangent."""

from __future__ import annotations

from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.curves import Curve
from specs.enclosure import FloatArray

RIGHT_ANGLE = 1.5707963267948968
"""A float above pi / 2."""


def _formula(x: Any) -> Any:
    return x.atan()


def _derivative(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + x * x)


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    return np.copysign(np.sqrt(1.0 / slope - 1.0), a + b)


def rule() -> Curve:
    """Convex below 0, concave above."""
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(1, -1),
        bends=(0.0,),
        range=(-RIGHT_ANGLE, RIGHT_ANGLE),
        value=np.arctan,
        derivative=_derivative,
        touching=_touching,
    )
