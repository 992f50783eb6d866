"""From a formula in normal form to a property: boxes, their constraints, unsafe sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from specs.boxes import BoxDisjunction
from specs.errors import PropertyError
from specs.formula import And, Budget, Pair, multiply_out
from specs.property import Case, Conjunction, Constraint, Property

MAX_BOUNDS = 20_000_000
MAX_EMPTY_NAMED = 3


@dataclass(frozen=True)
class Names:
    """How a source calls its variables, and how it reports an error.

    Attributes:
        inputs, outputs: names of variables by index.
        fail: makes the error for a place and a message.
        declared: the place where input ``i`` is declared.
    """

    inputs: Callable[[int], str]
    fail: Callable[[int, str], PropertyError]
    declared: Callable[[int], int]


@dataclass
class _Box:
    """A box under construction; a missing bound is ``None``."""

    lower: list[Fraction | None]
    upper: list[Fraction | None]
    strict_lower: set[int] = field(default_factory=set)
    strict_upper: set[int] = field(default_factory=set)

    def copy(self) -> _Box:
        strict = (set(self.strict_lower), set(self.strict_upper))
        return _Box(list(self.lower), list(self.upper), *strict)

    def cut(self, c: Constraint) -> int:
        """Intersect with a constraint on a single input; returns that input."""
        ((i, factor),) = c.inputs
        bound = -c.constant if factor == 1 else -c.constant / factor
        if factor > 0:
            old = self.upper[i]
            if old is None or bound < old:
                self.upper[i] = bound
                self.strict_upper.discard(i)
            if c.strict and bound == self.upper[i]:
                self.strict_upper.add(i)
        else:
            old = self.lower[i]
            if old is None or bound > old:
                self.lower[i] = bound
                self.strict_lower.discard(i)
            if c.strict and bound == self.lower[i]:
                self.strict_lower.add(i)
        return i

    def empty_at(self, i: int) -> bool:
        low, high = self.lower[i], self.upper[i]
        if low is None or high is None:
            return False
        return low > high or (low == high and (i in self.strict_lower or i in self.strict_upper))


def build_property(
    formula: And, input_size: int, output_size: int, names: Names, budget: Budget
) -> Property:
    """The property whose violation ``formula`` describes.

    Bounds on single inputs become the box, other constraints over inputs the region's
    constraints, and whatever speaks of outputs the unsafe set.  A disjunct whose box is
    empty is dropped and noted.

    Raises:
        PropertyError: the bounds that hold throughout contradict each other, or an input
            lacks a bound.
        ValueError: the formula is too large once multiplied out.
    """
    base = _Box([None] * input_size, [None] * input_size)
    shared: list[Constraint] = []
    unsafe: list[Constraint] = []
    for atom in formula.atoms:
        c = atom.constraint
        if c.outputs:
            unsafe.append(c)
        elif len(c.inputs) > 1:
            shared.append(c)
        elif c.inputs:
            i = base.cut(c)
            if base.empty_at(i):
                raise names.fail(atom.place, _contradiction(base, i, names))
        elif not c.holds((), ()):
            note = "an assertion is false whatever the inputs and outputs are"
            return Property(input_size, output_size, (), (note,))
    if len(formula.parts) == 1 and isinstance(formula.parts[0], BoxDisjunction):
        boxes = formula.parts[0]
        if not boxes.bounded & _bounded(base):
            if len(boxes) > len(boxes.empty):
                _require_bounds(base, boxes.bounded_everywhere, names)
            lower = [Fraction(0) if b is None else b for b in base.lower]
            upper = [Fraction(0) if b is None else b for b in base.upper]
            strict = (frozenset(base.strict_lower), frozenset(base.strict_upper))
            cases = boxes.cases(lower, upper, strict, tuple(shared), tuple(unsafe))
            return Property(input_size, output_size, tuple(cases), _notes(boxes.empty))
    pairs = multiply_out([((), ((),))], formula.parts, budget)
    if len(pairs) * input_size > MAX_BOUNDS:
        raise ValueError(
            f"{len(pairs)} regions of {input_size} inputs are too many; "
            "split the property into several"
        )
    builder = _Cases(base, tuple(shared), tuple(unsafe), names)
    for pair in pairs:
        builder.add(pair)
    notes = _notes(builder.empty)
    if not pairs:
        notes = ("a disjunction is false whatever the inputs and outputs are",)
    return Property(input_size, output_size, builder.cases(), notes)


class _Cases:
    """Cases under construction: what all share, and the disjuncts added so far."""

    def __init__(self, base: _Box, shared: Conjunction, unsafe: Conjunction, names: Names) -> None:
        self._base, self._shared, self._unsafe, self._names = base, shared, unsafe, names
        self._regions: dict[object, int] = {}
        self._cases: list[tuple[Case, dict[Conjunction, None]]] = []
        self.empty: list[int] = []
        self._count = 0

    def add(self, pair: Pair) -> None:
        region, disjuncts = pair
        self._count += 1
        box = self._base.copy() if region else self._base
        touched: set[int] = set()
        extra = []
        for c in region:
            if len(c.inputs) == 1:
                touched.add(box.cut(c))
            else:
                extra.append(c)
        if any(box.empty_at(i) for i in touched):
            self.empty.append(self._count)
            return
        _require_bounds(box, frozenset(), self._names)
        constraints = self._shared + tuple(dict.fromkeys(extra))
        full = tuple(d + self._unsafe for d in disjuncts) if self._unsafe else disjuncts
        lower = tuple(b for b in box.lower if b is not None)
        upper = tuple(b for b in box.upper if b is not None)
        strict = (frozenset(box.strict_lower), frozenset(box.strict_upper))
        key = (
            tuple((i, lower[i], upper[i]) for i in sorted(touched)),
            frozenset(constraints),
            strict,
        )
        known = self._regions.setdefault(key, len(self._cases))
        if known == len(self._cases):
            self._cases.append((Case(lower, upper, (), constraints, *strict), {}))
        self._cases[known][1].update(dict.fromkeys(full))

    def cases(self) -> tuple[Case, ...]:
        return tuple(replace(case, unsafe=tuple(unsafe)) for case, unsafe in self._cases)


def _bounded(box: _Box) -> frozenset[int]:
    pairs = enumerate(zip(box.lower, box.upper, strict=True))
    return frozenset(i for i, (low, high) in pairs if low is not None or high is not None)


def _require_bounds(box: _Box, elsewhere: frozenset[tuple[int, bool]], names: Names) -> None:
    for is_upper, bounds in enumerate((box.lower, box.upper)):
        for i, bound in enumerate(bounds):
            if bound is None and (i, bool(is_upper)) not in elsewhere:
                raise names.fail(
                    names.declared(i),
                    f"input {names.inputs(i)} has no {('lower', 'upper')[is_upper]} bound; "
                    f"assert one, in every disjunct if bounds stand in a disjunction",
                )


def _contradiction(box: _Box, i: int, names: Names) -> str:
    low, high = box.lower[i], box.upper[i]
    signs = ("<" if i in box.strict_lower else "<=", "<" if i in box.strict_upper else "<=")
    return (
        f"the bounds of {names.inputs(i)} contradict each other: "
        f"{low} {signs[0]} {names.inputs(i)} {signs[1]} {high}; no input satisfies the property"
    )


def _notes(empty: list[int]) -> tuple[str, ...]:
    if not empty:
        return ()
    named = ", ".join(map(str, empty[:MAX_EMPTY_NAMED]))
    more = ", ..." if len(empty) > MAX_EMPTY_NAMED else ""
    return (f"{len(empty)} of the regions have an empty box and were dropped: {named}{more}",)
