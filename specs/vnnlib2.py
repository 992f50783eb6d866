"""A reader for VNN-LIB 2.0, from the syntax tree of the package ``vnnlib``.

The package parses and checks types; the normal form is built here from its tree, with
literals taken from their text.  Its ``compat`` module is not used: it mis-builds mixed
conjunctions and disjunctions, in doubles.

Element types say what a program would compute with; the query's semantics decides what
its variables range over.  Tensors of integers, strings or complex numbers are refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import vnnlib

from specs.decimals import parse_decimal
from specs.errors import PropertyError
from specs.formula import (
    Budget,
    Formula,
    Linear,
    add,
    compare,
    conjoin,
    disjoin,
    gather,
    multiply,
    subtract,
)
from specs.network import Network
from specs.property import Property
from specs.regions import Names, build_property
from specs.source import Source

MAX_DEPTH = 200
MAX_CHARACTERS = 1 << 26
_REAL = frozenset(("Real", "real", "float16", "float32", "float64", "bfloat16"))
_RELATIONS = {
    vnnlib.LessEqual: "<=",
    vnnlib.LessThan: "<",
    vnnlib.GreaterEqual: ">=",
    vnnlib.GreaterThan: ">",
    vnnlib.Equal: "=",
    vnnlib.NotEqual: "!=",
}
_OPERATIONS = {
    vnnlib.Negate: subtract,
    vnnlib.Minus: subtract,
    vnnlib.Plus: add,
    vnnlib.Multiply: multiply,
}
_PARENTHESES = re.compile(r';[^\n]*|"[^"\n]*"|[()]')
_EXPONENT = re.compile(r";[^\n]*|(?<=[\s(])-?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+")


@dataclass(frozen=True)
class _Tensor:
    """A declared tensor and where its entries stand among all inputs (or outputs)."""

    name: str
    shape: tuple[int, ...]
    start: int
    is_output: bool

    def key(self, indices: Sequence[int]) -> int:
        """The key of an entry in :class:`Linear`."""
        flat = 0
        for index, size in zip(indices, self.shape, strict=True):
            flat = flat * size + index
        flat += self.start
        return ~flat if self.is_output else flat

    def entry(self, flat: int) -> str:
        """How the source calls entry ``flat`` of this tensor."""
        indices: list[str] = []
        for size in reversed(self.shape):
            flat, index = divmod(flat, size)
            indices.insert(0, str(index))
        return f"{self.name}[{','.join(indices)}]" if indices else self.name


def read_vnnlib2(source: Source, network: Network) -> Property:
    """The property that a VNN-LIB 2.0 text states of ``network``.

    Raises:
        PropertyError: with the place, for anything malformed, nonlinear or incomplete,
            tensors that do not fit the network, and what is not supported: several
            networks, hidden tensors, literals with an exponent.
    """
    _check_text(source)
    query = _parse(source)
    tensors = _tensors(source, query, network)
    reader = _Reader(source, {t.name: t for t in tensors})
    inputs = [t for t in tensors if not t.is_output]
    names = Names(
        lambda i: next(t.entry(i - t.start) for t in reversed(inputs) if i >= t.start),
        lambda place, message: reader.fail(place, message, None),
        lambda i: _declared(source, next(t for t in reversed(inputs) if i >= t.start).name),
    )
    formulas = [reader.formula(assertion.expr) for assertion in query.assertions]
    try:
        whole = gather(formulas, reader.budget)
        sizes = (network.input_size, network.output_size)
        return build_property(whole, *sizes, names, reader.budget)
    except ValueError as error:
        raise PropertyError(f"{source.name}: {error}") from None


def _check_text(source: Source) -> None:
    if len(source.text) > MAX_CHARACTERS:
        raise PropertyError(
            f"{source.name}: {len(source.text)} characters; a VNN-LIB 2.0 file may have "
            f"{MAX_CHARACTERS}"
        )
    at = source.text.find("\0")
    if at >= 0:
        raise source.error(at, "a NUL character")
    opened: list[int] = []
    for match in _PARENTHESES.finditer(source.text):
        if match[0] == "(":
            opened.append(match.start())
        elif match[0] == ")":
            if not opened:
                raise source.error(match.start(), "')' that closes nothing")
            opened.pop()
        if len(opened) > MAX_DEPTH:
            raise source.error(match.start(), f"nested deeper than {MAX_DEPTH}")
    if opened:
        raise source.error(opened[-1], "'(' that is never closed")
    for match in _EXPONENT.finditer(source.text):
        if not match[0].startswith(";"):
            raise source.error(
                match.start(),
                f"'{match[0][:40]}': VNN-LIB 2.0 has no exponents; write the number out",
            )


def _parse(source: Source) -> Any:
    try:
        return vnnlib.parse_query_string(source.text)
    except vnnlib.VNNLibException as error:
        raise _translated(source, str(error)) from None
    except (IndexError, ValueError, OverflowError, RuntimeError) as error:
        # The package converts indices, shapes and integers by the C++ library.
        message = f"a number is too large for the parser of VNN-LIB 2.0 ({error})"
        raise PropertyError(f"{source.name}: {message}") from None


def _translated(source: Source, message: str) -> PropertyError:
    match = re.search(r"line (\d+), column (\d+): '(.*)'", message)
    if match is not None:
        # The package counts columns from 1 on the first line, from 0 on others.
        near = max(0, _offset(source, int(match[1]), None) + int(match[2]) - 2)
        at = source.text.find(match[3], near, near + 3 + len(match[3])) if match[3] else -1
        found = f"'{match[3]}'" if match[3] else "the end of the file"
        return source.error(at if at >= 0 else near + 1, f"syntax error at {found}")
    try:
        first = json.loads(message)["errors"][0]
        symbol = str(first["offendingSymbol"])
        line = int(first["line"])
        text = f"{first['message']}: '{symbol}'. {first['hint']}"
    except (ValueError, KeyError, IndexError, TypeError):
        return PropertyError(f"{source.name}: {message}")
    return source.error(_offset(source, line, symbol), text)


def _offset(source: Source, line: int, symbol: str | None) -> int:
    """The first place of ``symbol`` in a line, or else the line's start."""
    start = 0
    for _ in range(line - 1):
        end = source.text.find("\n", start)
        if end < 0:
            break
        start = end + 1
    if symbol:
        stop = source.text.find("\n", start)
        pattern = r"\s*".join(re.escape(part) for part in re.findall(r"\w+|\W", symbol))
        match = re.compile(rf"(?<!\w){pattern}(?!\w)" if symbol[0].isalnum() else pattern).search(
            source.text, start, stop if stop >= 0 else len(source.text)
        )
        if match is not None:
            return match.start()
    return start


def _declared(source: Source, name: str) -> int:
    """The line that declares tensor ``name``."""
    match = re.search(rf"\(declare-\w+\s+{re.escape(name)}\s", source.text)
    return source.text.count("\n", 0, match.start() if match else 0) + 1


def _tensors(source: Source, query: Any, network: Network) -> list[_Tensor]:
    if len(query.networks) != 1:
        raise PropertyError(
            f"{source.name}: {len(query.networks)} networks (isomorphic-to and equal-to "
            "included) are not supported yet"
        )
    declared = query.networks[0]
    if declared.hidden:
        place = _offset(source, _declared(source, declared.hidden[0].name), "declare-hidden")
        raise source.error(place, "hidden tensors are not supported yet")
    found: list[_Tensor] = []
    sides = (
        (declared.inputs, network.inputs, "input"),
        (declared.outputs, network.outputs, "output"),
    )
    for definitions, numbers, side in sides:
        if len(definitions) != len(numbers):
            raise PropertyError(
                f"{source.name}: {len(definitions)} {side} tensors are declared, the network "
                f"has {len(numbers)}"
            )
        start = 0
        for definition, number in zip(definitions, numbers, strict=True):
            place = _offset(source, _declared(source, definition.name), definition.name)
            # The package gives "Real" and misspelt types the same value, Unknown.
            element = str(definition).split()[2]
            if element not in _REAL:
                raise source.error(
                    place, f"elements of type '{element}'; supported are {', '.join(sorted(_REAL))}"
                )
            node, shape = network.nodes[number], tuple(definition.shape)
            if definition.onnx_name not in (None, node.name):
                raise source.error(
                    place,
                    f"ONNX name '{definition.onnx_name}' at this position, where the network "
                    f"has '{node.name}'",
                )
            if shape != tuple(node.shape):
                raise source.error(
                    place,
                    f"{definition.name} is declared with shape {list(shape)}, the network's "
                    f"{side} '{node.name}' has shape {list(node.shape)}",
                )
            found.append(_Tensor(definition.name, shape, start, side == "output"))
            start += math.prod(shape)
    return found


class _Reader:
    """Formulas from trees; places are line numbers."""

    def __init__(self, source: Source, tensors: dict[str, _Tensor]) -> None:
        self.source = source
        self.tensors = tensors
        self.budget = Budget()

    def fail(self, line: int, message: str, symbol: str | None) -> PropertyError:
        return self.source.error(_offset(self.source, line, symbol), message)

    def formula(self, node: Any) -> Formula:
        kind = type(node)
        if kind in _RELATIONS:
            line = _line(node)
            sides = [self.linear(node.lhs), self.linear(node.rhs)]
            try:
                return compare(_RELATIONS[kind], sides, line, self.budget)
            except ValueError as error:
                raise self.fail(line, str(error), None) from None
        if kind in (vnnlib.And, vnnlib.Or):
            parts = [self.formula(part) for part in node.args]
            try:
                combine = conjoin if kind is vnnlib.And else disjoin
                return combine(parts, self.budget)
            except ValueError as error:
                raise self.fail(_line(node), str(error), None) from None
        raise PropertyError(f"{self.source.name}: '{node}' is no formula known here")

    def linear(self, node: Any) -> Linear:
        kind = type(node)
        if kind is vnnlib.Var:
            return Linear({self._key(node): Fraction(1)}, Fraction(0))
        if isinstance(node, vnnlib.Literal):
            try:
                return Linear({}, parse_decimal(node.lexeme))
            except ValueError as error:
                raise self.fail(node.line, str(error), node.lexeme) from None
        if kind not in _OPERATIONS:
            raise PropertyError(f"{self.source.name}: '{node}' is no term known here")
        operation = _OPERATIONS[kind]
        if kind is vnnlib.Negate:
            arguments = [node.expr]
        elif kind is vnnlib.Minus:
            arguments = [node.head, *node.rest]
        else:
            arguments = node.args
        terms = [self.linear(argument) for argument in arguments]
        try:
            return operation(terms, self.budget)
        except ValueError as error:
            raise self.fail(_line(node), str(error), None) from None

    def _key(self, node: Any) -> int:
        tensor = self.tensors.get(node.name)
        indices = tuple(node.indices)
        if (
            tensor is None
            or len(indices) != len(tensor.shape)
            or not all(0 <= i < size for i, size in zip(indices, tensor.shape, strict=True))
        ):
            raise self.fail(node.line, f"{node} is no entry of a declared tensor", node.name)
        return tensor.key(indices)


def _line(node: Any) -> int:
    """The line of the first variable or literal below ``node``."""
    while not hasattr(node, "line"):
        children = node.children()
        if not children:
            return 1
        node = children[0]
    return int(node.line)
