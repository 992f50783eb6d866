"""The square root, for ``x`` of at least 0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flint import arb

from proofs.analytic import Analytic
from proofs.curves import Curve
from proofs.domains import from_zero
from specs.enclosure import FloatArray


def _formula(x: Any) -> Any:
    if isinstance(x, arb):  # a ball around 0 stands for its upper half
        return x.nonnegative_part().sqrt()
    return x.sqrt()


def _derivative(x: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return 0.5 / np.sqrt(x)


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    return 0.25 / np.square(slope)


def rule() -> Curve:
    """Concave."""
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(-1,),
        range=(0.0, math.inf),
        defined=from_zero,
        value=np.sqrt,
        derivative=_derivative,
        touching=_touching,
    )
