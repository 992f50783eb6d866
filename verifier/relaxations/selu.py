"""Scaled exponential linear units."""

from __future__ import annotations

from verifier.relaxations.elu import Elu, scaled


def relaxation(alpha: float, gamma: float) -> Elu:
    """``gamma`` times the exponential linear unit with ``alpha``.

    Raises:
        UnsupportedOperatorError: one of them is not positive.
    """
    return scaled(alpha, gamma)
