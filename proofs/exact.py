"""Exact arithmetic: integers that count units of ``2 ** -128``.

Weights are taken exactly, with as many bits as they need.  A product is rounded down to
the grid and its error, at most one unit per coefficient, charged through magnitudes, so
that numbers do not grow with depth; sums are exact.  For matrix products see ``limbs.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.analytic import Analytic
from proofs.arithmetic import Interval, Numbers, bounded
from proofs.entries import Entries
from proofs.limbs import BITS as LIMB
from proofs.limbs import applied, split
from specs.convolution import Conv
from specs.decimals import round_down, round_up
from specs.enclosure import Enclosure, FloatArray
from specs.errors import EvidenceError
from specs.linear import LinearMap, MatMul, MatrixProduct, Sparse
from specs.network import Linear

BITS = 128


class Exact:
    """See :class:`proofs.arithmetic.Arithmetic`."""

    name = "exact"
    entry_budget = 1 << 19

    def __init__(self) -> None:
        self._weights: dict[tuple[int, str], tuple[Enclosure | None, Numbers | None, int]] = {}
        self._limbs: dict[tuple[int, str], list[FloatArray]] = {}
        self._offsets: dict[int, tuple[Enclosure, tuple[Numbers, Numbers] | None]] = {}

    def fraction(self, number: Any) -> Fraction:
        return Fraction(number, 1 << BITS)

    def fraction_down(self, value: Fraction) -> Any:
        return (value.numerator << BITS) // value.denominator

    def number(self, value: Fraction) -> Any | None:
        units, rest = divmod(value.numerator << BITS, value.denominator)
        return None if rest else units

    def zeros(self, shape: tuple[int, ...]) -> Numbers:
        return np.zeros(shape, dtype=object)

    def lift_down(self, values: FloatArray) -> Numbers:
        return _units(values, np.floor)

    def lift_up(self, values: FloatArray) -> Numbers:
        return _units(values, np.ceil)

    def floats_down(self, numbers: Numbers) -> FloatArray:
        return _floats(numbers, -1)

    def floats_up(self, numbers: Numbers) -> FloatArray:
        return _floats(numbers, 1)

    def add_down(self, a: Numbers, b: Numbers) -> Numbers:
        return a + b

    add_up = add_down
    accumulate = add_down

    def sum_down(self, parts: Sequence[Any], count: int) -> Numbers:
        total = self.zeros((count,))
        for part in parts:
            total = total + part
        return total

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

    def dot(self, rows: Numbers, values: Numbers) -> Numbers:
        return (rows @ values) >> BITS

    def dot_cost(self, values: Numbers) -> tuple[Numbers, Any]:
        return values * 0, 0  # it is rounded down

    def relax(
        self,
        rows: Numbers,
        slopes: Sequence[tuple[Numbers, Numbers]],
        floor: Numbers | None,
        ceiling: Numbers,
        owner: npt.NDArray[np.int64] | None,
    ) -> tuple[list[Numbers], Numbers]:
        def own(numbers: Numbers) -> Numbers:
            return numbers if owner is None else np.take(numbers, owner, axis=0)

        positive = np.asarray(rows > 0, dtype=bool)
        intercept = np.where(positive, 0 if floor is None else own(floor), own(ceiling))
        return [
            self.scale(rows, np.where(positive, own(below), own(above))) for below, above in slopes
        ], self.dot_down(rows, intercept)

    def box_down(
        self,
        rows: Numbers,
        lower: Numbers,
        upper: Numbers,
        owner: npt.NDArray[np.int64] | None = None,
    ) -> Numbers:
        if owner is not None:
            lower, upper = lower[owner], upper[owner]
        return np.sum(rows * np.where(rows > 0, lower, upper), axis=1) >> BITS

    def adjoint(self, term: LinearMap, rows: Numbers) -> Numbers:
        return self._applied(term, term.adjoint, "value", rows, rounded=True)[0]

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
            spread, exponent = self._applied(term, term.forward, "radius", magnitude[None, :])
            vector = _ceil_shift(spread[0], exponent)
        return vector, _ceil_shift(np.sum(magnitude), BITS)

    def size(self, node: Linear, magnitudes: Sequence[Numbers]) -> Numbers:
        total = self.zeros(node.offset.shape)
        for term, magnitude in zip(node.terms, magnitudes, strict=True):
            for part in ("magnitude", "radius"):
                weight = term.map.weight
                if part == "radius" and (weight is None or weight.radius is None):
                    continue
                found, exponent = self._applied(
                    term.map, term.map.forward, part, magnitude[None, :]
                )
                total = total + _ceil_shift(found[0], exponent)
        return total

    def offset(self, offset: Enclosure) -> tuple[Numbers, Numbers] | None:
        known = self._offsets.get(id(offset))
        if known is None:  # the offset is kept too, so that its id stays its own
            known = self._offsets[id(offset)] = offset, self._centre(offset)
        return known[1]

    def _centre(self, offset: Enclosure) -> tuple[Numbers, Numbers] | None:
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
            lost = self._applied(term, term.forward, "magnitude", reached)[0] > 0
            if term.weight is not None and term.weight.radius is not None:
                lost |= self._applied(term, term.forward, "radius", reached)[0] > 0
            return np.where(lost, -np.inf, lower), np.where(lost, np.inf, upper)
        value, exponent = self._applied(term, term.forward, "value", low + high)
        spread, _ = self._applied(term, term.forward, "magnitude", high - low)
        lower = (value - spread) >> (exponent + 1)
        upper = _ceil_shift(value + spread, exponent + 1)
        if term.weight is not None and term.weight.radius is not None:
            reach = np.maximum(np.abs(low), np.abs(high))
            found, shift = self._applied(term, term.forward, "radius", reach)
            extra = _ceil_shift(found, shift)
            lower, upper = lower - extra, upper + extra
        return lower, upper

    def _weight(self, term: LinearMap, part: str) -> tuple[Numbers | None, int]:
        known = self._weights.get((id(term.weight), part))
        if known is None:  # the weight is kept too, so that its id stays its own
            values, exponent = integers(term.weight, part)
            whole = -(-exponent // LIMB) * LIMB
            values = None if values is None else values << (whole - exponent)
            known = self._weights[id(term.weight), part] = term.weight, values, whole
        return known[1], known[2]

    def _applied(
        self,
        term: LinearMap,
        function: Callable[[Numbers, Numbers | None, MatrixProduct], Numbers],
        part: str,
        numbers: Numbers,
        *,
        rounded: bool = False,
    ) -> tuple[Numbers, int]:
        """A map's ``forward`` or ``adjoint``; results count units of ``2 ** -exponent`` of ours.

        With ``rounded`` they are brought to our units, rounded down.
        """
        weight, exponent = self._weight(term, part)
        if weight is None or not isinstance(term, MatMul | Conv):  # few products for a result
            found = function(numbers, weight, np.matmul)
            return (found >> exponent, 0) if rounded and exponent else (found, exponent)
        key = id(term.weight), part
        if key not in self._limbs:
            self._limbs[key] = [_laid(limb, weight) for limb in split(weight)]
        found = applied(
            lambda rows, limb: function(rows, limb, np.matmul),
            numbers,
            self._limbs[key],
            max(term.fan_in, term.fan_out),
            exponent // LIMB if rounded else 0,
        )
        return found, 0 if rounded else exponent


def _laid(values: FloatArray, like: Numbers) -> FloatArray:
    """Values in the order in memory of other ones."""
    out = np.empty_like(like, dtype=np.float64)
    out[...] = values
    return out


def _objects(values: list[int], shape: tuple[int, ...]) -> Numbers:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out.reshape(shape)


def _units(values: FloatArray, rounded: Callable[[FloatArray], FloatArray]) -> Numbers:
    large = np.abs(values) > 2.0**53  # these are integers
    if not large.any() and not np.isnan(values).any():
        scaled = rounded(np.ldexp(values, BITS))
        return _objects(list(map(int, scaled.reshape(-1).tolist())), values.shape)
    if not np.isfinite(values).all():
        raise EvidenceError("a bound is infinite")
    whole = [int(value) << BITS for value in np.where(large, values, 0.0).flat]
    return _objects(whole, values.shape) + _units(np.where(large, 0.0, values), rounded)


def _ceil_shift(numbers: Any, bits: int) -> Any:
    return -((-numbers) >> bits)


def _floats(numbers: Numbers, direction: int) -> FloatArray:
    try:
        near = numbers.astype(np.float64)
    except OverflowError:
        return np.vectorize(lambda number: _float(number, direction), otypes=[float])(numbers)
    # Python compares an integer and a float as what they are.
    beyond = near > numbers if direction < 0 else near < numbers
    bound = np.where(beyond, np.nextafter(near, direction * np.inf), near)
    return np.ldexp(bound, -BITS)


def _float(number: Any, direction: int) -> float:
    if isinstance(number, float):  # an infinity
        return number
    exact = Fraction(number, 1 << BITS)
    return round_down(exact) if direction < 0 else round_up(exact)


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
