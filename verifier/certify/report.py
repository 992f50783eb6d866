"""The report of a configuration as JSON and as text; ``page.py`` makes the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from specs.version import VERSION
from verifier.certify.page import as_html, assumptions, every
from verifier.certify.run import Outcome
from verifier.certify.section import Part
from verifier.certify.standing import standing

__all__ = ["as_html", "as_json", "as_text"]


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The outcome for programs; keys are added, not renamed, within one ``version``."""
    return {
        "format": "farkas-certify",
        "version": 1,
        "farkas": VERSION,
        "title": outcome.title,
        "verdict": outcome.verdict,
        "thresholds": [vars(each) for each in outcome.judged],
        "standing": list(standing(every(outcome))),
        "tasks": {"done": outcome.done, "found": outcome.found},
        "seconds": outcome.seconds,
        "sections": {
            name: [_part(part) for part in parts] for name, parts in outcome.parts.items()
        },
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "title": part.title,
        "basis": list(part.basis),
        "lines": list(part.lines),
        "assumptions": list(part.assumptions),
        "thresholds": [vars(each) for each in part.judged],
        **({"measured": [each.data for each in part.measured]} if part.measured else {}),
        **({"facts": dict(part.facts)} if part.facts else {}),
        **({"questions": [each.data for each in part.asked]} if part.asked else {}),
        **({"sweeps": [each.data for each in part.sweeps]} if part.sweeps else {}),
    }


def as_text(outcome: Outcome) -> Iterator[str]:
    """The outcome for a terminal, line by line."""
    for parts in outcome.parts.values():
        for part in parts:
            yield ""
            yield f"{part.title} ({', '.join(part.basis)})"
            yield from (f"  {line}" for line in part.lines)
            for each in part.judged:
                yield f"  {each.verdict}: {each.asked} (found: {each.found})"
    for title, lines in (
        ("what these numbers rest on:", standing(every(outcome))),
        ("assumed:", assumptions(outcome)),
    ):
        if lines:
            yield ""
            yield title
            yield from (f"  - {line}" for line in lines)
    if not outcome.judged:
        yield ""
        yield "no threshold was stated, so nothing was judged"
