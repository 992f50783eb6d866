"""Samples as numbers that the search and the kernel share exactly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.enclosure import FloatArray
from specs.errors import InputError


def flat_floats(values: npt.NDArray[Any]) -> FloatArray:
    """Samples ``(n, ...)`` as float64, flat, ``(n, size)``; none of them is rounded.

    Raises:
        InputError: these are no numbers, one is not finite, or float64 does not hold one.
    """
    if values.ndim < 1 or values.dtype.kind not in "fiub":
        raise InputError(f"{values.dtype} of shape {values.shape}; wanted: numbers, (n, ...)")
    flat = values.reshape(len(values), math.prod(values.shape[1:])).astype(np.float64)
    if not np.all(np.isfinite(flat)):
        raise InputError("a number is not finite")
    if np.any(flat.astype(values.dtype).reshape(values.shape) != values):
        raise InputError("it holds numbers that float64 does not")
    return flat
