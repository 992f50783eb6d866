"""Rows as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """A table with a column for every key of the first row."""
    if not rows:
        return "nothing\n"
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for row in rows:
        shown = (f"{row[n]:,}" if isinstance(row[n], int) else str(row[n]) for n in names)
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"
