"""Outward arithmetic: float64 with a-priori error bounds for every order of summation.

Bounds follow Higham, *Accuracy and Stability of Numerical Algorithms*, chapter 3: a sum
of ``n`` products is off by at most ``n u / (1 - n u)`` times the sum of magnitudes, in
whatever order and with or without fused multiply-add.  Here ``u`` is taken as 2**-52,
twice its true value, so that the bounds themselves may be computed in floats; ``n u``
stays below 2**-10.  ``TINY`` pays for underflow: each product loses at most 2**-1074.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.analytic import Analytic
from proofs.arithmetic import MAGNITUDE_LIMIT, Interval, Numbers
from proofs.entries import Entries
from specs.enclosure import Enclosure, FloatArray
from specs.errors import EvidenceError, FarkasError
from specs.linear import LinearMap, MatMul, Sparse
from specs.network import Linear

UNIT = 2.0**-52
TINY = 2.0**-900  # 2**40 underflows times the magnitude limit, with room to spare
SLACK = 1.0 + 2.0**-9  # covers the rounding of an error bound that is itself a sum


class Outward:
    """See :class:`proofs.arithmetic.Arithmetic`."""

    name = "outward"
    entry_budget = 1 << 20  # arrays that stay in cache: half the time of 1 << 23 on wide networks

    def __init__(self) -> None:
        self._magnitudes: dict[int, tuple[Enclosure, FloatArray]] = {}
        _self_test()

    def fraction(self, number: Any) -> Fraction:
        return Fraction(*float(number).as_integer_ratio())

    def fraction_down(self, value: Fraction) -> Any:
        numerator, denominator = value.as_integer_ratio()
        try:
            nearest = numerator / denominator  # integers are divided with one rounding
        except OverflowError as error:
            raise EvidenceError("a coefficient or constant is too large for floats") from error
        if nearest.as_integer_ratio() == (numerator, denominator):
            return nearest
        if Fraction(nearest) > value:
            nearest = math.nextafter(nearest, -math.inf)
        if math.isinf(nearest):
            raise EvidenceError("a coefficient or constant is too large for floats")
        return nearest

    def number(self, value: Fraction) -> Any | None:
        ratio = value.as_integer_ratio()
        try:
            nearest = ratio[0] / ratio[1]
        except OverflowError:
            return None
        return nearest if nearest.as_integer_ratio() == ratio else None

    def zeros(self, shape: tuple[int, ...]) -> Numbers:
        return np.zeros(shape)

    def lift_down(self, values: FloatArray) -> Numbers:
        return np.asarray(values, dtype=np.float64)

    lift_up = lift_down
    floats_down = lift_down
    floats_up = lift_down

    def add_down(self, a: Numbers, b: Numbers) -> Numbers:
        return _below(a + b)

    def add_up(self, a: Numbers, b: Numbers) -> Numbers:
        return _above(a + b)

    def sum_down(self, parts: Sequence[Any], count: int) -> Numbers:
        _check_length(len(parts))
        if len(parts) == 1:  # nothing is rounded: what is 0 closes where it is strict
            return np.fmax(np.broadcast_to(parts[0], count), -np.inf)
        terms = np.empty((len(parts), count))
        for term, part in zip(terms, parts, strict=True):
            term[...] = part
        value = terms.sum(axis=0)
        size = np.abs(terms, out=terms).sum(axis=0)
        return self.add_down(value, -(size * ((len(parts) + 4) * UNIT) + TINY))

    def multiply_down(self, a: Numbers, b: Numbers) -> Numbers:
        product = a * b
        return np.where(_product_exact(a, b), product, _below(product))

    def multiply_up(self, a: Numbers, b: Numbers) -> Numbers:
        product = a * b
        return np.where(_product_exact(a, b), product, _above(product))

    def divide_up(self, a: Numbers, b: Numbers) -> Numbers:
        return _above(a / b)

    def scale(self, rows: Numbers, factors: Numbers) -> Numbers:
        return rows * factors

    def accumulate(self, a: Numbers, b: Numbers) -> Numbers:
        return a + b

    def rounding(self, magnitude: Numbers) -> Numbers:
        return magnitude * UNIT + TINY  # the product may underflow, coefficients be huge

    def rounding_scalar(self, magnitude: Numbers) -> Any:
        return TINY

    def cost(self, rows: Numbers, vector: Numbers) -> Numbers:
        _check_length(rows.shape[1])
        found = np.empty(len(rows))
        for some in _blocks(rows):
            np.matmul(np.abs(rows[some]), vector, out=found[some])
        return found * SLACK + TINY

    def dot_down(self, rows: Numbers, values: Numbers) -> Numbers:
        count = rows.shape[1]
        _check_length(count)
        if values.ndim == 1:
            value, size = rows @ values, np.abs(rows) @ np.abs(values)
        else:
            terms = rows * values
            value, size = terms.sum(axis=1), np.abs(terms).sum(axis=1)
        return self.add_down(value, -(size * ((count + 4) * UNIT) + TINY))

    def dot(self, rows: Numbers, values: Numbers) -> Numbers:
        return _product(rows, values)

    def dot_cost(self, values: Numbers) -> tuple[Numbers, Any]:
        _check_length(values.size)
        return np.abs(values) * ((values.size + 4) * UNIT * SLACK), TINY

    def relax(
        self,
        rows: Numbers,
        slopes: Sequence[tuple[Numbers, Numbers]],
        floor: Numbers | None,
        ceiling: Numbers,
        owner: npt.NDArray[np.int64] | None,
    ) -> tuple[list[Numbers], Numbers]:
        found = [np.empty(rows.shape) for _ in slopes]
        gain = np.empty(len(rows))
        for some in _blocks(rows):
            own = _own(owner, some, rows)
            positive, negative = _signed(rows[some])
            low, high = 0.0 if floor is None else own(floor), own(ceiling)
            gain[some] = self._ends_down(rows[some], positive, negative, low, high)
            for out, (below, above) in zip(found, slopes, strict=True):
                # One of two finite products is 0, so their sum is rounded no more.
                part = np.multiply(positive, own(below), out=out[some])
                part += negative * own(above)
        return found, gain

    def box_down(
        self,
        rows: Numbers,
        lower: Numbers,
        upper: Numbers,
        owner: npt.NDArray[np.int64] | None = None,
    ) -> Numbers:
        found = np.empty(len(rows))
        for some in _blocks(rows):
            own = _own(owner, some, rows)
            signed = _signed(rows[some])
            found[some] = self._ends_down(rows[some], *signed, own(lower), own(upper))
        return found

    def _ends_down(
        self,
        rows: Numbers,
        positive: Numbers,
        negative: Numbers,
        low: Numbers | float,
        high: Numbers,
    ) -> Numbers:
        """At most the sums of positive coefficients times ``low`` and others times ``high``.

        A float for ``low`` is 0, and then no ``high`` is negative.
        """
        count = rows.shape[1]
        _check_length(count)
        if isinstance(low, float):  # no term is positive: their sum is that of their sizes
            one = len(high) == 1
            value = negative @ high[0] if one else np.einsum("ij,ij->i", negative, high)
            size = -value
        else:
            terms = positive * low
            terms += negative * high
            value, size = terms.sum(axis=1), np.abs(terms, out=terms).sum(axis=1)
        if not np.isfinite(value).all():  # 0 times an infinite end that is not meant
            return self.dot_down(rows, np.where(rows > 0, low, high))
        return self.add_down(value, -(size * ((count + 4) * UNIT) + TINY))

    def adjoint(self, term: LinearMap, rows: Numbers) -> Numbers:
        weight = None if term.weight is None else term.weight.value
        return term.adjoint(rows, weight, _product)

    def entries_adjoint(self, term: LinearMap, entries: Entries) -> Entries | None:
        found = term.entries(entries.entry)
        if found is None:
            return None
        which, source, place = found
        value = entries.value[which]
        if place is not None and term.weight is not None:
            value = value * term.weight.value[place]
        return Entries(entries.row[which], source, value).combined(term.source_size)

    def entries_cost(self, entries: Entries, vector: Numbers, count: int) -> Numbers:
        _check_length(entries.longest)
        return entries.sums(np.abs(entries.value) * vector[entries.entry], count) * SLACK + TINY

    def entries_dot_down(self, entries: Entries, values: Numbers, count: int) -> Numbers:
        longest = entries.longest
        _check_length(longest)
        terms = entries.value * values
        size = entries.sums(np.abs(terms), count) * ((longest + 4) * UNIT) + TINY
        return self.add_down(entries.sums(terms, count), -size)

    def select(self, term: LinearMap, entries: npt.NDArray[np.int64]) -> Numbers | None:
        if isinstance(term, MatMul) and term.rows == 1:
            matrix = term.weight.value.T
            few = entries.size < len(matrix)  # ``take`` lays all rows out first
            return matrix[entries] if few else np.take(matrix, entries, axis=0)
        if isinstance(term, Sparse):
            return term.rows(entries, term.weight.value)
        return None

    def adjoint_cost(self, term: LinearMap, magnitude: Numbers) -> tuple[Numbers, Any]:
        batch = magnitude[None, :]
        cost = np.zeros((1, term.target_size))
        if term.weight is not None or term.fan_out > 1:
            _check_length(max(term.fan_in, term.fan_out))
            factor = (term.fan_out + 4) * UNIT * SLACK
            cost = term.forward(batch, self._magnitude(term), _product) * factor
        if term.weight is not None and term.weight.radius is not None:
            cost = cost + term.forward(batch, term.weight.radius, _product) * SLACK
        return cost[0] * SLACK + TINY, TINY

    def size(self, node: Linear, magnitudes: Sequence[Numbers]) -> Numbers:
        total = np.zeros(node.offset.shape)
        for term, magnitude in zip(node.terms, magnitudes, strict=True):
            _check_length(term.map.fan_in)
            batch, share = magnitude[None, :], (term.map.fan_in + 4) * UNIT
            part = term.map.forward(batch, self._magnitude(term.map), _product)[0]
            if term.map.weight is not None and term.map.weight.radius is not None:
                radii = term.map.forward(batch, term.map.weight.radius, _product)[0]
                part = (part + radii) * SLACK_ONE
            total = self.add_up(total, part * (1.0 + 2.0 * share) + TINY)
        return total

    def offset(self, offset: Enclosure) -> tuple[Numbers, Numbers] | None:
        if offset.exact and not np.any(offset.value):
            return None
        radius = np.zeros(offset.shape) if offset.radius is None else offset.radius
        return offset.value, radius

    def floor(self, x: Numbers) -> Numbers:
        return np.floor(x)

    def enclose(self, function: Analytic, x: Numbers, order: int) -> Interval:
        return function.floats(x, order)

    def linear_interval(self, node: Linear, sources: list[Interval]) -> Interval:
        radius = 0.0 if node.offset.radius is None else node.offset.radius
        lower = _below(node.offset.value - radius)[None, :]
        upper = _above(node.offset.value + radius)[None, :]
        if node.offset.exact:
            lower = upper = node.offset.value[None, :]
        for term, (low, high) in zip(node.terms, sources, strict=True):
            term_low, term_high = self._map_interval(term.map, low, high)
            lower = self.add_down(lower, term_low)
            upper = self.add_up(upper, term_high)
        return lower, upper

    def _map_interval(self, term: LinearMap, low: Numbers, high: Numbers) -> Interval:
        if term.weight is None and term.fan_in == 1:
            return term.forward(low, None, _product), term.forward(high, None, _product)
        _check_length(term.fan_in)
        weight = None if term.weight is None else term.weight.value
        middle = 0.5 * low + 0.5 * high
        half = _above(np.maximum(high - middle, middle - low))
        size = np.abs(middle) + half
        share = (term.fan_in + 4) * UNIT
        value = term.forward(middle, weight, _product)
        spread = term.forward((half + share * size) * SLACK_ONE, self._magnitude(term), _product)
        spread = spread * (1.0 + 2.0 * share) + TINY
        if term.weight is not None and term.weight.radius is not None:
            spread = spread + term.forward(size, term.weight.radius, _product) * SLACK
            spread = spread * SLACK_ONE
        return self.add_down(value, -spread), self.add_up(value, spread)

    def _magnitude(self, term: LinearMap) -> FloatArray | None:
        if term.weight is None:
            return None
        known = self._magnitudes.get(id(term.weight))
        if known is None:  # the weight is kept too, so that its id stays its own
            known = self._magnitudes[id(term.weight)] = (term.weight, np.abs(term.weight.value))
        return known[1]


SLACK_ONE = 1.0 + 8.0 * UNIT  # covers a handful of roundings of non-negative numbers


BLOCK = 1 << 15
"""Entries of rows worked on at a time where several arrays like them are made: 256 KiB each."""


def _blocks(rows: Numbers) -> Iterator[slice]:
    """Rows in parts."""
    size = max(1, BLOCK // max(1, rows.shape[1]))
    return (slice(start, start + size) for start in range(0, len(rows), size))


def _own(
    owner: npt.NDArray[np.int64] | None, some: slice, rows: Numbers
) -> Callable[[Numbers], Numbers]:
    """Takes what belongs to some rows from numbers ``(B, n)``, ``(1, n)`` or ``(n,)``."""
    if owner is not None:
        index = owner[some]
        return lambda numbers: np.take(numbers, index, axis=0)
    return lambda numbers: numbers[some] if numbers.shape == rows.shape else numbers


def _signed(rows: Numbers) -> tuple[Numbers, Numbers]:
    """Coefficients where they are positive, and where negative; 0 elsewhere, exactly.

    ``(|c| + c) / 2`` is ``c`` or 0 without rounding, and ``c`` less that as well.  What
    overflows is infinite or no number, and so is what a row with it pays.
    """
    positive = np.abs(rows)
    positive += rows
    positive *= 0.5
    return positive, rows - positive


def _below(rounded: Numbers) -> Numbers:
    """At most the value of a sum, product, quotient or difference that was rounded.

    That value is off from ``s`` by at most ``|s| 2**-53``, and by 2**-1075 where it underflows;
    so is the last subtraction here.  Together that is less than what is subtracted, which is
    at least ``3 |s| 2**-53 (1 - 2**-52) + 2**-1071``.  Several times faster than the next float.
    What is infinite, or no number, becomes minus infinity.
    """
    return np.fmax(rounded - _step(rounded), -np.inf)


def _above(rounded: Numbers) -> Numbers:
    """At least the value of what was rounded; see :func:`_below`."""
    return np.fmin(rounded + _step(rounded), np.inf)


def _step(rounded: Numbers) -> Numbers:
    step: Numbers = np.abs(rounded)
    step *= 3.0 * 2.0**-53
    step += 2.0**-1070
    return step


def _product(a: Numbers, b: Numbers) -> Numbers:
    if a.dtype != np.float64 or b.dtype != np.float64:
        raise FarkasError("outward arithmetic was given numbers that are not float64")
    return np.matmul(a, b)


def _product_exact(a: Numbers, b: Numbers) -> npt.NDArray[np.bool_]:
    return np.asarray((a == 0) | (b == 0) | (a == 1) | (b == 1) | (a == -1) | (b == -1))


def _check_length(count: int) -> None:
    if count * UNIT > 2.0**-10:
        raise EvidenceError(f"a sum of {count} terms is too long for outward arithmetic")


def is_payable(magnitude: Any) -> bool:
    """Whether underflow is paid for at magnitudes: none exceeds the limit or is no number."""
    return bool(np.all(magnitude <= MAGNITUDE_LIMIT))


def _self_test() -> None:
    """Refuse a floating-point environment in which the error bounds do not hold.

    Raises:
        FarkasError: rounding is not to nearest, underflow is flushed to zero, or the
            matrix product is not accurate in every component.
    """
    one = np.float64(1.0)
    half_ulp = np.array([2.0**-53, 3 * 2.0**-53, -(2.0**-53)])
    if list(one + half_ulp) != [1.0, 1.0 + 2.0**-51, 1.0 - 2.0**-53]:
        raise FarkasError("floating-point rounding is not to nearest; no check is possible")
    small = np.nextafter(np.array([0.0]), -np.inf)
    if not (small[0] < 0.0 and (np.array([2.0**-1060]) * np.array([2.0**-5]))[0] > 0.0):
        raise FarkasError("underflow is flushed to zero; no check is possible")
    # A fast matrix product in the manner of Strassen mixes large and small blocks and
    # loses the small ones; here every entry is an integer that floats hold exactly.
    pattern, square = _integers()
    factors = np.where(np.arange(len(pattern)) < len(pattern) // 2, 2.0**60, 1.0)[:, None]
    if not np.array_equal(_product(factors * pattern, pattern), factors * square):
        raise FarkasError("the matrix product is not accurate componentwise")


@cache
def _integers() -> tuple[Numbers, Numbers]:
    """``(192, 192)`` small integers, and their square as integers give it, which takes longer."""
    pattern = np.arange(192 * 192).reshape(192, 192) % 7 - 3
    found = pattern.astype(np.float64), (pattern @ pattern).astype(np.float64)
    for array in found:
        array.setflags(write=False)
    return found
