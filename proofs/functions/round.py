"""The nearest integer, the even one of two."""

from __future__ import annotations

import numpy as np

from proofs.arithmetic import Arithmetic, Numbers
from proofs.jumps import Jumps


def _at(arithmetic: Arithmetic, x: Numbers) -> Numbers:
    one, half = arithmetic.lift_down(np.array([1.0, 0.5]))
    below = arithmetic.floor(x)
    middle = below + half
    halved = arithmetic.scale(below, np.full_like(below, half))
    odd = np.asarray(arithmetic.floor(halved) != halved, dtype=bool)
    up = np.asarray((x > middle) | ((x == middle) & odd), dtype=bool)
    return np.where(up, below + one, below)


def rule() -> Jumps:
    """Jumps halfway between the integers."""
    return Jumps(np.rint, _at, round, offset=0.5, before=-0.5, after=0.5)
