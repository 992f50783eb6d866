"""Float32 tensors each of whose entries is a monotone function of one integer.

Between two quantisations a quantised network computes, entry by entry, with float32 numbers
that depend on a single integer: an accumulator, a quantised value, or the place of an input
among the float32 numbers.  Rounding to nearest is monotone, and so are the operators that
have a rule here; what is quantised again is therefore a staircase of that integer, and its
thresholds are found by evaluating the float32 operations themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.errors import UnsupportedOperatorError
from verifier.quantised.program import IntArray, ProgramBuilder, Staircase

Array = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]

_SIGN_BIT = 1 << 31
UNIT = 2.0**-24
TINIEST = 2.0**-149


def ordinal(values: npt.ArrayLike) -> IntArray:
    """The places of float32 numbers among all of them; that of 0 is 0."""
    bits = np.asarray(values, dtype=np.float32).view(np.int32).astype(np.int64)
    return np.where(bits >= 0, bits, -(bits + _SIGN_BIT))


def from_ordinal(places: IntArray) -> Float32Array:
    """The float32 numbers at places."""
    bits = np.abs(places).astype(np.int32)
    return np.where(places < 0, -bits.view(np.float32), bits.view(np.float32)).astype(np.float32)


def ordinals_between(
    low: Fraction, high: Fraction, strict_low: bool, strict_high: bool
) -> tuple[int, int]:
    """The places of the least and the greatest float32 number of an interval.

    The first exceeds the second where there is none.
    """
    largest = int(ordinal(np.finfo(np.float32).max))

    def first(reached: Callable[[Fraction], bool]) -> int:
        below, above = -largest - 1, largest + 1
        while above - below > 1:
            middle = (below + above) // 2
            if reached(Fraction(float(from_ordinal(np.array(middle))))):
                above = middle
            else:
                below = middle
        return above

    start = first(lambda v: v > low if strict_low else v >= low)
    return start, first(lambda v: v >= high if strict_high else v > high) - 1


@dataclass(frozen=True, eq=False)
class Step:
    """An elementwise operation of a chain.

    Attributes:
        name: ``"add"``, ``"multiply"``, ``"divide"``, ``"maximum"`` or ``"minimum"``, in
            float32; or ``"product"``: a float32 sum of products in whatever order.
        constant: one for each entry, float32; of a product float64, by how much the integer
            is multiplied.
        offset, error: of a product: what is added, and by how much the result may differ
            from the exact sum.
    """

    name: str
    constant: Array
    offset: Array | None = None
    error: Array | None = None

    def arranged(self, by: Callable[[Array], Array]) -> Step:
        """With the same rearrangement of all that belongs to an entry."""
        parts = (self.offset, self.error)
        return Step(self.name, by(self.constant), *(None if p is None else by(p) for p in parts))


@dataclass(frozen=True, eq=False)
class Reals:
    """A float32 tensor.

    Attributes:
        keys: for each entry the node of a program that it depends on.
        zero: what is subtracted from the key first, without rounding.
        chain: what is done then.
        places: the keys are places of float32 numbers, not integers to be converted.
    """

    keys: IntArray
    zero: IntArray
    chain: tuple[Step, ...] = ()
    places: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return self.keys.shape

    @property
    def exact(self) -> bool:
        """Whether the key determines the value."""
        return all(step.error is None for step in self.chain)

    @property
    def sign(self) -> IntArray:
        """1 where the value rises with its key, -1 where it falls."""
        found = np.ones(self.shape, dtype=np.int64)
        for step in self.chain:
            if step.name in ("multiply", "divide"):
                found = np.where(step.constant < 0, -found, found)
        return found

    def then(self, name: str, constant: Array) -> Reals:
        """One operation more, its constant broadcast with the tensor."""
        shape = np.broadcast_shapes(self.shape, constant.shape)
        spread = self.arranged(lambda array: np.broadcast_to(array, shape))
        step = Step(name, np.broadcast_to(constant.astype(np.float32), shape))
        return replace(spread, chain=(*spread.chain, step))

    def arranged(self, by: Callable[[Array], Array]) -> Reals:
        """Entries moved, chosen or repeated."""
        chain = tuple(step.arranged(by) for step in self.chain)
        return replace(self, keys=by(self.keys), zero=by(self.zero), chain=chain)

    def ends(self, values: IntArray) -> tuple[Float32Array, Float32Array]:
        """Least and greatest float32 results ``(..., *shape)`` at values of the keys."""
        whole = values - self.zero
        low = high = from_ordinal(whole) if self.places else whole.astype(np.float32)
        for step in self.chain:
            if step.error is not None and step.offset is not None:
                exact = whole * step.constant + step.offset
                low = np.float32(exact - step.error)
                high = np.float32(exact + step.error)
                continue
            operation = getattr(np, step.name)
            swapped = step.name in ("multiply", "divide") and step.constant < 0
            first, second = operation(low, step.constant), operation(high, step.constant)
            low, high = np.where(swapped, second, first), np.where(swapped, first, second)
        return low, high

    def checked(self, builder: ProgramBuilder) -> Reals:
        """Itself.

        Raises:
            UnsupportedOperatorError: a value may overflow.
        """
        for step in range(len(self.chain) + 1):
            part = replace(self, chain=self.chain[:step])
            for side in (builder.low, builder.high):
                with np.errstate(over="ignore", invalid="ignore"):
                    found = part.ends(np.array(side, dtype=np.int64)[self.keys])
                if not np.all(np.isfinite(found)):
                    raise UnsupportedOperatorError("a value may overflow float32")
        return self


def product(keys: IntArray, step: Array, offset: Array, magnitude: Array, terms: int) -> Reals:
    """Float32 sums of ``terms`` products of dequantised numbers, in whatever order.

    Each factor is a dequantised integer, rounded once; the exact sum is ``step * key +
    offset``.  Two factors, their product and the additions are rounded, which makes
    ``terms + 2`` relative errors of ``2**-24`` each of the magnitudes' sum at most (Jeannerod
    and Rump 2013); what a runtime loses that multiplies the integers and scales the sum is
    less than four of them.

    Args:
        keys: the sums of products of integers.
        step: of each key, float64.
        offset: a bias among the terms, 0 without one.
        magnitude: the largest that the sum of the terms' magnitudes may be.
        terms: of a sum, the bias included.
    """
    if terms > 2**14:
        raise UnsupportedOperatorError(f"float sums of {terms} products have no rule")
    error = 1.01 * (terms + 8) * (UNIT * magnitude + TINIEST)
    shape = keys.shape
    wide = [np.broadcast_to(np.asarray(a, dtype=np.float64), shape) for a in (step, offset, error)]
    return Reals(keys, np.zeros(shape, np.int64), (Step("product", *wide),))


def quantised(
    builder: ProgramBuilder, x: Reals, scale: Array, zero: IntArray, low: int, high: int
) -> IntArray:
    """Nodes of ``saturate(round(x / scale) + zero)``, division and rounding as in float32.

    Args:
        builder: of the program.
        x: what is quantised.
        scale, zero: of the step, broadcast with ``x``.
        low, high: ends of the integer type.
    """
    x = x.checked(builder)
    shape = x.shape
    scale = np.broadcast_to(scale.astype(np.float32), shape)
    zero = np.broadcast_to(zero.astype(np.int64), shape)
    if np.any(scale <= 0) or not np.all(np.isfinite(scale)):
        raise UnsupportedOperatorError("a quantisation step that is not positive has no rule")
    least, most = (np.array(side, dtype=np.int64)[x.keys] for side in (builder.low, builder.high))
    sign = x.sign
    first, last = np.where(sign > 0, least, -most), np.where(sign > 0, most, -least)

    def stairs(side: int) -> list[Staircase]:
        def value(at: IntArray) -> IntArray:
            with np.errstate(over="ignore"):
                quotient = x.ends(sign * at)[side] / scale
            cut = np.clip(quotient, np.float32(low - zero), np.float32(high - zero))
            return np.rint(cut).astype(np.int64) + zero

        start, end = value(first), value(last)
        levels = int((end - start).max(initial=0))
        if levels > builder.limits.levels:
            levels = builder.limits.levels + 1  # refused where the node is made
        wanted = start + 1 + np.arange(levels).reshape(-1, *(1 for _ in shape))
        at = _thresholds(lambda t: value(t) >= wanted, first, last, levels)
        counts = np.minimum(end - start, levels)
        return [
            Staircase(int(start[place]), np.ascontiguousarray(at[(slice(count), *place)]))
            for place, count in np.ndenumerate(counts)
        ]

    below = stairs(0)
    above = below if x.exact else stairs(1)
    nodes = [
        builder.steps(int(key), int(direction), b, a)
        for key, direction, b, a in zip(x.keys.flat, sign.flat, below, above, strict=True)
    ]
    return np.array(nodes, dtype=np.int64).reshape(shape)


def _thresholds(
    reached: Callable[[IntArray], npt.NDArray[np.bool_]], first: IntArray, last: IntArray, rows: int
) -> IntArray:
    """The least integers of ``[first, last]`` at which monotone predicates hold, else ``last + 1``.

    All entries of ``rows`` predicates for each entry are bisected at once.
    """
    below = np.broadcast_to(first - 1, (rows, *first.shape))
    above = np.broadcast_to(last + 1, (rows, *first.shape))
    for _ in range(math.ceil(math.log2(float((last - first).max(initial=0)) + 2)) + 1):
        open_ = above - below > 1
        middle = np.where(open_, (below + above) // 2, first)
        found = reached(middle)
        above, below = (
            np.where(open_ & found, middle, above),
            np.where(open_ & ~found, middle, below),
        )
    return above
