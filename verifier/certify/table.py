"""Tables of a configuration, read key by key; unknown keys and wrong types are errors."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from specs.document import Document, written
from specs.errors import InputError, QuestionError

_NUMBER = (int, Fraction)
LARGEST = Fraction(sys.float_info.max)
"""Numbers that are greater, or less than its negative, are refused."""


@dataclass(eq=False)
class Table:
    """A table whose keys are known by being asked for.

    Attributes:
        document: the file.
        name: of the table, as its header has it: ``"faults.map"``.
        values: what it holds.
        known: the keys that were asked for.
        index: which of several tables of this name, counted from 0.
        inside: the key of the table ``name`` at which this one stands, in braces; empty: it has
            a header.
    """

    document: Document
    name: str
    values: Mapping[str, Any]
    known: list[str] = field(default_factory=list)
    index: int = 0
    inside: str = ""

    @classmethod
    def of(cls, document: Document, name: str) -> Table:
        """A table of a file, empty where there is none.

        Raises:
            QuestionError: it is no table.
        """
        return cls(document, name, document.table(name))

    @classmethod
    def several(cls, document: Document, name: str) -> tuple[Table, ...]:
        """A table of a file, or several of one name, ``[[NAME]]``.

        Raises:
            QuestionError: it is neither.
        """
        found = document.tables.get(name, {})
        if isinstance(found, list) and found and all(isinstance(each, dict) for each in found):
            return tuple(cls(document, name, each, [], k) for k, each in enumerate(found))
        return (cls.of(document, name),)

    def error(self, key: str, message: str) -> QuestionError:
        """An error at a key, or at the table; of one in braces, where these stand.

        A message that says where in the file keeps its place.
        """
        if re.match(rf"{re.escape(self.document.source.name)}:\d+:\d+: ", message):
            return QuestionError(message)
        key = self.inside or key
        if not self.index:
            return self.document.error(self.name, key, message)
        source = self.document.source
        header = rf"^[ \t]*\[\[?[ \t]*{re.escape(self.name)}[ \t]*\]"
        start = [found.start() for found in re.finditer(header, source.text, re.MULTILINE)]
        place = start[min(self.index, len(start) - 1)]
        end = source.text.find("\n[", place + 1)
        own = source.text[place : None if end < 0 else end]
        line = re.search(rf"^[ \t]*{re.escape(key)}\b", own, re.MULTILINE) if key else None
        return QuestionError(str(source.error(place + (line.start() if line else 0), message)))

    def placed(self, key: str, build: Callable[[], Any]) -> Any:
        """What ``build`` makes; an error of the input's is said to be at ``key``."""
        try:
            return build()
        except InputError as error:
            raise self.error(key, str(error)) from None

    def done(self) -> None:
        """All keys have been asked for.

        Raises:
            QuestionError: another one stands there.
        """
        for key in self.values:
            if key not in self.known:
                known = ", ".join(self.known)
                where = f"'{self.inside}' of [{self.name}]" if self.inside else f"[{self.name}]"
                raise self.error(key, f"unknown key '{key}' in {where}; known here: {known}")

    def without(self, *keys: str) -> Document:
        """The file, with this table as it is without some keys; other tables are kept."""
        left = {key: value for key, value in self.values.items() if key not in keys}
        return replace(self.document, tables={**self.document.tables, self.name: left})

    def has(self, key: str) -> bool:
        """Whether a key stands there."""
        self._ask(key)
        return key in self.values

    def text(self, key: str, default: str | None = None, choices: Sequence[str] = ()) -> str | None:
        """A string, one of ``choices`` where there are any."""
        found = self._typed(key, (str,), "a string", default)
        if choices and found is not None and found not in choices:
            known = ", ".join(f"'{choice}'" for choice in choices)
            raise self.error(key, f"'{key}' must be one of {known}, not '{found}'")
        return None if found is None else str(found)

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        return bool(self._typed(key, (bool,), "true or false", default))

    def integer(self, key: str, default: int | None = None, least: int = 0) -> int | None:
        """An integer of at least ``least``."""
        found = self._typed(key, (int,), "an integer", default)
        if found is not None and found < least:
            raise self.error(key, f"'{key}' must be at least {least}, not {found}")
        return None if found is None else int(found)

    def number(
        self,
        key: str,
        default: Fraction | None = None,
        least: Fraction | int | None = None,
        most: Fraction | int | None = None,
    ) -> Fraction | None:
        """A number, exactly as written."""
        found = self._typed(key, _NUMBER, "a number", default)
        if found is None:
            return None
        for bad, end, what in (
            (least is not None and found < least, least, "least"),
            (most is not None and found > most, most, "most"),
        ):
            if bad:
                raise self.error(key, f"'{key}' must be at {what} {end}, not {float(found):g}")
        return Fraction(found)

    def ratio(self, key: str, least: Fraction | int | None = None) -> Fraction | None:
        """A number, or a quotient as a string, ``"2/255"``; exactly as written."""
        self._ask(key)
        if type(self.values.get(key)) is str:  # inf is a text of its own kind
            self.values = {**self.values, key: self._quotient(key, self.values[key])}
        return self.number(key, None, least)

    def ratios(self, key: str) -> tuple[Fraction, ...]:
        """A list of such numbers, empty where it is left out."""
        found = self._list(key, (*_NUMBER, str), "numbers")
        return tuple(
            self._quotient(key, entry) if isinstance(entry, str) else Fraction(entry)
            for entry in found
        )

    def _quotient(self, key: str, text: str) -> Fraction:
        if not re.fullmatch(r"[0-9]{1,30}/0*[1-9][0-9]{0,30}", text):
            raise self.error(key, f"'{key}': '{text:.60}' is no quotient such as \"2/255\"")
        return Fraction(text)

    def share(self, key: str) -> Fraction | None:
        """A number between 0 and 1."""
        return self.number(key, None, 0, 1)

    def strings(self, key: str) -> tuple[str, ...]:
        """A list of strings, empty where it is left out."""
        return tuple(self._list(key, (str,), "strings"))

    def numbers(self, key: str) -> tuple[Fraction, ...]:
        """A list of numbers, empty where it is left out."""
        return tuple(Fraction(entry) for entry in self._list(key, _NUMBER, "numbers"))

    def numeric(self, key: str) -> Fraction | tuple[Fraction, ...] | None:
        """A number, or a list of them."""
        if isinstance(self.values.get(key), list):
            return self.numbers(key)
        return self.number(key)

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of integers, empty where it is left out."""
        return tuple(self._list(key, (int,), "integers"))

    def spread(self, key: str, count: int) -> tuple[Fraction, ...] | None:
        """A list of ``count`` numbers; one number stands for all; ``None``: it is left out."""
        if not self.has(key):
            return None
        if not isinstance(self.values[key], list):
            return (self.ratio(key) or Fraction(0),) * count
        found = self.ratios(key)
        if len(found) != count:
            raise self.error(key, f"'{key}' holds {len(found)} numbers; wanted: {count}, or one")
        return found

    def indices(self, key: str, count: int) -> tuple[int, ...]:
        """A list of different integers from 0 to ``count - 1``, empty where it is left out."""
        found = self._list(key, (int,), "integers")
        for entry in found:
            if not 0 <= entry < count or found.count(entry) > 1:
                raise self.error(key, f"'{key}' holds {entry}: twice, or not from 0 to {count - 1}")
        return tuple(found)

    def interval(self, key: str) -> tuple[Fraction, Fraction] | None:
        """``[LOW, HIGH]``."""
        if not self.has(key):
            return None
        found = self.numbers(key)
        if len(found) != 2 or found[0] > found[1]:
            raise self.error(key, f"'{key}' must be [LOW, HIGH]")
        return found[0], found[1]

    def tables(self, key: str) -> tuple[Table, ...]:
        """A table or a list of tables below this one, in either way of writing."""
        self._ask(key)
        found = self.values.get(key, [])
        listed = found if isinstance(found, list) else [found]
        if not all(isinstance(entry, dict) for entry in listed):
            raise self.error(key, f"'{key}' must be a table, such as {{ name = 1 }}")
        name = f"{self.name}.{key}"
        if f"[{name}]" not in self.document.source.text:  # written in a line of this table
            return tuple(
                Table(self.document, self.name, entry, [], self.index, key) for entry in listed
            )
        return tuple(Table(self.document, name, entry, [], k) for k, entry in enumerate(listed))

    def _ask(self, key: str) -> None:
        if key not in self.known:
            self.known.append(key)

    def _typed(self, key: str, kinds: tuple[type, ...], words: str, default: Any) -> Any:
        self._ask(key)
        if key not in self.values:
            return default
        found = self.values[key]
        if not _is(found, kinds):
            raise self.error(key, f"'{key}' must be {words}, not {written(found)}")
        self._sane(key, found)
        return found

    def _list(self, key: str, kinds: tuple[type, ...], words: str) -> list[Any]:
        found: list[Any] = self._typed(key, (list,), f"a list of {words}", [])
        for entry in found:
            if not _is(entry, kinds):
                raise self.error(
                    key, f"'{key}' must be a list of {words}; it holds {written(entry)}"
                )
            self._sane(key, entry)
        return found

    def _sane(self, key: str, value: Any) -> None:
        if isinstance(value, _NUMBER) and abs(value) > LARGEST:
            raise self.error(key, f"'{key}' holds a number above {sys.float_info.max:g}")


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    """Of one of these types; true is no number, and a number that is not finite no string."""
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) and (not isinstance(value, str) or type(value) is str)
