"""Values of question files that are written here, exactly."""

from __future__ import annotations

import json
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
