"""Rigorous values and derivatives of an analytic function, in both arithmetics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb, fmpq

from proofs.balls import PRECISIONS, Formula, image, taylor, units, working
from proofs.taylor import Table
from specs.enclosure import FloatArray
from specs.errors import EvidenceError

Objects = npt.NDArray[np.object_]
SPARE = 64
"""Bits of working precision beyond those asked for."""


class Analytic:
    """A formula, with a table of its Taylor polynomials for floats."""

    def __init__(self, formula: Formula) -> None:
        self.formula = formula
        self._table = Table(formula)

    def floats(self, x: FloatArray, order: int) -> tuple[FloatArray, FloatArray]:
        """Bounds of the value (order 0) or derivative (1) at finite floats."""
        return self._table.enclose(x, order)

    def value(self, x: FloatArray) -> FloatArray:
        """The value in plain floats, for guesses only; 0 where it is undefined."""
        return self._table.approximate(np.nan_to_num(x), 0)[0]

    def derivative(self, x: FloatArray) -> FloatArray:
        """The derivative, likewise."""
        return self._table.approximate(np.nan_to_num(x), 1)[0]

    def integers(self, x: Objects, bits: int, order: int) -> tuple[Objects, Objects]:
        """Bounds at ``x / 2 ** bits`` as integers in the same units, or infinite floats."""
        lower, upper = np.empty_like(x), np.empty_like(x)
        for place, number in np.ndenumerate(x):
            lower[place], upper[place] = self._integers(int(number), bits, order)
        return lower, upper

    def _integers(self, number: int, bits: int, order: int) -> tuple[Any, Any]:
        x, value = arb((number, -bits)), arb.nan()
        for precision in PRECISIONS:
            with working(precision + bits):
                value = taylor(self.formula, x, 1, 2)[1] if order else image(self.formula, x)
                sharp = value.rad() < arb((1, -bits - 2))
                if value.is_finite() and (sharp or value.rel_accuracy_bits() > bits + 32):
                    break
        return units(value, bits)

    def within(self, centre: int, radius: int, unit: int) -> tuple[int, int]:
        """Bounds of the values within ``radius`` of a point, all in units of ``1 / unit``.

        Raises:
            EvidenceError: the function is not defined there, or too large.
        """
        bits = unit.bit_length()
        precision = bits + abs(centre).bit_length() + SPARE
        value = arb.nan()
        for factor in (1, 2, 4):
            with working(factor * precision):
                x = arb(fmpq(centre, unit), fmpq(radius, unit))
                value = image(self.formula, x) * unit
            if value.rad() < 1:
                break
        limit = 2 * bits + 4096
        low, high = units(value, 0, limit)
        if low == -math.inf or high == math.inf:  # integers may be too long for isinf
            raise EvidenceError("a function is undefined or too large at the witness")
        return low, high
