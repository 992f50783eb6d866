"""Exact signs and margins of linear marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from flint import fmpz, fmpz_mat

from specs.enclosure import FloatArray
from specs.errors import EvidenceError
from specs.watermarks.key import BoolArray
from specs.watermarks.mark import LinearSystem


@dataclass(frozen=True)
class Dyadics:
    """Numbers ``whole[i] * 2**exponent``, exactly.

    Attributes:
        whole: integers.
        exponent: common to all.
    """

    whole: tuple[int, ...]
    exponent: int


def dyadics(values: FloatArray) -> Dyadics:
    """Finite floats as integers with a common exponent.

    Raises:
        EvidenceError: one is not finite.
    """
    if not np.all(np.isfinite(values)):
        raise EvidenceError("a number is not finite")
    mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    used = whole != 0
    if not used.any():
        return Dyadics((0,) * values.size, 0)
    least = int(exponent[used].min())
    shifts = np.where(used, exponent - least, 0)
    return Dyadics(
        tuple(int(w) << int(s) for w, s in zip(whole.tolist(), shifts.tolist(), strict=True)),
        least - 53,
    )


def products(rows: FloatArray, values: Dyadics) -> list[int]:
    """``rows @ values.whole``: exact sums of whole rows."""
    matrix = fmpz_mat(rows.shape[0], rows.shape[1], [fmpz(int(e)) for e in rows.reshape(-1)])
    column = fmpz_mat(len(values.whole), 1, list(values.whole))
    return [int(entry) for entry in (matrix * column).entries()]


def forms(system: LinearSystem, weights: FloatArray) -> list[Fraction]:
    """``(n,)``: the linear forms of a mark at weights, exactly."""
    held = dyadics(weights)
    unit = system.scale * Fraction(2) ** held.exponent
    return [total * unit for total in products(system.rows, held)]


def matching(values: Sequence[Fraction], bits: BoolArray) -> list[bool]:
    """``(n,)``: whether each bit, 1 where its form is positive, is that of the key."""
    return [(value > 0) == bool(bit) for value, bit in zip(values, bits, strict=True)]


def margins(values: Sequence[Fraction], bits: BoolArray) -> list[Fraction]:
    """``(n,)``: the form, with the other sign where the key's bit is 0.

    A bit matches if its margin is positive, or 0 where the key has a 0.
    """
    return [value if bit else -value for value, bit in zip(values, bits, strict=True)]
