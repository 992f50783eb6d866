"""The interface of the kernel's two arithmetics.

A *number* is an entry of a numpy array: a float64 in the outward arithmetic, a Python
integer that counts units of ``2 ** -128`` in the exact one.  Coefficients are exact
numbers, never intervals.  Whatever an operation rounds, it charges at once as a constant,
through magnitudes: numbers that bound the absolute value of the tensor entry that the
coefficient multiplies.  ``down`` and ``up`` in a name say which way a result may be off.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from proofs.analytic import Analytic
from proofs.entries import Entries
from specs.enclosure import Enclosure, FloatArray
from specs.linear import LinearMap
from specs.network import Linear

Numbers = npt.NDArray[Any]
Interval = tuple[Numbers, Numbers]

SLOPE_GRID = 2.0**40
SLOPE_LIMIT = 2.0**10
MAGNITUDE_LIMIT = 2.0**100


def bounded(*intervals: Interval) -> npt.NDArray[np.bool_]:
    """Where all ends are finite; in both arithmetics an infinite one is a float infinity."""
    found: npt.NDArray[np.bool_] = np.asarray(True)
    for lower, upper in intervals:
        for end in (lower, upper):
            found = found & np.asarray((end > -np.inf) & (end < np.inf), dtype=bool)
    return found


def usable_slopes(slopes: FloatArray) -> FloatArray:
    """Slopes on the grid on which both arithmetics compute ``s`` and ``1 - s`` exactly.

    Any finite slope is sound, since intercepts are computed for the slope used; a NaN
    becomes 0.
    """
    clipped = np.clip(np.asarray(slopes, dtype=np.float64), -SLOPE_LIMIT, SLOPE_LIMIT)
    missing = np.isnan(clipped)
    if missing.any():
        clipped = np.where(missing, 0.0, clipped)
    return np.asarray(np.rint(clipped * SLOPE_GRID) / SLOPE_GRID, dtype=np.float64)


class Arithmetic(Protocol):
    """What the rules need of numbers.  Shapes: ``(R, n)`` rows, ``(B, n)`` batches."""

    @property
    def name(self) -> str:
        """``"outward"`` or ``"exact"``."""
        ...

    @property
    def entry_budget(self) -> int:
        """How many entries a temporary array may have."""
        ...

    def fraction(self, number: Any) -> Fraction:
        """A finite number as a rational."""
        ...

    def fraction_down(self, value: Fraction) -> Any:
        """The largest number that is at most a rational."""
        ...

    def number(self, value: Fraction) -> Any | None:
        """A rational as a number, exactly; ``None`` where ``fraction_down`` changes it."""
        ...

    def zeros(self, shape: tuple[int, ...]) -> Numbers:
        """Zeros."""
        ...

    def lift_down(self, values: FloatArray) -> Numbers:
        """The largest numbers that are at most ``values``, exact where possible."""
        ...

    def lift_up(self, values: FloatArray) -> Numbers:
        """The smallest numbers that are at least ``values``."""
        ...

    def floats_down(self, numbers: Numbers) -> FloatArray:
        """Floats that are at most ``numbers``."""
        ...

    def floats_up(self, numbers: Numbers) -> FloatArray:
        """Floats that are at least ``numbers``."""
        ...

    def add_down(self, a: Numbers, b: Numbers) -> Numbers:
        """At most ``a + b``; minus infinity where that is not a number."""
        ...

    def add_up(self, a: Numbers, b: Numbers) -> Numbers:
        """At least ``a + b``."""
        ...

    def sum_down(self, parts: Sequence[Any], count: int) -> Numbers:
        """At most the sums ``(count,)`` of parts, each ``(count,)`` or a number for all.

        A single part is itself.

        Minus infinity where a sum is not a number.
        """
        ...

    def multiply_down(self, a: Numbers, b: Numbers) -> Numbers:
        """At most ``a * b``, exact where a factor is 0 or 1."""
        ...

    def multiply_up(self, a: Numbers, b: Numbers) -> Numbers:
        """At least ``a * b``, exact where a factor is 0 or 1."""
        ...

    def divide_up(self, a: Numbers, b: Numbers) -> Numbers:
        """At least ``a / b`` for positive ``b``."""
        ...

    def scale(self, rows: Numbers, factors: Numbers) -> Numbers:
        """Coefficients ``rows * factors``, each off by at most one rounding."""
        ...

    def accumulate(self, a: Numbers, b: Numbers) -> Numbers:
        """Coefficients ``a + b``, each off by at most one rounding."""
        ...

    def rounding(self, magnitude: Numbers) -> Numbers:
        """Cost vector of one rounding per coefficient of a tensor: ``(n,)``."""
        ...

    def rounding_scalar(self, magnitude: Numbers) -> Any:
        """The part of that cost that does not depend on the coefficients."""
        ...

    def cost(self, rows: Numbers, vector: Numbers) -> Numbers:
        """At least ``sum(|rows| * vector, axis=1)`` for a non-negative vector."""
        ...

    def dot_down(self, rows: Numbers, values: Numbers) -> Numbers:
        """At most ``sum(rows * values, axis=1)``; values ``(n,)`` or ``(R, n)``."""
        ...

    def dot(self, rows: Numbers, values: Numbers) -> Numbers:
        """``rows @ values`` for values ``(n,)``; what it is off by is in ``dot_cost``."""
        ...

    def dot_cost(self, values: Numbers) -> tuple[Numbers, Any]:
        """Cost of ``dot`` per unit of each row coefficient, and independent of them."""
        ...

    def relax(
        self,
        rows: Numbers,
        slopes: Sequence[tuple[Numbers, Numbers]],
        floor: Numbers | None,
        ceiling: Numbers,
        owner: npt.NDArray[np.int64] | None,
    ) -> tuple[list[Numbers], Numbers]:
        """Replace each entry of a tensor by the line below it, or above where negative.

        Args:
            rows: ``(R, n)``.
            slopes: of the lines below and above, ``(B, n)`` each, for each source.
            floor, ceiling: intercepts, ``(B, n)``; ``floor=None``: all are 0 and no ceiling
                is less.
            owner: ``(R,)`` whose lines a row takes; ``None``: its own, or the only ones.

        Returns:
            The coefficients of each source, each off by at most one rounding, and at most the
            sums of coefficients times intercepts, ``(R,)``.
        """
        ...

    def box_down(
        self,
        rows: Numbers,
        lower: Numbers,
        upper: Numbers,
        owner: npt.NDArray[np.int64] | None = None,
    ) -> Numbers:
        """At most the minimum of ``rows @ x`` over the box, row by row.

        Boxes are by row, ``(R, n)``, or one for all, ``(1, n)`` or ``(n,)``; or ``(B, n)``,
        with the box of each row in ``owner``.
        """
        ...

    def adjoint(self, term: LinearMap, rows: Numbers) -> Numbers:
        """Coefficients of the map's source; what they are off by is in ``adjoint_cost``."""
        ...

    def entries_adjoint(self, term: LinearMap, entries: Entries) -> Entries | None:
        """``adjoint`` of rows kept as entries; ``None`` where the map has none for it."""
        ...

    def entries_cost(self, entries: Entries, vector: Numbers, count: int) -> Numbers:
        """``cost`` of ``count`` rows kept as entries."""
        ...

    def entries_dot_down(self, entries: Entries, values: Numbers, count: int) -> Numbers:
        """``dot_down`` of ``count`` rows kept as entries; a value for each entry, ``(E,)``."""
        ...

    def select(self, term: LinearMap, entries: npt.NDArray[np.int64]) -> Numbers | None:
        """Rows of a dense map, exactly; ``None`` where the map has no such shortcut."""
        ...

    def adjoint_cost(self, term: LinearMap, magnitude: Numbers) -> tuple[Numbers, Any]:
        """Cost of ``adjoint`` per unit of each row coefficient, and independent of them.

        Covers rounding and the radii of the map's coefficients; ``magnitude`` is that of
        the source.
        """
        ...

    def size(self, node: Linear, magnitudes: Sequence[Numbers]) -> Numbers:
        """At least the sums of ``|weight| * magnitude`` over a node's terms, ``(n,)``.

        Covers the radii of the weights; ``magnitudes`` are finite, those of the sources.
        """
        ...

    def offset(self, offset: Enclosure) -> tuple[Numbers, Numbers] | None:
        """An offset and its radius as numbers; ``None`` if it is zero."""
        ...

    def floor(self, x: Numbers) -> Numbers:
        """The greatest integers at most ``x``, exactly."""
        ...

    def enclose(self, function: Analytic, x: Numbers, order: int) -> Interval:
        """Bounds of a function (order 0) or its derivative (1) at finite numbers.

        Where there is none, or the function is not defined: an infinite float.
        """
        ...

    def linear_interval(self, node: Linear, sources: list[Interval]) -> Interval:
        """Interval propagation through a linear node; batches ``(B, n)``."""
        ...
