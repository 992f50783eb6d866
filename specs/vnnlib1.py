"""A reader for VNN-LIB 1.0: ``declare-const`` and ``assert`` over ``X_i`` and ``Y_j``.

A file states when the property is *violated*: the conjunction of its assertions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from specs.boxes import input_bound
from specs.decimals import DECIMAL, parse_decimal
from specs.errors import PropertyError
from specs.formula import (
    ARITHMETIC,
    CONNECTIVES,
    RELATIONS,
    And,
    Atom,
    Budget,
    Cells,
    Formula,
    Linear,
    compare,
    gather,
)
from specs.property import Conjunction, Property
from specs.regions import Names, build_property
from specs.source import Source
from specs.vnnlib1_fast import read_disjunction

TOKEN = re.compile(r"[\s]*(?:;[^\n]*\s*)*([()]|[^\s();]+|\Z)")
_VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]{0,9})")
_DECLARATION = re.compile(r"\s*\(\s*declare-const\s+([XY])_(0|[1-9][0-9]{0,9})\s+Real\s*\)")
_INPUT_BOUND = rf"\s*\(\s*([<>]=?)\s+X_(0|[1-9][0-9]{{0,9}})\s+({DECIMAL})\s*\)"
_BOUND = re.compile(_INPUT_BOUND)
_ASSERTED_BOUND = re.compile(rf"\s*\(\s*assert{_INPUT_BOUND}\s*\)")
_IGNORED = frozenset(("set-logic", "set-info", "check-sat", "get-model", "exit"))
_FORMULA = (Atom, And, Cells)


def read_vnnlib1(source: Source, input_size: int, output_size: int) -> Property:
    """The property that a VNN-LIB 1.0 text states of a network of these sizes.

    Raises:
        PropertyError: with the place, for anything that is not well-formed, linear and
            complete, or does not fit the sizes.
    """
    return _Reader(source, input_size, output_size).file()


def read_unsafe(source: Source, input_size: int, output_size: int) -> tuple[Conjunction, ...]:
    """The formula that is the whole of ``source``, as a disjunction of conjunctions.

    All variables of a network of these sizes are declared.

    Raises:
        PropertyError: with the place, for anything that is not a formula over them.
    """
    reader = _Reader(source, input_size, output_size)
    reader.declared = (dict.fromkeys(range(input_size), 0), dict.fromkeys(range(output_size), 0))
    formula = reader.formula()
    reader.expect_end()
    try:
        pairs = gather([formula], reader.budget).pairs(reader.budget)
    except ValueError as error:
        raise PropertyError(f"{source.name}: {error}") from None
    return tuple(region + disjunct for region, unsafe in pairs for disjunct in unsafe)


@dataclass(slots=True)
class _Frame:
    symbol: str
    place: int
    values: list[Linear | Formula]
    places: list[int]


class _Reader:
    def __init__(self, source: Source, input_size: int, output_size: int) -> None:
        self.source = source
        self.sizes = (input_size, output_size)
        self.declared: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.assertions: list[Formula] = []
        self.budget = Budget()
        self._at = 0
        self._place = 0

    def file(self) -> Property:
        while self._declarations() or self._bounds() or self._command():
            pass
        for letter, declared, size in zip("XY", self.declared, self.sizes, strict=True):
            for i in range(size):
                if i not in declared:
                    raise self.fail(
                        len(self.source.text),
                        f"{letter}_{i} is not declared, but the network has {size} "
                        f"{('inputs', 'outputs')[letter == 'Y']}; is this the right network?",
                    )
        return self.property()

    def property(self) -> Property:
        names = Names(lambda i: f"X_{i}", self.fail, lambda i: self.declared[0].get(i, 0))
        try:
            whole = gather(self.assertions, self.budget)
            return build_property(whole, *self.sizes, names, self.budget)
        except ValueError as error:
            raise PropertyError(f"{self.source.name}: {error}") from None

    def fail(self, place: int, message: str) -> PropertyError:
        return self.source.error(place, message)

    def _token(self) -> str:
        match = TOKEN.match(self.source.text, self._at)
        if match is None:
            raise self.fail(self._at, "unreadable text")
        self._at = match.end()
        self._place = match.start(1)
        return match[1]

    def _expect(self, *wanted: str) -> str:
        token = self._token()
        if token not in wanted:
            raise self.fail(self._place, f"{_shown(token)} instead of '{wanted[0]}'")
        return token

    def expect_end(self) -> None:
        if (token := self._token()) != "":
            raise self.fail(self._place, f"{_shown(token)} after the end of the formula")

    def _declarations(self) -> bool:
        start = self._at
        while (match := _DECLARATION.match(self.source.text, self._at)) is not None:
            self._at = match.end()
            self._declare(match[1], int(match[2]), match.start(1))
        return self._at > start

    def _bounds(self) -> bool:
        """Bounds on single inputs, the bulk of most files, without the general parser."""
        start = self._at
        while (atom := self._bound(_ASSERTED_BOUND)) is not None:
            self.assertions.append(atom)
        return self._at > start

    def _bound(self, form: re.Pattern[str]) -> Atom | None:
        match = form.match(self.source.text, self._at)
        if match is None or int(match[2]) not in self.declared[0]:
            return None
        try:
            bound = parse_decimal(match[3])
        except ValueError:
            return None
        self._at = match.end()
        self._place = match.start(1) - 1
        c = input_bound(int(match[2]), match[1][0] == "<", len(match[1]) == 1, bound)
        return Atom(c, self._place)

    def _declare(self, letter: str, index: int, place: int) -> None:
        kind = "XY".index(letter)
        if index in self.declared[kind]:
            raise self.fail(place, f"{letter}_{index} is declared twice")
        if index >= self.sizes[kind]:
            raise self.fail(
                place,
                f"{letter}_{index} is out of range: the network has {self.sizes[kind]} "
                f"{('inputs', 'outputs')[kind]}; is this the right network?",
            )
        self.declared[kind][index] = place

    def _command(self) -> bool:
        token = self._token()
        if token == "":
            return False
        if token != "(":
            raise self.fail(self._place, f"{_shown(token)} instead of '('")
        start = self._place
        command = self._token()
        if command == "assert":
            found = read_disjunction(self.source.text, self._at, self._known)
            if found is not None:
                boxes, self._at = found
                self.assertions.append(And(parts=[boxes]))
            else:
                self.assertions.append(self.formula())
                self._expect(")")
        elif command in ("declare-const", "declare-fun"):
            self._declaration(command)
        elif command in _IGNORED:
            while (token := self._token()) != ")":
                if token in ("", "("):
                    raise self.fail(self._place, f"{_shown(token)} instead of ')'")
        else:
            raise self.fail(start, f"unknown command {_shown(command)}")
        return True

    def _declaration(self, command: str) -> None:
        name = self._token()
        place = self._place
        match = _VARIABLE.fullmatch(name)
        if match is None:
            raise self.fail(place, f"{_shown(name)} is no variable: inputs are X_i, outputs Y_j")
        if command == "declare-fun":
            self._expect("(")
            self._expect(")")
        sort = self._token()
        if sort != "Real":
            raise self.fail(self._place, f"sort {_shown(sort)} instead of 'Real'")
        self._expect(")")
        self._declare(match[1], int(match[2]), place)

    def _known(self, letter: str, index: int) -> bool:
        return index in self.declared["XY".index(letter)]

    def formula(self) -> Formula:
        """The formula at the current position."""
        value = self._expression()
        if not isinstance(value, _FORMULA):
            raise self.fail(self._place, "a number instead of a comparison, 'and' or 'or'")
        return value

    def _expression(self) -> Linear | Formula:
        stack: list[_Frame] = []
        while True:
            bound = self._bound(_BOUND)
            token = "" if bound is not None else self._token()
            place = self._place
            value: Linear | Formula
            if bound is not None:
                value = bound
            elif token == "(":
                symbol = self._token()
                if not (symbol in CONNECTIVES or symbol in RELATIONS or symbol in ARITHMETIC):
                    raise self.fail(
                        self._place,
                        f"{_shown(symbol)} is none of the operators and, or, <=, <, >=, >, =, "
                        f"+, -, *, /",
                    )
                stack.append(_Frame(symbol, place, [], []))
                continue
            elif token == ")" and stack:
                frame = stack.pop()
                value = self._apply(frame)
                place = frame.place
            elif token == "":
                opened = f" that closes the '(' of '{stack[-1].symbol}'" if stack else ""
                if stack:
                    place = stack[-1].place
                raise self.fail(place, f"the file ends before the ')'{opened}")
            elif token == ")":
                raise self.fail(place, "')' instead of a formula")
            else:
                value = self._leaf(token)
            if not stack:
                return value
            stack[-1].values.append(value)
            stack[-1].places.append(place)

    def _leaf(self, token: str) -> Linear:
        match = _VARIABLE.fullmatch(token)
        if match is not None:
            kind = "XY".index(match[1])
            index = int(match[2])
            if index not in self.declared[kind]:
                raise self.fail(self._place, f"unknown variable {token}: it is not declared")
            return Linear({~index if kind else index: Fraction(1)}, Fraction(0))
        if not (token[0].isdigit() or token[0] in "+-."):
            raise self.fail(self._place, f"unknown variable {_shown(token)}")
        try:
            return Linear({}, parse_decimal(token))
        except ValueError as error:
            raise self.fail(self._place, str(error)) from None

    def _apply(self, frame: _Frame) -> Linear | Formula:
        symbol, values = frame.symbol, frame.values
        logical = symbol in CONNECTIVES
        least = 2 if symbol in RELATIONS or symbol in ("*", "/") else 1
        if len(values) < least:
            raise self.fail(frame.place, f"'{symbol}' needs at least {least} operands")
        formulas = [v for v in values if isinstance(v, _FORMULA)]
        terms = [v for v in values if isinstance(v, Linear)]
        if terms if logical else formulas:
            wrong = next(
                p
                for p, v in zip(frame.places, values, strict=True)
                if isinstance(v, Linear) == logical
            )
            kinds = ("a number", "a formula") if logical else ("a formula", "a number")
            raise self.fail(wrong, f"{kinds[0]} instead of {kinds[1]} in '{symbol}'")
        try:
            if logical:
                return CONNECTIVES[symbol](formulas, self.budget)
            if symbol in RELATIONS:
                return compare(symbol, terms, frame.place, self.budget)
            return ARITHMETIC[symbol](terms, self.budget)
        except ValueError as error:
            raise self.fail(frame.place, str(error)) from None


def _shown(token: str) -> str:
    if not token:
        return "the end of the file"
    return f"'{token}'" if len(token) <= 40 else f"'{token[:40]}...'"
