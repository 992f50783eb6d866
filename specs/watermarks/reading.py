"""The table ``[watermark]``: keys that several schemes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from specs.document import Document
from specs.errors import InputError, QuestionError
from specs.watermarks.key import Key
from specs.watermarks.mark import Commitment

MARK, CLAIM = "watermark", "claim"
COMMON: Mapping[str, tuple[type, ...]] = {
    "scheme": (str,),
    "seed": (str,),
    "commitment": (str,),
    "time": (str,),
}


@dataclass(frozen=True)
class Keys:
    """A table of a question file whose keys are checked.

    Attributes:
        document: the file.
        name: of the table.
        values: by key; known ones, of the right types.
    """

    document: Document
    name: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, document: Document, name: str, allowed: Mapping[str, tuple[type, ...]]) -> Keys:
        """A table with these keys.

        Raises:
            QuestionError: another one stands there, or one is of the wrong type.
        """
        values = document.table(name)
        for key, value in values.items():
            document.check(name, key, value, allowed)
        return cls(document, name, values)

    def error(self, key: str, message: str) -> QuestionError:
        """An error at a key."""
        return self.document.error(self.name, key, message)

    def need(self, key: str) -> Any:
        """What a key holds.

        Raises:
            QuestionError: it is missing.
        """
        if key not in self.values:
            raise self.error(key, f"[{self.name}] needs '{key}'")
        return self.values[key]

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number between two ends.

        Raises:
            QuestionError: it is missing, or outside.
        """
        value: int = self.values.get(key, default) if default is not None else self.need(key)
        if not low <= value <= high:
            raise self.error(key, f"'{key}' is {value}; it must be from {low} to {high}")
        return value

    def positive(self, key: str) -> Fraction:
        """A positive number.

        Raises:
            QuestionError: it is missing, or not positive.
        """
        value = Fraction(self.need(key))
        if value <= 0:
            raise self.error(key, f"'{key}' must be positive")
        return value

    def key(self) -> Key:
        """The key that ``seed`` states.

        Raises:
            QuestionError: it is missing or malformed.
        """
        seed = self.need("seed")
        try:
            return Key.of(seed)
        except InputError as error:
            raise self.error("seed", str(error)) from None

    def commitment(self, key: Key, text: str) -> Commitment:
        """The commitment; a stated hash must be that of the mark.

        Raises:
            QuestionError: it is another one.
        """
        found, stated = key.commitment(text), self.values.get("commitment")
        if stated is not None and stated.lower() != found:
            raise self.error("commitment", f"the seed and this mark have the commitment {found}")
        return Commitment(found, stated, self.values.get("time"))
