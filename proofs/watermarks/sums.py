"""Hints as short numbers, and sums of products of whole numbers that floats hold exactly."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from proofs.watermarks.definite import Whole
from specs.enclosure import FloatArray
from specs.errors import EvidenceError
from specs.watermarks.rows import Rows

DIGIT = 6
"""Bits of the digits of what columns are multiplied by in a sum that floats hold."""

MODERATE = 2.0**200
"""Hints are at most this, and at least its inverse, or 0."""

Tick = Callable[[], None]


def moderate(name: str, given: FloatArray, size: int) -> FloatArray:
    """Hints, if they are of a size and of magnitudes that are worked with."""
    if given.shape != (size,):
        raise EvidenceError(f"{given.size} hints for {name}, not {size}")
    magnitude = np.abs(given)
    inside = (given == 0.0) | ((magnitude <= MODERATE) & (magnitude >= 1.0 / MODERATE))
    if not np.all(inside):
        raise EvidenceError(f"a hint for {name} is not finite, or not of moderate size")
    return given


def short(values: FloatArray, bits: int) -> tuple[FloatArray, Fraction]:
    """Whole numbers of so many bits, and a power of two, that together are near the values."""
    largest = float(np.abs(values).max(initial=0.0))
    exponent = int(np.frexp(largest)[1]) - bits if largest else 0
    return np.rint(np.ldexp(values, -exponent)), Fraction(2) ** exponent


def gram(rows: Rows, inverse: FloatArray, tick: Tick) -> Whole:
    """``B diag(inverse) B'``, by sums of products that floats hold exactly."""
    columns, used = rows.columns, rows.column_of >= 0
    share = np.bincount(
        rows.column_of[used], weights=inverse[used], minlength=columns.shape[1]
    ).astype(np.int64)  # sums of whole numbers, below 2**53
    square = max(1.0, float(np.abs(columns).max(initial=0.0)) ** 2)  # at most 2**40
    step = int(2.0 ** (53 - DIGIT) // square)
    total: Whole = np.zeros((columns.shape[0],) * 2, dtype=object)
    place = 0
    while share.any():
        digit = (share & ((1 << DIGIT) - 1)).astype(np.float64)
        for start in range(0, columns.shape[1], step << 9):  # sums of 2**9 blocks: below 2**62
            tick()
            held: npt.NDArray[np.int64] = np.zeros(total.shape, dtype=np.int64)
            for at in range(start, min(columns.shape[1], start + (step << 9)), step):
                part = slice(at, at + step)
                if digit[part].any():
                    block = (columns[:, part] * digit[part]) @ columns[:, part].T
                    held += block.astype(np.int64)
            total = total + (held.astype(object) << place)
        share >>= DIGIT
        place += DIGIT
    return total


def combined(whole: FloatArray, columns: FloatArray) -> FloatArray:
    """``(K,)``: sums of rows times whole numbers of 20 bits; exact for up to 2**12 rows."""
    if whole.size > 1 << 12:
        raise EvidenceError(f"{whole.size} rows; at most {1 << 12} are combined")
    return np.asarray(whole @ columns, dtype=np.float64)
