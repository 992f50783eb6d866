"""The sine."""

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
    return x.sin()


def _touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    half = np.floor((0.5 * a + 0.5 * b) / math.pi)
    return half * math.pi + np.arccos(np.where(half % 2 == 0, slope, -slope))


def rule() -> Curve:
    """Bends at multiples of pi, known up to ``2 ** -46``; concave from 0 to pi."""
    bends = [k * math.pi for k in range(-HALVES, HALVES + 1)]
    inner = tuple(1 if k % 2 else -1 for k in range(-HALVES, HALVES))
    return Curve(
        formulas=(Analytic(_formula),),
        curvatures=(None, *inner, None),
        bends=tuple(bends),
        range=(-1.0, 1.0),
        value=np.sin,
        derivative=np.cos,
        touching=_touching,
        slack=2.0**-91,
    )
