"""Properties: what must never happen, as unions of cases over exact rationals."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from specs.decimals import FloatArray, outward
from specs.errors import PropertyError


@dataclass(frozen=True)
class Constraint:
    """``sum(c * x[i] for i, c in inputs) + sum(c * y[j] for j, c in outputs) + constant <= 0``.

    With ``strict``, ``< 0``.  Indices count through all input (output) tensors in order;
    each occurs at most once and no coefficient is 0.

    Raises:
        PropertyError: an index is negative or occurs twice, or a coefficient is 0.
    """

    inputs: tuple[tuple[int, Fraction], ...]
    outputs: tuple[tuple[int, Fraction], ...]
    constant: Fraction
    strict: bool = False

    def __post_init__(self) -> None:
        for terms in (self.inputs, self.outputs):
            if len(terms) > 1 and len({i for i, _ in terms}) != len(terms):
                raise PropertyError("a variable occurs twice in a constraint")
            for i, c in terms:
                if i < 0 or not c:
                    raise PropertyError("a constraint has a negative index or a coefficient of 0")

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

    def __str__(self) -> str:
        terms = [f"{c} * x{i}" for i, c in self.inputs] + [f"{c} * y{j}" for j, c in self.outputs]
        return " + ".join([*terms, str(self.constant)]) + (" < 0" if self.strict else " <= 0")


Conjunction = tuple[Constraint, ...]


def constraint(
    inputs: Mapping[int, Fraction],
    outputs: Mapping[int, Fraction],
    constant: Fraction,
    strict: bool = False,
) -> Constraint:
    """The constraint with these coefficients: indices sorted, zeros left out."""
    x = tuple((i, inputs[i]) for i in sorted(inputs) if inputs[i])
    y = tuple((j, outputs[j]) for j in sorted(outputs) if outputs[j])
    return Constraint(x, y, constant, strict)


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
    unsafe: tuple[Conjunction, ...]
    constraints: Conjunction = ()
    strict_lower: frozenset[int] = frozenset()
    strict_upper: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if len(self.lower) != len(self.upper):
            raise PropertyError("a region has different numbers of lower and upper bounds")
        if any(c.outputs for c in self.constraints):
            raise PropertyError("a region's constraint speaks of outputs")

    def box(self) -> tuple[FloatArray, FloatArray]:
        """The closed box, rounded outward to float64: ``(lower, upper)``, read-only.

        As tight as float64 allows; a bound beyond its range becomes infinite.
        """
        return self._box

    @cached_property
    def _box(self) -> tuple[FloatArray, FloatArray]:
        return outward(self.lower, self.upper)

    def contains(self, x: Sequence[Fraction]) -> bool:
        """Whether ``x`` lies in the region, strictness included.

        Raises:
            PropertyError: ``x`` has another size than the region.
        """
        if len(x) != len(self.lower):
            raise PropertyError(f"a point of {len(x)} entries, not {len(self.lower)}")
        for i, (low, at, high) in enumerate(zip(self.lower, x, self.upper, strict=True)):
            if not low <= at <= high:
                return False
            if (at == low and i in self.strict_lower) or (at == high and i in self.strict_upper):
                return False
        return all(c.holds(x, ()) for c in self.constraints)

    def violated(self, x: Sequence[Fraction], y: Sequence[Fraction]) -> bool:
        """Whether ``x`` lies in the region and some disjunct holds at ``x`` and ``y``."""
        return self.contains(x) and any(all(c.holds(x, y) for c in d) for d in self.unsafe)


@dataclass(frozen=True)
class Property:
    """No case is violated.

    Attributes:
        input_size, output_size: how many inputs and outputs the property speaks of.
        cases: regions with their unsafe sets; none at all means the property is vacuous.
        notes: remarks for the reader of a verdict, such as cases that were dropped
            because their box is empty.

    Raises:
        PropertyError: a box or a constraint does not fit these sizes.
    """

    input_size: int
    output_size: int
    cases: Sequence[Case]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for number, case in enumerate(self.cases):
            if len(case.lower) != self.input_size:
                raise PropertyError(
                    f"case {number} bounds {len(case.lower)} inputs, not {self.input_size}"
                )
            for c in case.constraints:
                self._check(c, number)
            for disjunct in case.unsafe:
                for c in disjunct:
                    self._check(c, number)

    def _check(self, c: Constraint, number: int) -> None:
        if any(i >= self.input_size for i, _ in c.inputs) or any(
            j >= self.output_size for j, _ in c.outputs
        ):
            raise PropertyError(
                f"case {number}: '{c}' names a variable beyond the {self.input_size} inputs "
                f"and {self.output_size} outputs"
            )

    @property
    def vacuous(self) -> bool:
        """Whether there is nothing to violate: no case, or none with a disjunct."""
        return not any(case.unsafe for case in self.cases)

    def violated(self, x: Sequence[Fraction], y: Sequence[Fraction]) -> bool:
        """Whether some case is violated by input ``x`` with output ``y``."""
        return any(case.violated(x, y) for case in self.cases)

    def text(self) -> Iterator[str]:
        """The canonical text, line by line: exact, and the same for equal properties."""
        yield f"farkas-property-1 {self.input_size} {self.output_size}"
        for case in self.cases:
            yield "case"
            for i, (low, high) in enumerate(zip(case.lower, case.upper, strict=True)):
                left = "<" if i in case.strict_lower else "<="
                right = "<" if i in case.strict_upper else "<="
                yield f"{low} {left} x{i} {right} {high}"
            yield from map(str, case.constraints)
            for disjunct in case.unsafe:
                yield "unsafe"
                yield from map(str, disjunct)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the canonical text, each line ended by a newline."""
        return _hash(self.text())


def _hash(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
