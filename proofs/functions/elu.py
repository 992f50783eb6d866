"""Exponential linear units: ``x`` from 0 on, ``a (exp(x) - 1)`` below."""

from __future__ import annotations

from proofs.curves import Curve
from proofs.functions import selu


def rule(alpha: float) -> Curve:
    """Selu without a scale.

    Raises:
        UnsupportedOperatorError: ``a`` is negative.
    """
    return selu.rule(alpha, 1.0)
