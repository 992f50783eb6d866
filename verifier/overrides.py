"""Settings that a user overrides by name, such as ``search.batch`` or ``policy.kernel_share``.

Names, types, ranges, defaults and meanings are read from the dataclasses of the settings
themselves, so that there is no second list of them.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from specs.errors import InputError, MissingExtraError

Value = bool | int | float | str


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may take, in the ``Annotated`` type of its field.

    Attributes:
        low, high: ends, both included.
    """

    low: float = 0.0
    high: float = math.inf

    def __str__(self) -> str:
        return f"at least {self.low:g}" + (
            "" if self.high == math.inf else f", at most {self.high:g}"
        )


Share = Annotated[float, Range(0.0, 1.0)]
Count = Annotated[int, Range(1)]
Positive = Annotated[float, Range(1e-9)]

_GROUPS = {
    "policy": "verifier.policy",
    "attack": "verifier.attack",
    "search": "verifier.bab_settings",
    "quantised": "verifier.quantised.settings",
    "smt": "verifier.smt.settings",
}
"""Where the class ``Settings`` of a group is; that of the search needs torch."""


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: with its group, as ``search.batch``.
        kind: ``bool``, ``int``, ``float``, ``str``.
        choices: the words it may be; of none, any.
        range: of a number.
        default: what stands in the dataclass.
        meaning: in words, from the docstring.
    """

    name: str
    kind: type
    choices: tuple[str, ...]
    range: Range
    default: Value
    meaning: str

    def parse(self, given: object) -> Value:
        """The value that a text or a Python value stands for.

        Raises:
            InputError: it is not one of the setting's.
        """
        value = _read(self.kind, given.strip() if isinstance(given, str) else given)
        if value is None or (self.choices and value not in self.choices):
            raise InputError(f"{self.name}={given}: give {self._wanted()}")
        if not isinstance(value, bool | str) and not self._within(value):
            raise InputError(f"{self.name}={given}: must be {self.range}")
        return value

    def _within(self, number: float) -> bool:
        return self.range.low <= number <= self.range.high and number != math.inf

    def _wanted(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return {bool: "true or false", int: "a whole number", float: "a number"}.get(
            self.kind, "a word"
        )


def _read(kind: type, given: object) -> Value | None:
    if kind is bool:
        words: dict[object, bool] = {"true": True, "false": False}
        return given if isinstance(given, bool) else words.get(str(given).lower())
    if isinstance(given, bool):
        return None
    if kind is str:
        return given if isinstance(given, str) else None
    try:
        value: object = kind(given) if isinstance(given, str | int) else given
    except (ValueError, OverflowError):
        return None
    return value if isinstance(value, int | float) and isinstance(value, kind) else None


def every_setting(group: str | None = None) -> Iterator[Setting]:
    """All settings, or those of a group.

    Raises:
        MissingExtraError: the search's are wanted, and torch is not installed.
    """
    for prefix in _GROUPS if group is None else (group,):
        settings = _settings_class(prefix)
        hints = get_type_hints(settings, include_extras=True)
        meanings = _meanings(settings)
        for field in fields(settings):
            yield _setting(f"{prefix}.{field.name}", hints[field.name], field.default, meanings)


def _settings_class(group: str) -> Any:
    try:
        return importlib.import_module(_GROUPS[group]).Settings
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'the settings of {group} need {error.name}: pip install ".[verifier]"'
        ) from error


def _setting(name: str, hint: Any, default: Any, meanings: Mapping[str, str]) -> Setting:
    span = Range()
    if get_origin(hint) is Annotated:
        hint, *extra = get_args(hint)
        span = next((e for e in extra if isinstance(e, Range)), span)
    choices: tuple[str, ...] = ()
    if get_origin(hint) is Literal:
        hint, choices = str, get_args(hint)
    if isinstance(hint, types.UnionType) or hint not in (bool, int, float, str):
        raise TypeError(f"{name}: a setting of the type {hint} has no form in text")
    return Setting(name, hint, choices, span, default, meanings.get(name.split(".")[1], ""))


def _meanings(settings: Any) -> dict[str, str]:
    """By field, what the section Attributes of the class's docstring says of it."""
    text = inspect.getdoc(settings) or ""
    section = text.partition("Attributes:\n")[2].partition("\n\n")[0]
    meanings: dict[str, str] = {}
    for entry in re.split(r"^(?=    \w)", section, flags=re.MULTILINE)[1:]:
        head, _, meaning = entry.partition(":")
        words = " ".join(meaning.split()).rstrip(".")
        # A second field may be explained in passing, after its name in quotes.
        first, *others = re.split(r"[;,]? ``(\w+)``: ", words)
        own = {name.strip(): first for name in head.split(",")}
        meanings |= own | dict(zip(others[::2], others[1::2], strict=True))
    return meanings


def validated(given: Mapping[str, object]) -> dict[str, Value]:
    """Overrides with the values that they stand for.

    Raises:
        InputError: an unknown name, or a value that its setting cannot take.
        MissingExtraError: one of the search's, and torch is not installed.
    """
    found: dict[str, Value] = {}
    for name, value in given.items():
        group = name.partition(".")[0]
        known = {s.name: s for s in every_setting(group)} if group in _GROUPS else {}
        if name not in known:
            raise InputError(_unknown(name))
        found[name] = known[name].parse(value)
    return found


def _unknown(name: str) -> str:
    names = [setting.name for setting in every_setting()]
    last = name.rpartition(".")[2]
    near = difflib.get_close_matches(name, names, n=3)
    near += [n for n in names if n.partition(".")[2] == last and n not in near]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no setting '{name}'{hint} (farkas verify --list-settings names all)"


def of_group(overrides: Mapping[str, Value], group: str) -> dict[str, Any]:
    """The overrides of one group, by field."""
    start = f"{group}."
    return {name.removeprefix(start): v for name, v in overrides.items() if name.startswith(start)}


def read_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts as a mapping; of a name given twice the last one counts.

    Raises:
        InputError: a text without a name or without ``=``.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--set {pair}: write NAME=VALUE")
        found[name.strip()] = value
    return found


def in_words(overrides: Mapping[str, Value]) -> str:
    """``NAME=VALUE`` for each, in alphabetical order; the text reads back as the same."""
    return " ".join(f"{name}={_word(overrides[name])}" for name in sorted(overrides))


def _word(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _brief(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else _word(value)


def listing(defaults: Mapping[str, str]) -> str:
    """A line per setting: name, default, meaning.

    Args:
        defaults: what to show for settings whose default is not that of the dataclass.

    Raises:
        MissingExtraError: torch is not installed.
    """
    rows = [(s.name, defaults.get(s.name) or _brief(s.default), s.meaning) for s in every_setting()]
    wide = [max(len(row[k]) for row in rows) for k in (0, 1)]
    return "".join(f"{n:{wide[0]}}  {d:{wide[1]}}  {m}\n" for n, d, m in rows)
