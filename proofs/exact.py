"""Exact arithmetic: integers that count units of ``2 ** -128``.

Weights are taken exactly, with as many bits as they need.  A product is rounded down to
the grid and its error, at most one unit per coefficient, charged through magnitudes, so
that numbers do not grow with depth; sums are exact.  Matrix products are flint's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import fmpz_mat

from proofs.analytic import Analytic
from proofs.arithmetic import Interval, Numbers, bounded
from proofs.entries import Entries
from specs.decimals import round_down, round_up
from specs.enclosure import Enclosure, FloatArray
from specs.errors import EvidenceError
from specs.linear import LinearMap, MatMul, Sparse
from specs.network import Linear

BITS = 128


class Exact:
    """See :class:`proofs.arithmetic.Arithmetic`."""

    name = "exact"
    entry_budget = 1 << 19

    def __init__(self) -> None:
        self._weights: dict[tuple[int, str], tuple[Enclosure | None, Numbers | None, int]] = {}
        self._matrices: dict[Any, tuple[Numbers, Any]] = {}

    def fraction(self, number: Any) -> Fraction:
        return Fraction(number, 1 << BITS)

    def fraction_down(self, value: Fraction) -> Any:
        return math.floor(value * (1 << BITS))

    def zeros(self, shape: tuple[int, ...]) -> Numbers:
        return np.zeros(shape, dtype=object)

    def lift_down(self, values: FloatArray) -> Numbers:
        return _objects([_units(v, math.floor) for v in values.flat], values.shape)

    def lift_up(self, values: FloatArray) -> Numbers:
        return _objects([_units(v, math.ceil) for v in values.flat], values.shape)

    def floats_down(self, numbers: Numbers) -> FloatArray:
        return _floats(numbers, -1)

    def floats_up(self, numbers: Numbers) -> FloatArray:
        return _floats(numbers, 1)

    def add_down(self, a: Numbers, b: Numbers) -> Numbers:
        return a + b

    add_up = add_down
    accumulate = add_down

    def multiply_down(self, a: Numbers, b: Numbers) -> Numbers:
        return (a * b) >> BITS

    def multiply_up(self, a: Numbers, b: Numbers) -> Numbers:
        return -((-a * b) >> BITS)

    def divide_up(self, a: Numbers, b: Numbers) -> Numbers:
        return -((-a << BITS) // b)

    scale = multiply_down

    def rounding(self, magnitude: Numbers) -> Numbers:
        return magnitude * 0

    def rounding_scalar(self, magnitude: Numbers) -> Any:
        return _ceil_shift(np.sum(magnitude), BITS)

    def cost(self, rows: Numbers, vector: Numbers) -> Numbers:
        used = np.flatnonzero(vector)
        return _ceil_shift(np.sum(np.abs(rows[:, used]) * vector[used], axis=1), BITS)

    def dot_down(self, rows: Numbers, values: Numbers) -> Numbers:
        return np.sum(rows * values, axis=1) >> BITS

    def box_down(self, rows: Numbers, lower: Numbers, upper: Numbers) -> Numbers:
        return np.sum(rows * np.where(rows > 0, lower, upper), axis=1) >> BITS

    def adjoint(self, term: LinearMap, rows: Numbers) -> Numbers:
        weight, exponent = self._weight(term, "value")
        result = term.adjoint(rows, weight, self._product)
        return result >> exponent if exponent else result

    def entries_adjoint(self, term: LinearMap, entries: Entries) -> Entries | None:
        found = term.entries(entries.entry)
        if found is None:
            return None
        which, source, place = found
        weight, exponent = self._weight(term, "value")
        value = entries.value[which]
        if place is not None and weight is not None:
            value = value * weight[place]
        result = Entries(entries.row[which], source, value).combined(term.source_size)
        return result._replace(value=result.value >> exponent) if exponent else result

    def entries_cost(self, entries: Entries, vector: Numbers, count: int) -> Numbers:
        terms = np.abs(entries.value) * vector[entries.entry]
        return _ceil_shift(entries.sums(terms, count), BITS)

    def entries_dot_down(self, entries: Entries, values: Numbers, count: int) -> Numbers:
        return entries.sums(entries.value * values, count) >> BITS

    def select(self, term: LinearMap, entries: npt.NDArray[np.int64]) -> Numbers | None:
        if isinstance(term, MatMul) and term.rows == 1:
            weight, exponent = self._weight(term, "value")
            if weight is not None and exponent <= BITS:
                return weight.T[entries] << (BITS - exponent)
        if isinstance(term, Sparse):
            weight, exponent = self._weight(term, "value")
            if weight is not None and exponent <= BITS:
                return term.rows(entries, weight) << (BITS - exponent)
        return None

    def adjoint_cost(self, term: LinearMap, magnitude: Numbers) -> tuple[Numbers, Any]:
        zero = self.zeros((term.target_size,))
        if term.weight is None:
            return zero, 0
        vector = zero
        if term.weight.radius is not None:
            radius, exponent = self._weight(term, "radius")
            spread = term.forward(magnitude[None, :], radius, self._product)[0]
            vector = _ceil_shift(spread, exponent)
        return vector, _ceil_shift(np.sum(magnitude), BITS)

    def size(self, node: Linear, magnitudes: Sequence[Numbers]) -> Numbers:
        total = self.zeros(node.offset.shape)
        for term, magnitude in zip(node.terms, magnitudes, strict=True):
            for part in ("magnitude", "radius"):
                size, exponent = self._weight(term.map, part)
                if part == "radius" and size is None:
                    continue
                found = term.map.forward(magnitude[None, :], size, self._product)[0]
                total = total + _ceil_shift(found, exponent)
        return total

    def offset(self, offset: Enclosure) -> tuple[Numbers, Numbers] | None:
        if offset.exact and not np.any(offset.value):
            return None
        low, high = self._offset_interval(offset)
        centre = self.lift_down(offset.value)
        return centre, np.maximum(high - centre, centre - low)

    def floor(self, x: Numbers) -> Numbers:
        return (x >> BITS) << BITS

    def enclose(self, function: Analytic, x: Numbers, order: int) -> Interval:
        return function.integers(x, BITS, order)

    def linear_interval(self, node: Linear, sources: list[Interval]) -> Interval:
        low, high = self._offset_interval(node.offset)
        lower, upper = low[None, :], high[None, :]
        for term, (source_low, source_high) in zip(node.terms, sources, strict=True):
            term_low, term_high = self._map_interval(term.map, source_low, source_high)
            lower, upper = lower + term_low, upper + term_high
        return lower, upper

    def _offset_interval(self, offset: Enclosure) -> Interval:
        low, high = self.lift_down(offset.value), self.lift_up(offset.value)
        if offset.radius is not None:
            radius = self.lift_up(offset.radius)
            low, high = low - radius, high + radius
        return low, high

    def _map_interval(self, term: LinearMap, low: Numbers, high: Numbers) -> Interval:
        finite = bounded((low, high))
        if not finite.all():
            reached = np.where(finite, 0, 1).astype(object)
            low, high = np.where(finite, low, 0), np.where(finite, high, 0)
            lower, upper = self._map_interval(term, low, high)
            size, _ = self._weight(term, "magnitude")
            lost = term.forward(reached, size, self._product) > 0
            if term.weight is not None and term.weight.radius is not None:
                radius, _ = self._weight(term, "radius")
                lost |= term.forward(reached, radius, self._product) > 0
            return np.where(lost, -np.inf, lower), np.where(lost, np.inf, upper)
        weight, exponent = self._weight(term, "value")
        size, _ = self._weight(term, "magnitude")
        value = term.forward(low + high, weight, self._product)
        spread = term.forward(high - low, size, self._product)
        lower = (value - spread) >> (exponent + 1)
        upper = _ceil_shift(value + spread, exponent + 1)
        if term.weight is not None and term.weight.radius is not None:
            radius, shift = self._weight(term, "radius")
            reach = np.maximum(np.abs(low), np.abs(high))
            extra = _ceil_shift(term.forward(reach, radius, self._product), shift)
            lower, upper = lower - extra, upper + extra
        return lower, upper

    def _weight(self, term: LinearMap, part: str) -> tuple[Numbers | None, int]:
        known = self._weights.get((id(term.weight), part))
        if known is None:  # the weight is kept too, so that its id stays its own
            known = (term.weight, *integers(term.weight, part))
            self._weights[id(term.weight), part] = known
        return known[1], known[2]

    def _product(self, a: Numbers, b: Numbers) -> Numbers:
        """Matrix product; ``b`` is a view of weights, known by its memory and layout."""
        key = (b.__array_interface__["data"][0], b.shape, b.strides)
        if key not in self._matrices:  # b is kept too, so that its memory stays its own
            self._matrices[key] = (b, _matrix(b))
        return _numbers(_matrix(a) * self._matrices[key][1])


def integer_product(a: Numbers, b: Numbers) -> Numbers:
    """Product of two integer matrices."""
    return _numbers(_matrix(a) * _matrix(b))


def _numbers(matrix: Any) -> Numbers:
    return _objects([int(v) for v in matrix.entries()], (matrix.nrows(), matrix.ncols()))


def _matrix(numbers: Numbers) -> Any:
    return fmpz_mat(numbers.shape[0], numbers.shape[1], numbers.reshape(-1).tolist())


def _objects(values: list[int], shape: tuple[int, ...]) -> Numbers:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out.reshape(shape)


def _units(value: float, rounded: Callable[[float], int]) -> int:
    try:
        return rounded(math.ldexp(value, BITS))
    except OverflowError as error:
        if math.isinf(value):
            raise EvidenceError("a bound is infinite") from error
        return int(value) << BITS  # so large a float is an integer


def _ceil_shift(numbers: Any, bits: int) -> Any:
    return -((-numbers) >> bits)


def _floats(numbers: Numbers, direction: int) -> FloatArray:
    out = np.empty(numbers.size)
    for i, number in enumerate(numbers.flat):
        if isinstance(number, float):  # an infinity
            out[i] = number
            continue
        try:
            value = math.ldexp(float(number), -BITS)
            if (int(math.ldexp(value, BITS)) - number) * direction < 0:
                value = math.nextafter(value, direction * math.inf)
        except OverflowError:
            exact = Fraction(number, 1 << BITS)
            value = round_down(exact) if direction < 0 else round_up(exact)
        out[i] = value
    return out.reshape(numbers.shape)


def integers(weight: Enclosure | None, part: str) -> tuple[Numbers | None, int]:
    """Coefficients as integers times ``2 ** -exponent``, without loss."""
    if weight is None:
        return None, 0
    values = weight.radius if part == "radius" else weight.value
    if values is None:
        return None, 0
    ratios = [v.as_integer_ratio() for v in values.reshape(-1).tolist()]
    exponent = max((d.bit_length() - 1 for _, d in ratios), default=0)
    integers = [n << (exponent + 1 - d.bit_length()) for n, d in ratios]
    if part == "magnitude":
        integers = [abs(v) for v in integers]
    out = np.empty_like(values, dtype=object)  # laid out in memory like them
    out[...] = _objects(integers, values.shape)
    return out, exponent
