"""Writing a property as VNN-LIB 1.0, so that it reads back as the same property."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from specs.errors import PropertyError
from specs.numerals import numeral
from specs.property import Case, Constraint, Property
from specs.source import Source
from specs.vnnlib1 import read_vnnlib1


def vnnlib(stated: Property, remarks: tuple[str, ...] = ()) -> str:
    """The text of a property file, with remarks in front.

    Raises:
        PropertyError: the text would be read as another property; that of cases that differ
            in more than boxes, say, may be.
    """
    text = "\n".join(
        [*(f"; {line}" for text in remarks for line in text.splitlines()), *_lines(stated), ""]
    )
    source = Source("the property written", text)
    again = read_vnnlib1(source, stated.input_size, stated.output_size)
    if again.digest != stated.digest:
        raise PropertyError("the property has no text in VNN-LIB 1.0 that reads back the same")
    return text


def _lines(stated: Property) -> Iterator[str]:
    yield from (f"(declare-const X_{i} Real)" for i in range(stated.input_size))
    yield from (f"(declare-const Y_{j} Real)" for j in range(stated.output_size))
    if len(stated.cases) == 1:
        (case,) = stated.cases
        yield from (f"(assert {part})" for part in _region(case))
        yield f"(assert {_unsafe(case)})"
        return
    yield "(assert (or"
    for case in stated.cases:
        yield f"    (and {' '.join([*_region(case), _unsafe(case)])})"
    yield "))"


def _region(case: Case) -> Iterator[str]:
    for i, (low, high) in enumerate(zip(case.lower, case.upper, strict=True)):
        yield f"({'>' if i in case.strict_lower else '>='} X_{i} {_number(low)})"
        yield f"({'<' if i in case.strict_upper else '<='} X_{i} {_number(high)})"
    yield from map(_constraint, case.constraints)


def _unsafe(case: Case) -> str:
    disjuncts = [f"(and {' '.join(map(_constraint, d))})" for d in case.unsafe]
    return f"(or {' '.join(disjuncts)})"


def _constraint(c: Constraint) -> str:
    terms = [
        f"(* {_number(weight)} {letter}_{index})"
        for letter, listed in (("X", c.inputs), ("Y", c.outputs))
        for index, weight in listed
    ]
    total = terms[0] if len(terms) == 1 else f"(+ {' '.join(terms)})"
    return f"({'<' if c.strict else '<='} {total} {_number(-c.constant)})"


def _number(value: Fraction) -> str:
    """A decimal where there is one, otherwise a quotient."""
    top, slash, bottom = numeral(value).partition("/")
    return f"(/ {top} {bottom})" if slash else top
