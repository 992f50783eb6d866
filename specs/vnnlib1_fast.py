"""The fast path for very large disjunctions in VNN-LIB 1.0.

It reads ``(or (and ATOM ...) ...)`` where every atom compares a variable with a literal
or two outputs, one clause after another.  Clauses that differ in their literals only are
understood once.  Whatever is not of this form is left to the general reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from specs.boxes import BoxDisjunction, Layout
from specs.decimals import DECIMAL, scaled, split_decimal
from specs.property import Constraint

MIN_LENGTH = 20_000
"""Shorter disjunctions go to the general reader, which is fast enough for them."""
MAX_TEMPLATES = 10_000

_OPEN = re.compile(r"\s*\(\s*or(?=[\s(])\s*")
_CLAUSE = re.compile(r"\s*\(\s*and((?:\s*\([^();]*\))+)\s*\)\s*")
_CLOSE = re.compile(r"\)\s*\)")
_LITERAL = re.compile(rf"(?<=\s)({DECIMAL})(?=[\s)])")
_ATOM = re.compile(r"\s*\(\s*(<=|<|>=|>)\s+([^\s()]+)\s+([^\s()]+)\s*\)")
_VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]{0,9})")
_SIGN = {"<=": (1, False), "<": (1, True), ">=": (-1, False), ">": (-1, True)}
_ZERO = Fraction(0)


@dataclass(frozen=True)
class _Output:
    """An output constraint; its constant is ``sign`` times literal ``slot``, or 0."""

    terms: tuple[tuple[int, Fraction], ...]
    strict: bool
    slot: int | None = None
    sign: int = 1

    def constraint(self, literals: list[str]) -> Constraint:
        constant = _ZERO
        if self.slot is not None:
            mantissa, power = split_decimal(literals[self.slot])
            constant = scaled(self.sign * mantissa, power)
        return Constraint((), self.terms, constant, self.strict)


@dataclass(frozen=True)
class _Template:
    layout: Layout
    slots: tuple[int, ...]
    outputs: tuple[_Output, ...]


def read_disjunction(
    text: str, at: int, known: Callable[[str, int], bool]
) -> tuple[BoxDisjunction, int] | None:
    """A disjunction that starts at ``at`` and the position after it and one more ``)``.

    Returns ``None`` where the text has another form, errors included.

    Args:
        known: whether a variable, by letter and index, is declared.
    """
    match = _OPEN.match(text, at)
    if match is None or len(text) - at < MIN_LENGTH:
        return None
    at = match.end()
    boxes = BoxDisjunction()
    clauses = 0
    templates: dict[tuple[str, ...], _Template | None] = {}
    while (clause := _CLAUSE.match(text, at)) is not None:
        at = clause.end()
        clauses += 1
        pieces = _LITERAL.split(clause[1])
        key = tuple(pieces[::2])
        literals = pieces[1::2]
        if key not in templates:
            if len(templates) == MAX_TEMPLATES:
                return None
            templates[key] = _template(key, known)
        template = templates[key]
        if template is None:
            return None
        try:
            unsafe = tuple(output.constraint(literals) for output in template.outputs)
            boxes.add(template.layout, [literals[s] for s in template.slots], unsafe)
        except ValueError:
            return None
    boxes.finish()
    close = _CLOSE.match(text, at)
    if close is None or clauses < 2:
        return None  # a single clause is no disjunction: the general reader joins it to the rest
    return boxes, close.end()


def _template(pieces: tuple[str, ...], known: Callable[[str, int], bool]) -> _Template | None:
    if any("#" in piece for piece in pieces):
        return None  # it would be taken for the mark of a literal
    text = pieces[0] + "".join(f"#{k}{piece}" for k, piece in enumerate(pieces[1:]))
    bounds, slots, outputs = [], [], []
    at = 0
    while (match := _ATOM.match(text, at)) is not None:
        at = match.end()
        sign, strict = _SIGN[match[1]]
        sides = [_side(match[k], known) for k in (2, 3)]
        if sides[0] is None or sides[1] is None or sides[0][0] == sides[1][0] == "#":
            return None
        if sides[0][0] == "#":
            sides.reverse()
            sign = -sign
        (kind, index), (other, position) = sides[0], sides[1]
        if other == "#" and kind == "X":
            bounds.append((index, sign > 0, strict))
            slots.append(position)
        elif other == "#":
            outputs.append(_Output(((index, Fraction(sign)),), strict, position, -sign))
        elif kind == other == "Y" and index != position:
            terms = sorted(((index, Fraction(sign)), (position, Fraction(-sign))))
            outputs.append(_Output(tuple(terms), strict))
        else:
            return None
    if text[at:].strip():
        return None
    try:
        return _Template(Layout.of(tuple(bounds)), tuple(slots), tuple(outputs))
    except ValueError:
        return None


def _side(token: str, known: Callable[[str, int], bool]) -> tuple[str, int] | None:
    if re.fullmatch(r"#[0-9]+", token):
        return "#", int(token[1:])
    match = _VARIABLE.fullmatch(token)
    if match is None or not known(match[1], int(match[2])):
        return None
    return match[1], int(match[2])
