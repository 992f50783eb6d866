"""Exact tails of chance matches beside known values.  A section of ``benchmarks.watermarks``.

The known values are those that tables print: of NeuralMark's 256 bits and of Adi et al.'s 100
triggers with 10 classes.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from benchmarks.tables import table
from proofs.watermarks.tails import binomial_tail, log2_nearest, log2_text, threshold

HALF, TENTH = Fraction(1, 2), Fraction(1, 10)
TAILS = ((256, HALF, 226, 2, "2^-126.06"), (100, TENTH, 40, 1, "2^-48.3"))
"""Places, probability of one, matches, digits, and what is printed elsewhere."""
LEVELS = ((40, 184), (64, 200), (80, 208), (128, 227))
"""Of 256 bits: levels ``2^-k``, and matches needed."""


def section(out: Path) -> tuple[str, list[dict[str, object]]]:
    """The table; a value that differs is an error."""
    rows: list[dict[str, object]] = []
    for count, rate, matches, digits, known in TAILS:
        tail = binomial_tail(count, rate, matches)
        found = log2_nearest(tail, digits)
        what = f"P[Bin({count}, {rate}) >= {matches}]"
        rows.append({"what": what, "known": known, "found": found, "bound": log2_text(tail, 4)})
    for level, known in LEVELS:
        found = threshold(256, HALF, Fraction(1, 1 << level))
        rows.append({"what": f"matches of 256 for 2^-{level}", "known": known, "found": found})
    for row in rows:
        if str(row["known"]) != str(row["found"]):
            raise RuntimeError(f"{row['what']}: {row['found']}, known is {row['known']}")
    return table([{**row, "bound": row.get("bound", "")} for row in rows]), rows
