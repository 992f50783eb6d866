"""Properties: what must never happen, as unions of cases over exact rationals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from specs.errors import PropertyError


@dataclass(frozen=True)
class Constraint:
    """``sum(c * x[i] for i, c in inputs) + sum(c * y[j] for j, c in outputs) + constant <= 0``.

    With ``strict``, ``< 0``.  Indices count through all input (output) tensors in order;
    each occurs at most once and no coefficient is 0.
    """

    inputs: tuple[tuple[int, Fraction], ...]
    outputs: tuple[tuple[int, Fraction], ...]
    constant: Fraction
    strict: bool = False

    def value(self, x: Sequence[Fraction], y: Sequence[Fraction]) -> Fraction:
        """The left-hand side at input ``x`` and output ``y``, exactly."""
        total = self.constant
        for i, c in self.inputs:
            total += c * x[i]
        for j, c in self.outputs:
            total += c * y[j]
        return total

    def holds(self, x: Sequence[Fraction], y: Sequence[Fraction]) -> bool:
        """Whether the constraint is satisfied as written, strictness included."""
        value = self.value(x, y)
        return value < 0 if self.strict else value <= 0


@dataclass(frozen=True)
class Case:
    """An input region and the unsafe outputs over it.

    The region is the box ``lower[i] <= x[i] <= upper[i]`` cut by ``constraints``, which
    speak of inputs only.  A bound is strict where ``strict_lower`` or ``strict_upper``
    names its index; a proof refutes the closed box all the same.

    Attributes:
        unsafe: disjunction of conjunctions.  The case is violated when some point of the
            region satisfies every constraint of some disjunct.  An empty conjunction is
            satisfied by every point; an empty disjunction by none.
    """

    lower: Sequence[Fraction]
    upper: Sequence[Fraction]
    unsafe: tuple[tuple[Constraint, ...], ...]
    constraints: tuple[Constraint, ...] = ()
    strict_lower: frozenset[int] = frozenset()
    strict_upper: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if len(self.lower) != len(self.upper):
            raise PropertyError("a region has different numbers of lower and upper bounds")
        if any(c.outputs for c in self.constraints):
            raise PropertyError("a region's constraint speaks of outputs")


@dataclass(frozen=True)
class Property:
    """No case is violated.

    Attributes:
        input_size, output_size: how many inputs and outputs the property speaks of.
        cases: regions with their unsafe sets; none at all means the property is vacuous.
    """

    input_size: int
    output_size: int
    cases: Sequence[Case]
