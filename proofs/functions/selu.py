"""Scaled exponential linear units: ``c x`` from 0 on, ``c a (exp(x) - 1)`` below."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.curves import Curve
from specs.enclosure import FloatArray
from specs.errors import UnsupportedOperatorError


def rule(alpha: float, gamma: float) -> Curve:
    """Two pieces that meet at 0, where the slope falls from ``a c`` to ``c`` if ``a > 1``.

    Raises:
        UnsupportedOperatorError: ``a`` is negative, or ``c`` not positive.
    """
    if not (alpha >= 0 and gamma > 0):
        raise UnsupportedOperatorError(
            f"the kernel has no rule for exponential units with parameters {alpha}, {gamma}"
        )

    def left(x: Any) -> Any:
        return (x.exp() - 1) * alpha * gamma

    def right(x: Any) -> Any:
        return x * gamma

    def value(x: FloatArray) -> FloatArray:
        return gamma * np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))

    def derivative(x: FloatArray) -> FloatArray:
        return gamma * np.where(x >= 0, 1.0, alpha * np.exp(np.minimum(x, 0.0)))

    def touching(slope: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
        return np.log(slope / (alpha * gamma))

    return Curve(
        formulas=(Analytic(left), Analytic(right)),
        curvatures=(1 if alpha else 0, 0),
        bends=(0.0,),
        corners=(0.0,) if alpha == 0 or alpha > 1 else (),
        range=(math.nextafter(-alpha * gamma, -math.inf), math.inf),
        value=value,
        derivative=derivative,
        touching=touching,
    )
