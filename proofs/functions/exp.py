"""The exponential function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.curves import Curve
from specs.enclosure import FloatArray


def _formula(x: Any) -> Any:
    return x.exp()


def _value(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.exp(x)


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    return np.log(slope)


def rule() -> Curve:
    """Convex."""
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(1,),
        range=(0.0, math.inf),
        value=_value,
        derivative=_value,
        touching=_touching,
    )
