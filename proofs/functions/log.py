"""The natural logarithm, for positive ``x``."""

from __future__ import annotations

from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.curves import Curve
from proofs.domains import above_zero
from specs.enclosure import FloatArray


def _formula(x: Any) -> Any:
    return x.log()


def _derivative(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return 1.0 / x


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    return 1.0 / slope


def rule() -> Curve:
    """Concave."""
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(-1,),
        defined=above_zero,
        value=np.log,
        derivative=_derivative,
        touching=_touching,
    )
