"""Linear maps of big integers, by floating-point sums of products of their limbs.

An integer is a sum of limbs of 16 bits times powers of ``2 ** 16``.  A product of two limbs
is at most ``2 ** 32``, and a sum of up to ``2 ** 21`` of them at most ``2 ** 53``: every partial
sum, in whatever order, is an integer that a float64 holds exactly, so nothing is rounded.
Nor is a matrix product in floats believed: a random combination of its rows is computed again
in integers (Freivalds, *Probabilistic machines can use less running time*, 1977).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.enclosure import FloatArray
from specs.errors import EvidenceError, FarkasError

Numbers = npt.NDArray[Any]
Integers = npt.NDArray[Any]

BITS = 16
LONGEST = 1 << 21
"""Terms of a sum of products of limbs that a float holds."""

MOST = 1 << 9
"""Limbs of a coefficient: so many sums up to ``2 ** 53`` fit in 64 bits."""

CHUNK = 1 << 15
"""Entries whose limbs are made at a time: arrays that stay in cache."""


_to_bytes: Callable[[int, int, str], bytes] = int.to_bytes  # type: ignore[assignment]
_from_bytes: Callable[[bytes, str], int] = int.from_bytes  # type: ignore[assignment]


def split(numbers: Integers) -> FloatArray:
    """The limbs ``(l, ...)`` of Python integers, the lowest first; only the last is signed."""
    bits = max(map(int.bit_length, numbers.reshape(-1).tolist()), default=0)
    count = bits // BITS + 1
    offset = 1 << (BITS * count - 1)  # more than any absolute value
    listed = (numbers + offset).reshape(-1).tolist()
    raw = b"".join(map(_to_bytes, listed, repeat(2 * count), repeat("little")))
    found = np.frombuffer(raw, dtype="<u2").reshape(*numbers.shape, count)
    limbs = np.ascontiguousarray(np.moveaxis(found, -1, 0)).astype(np.float64)
    limbs[-1] -= float(1 << (BITS - 1))
    return limbs


def applied(
    work: Callable[[Numbers, Numbers], Numbers],
    numbers: Integers,
    coefficients: Sequence[FloatArray],
    longest: int,
    dropped: int = 0,
) -> Integers:
    """A bilinear function of integers ``(r, n)`` and of integers given as limbs, exactly.

    Args:
        work: the function, by sums of products only, row by row.
        numbers: Python integers.
        coefficients: limbs of the others, the lowest first.
        longest: how many products it adds up for one result at most.
        dropped: so many times 16 bits are shifted out of the results, rounding down.

    Raises:
        EvidenceError: the sums are too long for floats.
        FarkasError: what floats found is not what integers find.
    """
    if longest > LONGEST or len(coefficients) > MOST:
        raise EvidenceError(f"a sum of {longest} terms is too long for exact arithmetic")
    size = max(1, CHUNK // max(1, numbers.shape[1]))
    parts = []
    for start in range(0, max(1, len(numbers)), size):
        limbs = split(numbers[start : start + size])
        count, rows, _ = limbs.shape
        flat = limbs.reshape(count * rows, numbers.shape[1])
        found = [_whole(work(flat, limb)) for limb in coefficients]
        _confirm(work, flat, coefficients, found)
        parts.append(_joined([part.reshape(count, rows, part.shape[1]) for part in found], dropped))
    return np.concatenate(parts)


def _whole(sums: Numbers) -> npt.NDArray[np.int64]:
    """Sums as integers; one that is no number, or too large to be right, would become any."""
    if not np.all(np.abs(sums) <= 2.0**53):
        raise FarkasError("a matrix product of integers is not exact; no check is possible")
    return sums.astype(np.int64)


def _confirm(
    work: Callable[[Numbers, Numbers], Numbers],
    numbers: FloatArray,
    coefficients: Sequence[FloatArray],
    found: Sequence[npt.NDArray[np.int64]],
) -> None:
    """Compare a random combination of the rows, modulo ``2 ** 64``.

    An entry that is off by an odd multiple of ``2 ** k``, which is less than ``2 ** 55``,
    escapes with probability ``2 ** (k - 64)``.
    """
    random = np.random.default_rng().integers(-(2**63), 2**63, size=(1, len(numbers)))
    combined = random @ numbers.astype(np.int64)
    for limb, rows in zip(coefficients, found, strict=True):
        if not np.array_equal(work(combined, limb.astype(np.int64)), random @ rows):
            raise FarkasError("a matrix product of integers is not exact; no check is possible")


def product(a: Integers, b: Integers) -> Integers:
    """Product of two matrices of Python integers, exactly."""
    return applied(np.matmul, a, list(split(b)), len(b))


def _joined(sums: list[npt.NDArray[np.int64]], dropped: int) -> Integers:
    """What the powers of ``2 ** 16`` add up to; part ``k`` starts at the power ``k``."""
    count, *shape = sums[0].shape
    # A sum has at most 53 bits: with four more places the last digit holds only the sign.
    places = max(count + len(sums), dropped) + 4
    digits = np.zeros((places, *shape), dtype=np.int64)
    for place, part in enumerate(sums):
        digits[place : place + count] += part
    digits[-1] = 1 << (BITS - 1)  # a sign bit that makes all results positive
    for place in range(len(digits) - 1):  # an arithmetic shift: what stays is not negative
        digits[place + 1] += digits[place] >> BITS
    kept = digits[dropped:].astype("<u2")
    raw = np.ascontiguousarray(np.moveaxis(kept, 0, -1)).reshape(-1)
    values = map(_from_bytes, raw.view(f"V{2 * len(kept)}").tolist(), repeat("little"))
    out = np.empty(raw.size // len(kept), dtype=object)
    out[:] = list(values)
    return out.reshape(shape) - (1 << (BITS * len(kept) - 1))
