"""How probable so many matches are without the mark, and how many matches a level needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from proofs.watermarks.tails import (
    binomial_tail,
    log2_text,
    poisson_binomial_tail,
    poisson_binomial_threshold,
    several_keys,
    threshold,
)
from specs.watermarks.claims.false_claim import FINEST, MOST_KEYS, level_text, read_level
from specs.watermarks.mark import Mark
from specs.watermarks.reading import Keys
from verifier.certify.delivery import BY_EVIDENCE
from verifier.certify.section import PROVED, REFUTED, Judged, Part, Place, Record, Rows, Task
from verifier.certify.table import Table
from verifier.certify.watermark.common import Marked, ask_claim
from verifier.certify.watermark.extraction import checked, matches_of

LEVELS = (40, 64, 80, 128)
"""Powers of one half whose thresholds are always listed."""


@dataclass(frozen=True, eq=False)
class FalseClaim:
    """The answer ``[watermark.false_claim]``.

    Attributes:
        marked: the model and the mark.
        matches: that are shown; ``None``: those that the model has.
        keys: how many were tried, or could have been.
        level: threshold of the probability, as it is written.
    """

    marked: Marked
    matches: int | None
    keys: int
    level: Fraction | None

    def tasks(self) -> Sequence[Task]:
        """One."""
        own = f"{self.matches} {self.keys} {self.level}"
        return [Task("false claims", ("watermark.false_claim 1", self.marked.text, own), self._run)]

    def _run(self, place: Place) -> Record:
        mark, level = self.marked.known, self.level
        count = matches_of(self.marked, place) if self.matches is None else self.matches
        total = several_keys(tail_of(mark, count), self.keys)
        if level is None:
            # The finest power of one half that the probability does not exceed.
            level = Fraction(1)
            while level / 2 >= total and level.denominator < 1 << FINEST:
                level /= 2
        claim = {
            "kind": "false_claim",
            "at_least": count,
            "keys": self.keys,
            "level": _written(level),
        }
        asked = ask_claim(place, {"net": self.marked.model}, self.marked, claim)
        return Record({**asked.values, "matches": count})

    def conclude(self, records: Sequence[Record]) -> Part:
        """The probability, and the thresholds of levels."""
        values, mark = records[0].values, self.marked.known
        count = values["matches"]
        total = several_keys(tail_of(mark, count), self.keys)
        tried = "one key" if self.keys == 1 else f"the best of {self.keys} keys"
        lines = [
            f"{count} of {mark.size} matches: without the mark the probability is at most "
            f"{log2_text(total)}, for {tried}",
            *mark.commitment.in_words(),
        ]
        levels = {Fraction(1, 1 << power) for power in LEVELS}
        levels |= set() if self.level is None else {self.level}
        rows = []
        for level in sorted(levels, reverse=True):
            enough = threshold_of(mark, level / self.keys)
            words = str(enough) if enough <= mark.size else "more than there are"
            rows.append((level_text(level), words, f"{mark.size}"))
        judged: list[Judged] = []
        if self.level is not None:
            asked = f"probability of a false claim at most {level_text(self.level)}"
            verdict = PROVED if values["answer"] == "unsat" else REFUTED
            judged = [Judged(asked, f"at most {log2_text(total)}", verdict)]
        facts: dict[str, Any] = {
            "matches": count,
            "keys": self.keys,
            "log2": log2_text(total),
            "probability": str(total) if total.denominator.bit_length() < 1 << 12 else None,
        }
        return Part(
            "False claims",
            tuple(lines),
            tuple(values["assumed"]),
            tuple(judged),
            facts,
            (Rows("Matches that a level needs", ("level", "matches", "of"), tuple(rows)),),
            basis=(BY_EVIDENCE,),
        )


def tail_of(mark: Mark, matches: int) -> Fraction:
    """The probability of so many matches of one key, exactly."""
    rates = mark.null
    if len(set(rates)) == 1:
        return binomial_tail(len(rates), rates[0], matches)
    return poisson_binomial_tail(rates, matches)


def threshold_of(mark: Mark, level: Fraction) -> int:
    """The least number of matches whose probability is at most a level."""
    rates = mark.null
    if len(set(rates)) == 1:
        return threshold(len(rates), rates[0], level)
    return poisson_binomial_threshold(rates, level)


def _written(level: Fraction) -> Any:
    """A level as a question file has it."""
    text = level_text(level)
    return text if text.startswith("2^-") and level < 1 else level


def read(marked: Marked, table: Table) -> FalseClaim:
    """Keys: ``at_least``, ``keys``, ``level``."""
    mark = marked.need(table)
    matches = table.integer("at_least")
    if matches is not None and matches > mark.size:
        raise table.error("at_least", f"'at_least' must be at most {mark.size}")
    keys = table.integer("keys", 1, 1) or 1
    if keys > MOST_KEYS:
        raise table.error("keys", f"'keys' must be at most {MOST_KEYS:.0e}")
    if matches is None:
        checked(marked)
    level = level_in(table)
    return FalseClaim(marked, matches, keys, level)


def level_in(table: Table) -> Fraction | None:
    """The key ``level``: a probability, or a text such as ``"2^-64"``."""
    if not table.has("level"):
        return None
    return read_level(Keys(table.document, table.name, table.values))
