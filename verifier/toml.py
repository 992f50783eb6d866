"""Question files that are written here, with exact values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from specs.errors import QuestionError
from specs.numerals import numeral


def toml(value: Any) -> str:
    """A value in TOML: a truth value, a text, a number, or a list of them.

    Raises:
        QuestionError: a number is no decimal.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(entry) for entry in value)}]"
    number = numeral(Fraction(value))
    if "/" in number:
        raise QuestionError(f"{number} is no decimal: a question file cannot hold it")
    return number


def document(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """A file of tables, in their order; a table without a name begins it.

    Raises:
        QuestionError: a number is no decimal.
    """
    lines = []
    for name, values in tables.items():
        lines += [f"[{name}]"] if name else []
        lines += [f"{key} = {toml(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"
