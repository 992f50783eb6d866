"""Loading a question: a model and a property, or one TOML file that names both.

A question file has these tables and keys; ``docs/question.md`` shows examples.  Paths are
relative to the file.  Numbers are exact: ``0.1`` is one tenth.

    semantics   "real", "float32", ...        optional, see specs/perturbation.py;
                                              "integer": see load_integer_question
    title       a string                      optional
    [models]    NAME = "FILE.onnx"            exactly one
    [region]    file = "FILE.vnnlib"          either the regions of a property file,
                lower, upper                  or a box,
                centre, radius, clip          or a ball, optionally cut by clip = [LOW, HIGH]
    [statement] kind = "robust"               label, optionally target
                kind = "range"                output, minimum and/or maximum
                kind = "unsafe"               formula = "(and (<= Y_0 Y_1) ...)"

A bound, radius or side of the clip is one number or a list with one per input.  Without
``[statement]`` the file of ``[region]`` states the whole property; with it, that file may
speak of inputs only.  A formula is in the syntax of VNN-LIB 1.0, and may name inputs.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from specs import builders
from specs.decimals import parse_decimal
from specs.errors import InputError, QuestionError
from specs.network import Network
from specs.onnx_reader import read_model
from specs.perturbation import INTEGER, REAL, Perturbation, Rounding, rounding_of
from specs.property import Case, Property
from specs.property_reader import read_property
from specs.query import Query
from specs.source import Source, read_source
from specs.vnnlib1 import read_unsafe

__all__ = ["load_question", "read_property"]

_NUMBERS = (int, Fraction, list)
_TABLES: dict[str, dict[str, tuple[type, ...]]] = {
    "": {"semantics": (str,), "title": (str,)},
    "region": {
        "file": (str,),
        **dict.fromkeys(("lower", "upper", "centre", "radius"), _NUMBERS),
        "clip": (list,),
    },
    "statement": {
        "kind": (str,),
        **dict.fromkeys(("label", "target", "output"), (int,)),
        **dict.fromkeys(("minimum", "maximum"), (int, Fraction)),
        "formula": (str,),
    },
}
_REGIONS = (
    (frozenset({"file"}), frozenset[str]()),
    (frozenset({"lower", "upper"}), frozenset[str]()),
    (frozenset({"centre", "radius"}), frozenset({"clip"})),
)
_STATEMENTS = {
    "robust": (frozenset({"label"}), frozenset({"target"})),
    "range": (frozenset({"output"}), frozenset({"minimum", "maximum"})),
    "unsafe": (frozenset({"formula"}), frozenset[str]()),
}


def load_question(*paths: str | Path, semantics: str | None = None) -> Query:
    """The query that ``NET.onnx PROPERTY.vnnlib`` or ``QUESTION.toml`` states.

    Args:
        paths: the files.
        semantics: one of ``specs.perturbation.SEMANTICS``; ``None``: what a question file
            says, and otherwise real numbers.

    Raises:
        ModelError: the model cannot be read.
        PropertyError: the property cannot be read or does not fit the model.
        QuestionError: the question file is malformed, or the paths are neither of the two.
    """
    if len(paths) == 2:
        format = rounding_of(REAL if semantics is None else semantics)
        network, model = read_model(Path(paths[0]), format)
        stated, digest = read_property(paths[1], network)
        title = " ".join(Path(path).name for path in paths)
        return Query(network, stated, (model,), digest, _perturbations(format), title)
    if len(paths) == 1 and Path(paths[0]).suffix == ".toml":
        return _load_toml(Path(paths[0]), semantics)
    raise QuestionError(
        "a question is a model and a property (NET.onnx PROPERTY.vnnlib) or a QUESTION.toml; "
        f"given: {' '.join(map(str, paths)) or 'nothing'}"
    )


def stated_semantics(*paths: str | Path) -> str | None:
    """What a question file says of semantics; ``None``: nothing, or it is no such file.

    Raises:
        QuestionError: the file is malformed.
        PropertyError: it cannot be read.
    """
    if len(paths) != 1 or Path(paths[0]).suffix != ".toml":
        return None
    written = _document(Path(paths[0])).tables.get("semantics")
    return written if isinstance(written, str) else None


def load_integer_question(*paths: str | Path) -> Query:
    """The model and the property of a question under integer semantics.

    The query returned is the same question of *real* numbers: its network and its digest are
    not those of integers, and whoever asks keeps it apart from the kernel.

    Raises:
        InputError: as :func:`load_question`, or the file states another semantics.
    """
    if len(paths) == 1 and Path(paths[0]).suffix == ".toml":
        return _load_toml(Path(paths[0]), INTEGER, integers=True)
    return load_question(*paths, semantics=REAL)


def _perturbations(format: Rounding | None) -> tuple[Perturbation, ...]:
    return () if format is None else (format,)


@dataclass(frozen=True)
class _Document:
    """A parsed question file that can say where its keys stand."""

    source: Source
    tables: Mapping[str, Any]

    def table(self, name: str) -> Mapping[str, Any]:
        found = self.tables.get(name, {})
        if not isinstance(found, dict):
            raise self.error("", name, f"'{name}' must be a table, [{name}]")
        return found

    def error(self, table: str, key: str, message: str) -> QuestionError:
        """An error at ``key`` of ``table``, or at the table, or at the file's start."""
        return QuestionError(str(self.source.error(self._offset(table, key), message)))

    def _offset(self, table: str, key: str) -> int:
        current, fallback, offset = "", 0, 0
        quoted = rf"(?:{re.escape(key)}|\"{re.escape(key)}\"|'{re.escape(key)}')"
        for line in self.source.text.splitlines(keepends=True):
            header = re.match(r"\s*\[+\s*([^\[\]#]*?)\s*\]", line)
            if header is not None and "=" not in line[: header.end()]:
                current = header[1].strip("\"'")
                if current == table or (not table and current == key):
                    fallback = offset
            elif current == table and re.match(rf"\s*{quoted}\s*[=.]", line):
                return offset + len(line) - len(line.lstrip())
            elif not current and table and re.match(rf"\s*{re.escape(table)}\s*[=.]", line):
                fallback = offset
            offset += len(line)
        return fallback


def _document(path: Path) -> _Document:
    source, _ = read_source(path)
    document = _Document(source, _parse(source))
    _check_keys(document)
    return document


def _load_toml(path: Path, semantics: str | None, integers: bool = False) -> Query:
    document = _document(path)
    top = document.tables
    written = top.get("semantics")
    if written is not None and semantics not in (None, written):
        raise document.error(
            "", "semantics", f"the file says semantics '{written}', the caller '{semantics}'"
        )
    try:
        format = None if integers else rounding_of(written or semantics or REAL)
    except QuestionError as error:
        raise document.error("", "semantics", str(error)) from None
    models = document.table("models")
    if len(models) != 1 or not all(isinstance(file, str) for file in models.values()):
        raise document.error("", "models", '[models] must hold one line, NAME = "FILE.onnx"')
    network, model = read_model(path.parent / next(iter(models.values())), format)
    stated, digest = _property(document, path.parent, network)
    title = top.get("title", path.name)
    return Query(network, stated, (model,), digest, _perturbations(format), title)


def _parse(source: Source) -> dict[str, Any]:
    try:
        return tomllib.loads(source.text, parse_float=_number)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        where = f":{place[1]}:{place[2]}" if place else ""
        message = str(error).partition(" (at ")[0]
        raise QuestionError(f"{source.name}{where}: {message}") from None
    except (ValueError, RecursionError) as error:
        raise QuestionError(f"{source.name}: {error}") from None


def _number(lexeme: str) -> Fraction | str:
    try:
        return parse_decimal(lexeme.replace("_", ""))
    except ValueError:
        return _Refused(lexeme)


class _Refused(str):
    """A TOML float that is not finite or out of reach; no key accepts one."""

    __slots__ = ()


def _check_keys(document: _Document) -> None:
    for key, value in document.tables.items():
        if key in ("models", "region", "statement"):
            document.table(key)
            continue
        _check_value(document, "", key, value)
    for table in ("region", "statement"):
        for key, value in document.table(table).items():
            _check_value(document, table, key, value)


def _check_value(document: _Document, table: str, key: str, value: Any) -> None:
    allowed = _TABLES[table]
    if key not in allowed:
        known = ", ".join([*allowed, *([] if table else ["[models]", "[region]", "[statement]"])])
        raise document.error(table, key, f"unknown key '{key}'; known here: {known}")
    wanted = allowed[key]
    if isinstance(value, bool | _Refused) or not isinstance(value, wanted):
        names = {str: "a string", int: "an integer", Fraction: "a number", list: "a list"}
        kinds = " or ".join(names[w] for w in wanted)
        raise document.error(table, key, f"'{key}' must be {kinds}, not {value!r:.60}")
    if isinstance(value, list) and key != "clip":
        for entry in value:
            if isinstance(entry, bool) or not isinstance(entry, int | Fraction):
                raise document.error(table, key, f"'{key}' holds {entry!r:.60}, not a number")


def _property(document: _Document, folder: Path, network: Network) -> tuple[Property, str]:
    region = document.table("region")
    _require(document, "region", region, _REGIONS)
    whole = "statement" not in document.tables
    if "file" in region:
        stated, digest = read_property(folder / region["file"], network)
        if whole:
            return stated, digest
        if any(case.unsafe != ((),) for case in stated.cases):
            raise document.error(
                "region", "file", "the region's file speaks of outputs, and so does [statement]"
            )
        regions = tuple(stated.cases)
        notes = stated.notes
    elif whole:
        raise document.error("", "statement", "[statement] is missing")
    else:
        regions = (_region(document, region, network.input_size),)
        notes = ()
    unsafe = _statement(document, regions, network)
    built = replace(unsafe, notes=notes + unsafe.notes)
    return built, built.digest


def _region(document: _Document, region: Mapping[str, Any], size: int) -> Case:
    if "lower" in region:
        low, high = _placed(
            document, "region", lambda: builders.box(size, region["lower"], region["upper"])
        )
    else:
        clip = region.get("clip", (None, None))
        if len(clip) != 2:
            raise document.error("region", "clip", "'clip' must be [LOW, HIGH]")
        low, high = _placed(
            document,
            "region",
            lambda: builders.ball(size, region["centre"], region["radius"], *clip),
        )
    return Case(low, high, ((),))


def _statement(document: _Document, regions: tuple[Case, ...], network: Network) -> Property:
    statement = document.table("statement")
    kind = statement.get("kind")
    if kind not in _STATEMENTS:
        known = ", ".join(f"'{name}'" for name in _STATEMENTS)
        raise document.error("statement", "kind", f"kind {kind!r} is none of {known}")
    given = {key: value for key, value in statement.items() if key != "kind"}
    _require(document, "statement", given, (_STATEMENTS[kind],))
    inputs, outputs = network.input_size, network.output_size
    if kind == "unsafe":
        name = f"{document.source.name}: formula"
        unsafe = read_unsafe(Source(name, given["formula"]), inputs, outputs)
    elif kind == "robust":
        make = builders.misclassified
        unsafe = _placed(document, "statement", lambda: make(outputs, **given))
    else:
        limit = builders.out_of_range
        unsafe = _placed(document, "statement", lambda: limit(outputs, **given))
    return Property(inputs, outputs, tuple(replace(case, unsafe=unsafe) for case in regions))


def _placed(document: _Document, table: str, build: Callable[[], Any]) -> Any:
    try:
        return build()
    except InputError as error:
        key = re.match(r"\w+", str(error))
        raise document.error(table, key[0] if key else "", str(error)) from None


def _require(
    document: _Document,
    table: str,
    given: Mapping[str, Any],
    choices: tuple[tuple[frozenset[str], frozenset[str]], ...],
) -> None:
    if any(must <= given.keys() <= must | may for must, may in choices):
        return
    forms = "; or ".join(
        ", ".join(sorted(must)) + "".join(f", optionally {key}" for key in sorted(may))
        for must, may in choices
    )
    found = ", ".join(given) or "nothing"
    raise document.error(table, "", f"[{table}] needs {forms}; it has {found}")
