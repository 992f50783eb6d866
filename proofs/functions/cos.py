"""The cosine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.curves import Curve
from specs.enclosure import FloatArray

HALVES = 32
"""Bends on either side of 0; beyond the last only the range is known."""


def _formula(x: Any) -> Any:
    return x.cos()


def _derivative(x: FloatArray) -> FloatArray:
    return -np.sin(x)


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    half = np.rint((0.5 * a + 0.5 * b) / math.pi)
    return half * math.pi + np.arcsin(np.where(half % 2 == 0, -slope, slope))


def rule() -> Curve:
    """Bends at odd multiples of ``pi / 2``, known up to ``2 ** -46``; concave around 0."""
    bends = [(k + 0.5) * math.pi for k in range(-HALVES, HALVES)]
    inner = tuple(1 if k % 2 else -1 for k in range(1 - HALVES, HALVES))
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(None, *inner, None),
        bends=tuple(bends),
        range=(-1.0, 1.0),
        value=np.cos,
        derivative=_derivative,
        touching=_touching,
        slack=2.0**-91,
    )
