"""The sign: -1, 0 at 0, or 1."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from proofs.arithmetic import Arithmetic, Numbers
from proofs.jumps import Jumps


def _at(arithmetic: Arithmetic, x: Numbers) -> Numbers:
    one = arithmetic.lift_down(np.ones(x.shape))
    return np.where(x > 0, one, np.where(x < 0, -one, x * 0))


def _at_rational(x: Fraction) -> int:
    return (x > 0) - (x < 0)


def rule() -> Jumps:
    """One jump, where it has neither limit's value."""
    return Jumps(np.sign, _at, _at_rational, offset=None, before=-1.0, after=1.0)
