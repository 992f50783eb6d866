"""Formulas over inputs and outputs, and their normal form: regions with unsafe sets.

Both VNN-LIB readers build formulas from the leaves up with the functions here; no depth
of nesting costs a stack frame.  Functions raise ``ValueError`` without a place, which the
reader adds.  Work is metered: a formula whose normal form is out of reach is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from specs.property import Conjunction, Constraint, constraint

MAX_WORK = 20_000_000
MAX_BITS = 20_000
_HASH_WORK = 3


class Budget:
    """Work left for one property, in coefficients and atoms handled."""

    def __init__(self, work: int = MAX_WORK) -> None:
        self._left = work

    def spend(self, work: int) -> None:
        """Account for ``work``.

        Raises:
            ValueError: none is left.
        """
        self._left -= work
        if self._left < 0:
            raise ValueError(
                "the formula is too large once written as cases (a conjunction of many "
                "disjunctions multiplies out); split it into several properties"
            )


@dataclass(slots=True)
class Linear:
    """A linear expression: input ``i`` has key ``i``, output ``j`` has key ``~j``."""

    terms: dict[int, Fraction]
    constant: Fraction


def add(arguments: Sequence[Linear], budget: Budget) -> Linear:
    """The sum; the first argument is used up."""
    total = arguments[0]
    for other in arguments[1:]:
        _accumulate(total, other, 1, budget)
    return total


def subtract(arguments: Sequence[Linear], budget: Budget) -> Linear:
    """First minus the rest, or the negative of a single one; the first is used up."""
    if len(arguments) == 1:
        return _scale(arguments[0], Fraction(-1), budget)
    for other in arguments[1:]:
        _accumulate(arguments[0], other, -1, budget)
    return arguments[0]


def multiply(arguments: Sequence[Linear], budget: Budget) -> Linear:
    """The product, of which at most one factor may contain a variable."""
    total = arguments[0]
    for other in arguments[1:]:
        if total.terms and other.terms:
            raise ValueError("a nonlinear term: a product of two variables")
        if other.terms:
            total, other = other, total
        total = _scale(total, other.constant, budget)
    return total


def divide(arguments: Sequence[Linear], budget: Budget) -> Linear:
    """First divided by the rest, which are constants."""
    total = arguments[0]
    for other in arguments[1:]:
        if other.terms:
            raise ValueError("a nonlinear term: a division by a variable")
        if not other.constant:
            raise ValueError("a division by zero")
        total = _scale(total, 1 / other.constant, budget)
    return total


def _accumulate(total: Linear, other: Linear, sign: int, budget: Budget) -> None:
    budget.spend(1 + len(other.terms))
    other_constant = other.constant if sign > 0 else -other.constant
    total.constant = _sized(total.constant + other_constant)
    for key, value in other.terms.items():
        value = value if sign > 0 else -value
        new = _sized(total.terms[key] + value) if key in total.terms else value
        if new:
            total.terms[key] = new
        else:
            total.terms.pop(key, None)


def _scale(expression: Linear, factor: Fraction, budget: Budget) -> Linear:
    budget.spend(1 + len(expression.terms))
    terms = {k: _sized(c * factor) for k, c in expression.terms.items()} if factor else {}
    return Linear(terms, _sized(expression.constant * factor))


def _sized(number: Fraction) -> Fraction:
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > MAX_BITS:
        raise ValueError("the arithmetic on constants yields too large a number")
    return number


@dataclass(frozen=True, slots=True)
class Atom:
    """A constraint and the place in the source that states it."""

    constraint: Constraint
    place: int


Pair = tuple[Conjunction, tuple[Conjunction, ...]]
"""A region (constraints over inputs) and a disjunction over outputs, both to hold."""


class Disjunction(Protocol):
    """A union of pairs in some compact form."""

    def pairs(self) -> Iterable[Pair]: ...


class Cells:
    """A union of pairs; those with equal regions are one."""

    def __init__(self) -> None:
        self._regions: dict[frozenset[Constraint], Conjunction] = {}
        self._unsafe: dict[frozenset[Constraint], dict[Conjunction, None]] = {}

    def add(self, pairs: Iterable[Pair], budget: Budget) -> None:
        for region, unsafe in pairs:
            budget.spend(_HASH_WORK * (1 + len(region) + sum(1 + len(d) for d in unsafe)))
            key = frozenset(region)
            self._regions.setdefault(key, region)
            self._unsafe.setdefault(key, {}).update(dict.fromkeys(unsafe))

    def pairs(self) -> list[Pair]:
        return [(region, tuple(self._unsafe[key])) for key, region in self._regions.items()]


@dataclass(slots=True)
class And:
    """A conjunction, not multiplied out."""

    atoms: list[Atom] = field(default_factory=list)
    parts: list[Disjunction] = field(default_factory=list)

    def pairs(self, budget: Budget) -> list[Pair]:
        """The conjunction multiplied out."""
        region, unsafe = [], []
        for atom in self.atoms:
            c = atom.constraint
            if not c.inputs and not c.outputs:
                if not c.holds((), ()):
                    return []
            elif c.outputs:
                unsafe.append(c)
            else:
                region.append(c)
        return multiply_out([(tuple(region), (tuple(unsafe),))], self.parts, budget)


Formula = Atom | And | Cells


def multiply_out(pairs: list[Pair], parts: Iterable[Disjunction], budget: Budget) -> list[Pair]:
    """``pairs`` and every one of ``parts``, as one union of pairs."""
    for part in parts:
        product: list[Pair] = []
        factor = list(part.pairs())
        for region, unsafe in pairs:
            for other_region, other_unsafe in factor:
                size = len(unsafe) * sum(map(len, other_unsafe))
                size += len(other_unsafe) * (1 + sum(map(len, unsafe)))
                budget.spend(1 + len(region) + len(other_region) + size)
                both = tuple(a + b for a in unsafe for b in other_unsafe)
                product.append((region + other_region, both))
        pairs = product
    return pairs


_COMPARE = {"<=": (1, False), "<": (1, True), ">=": (-1, False), ">": (-1, True)}


def compare(relation: str, arguments: Sequence[Linear], place: int, budget: Budget) -> Formula:
    """A comparison, chained over neighbours if there are more than two.

    ``=`` is both non-strict inequalities, ``!=`` either strict one.
    """
    atoms = []
    for left, right in itertools.pairwise(arguments):
        difference = Linear(dict(left.terms), left.constant)
        _accumulate(difference, right, -1, budget)
        if relation == "!=":
            sides = [And([_atom(difference, s, True, place)]) for s in (1, -1)]
            return disjoin(sides, budget)
        if relation == "=":
            atoms += [_atom(difference, s, False, place) for s in (1, -1)]
        else:
            sign, strict = _COMPARE[relation]
            atoms.append(_atom(difference, sign, strict, place))
    return atoms[0] if len(atoms) == 1 else And(atoms)


def _atom(difference: Linear, sign: int, strict: bool, place: int) -> Atom:
    terms, constant = difference.terms, difference.constant
    if sign < 0:
        terms, constant = {k: -c for k, c in terms.items()}, -constant
    inputs = {k: c for k, c in terms.items() if k >= 0}
    outputs = {~k: c for k, c in terms.items() if k < 0}
    return Atom(constraint(inputs, outputs, constant, strict), place)


def conjoin(arguments: Sequence[Formula], budget: Budget) -> Formula:
    """The conjunction; the arguments are used up."""
    return arguments[0] if len(arguments) == 1 else gather(arguments, budget)


def gather(arguments: Sequence[Formula], budget: Budget) -> And:
    """The conjunction of any number of formulas, as such; the arguments are used up."""
    result = arguments[0] if arguments and isinstance(arguments[0], And) else And()
    for argument in arguments:
        if argument is result:
            continue
        if isinstance(argument, Atom):
            budget.spend(1)
            result.atoms.append(argument)
        elif isinstance(argument, And):
            budget.spend(1 + len(argument.atoms) + len(argument.parts))
            result.atoms += argument.atoms
            result.parts += argument.parts
        else:
            result.parts.append(argument)
    return result


def disjoin(arguments: Sequence[Formula], budget: Budget) -> Formula:
    """The disjunction; the arguments are used up."""
    if len(arguments) == 1:
        return arguments[0]
    result = arguments[0] if arguments and isinstance(arguments[0], Cells) else Cells()
    for argument in arguments:
        if argument is result:
            continue
        if isinstance(argument, Atom):
            argument = And([argument])
        pairs = argument.pairs(budget) if isinstance(argument, And) else argument.pairs()
        result.add(pairs, budget)
    return result


ARITHMETIC = {"+": add, "-": subtract, "*": multiply, "/": divide}
RELATIONS = frozenset(("<=", "<", ">=", ">", "="))
CONNECTIVES = {"and": conjoin, "or": disjoin}
