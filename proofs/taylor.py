"""Tables of Taylor polynomials: rigorous values of a function in float64, for whole arrays.

The floats are cut into cells, by exponent and leading bits of the mantissa.  A cell is
filled when first used: in balls, ``f(c + h t) = sum b_k t**k + r`` for ``|t| <= 1``, where
``r`` is enclosed by the next coefficient over the whole cell (Lagrange).  Its error is the
sum of

* ``|r|`` and the rounding of every coefficient, computed with balls,
* the rounding of Horner's scheme and of the addition of a bound, at most ``(2 k + 2) UNIT
  |b_k|`` for each coefficient (Higham, *Accuracy and Stability*, section 5.1), underflow, and
  ``UNIT`` times the error itself.

``t = (x - c) / h`` is exact: ``x`` and ``c`` share an exponent (or ``c`` is 0), and ``h`` is a
power of two.
"""

from __future__ import annotations

import math
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb

from proofs.balls import PRECISIONS, Formula, float_above, image, taylor, working
from specs.enclosure import FloatArray
from specs.errors import FarkasError

DEGREE = 7
BITS = 6
"""A cell is no wider than ``2 ** -BITS`` of its arguments."""

UNIFORM = 10
"""Nor wider than ``2 ** -BITS`` where these are below ``2 ** UNIFORM``."""

SMALLEST = -1014
"""Arguments below ``2 ** SMALLEST`` lie in a cell around 0."""

UNIT = 2.0**-52  # twice the rounding error, so that the bound may be computed in floats
UNDERFLOW = 2.0**-1070
CHUNK = 1 << 14  # arrays that stay in cache

CENTRE, SCALE = 0, 1
ERROR = 2, 3  # of the value and of the derivative; so are the coefficients
COEFFICIENTS = 4, 5 + DEGREE
COLUMNS = 6 + 2 * DEGREE

IntArray = npt.NDArray[np.int64]


def _layout() -> tuple[IntArray, IntArray, int]:
    """By sign and exponent: the first cell, the mantissa's bits that tell none, all cells."""
    exponent = np.arange(2048) - 1023
    bits = np.where((exponent >= 0) & (exponent < UNIFORM), BITS + exponent, BITS)
    bits = np.where((exponent < SMALLEST) | (exponent == 1024), 0, bits)
    start = np.cumsum(1 << bits) - (1 << bits)
    start[exponent < SMALLEST] = start[0]
    count = int(start[-1]) + 1
    return np.concatenate([start, start + count]), np.concatenate([52 - bits] * 2), 2 * count


START, SHIFT, CELLS = _layout()
MANTISSA = (1 << 52) - 1


class Table:
    """Values and derivatives of an analytic function on arrays of floats."""

    def __init__(self, formula: Formula) -> None:
        self._formula = formula
        self._lock = Lock()
        self._count = 1  # row 0: a cell that is not filled
        self._row = np.zeros(CELLS, dtype=np.int32)
        self._columns = np.zeros((COLUMNS, 64))

    def enclose(self, x: FloatArray, order: int = 0) -> tuple[FloatArray, FloatArray]:
        """Bounds of the value (order 0) or derivative (1) at finite arguments.

        Infinite where the function is undefined, or its bounds no floats.

        Raises:
            FarkasError: the arguments are not float64, or not finite.
        """
        middle, error = self.approximate(x, order)
        return middle - error, middle + error

    def approximate(self, x: FloatArray, order: int = 0) -> tuple[FloatArray, FloatArray]:
        """What is computed, and by how much it may be off, one more addition included."""
        if x.dtype != np.float64:
            raise FarkasError("a table was given numbers that are not float64")
        if not np.isfinite(x).all():
            raise FarkasError("a table was given numbers that are not finite")
        flat = np.ascontiguousarray(x).reshape(-1)
        middle, error = np.empty(flat.size), np.empty(flat.size)
        for start in range(0, flat.size, CHUNK):
            part = slice(start, start + CHUNK)
            middle[part], error[part] = self._chunk(flat[part], order)
        return middle.reshape(x.shape), error.reshape(x.shape)

    def _chunk(self, x: FloatArray, order: int) -> tuple[FloatArray, FloatArray]:
        row = self._find(x)
        columns = self._columns  # read after the rows: it only ever grows
        t = x - columns[CENTRE].take(row)
        t *= columns[SCALE].take(row)
        first = COEFFICIENTS[order]
        total = columns[first + DEGREE].take(row)
        for k in range(DEGREE - 1, -1, -1):
            total *= t
            total += columns[first + k].take(row)
        return total, columns[ERROR[order]].take(row)

    def _find(self, x: FloatArray) -> npt.NDArray[np.int32]:
        """The rows of the arguments' cells, filled where they were not."""
        bits = x.view(np.int64)
        top = (bits >> 52) & 0xFFF
        cell = START.take(top) + ((bits & MANTISSA) >> SHIFT.take(top))
        row = self._row.take(cell)
        if not row.all():
            with self._lock:
                new, where = np.unique(cell[row == 0], return_index=True)
                inside = x[row == 0][where]
                wanted = self._row[new] == 0
                self._fill(new[wanted], inside[wanted])
            row = self._row.take(cell)
        return row

    def _fill(self, cells: IntArray, inside: FloatArray) -> None:
        end = self._count + cells.size
        columns = self._columns
        if end > columns.shape[1]:
            columns = np.zeros((COLUMNS, max(end, 2 * columns.shape[1])))
            columns[:, : self._count] = self._columns[:, : self._count]
        for place, x in enumerate(inside.tolist(), self._count):
            columns[:, place] = _row(self._formula, x)
        self._columns = columns
        self._row[cells] = np.arange(self._count, end)
        self._count = end


def cell(x: float) -> tuple[float, float]:
    """Centre and half width of the cell of a finite float."""
    exponent = math.frexp(x)[1] - 1 if x else SMALLEST - 1
    if exponent < SMALLEST:
        return 0.0, math.ldexp(1.0, SMALLEST)  # no other centre makes t exact
    half = math.ldexp(1.0, exponent + int(SHIFT[exponent + 1023]) - 53)
    return math.copysign((abs(x) // (2 * half) * 2 + 1) * half, x), half


def _row(formula: Formula, x: float) -> list[float]:
    centre, half = cell(x)
    parts: list[tuple[list[float], float]] = []
    for precision in PRECISIONS:
        with working(precision, DEGREE + 3):
            inner = taylor(formula, arb(centre), arb(half), DEGREE + 2)
            whole = taylor(formula, arb(centre, half), arb(half), DEGREE + 3)
            values = image(formula, arb(centre, half))
            within, across = _derivative(inner, half), _derivative(whole, half)
            found = [_encode(inner, whole, values), _encode(within, across, across[0])]
        parts = [part for part, _ in found]
        if all(good for _, good in found):
            break
    coefficients = [b for part, _ in parts for b in part]
    return [centre, 1.0 / half, *(error for _, error in parts), *coefficients]


def _derivative(series: list[Any], half: float) -> list[Any]:
    """Coefficients of the derivative with respect to ``x``, in powers of ``t``."""
    return [k * series[k] / arb(half) for k in range(1, len(series))]


def _encode(
    inner: list[Any], whole: list[Any], values: Any
) -> tuple[tuple[list[float], float], bool]:
    """Float coefficients, their error, and whether more precision would not help."""
    rounded, error = _rounded(inner[: DEGREE + 1])
    remainder = abs(whole[DEGREE + 1])
    size = sum(map(abs, rounded))
    good = bool(error <= size * UNIT + UNDERFLOW) and remainder.is_finite()
    total = _total(error + remainder, rounded)
    if not total <= 8.0 * UNIT * size:  # the polynomial may be useless in a wide cell
        crude, spread = _rounded([values])
        bound = _total(spread, crude)
        if bound < total:
            rounded, total = crude + [0.0] * DEGREE, bound
    if math.isinf(total):
        rounded = [0.0] * (DEGREE + 1)
    return (rounded, total), good


def _rounded(balls: list[Any]) -> tuple[list[float], Any]:
    """Floats near the balls, and the sum of what they are off by."""
    floats = [float(b) if b.is_finite() else 0.0 for b in balls]
    floats = [b if math.isfinite(b) else 0.0 for b in floats]
    error = arb(0)
    for b, near in zip(balls, floats, strict=True):
        error += abs(b - near)
    return floats, error


def _total(error: Any, coefficients: list[float]) -> float:
    """With rounding: of Horner's scheme, and of adding this very bound to its result."""
    return float_above((error + _rounding(coefficients)) * (1 + arb(UNIT)))


def _rounding(coefficients: list[float]) -> float:
    """Bounds the rounding of Horner's scheme; its own is below ``2 ** -40`` of it."""
    terms = ((2 * k + 2) * UNIT * abs(b) for k, b in enumerate(coefficients))
    return sum(terms) * (1.0 + 2.0**-30) + UNDERFLOW
