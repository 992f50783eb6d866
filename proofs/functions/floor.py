"""The greatest integer that is at most ``x``."""

from __future__ import annotations

import math

import numpy as np

from proofs.arithmetic import Arithmetic, Numbers
from proofs.jumps import Jumps


def _at(arithmetic: Arithmetic, x: Numbers) -> Numbers:
    return arithmetic.floor(x)


def rule() -> Jumps:
    """Jumps at every integer, where it has the upper value."""
    return Jumps(np.floor, _at, math.floor, offset=0.0, before=-1.0, after=0.0)
