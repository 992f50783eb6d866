"""TOML files that state questions: parsed with exact numbers, and errors that say where."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from specs.decimals import parse_decimal
from specs.errors import QuestionError
from specs.numerals import numeral
from specs.source import Source, read_source

NUMBERS = (int, Fraction, list)
"""Types of a value that is a number, or one for each input."""

UNCHECKED = ("clip", "tensors", "layers", "except")
"""Keys whose lists hold other things than numbers."""

_NAMES = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    Fraction: "a number",
    list: "a list",
}


def read_document(path: Path) -> Document:
    """A parsed file.

    Raises:
        PropertyError: it cannot be read.
        QuestionError: it is not TOML.
    """
    source, _ = read_source(path)
    return Document(path.parent, source, _parse(source))


@dataclass(frozen=True)
class Document:
    """A parsed TOML file that can say where its keys stand.

    Attributes:
        folder: of the file; what it names is relative to it.
        source: its text.
        tables: as parsed; numbers that are not whole are exact fractions.
    """

    folder: Path
    source: Source
    tables: Mapping[str, Any]

    def table(self, name: str) -> Mapping[str, Any]:
        """A table by its name, empty where the file has none.

        Raises:
            QuestionError: it is no table.
        """
        found = self.tables.get(name, {})
        if not isinstance(found, dict):
            raise self.error("", name, f"'{name}' must be a table, [{name}]")
        return found

    def error(self, table: str, key: str, message: str) -> QuestionError:
        """An error at ``key`` of ``table``, or at the table, or at the file's start."""
        return QuestionError(str(self.source.error(self._offset(table, key), message)))

    def check(
        self,
        table: str,
        key: str,
        value: Any,
        allowed: Mapping[str, tuple[type, ...]],
        tables: Sequence[str] = (),
    ) -> None:
        """A key is known and its value of the right type.

        Raises:
            QuestionError: it is not; the message says what is known, or what it must be.
        """
        if key not in allowed:
            known = ", ".join([*allowed, *tables])
            raise self.error(table, key, f"unknown key '{key}'; known here: {known}")
        wanted = allowed[key]
        right = isinstance(value, wanted) and not isinstance(value, _Refused)
        if not right or (isinstance(value, bool) and bool not in wanted):
            kinds = " or ".join(_NAMES[kind] for kind in wanted)
            raise self.error(table, key, f"'{key}' must be {kinds}, not {written(value)}")
        if isinstance(value, list) and key not in UNCHECKED:
            for entry in value:
                if isinstance(entry, bool) or not isinstance(entry, int | Fraction):
                    raise self.error(table, key, f"'{key}' holds {written(entry)}, not a number")

    def _offset(self, table: str, key: str) -> int:
        current, fallback, offset = "", 0, 0
        quoted = rf"(?:{re.escape(key)}|\"{re.escape(key)}\"|'{re.escape(key)}')"
        for line in self.source.text.splitlines(keepends=True):
            header = re.match(r"\s*\[+\s*([^\[\]#]*?)\s*\]", line)
            if header is not None and "=" not in line[: header.end()]:
                current = header[1].strip("\"'")
                if current in (table, f"{table}.{key}") or (not table and current == key):
                    fallback = offset
            elif current == table and re.match(rf"\s*{quoted}\s*[=.]", line):
                return offset + len(line) - len(line.lstrip())
            elif not current and table and re.match(rf"\s*{re.escape(table)}\s*[=.]", line):
                fallback = offset
            offset += len(line)
        return fallback


def written(value: Any) -> str:
    """A value as a file may have it, for messages; long ones are cut short.

    >>> written([Fraction(1, 100), True, "a"])
    "[0.01, true, 'a']"
    """
    match value:
        case bool():
            text = str(value).lower()
        case Fraction():
            text = numeral(value)
        case list():
            text = f"[{', '.join(map(written, value[:60]))}]"
        case dict():
            text = f"{{ {', '.join(f'{key} = {written(own)}' for key, own in value.items())} }}"
        case _Refused():
            text = str(value)
        case _:
            text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


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
