"""Very large disjunctions of (box and output constraints), stored compactly.

Bounds are kept as decimals, a 64-bit mantissa and a power of ten each; rationals are made
when they are asked for.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import overload

from specs.decimals import scaled, split_decimal
from specs.property import Case, Conjunction, Constraint

Strict = tuple[frozenset[int], frozenset[int]]


class Decimals:
    """A growing array of decimals."""

    def __init__(self) -> None:
        self._mantissas = array("q")
        self._powers = array("h")
        self._large: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._mantissas)

    def append(self, lexeme: str) -> None:
        """Add a literal.

        Raises:
            ValueError: it is not a decimal, or too long or too large.
        """
        mantissa, power = split_decimal(lexeme)
        if -(2**63) <= mantissa < 2**63:
            self._mantissas.append(mantissa)
        else:
            self._large[len(self._mantissas)] = mantissa
            self._mantissas.append(0)
        self._powers.append(power)

    def drop_from(self, start: int) -> None:
        """Remove all entries from ``start`` on."""
        for i in range(start, len(self)) if self._large else ():
            self._large.pop(i, None)
        del self._mantissas[start:], self._powers[start:]

    def __getitem__(self, i: int) -> Fraction:
        return scaled(self._mantissa(i), self._powers[i])

    def same(self, first: int, second: int, count: int) -> bool:
        """Whether ``count`` literals from ``first`` on are those from ``second`` on."""
        one, other = slice(first, first + count), slice(second, second + count)
        if self._mantissas[one] != self._mantissas[other]:
            return False
        if self._powers[one] != self._powers[other]:
            return False
        large = self._large
        return not large or all(large.get(first + k) == large.get(second + k) for k in range(count))

    def difference_sign(self, i: int, j: int) -> int:
        """The sign of entry ``i`` minus entry ``j``."""
        if self._powers[i] == self._powers[j]:
            a: int | Fraction = self._mantissa(i)
            b: int | Fraction = self._mantissa(j)
        else:
            a, b = self[i], self[j]
        return (a > b) - (a < b)

    def _mantissa(self, i: int) -> int:
        return self._large.get(i, self._mantissas[i]) if self._large else self._mantissas[i]


@dataclass(frozen=True)
class Layout:
    """Which bounds the literals of a box are, in order: ``(input, is_upper, strict)``."""

    bounds: tuple[tuple[int, bool, bool], ...]
    lower: dict[int, int]
    upper: dict[int, int]
    strict: Strict

    @staticmethod
    def of(bounds: tuple[tuple[int, bool, bool], ...]) -> Layout:
        """The layout with these bounds.

        Raises:
            ValueError: two of them bound the same side of one input.
        """
        sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for slot, (i, is_upper, _) in enumerate(bounds):
            if i in sides[is_upper]:
                raise ValueError("one side of an input is bounded twice")
            sides[is_upper][i] = slot
        lower = frozenset(i for i, is_upper, strict in bounds if strict and not is_upper)
        upper = frozenset(i for i, is_upper, strict in bounds if strict and is_upper)
        return Layout(bounds, *sides, (lower, upper))


@dataclass(frozen=True, eq=False)
class BoundRow(Sequence[Fraction]):
    """One side of a box: literals from ``start`` on where ``slots`` says so, else ``base``."""

    base: Sequence[Fraction]
    slots: dict[int, int]
    literals: Decimals
    start: int

    def __len__(self) -> int:
        return len(self.base)

    @overload
    def __getitem__(self, index: int) -> Fraction: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Fraction]: ...
    def __getitem__(self, index: int | slice) -> Fraction | Sequence[Fraction]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"bound {index} of {len(self)}")
        index %= len(self)
        slot = self.slots.get(index)
        return self.base[index] if slot is None else self.literals[self.start + slot]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundRow | tuple) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


@dataclass
class _Entry:
    layout: Layout
    start: int
    unsafe: list[Conjunction] = field(default_factory=list)


class BoxDisjunction:
    """A disjunction of (bounds on inputs, each side once, and output constraints).

    Attributes:
        empty: numbers, from 1, of the boxes that are empty; known once finished.
    """

    def __init__(self) -> None:
        self._literals = Decimals()
        self._entries: list[_Entry] = []
        self._known: dict[int, list[int]] = {}
        self._live: list[_Entry] = []
        self.empty: list[int] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, layout: Layout, lexemes: Sequence[str], unsafe: Conjunction) -> None:
        """Add a disjunct; one with the same box as an earlier one is joined to it.

        Raises:
            ValueError: a lexeme is not a decimal, or too long or too large.
        """
        if len(lexemes) != len(layout.bounds):
            raise ValueError("a box has another number of literals than bounds")
        # A collision of hashes costs time only: the literals themselves are compared.
        key = hash((layout.bounds, *lexemes))
        start = len(self._literals)
        for lexeme in lexemes:
            self._literals.append(lexeme)
        for number in self._known.get(key, ()):
            entry = self._entries[number]
            same = self._literals.same(entry.start, start, len(lexemes))
            if same and entry.layout.bounds == layout.bounds:
                self._literals.drop_from(start)
                entry.unsafe.append(unsafe)
                return
        self._known.setdefault(key, []).append(len(self._entries))
        self._entries.append(_Entry(layout, start, [unsafe]))

    def finish(self) -> None:
        """Release what only ``add`` needs, and set the empty boxes apart."""
        self._known.clear()
        self.empty = [n for n, entry in enumerate(self._entries, 1) if self._empty(entry)]
        gone = set(self.empty)
        self._live = [entry for n, entry in enumerate(self._entries, 1) if n not in gone]

    @property
    def bounded(self) -> frozenset[int]:
        """The inputs that some disjunct bounds."""
        return frozenset(i for entry in self._entries for i, _, _ in entry.layout.bounds)

    @property
    def bounded_everywhere(self) -> frozenset[tuple[int, bool]]:
        """The sides ``(input, is_upper)`` that every box bounds, empty ones left out."""
        layouts = {entry.layout.bounds for entry in self._live}
        sides = [frozenset((i, up) for i, up, _ in bounds) for bounds in layouts]
        return frozenset.intersection(*sides) if sides else frozenset()

    def cases(
        self,
        lower: Sequence[Fraction],
        upper: Sequence[Fraction],
        strict: Strict,
        constraints: Conjunction,
        unsafe: Conjunction,
    ) -> list[Case]:
        """The cases, but for those with an empty box.

        Arguments hold in every case; ``lower`` and ``upper`` bound the inputs that no
        disjunct bounds.
        """
        cases = []
        for entry in self._live:
            low = BoundRow(lower, entry.layout.lower, self._literals, entry.start)
            high = BoundRow(upper, entry.layout.upper, self._literals, entry.start)
            disjuncts = tuple(d + unsafe for d in entry.unsafe) if unsafe else tuple(entry.unsafe)
            sides = [a | b for a, b in zip(strict, entry.layout.strict, strict=True)]
            cases.append(Case(low, high, disjuncts, constraints, sides[0], sides[1]))
        return cases

    def _empty(self, entry: _Entry) -> bool:
        layout = entry.layout
        for i, slot in layout.lower.items():
            other = layout.upper.get(i)
            if other is None:
                continue
            sign = self._literals.difference_sign(entry.start + slot, entry.start + other)
            open_end = i in layout.strict[0] or i in layout.strict[1]
            if sign > 0 or (sign == 0 and open_end):
                return True
        return False

    def pairs(self) -> Iterator[tuple[Conjunction, tuple[Conjunction, ...]]]:
        """The disjuncts as pairs of a region and its unsafe set."""
        for entry in self._entries:
            region = []
            for slot, (i, is_upper, strict) in enumerate(entry.layout.bounds):
                bound = self._literals[entry.start + slot]
                region.append(input_bound(i, is_upper, strict, bound))
            yield tuple(region), tuple(entry.unsafe)


def input_bound(i: int, is_upper: bool, strict: bool, bound: Fraction) -> Constraint:
    """``x[i] <= bound`` (or >=, or strict) as a constraint."""
    if is_upper:
        return Constraint(((i, Fraction(1)),), (), -bound, strict)
    return Constraint(((i, Fraction(-1)),), (), bound, strict)
