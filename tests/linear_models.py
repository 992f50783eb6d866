"""Classifiers of two classes that are linear, whose probabilities under noise are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import numpy as np

from tests.faulty_models import graph_bytes, node


def linear_model(weights: Sequence[float], offset: float) -> bytes:
    """Class 0 where ``weights x + offset`` is positive, class 1 where it is negative."""
    stored = {
        "w": np.array([weights, np.zeros(len(weights))], np.float32),
        "b": np.array([offset, 0.0], np.float32),
    }
    return graph_bytes([node("Gemm", "x w b", "y", transB=1)], (1, len(weights)), stored)


def share_above(weights: Sequence[Fraction], level: Fraction) -> Fraction:
    """``P[weights u > level]``, ``u`` uniform on ``[-1, 1]^n``, exactly; weights are not 0.

    The volume of a cube below a plane by inclusion and exclusion over its corners.
    """
    sizes = [2 * abs(w) for w in weights]
    below = level + sum(map(abs, weights))  # of sizes v, v uniform on [0, 1]^n
    total = Fraction(0)
    for corner in product((0, 1), repeat=len(sizes)):
        rest = below - sum(size for size, one in zip(sizes, corner, strict=True) if one)
        total += (-1) ** sum(corner) * max(Fraction(0), rest) ** len(sizes)
    return 1 - total / (math.factorial(len(sizes)) * math.prod(sizes))
