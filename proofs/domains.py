"""Where a function is defined on the whole of an interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Numbers

Mask = npt.NDArray[np.bool_]


def everywhere(lower: Numbers, upper: Numbers) -> Mask:
    """Everywhere."""
    return np.ones(lower.shape, dtype=bool)


def above_zero(lower: Numbers, upper: Numbers) -> Mask:
    """At positive numbers."""
    return np.asarray(lower > 0, dtype=bool)


def from_zero(lower: Numbers, upper: Numbers) -> Mask:
    """At positive numbers and 0."""
    return np.asarray(lower >= 0, dtype=bool)


def away_from_zero(lower: Numbers, upper: Numbers) -> Mask:
    """At all numbers except 0."""
    return np.asarray((lower > 0) | (upper < 0), dtype=bool)
