"""Staircases as linear constraints over the integers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from verifier.quantised.program import IntArray, Staircase

_LEAST_EXPONENT, _MOST_EXPONENT = 4, 34
_SEARCHES = 80


@dataclass(frozen=True)
class Ramp:
    """The staircase is ``floor((slope * key + offset) / divisor)``, cut to its range."""

    slope: int
    offset: int
    divisor: int


def ramp(stairs: Staircase) -> Ramp | None:
    """A staircase of evenly spaced thresholds as a quotient of integers, or ``None``.

    What floats suggest is verified in integers at every threshold.
    """
    at = stairs.at
    if len(at) < 2 or at[-1] == at[0] or int(np.abs(at).max()) >= 2**27:
        return None
    values = stairs.start + 1 + np.arange(len(at), dtype=np.int64)
    slope = _steepness(at, values)
    for exponent in range(_LEAST_EXPONENT, _MOST_EXPONENT, 3):
        divisor = 1 << exponent
        factor = round(slope * divisor)
        if abs(factor) >= 2**34:
            return None
        # Reached at a threshold, not reached just before it.
        least = int(np.max(values * divisor - factor * at))
        most = int(np.min(values * divisor - factor * (at - 1))) - 1
        if factor > 0 and least <= most:
            return Ramp(factor, (least + most) // 2, divisor)
    return None


def _steepness(at: IntArray, values: IntArray) -> float:
    """The slope that leaves the offset most room: a concave function is maximised."""

    def room(slope: float) -> float:
        return float(np.min(values - slope * (at - 1)) - np.max(values - slope * at))

    middle = (len(at) - 1) / float(at[-1] - at[0])
    low, high = middle / 2, middle * 2
    for _ in range(_SEARCHES):
        third = (high - low) / 3
        if room(low + third) < room(high - third):
            low += third
        else:
            high -= third
    return (low + high) / 2


@dataclass(frozen=True)
class Line:
    """``divisor * value <= slope * key + offset`` above a staircase, ``>=`` below it."""

    slope: int
    offset: int
    divisor: int


def chord(stairs: Staircase, low: int, high: int, above: bool) -> Line:
    """A line above (or below) a staircase on ``[low, high]``, parallel to its chord."""
    first, last = int(stairs(np.array([low]))[0]), int(stairs(np.array([high]))[0])
    divisor, slope = max(high - low, 1), last - first
    common = math.gcd(divisor, slope)
    divisor, slope = divisor // common, slope // common
    offset = divisor * first - slope * low
    at = [t for t in stairs.at.tolist() if low < t <= high]
    for value, threshold in enumerate(at, start=first + 1):
        if above:
            offset = max(offset, divisor * value - slope * threshold)
        else:
            offset = min(offset, divisor * (value - 1) - slope * (threshold - 1))
    return Line(slope, offset, divisor)
