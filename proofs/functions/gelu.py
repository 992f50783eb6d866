"""GELU, ``x (1 + erf(x / sqrt(2))) / 2`` (Hendrycks and Gimpel 2016)."""

from __future__ import annotations

import math
from typing import Any

from flint import arb

from proofs.analytic import Analytic
from proofs.curves import Curve

BEND = 1.4142135623730951
"""A float next to ``sqrt(2)``, where the second derivative is 0."""

LEAST = -0.1699712074799037
"""A float below the least value."""


def _formula(x: Any) -> Any:
    return x * (-x / arb(2).sqrt()).erfc() / 2


def rule() -> Curve:
    """Convex between the bends, concave outside."""
    analytic = Analytic(_formula)
    return Curve(
        formulas=(analytic,),
        curvatures=(-1, 1, -1),
        bends=(-BEND, BEND),
        range=(LEAST, math.inf),
        value=analytic.value,
        derivative=analytic.derivative,
        slack=2.0**-100,
    )
