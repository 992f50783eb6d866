"""The theorem that a question asks about, in readable mathematics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import groupby

from specs.faults.struck import WordFaults, faults_of
from specs.numerals import numeral
from specs.property import Case, Conjunction, Constraint
from specs.query import Query

FIRST = 8
"""Lines of a list that are shown where it is shortened."""
REALS = "\N{DOUBLE-STRUCK CAPITAL R}"
_DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def theorem(query: Query, *, full: bool = False) -> list[str]:
    """What holds if the property does, as lines of text.

    Numbers are exact: decimals where a number is one, otherwise quotients.  Inputs and
    outputs are counted from 0 through all tensors.

    Args:
        query: the question.
        full: leave nothing out of long lists.
    """
    network, stated = query.network, query.property
    n, m = (str(k).translate(_DIGITS) for k in (network.input_size, network.output_size))
    files = " and ".join(model.path.name if model.path else "built" for model in query.models)
    lines = [f"N : {REALS}{n} → {REALS}{m} is the network of {files}", *_meaning(query, full)]
    lines += [f"  sha256 {model.digest}" for model in query.models]
    if not stated.cases:
        return [*lines, "There is nothing to show: the property has no case."]
    lines.append(f"For every x in {REALS}{n}, with y = N(x):")
    parts = [_case(number, case, full) for number, case in enumerate(stated.cases)]
    for part in _shortened(parts, "cases", full):
        lines += ["", *("  " + line for line in part)]
    return lines


def _meaning(query: Query, full: bool) -> list[str]:
    found, faults = query.rounding, faults_of(query)
    if faults is not None:
        lost = "  (a fault by which a word becomes Inf or NaN, or a value with which N is not"
        return [
            "  (the real-valued function with the stored values of parameters, with any fault of",
            f"  {faults.model.text}",
            f"  in {', '.join(faults.struck)})",
            *_spared(faults, full),
            *((lost, "  defined, is not among them)") if faults.cells is not None else ()),
        ]
    if found is None:
        return ["  (the real-valued function with exactly the stored weights)"]
    return [
        f"  (any of its evaluations: {found.covered};",
        f"  the entries of x are numbers of {found.name})",
    ]


def _spared(faults: WordFaults, full: bool) -> Iterator[str]:
    """The memory cells that the fault model leaves out."""
    if faults.cells is None or not faults.cells.model.spared.cells:
        return
    cells = faults.cells.model.spared.cells
    yield f"  (but not of these {len(cells)} memory cells:"
    listed = [[f"    bit {bit} of '{name}'[{entry}]"] for name, entry, bit in cells]
    for (line,) in _shortened(listed, "cells", full):
        yield line
    yield "  )"


def _case(number: int, case: Case, full: bool) -> list[str]:
    region = [*_box(case, full), *_rows(case.constraints, full)]
    safe = [_never(disjunct, full) for disjunct in case.unsafe]
    lines = [f"case {number}: if", *("    " + line for line in region), "  then"]
    if not safe:
        return [*lines, "    nothing is asked"]
    shown = [line for (line,) in _shortened([[line] for line in safe], "unsafe sets", full)]
    return lines + [f"    {'and ' if k else ''}{line}" for k, line in enumerate(shown)]


def _never(unsafe: Conjunction, full: bool) -> str:
    """That an unsafe set is not reached; of a single constraint, its opposite."""
    if len(unsafe) != 1:
        return f"not ({' and '.join(_rows(unsafe, full)) or 'true'})"
    (row,) = unsafe
    inputs, outputs = (tuple((k, -c) for k, c in part) for part in (row.inputs, row.outputs))
    return relation(Constraint(inputs, outputs, -row.constant, not row.strict))


def _shortened(parts: Sequence[list[str]], what: str, full: bool) -> Iterator[list[str]]:
    """All parts, or the first ones and how many there are more."""
    shown = parts if full or len(parts) <= FIRST + 1 else parts[:FIRST]
    yield from shown
    if len(shown) < len(parts):
        yield [f"... ({len(parts) - len(shown)} more {what} of {len(parts)}; --full shows all)"]


def _rows(rows: Conjunction, full: bool) -> Iterator[str]:
    for (line,) in _shortened([[relation(c)] for c in rows], "constraints", full):
        yield line


def _box(case: Case, full: bool) -> Iterator[str]:
    """Bounds of the inputs; neighbours with equal ones together."""
    bounds = [
        (low, high, i in case.strict_lower, i in case.strict_upper)
        for i, (low, high) in enumerate(zip(case.lower, case.upper, strict=True))
    ]
    parts, first = [], 0
    for (low, high, above, below), alike in groupby(bounds):
        last = first + len(list(alike)) - 1
        name = f"x_{first}" if first == last else "x_i"
        where = "" if first == last else f"   for i = {first} … {last}"
        text = (
            f"{numeral(low)} {'<' if above else '≤'} {name} {'<' if below else '≤'} {numeral(high)}"
        )
        if low == high and not above and not below:
            text = f"{name} = {numeral(low)}"
        parts.append([text + where])
        first = last + 1
    for (line,) in _shortened(parts, "lines of bounds", full):
        yield line
    if not full and len(parts) > FIRST + 1:
        lowest, highest = numeral(min(case.lower)), numeral(max(case.upper))
        yield f"(all {len(bounds)} inputs lie between {lowest} and {highest})"


def relation(row: Constraint) -> str:
    """A constraint as a comparison of two sums, each with positive coefficients.

    >>> from specs.property import constraint
    >>> relation(constraint({}, {3: Fraction(-1), 7: Fraction(1)}, Fraction(0)))
    'y_7 ≤ y_3'
    >>> relation(constraint({0: Fraction(-1, 2)}, {}, Fraction(1, 4), strict=True))
    'x_0 > 0.5'
    """
    terms = [(c, f"x_{i}") for i, c in row.inputs] + [(c, f"y_{j}") for j, c in row.outputs]
    if len(terms) == 1:
        ((c, name),) = terms
        sign = ("<" if row.strict else "≤") if c > 0 else (">" if row.strict else "≥")
        return f"{name} {sign} {numeral(-row.constant / c)}"
    left = [(c, name) for c, name in terms if c > 0]
    right = [(-c, name) for c, name in terms if c < 0]
    (left if row.constant > 0 else right).append((abs(row.constant), ""))
    return f"{_sum(left)} {'<' if row.strict else '≤'} {_sum(right)}"


def _sum(terms: Sequence[tuple[Fraction, str]]) -> str:
    parts = []
    for c, name in terms:
        if name:
            parts.append(name if c == 1 else f"{numeral(c)} {name}")
        elif c:
            parts.append(numeral(c))
    return " + ".join(parts) or "0"
