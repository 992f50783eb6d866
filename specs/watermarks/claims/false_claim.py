"""``false_claim``: without the mark, so many matches are improbable.

at_least     matches
keys         how many keys were tried, or could have been; 1 where left out
level        the probability is at most this: a number, or "2^-64"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from specs.document import Document
from specs.query import ModelFile
from specs.watermarks.mark import Mark
from specs.watermarks.question import marked
from specs.watermarks.reading import CLAIM, Keys

MOST_KEYS = 10**30
FINEST = 4096
"""Levels are at least ``2**-FINEST``."""


@dataclass(frozen=True, eq=False)
class FalseClaim:
    """The claim.

    Attributes:
        mark: of which the matches are.
        at_least: matches.
        keys: tried.
        level: bound of the probability.
    """

    mark: Mark
    at_least: int
    keys: int
    level: Fraction

    kind = "false_claim"

    @property
    def text(self) -> str:
        """What it depends on."""
        null = " ".join(map(str, self.mark.null))
        rests = "; ".join(self.mark.assumptions)  # how many models, and the doubt, are said there
        said = f"at least {self.at_least}, keys {self.keys}, level {self.level}"
        return f"{said}, null {null}, assumed {rests}"

    def theorem(self) -> list[str]:
        """In words."""
        many = "" if self.keys == 1 else f", or any of {self.keys} keys that were tried,"
        return [
            f"A model without the {self.mark.scheme} mark matches the key{many} in at least "
            f"{self.at_least} of {self.mark.size} places with probability at most "
            f"{level_text(self.level)}.",
            *self.mark.commitment.in_words(),
        ]

    def assumed(self) -> list[str]:
        """The null hypothesis."""
        return [*self.mark.assumptions, "the probability of any of several keys is at most the sum"]


def level_text(level: Fraction) -> str:
    """A level as it is commonly written."""
    top, bottom = level.numerator, level.denominator
    if top == 1 and bottom & (bottom - 1) == 0:
        return f"2^-{bottom.bit_length() - 1}"
    return str(level)


def read_level(table: Keys, key: str = "level") -> Fraction:
    """A probability: a number between 0 and 1, or a text such as ``"2^-64"``.

    Raises:
        QuestionError: it is missing, or none.
    """
    value = table.need(key)
    if isinstance(value, str):
        found = re.fullmatch(r"2\^-(\d{1,4})", value)
        if found is None or int(found[1]) > FINEST:
            raise table.error(key, f"'{value[:40]}': say 2^-N, N at most {FINEST}, or a number")
        return Fraction(1, 1 << int(found[1]))
    if not Fraction(1, 1 << FINEST) <= value <= 1:
        raise table.error(key, f"'{key}' is no probability")
    return Fraction(value)


def read(document: Document, models: Mapping[str, ModelFile], mark: Mark | None) -> FalseClaim:
    """The claim of a file."""
    allowed: dict[str, tuple[type, ...]] = {
        "kind": (str,),
        "at_least": (int,),
        "keys": (int,),
        "level": (int, Fraction, str),
    }
    table = Keys.of(document, CLAIM, allowed)
    found = marked(document, mark)
    matches = table.whole("at_least", 0, found.size)
    return FalseClaim(found, matches, table.whole("keys", 1, MOST_KEYS, 1), read_level(table))
