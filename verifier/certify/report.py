"""The report of a configuration: one HTML page that needs nothing beside it, and JSON."""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

from specs.version import VERSION
from verifier.certify.run import WORST_FIRST, Outcome
from verifier.certify.section import Part, Rows

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .15rem .7rem; border-bottom: 1px solid #ccc; }
caption { text-align: left; font-weight: 600; }
img { max-width: 100%; background: #fff; } figcaption { font-size: .9em; }
.proved, .supported { color: #176b2c; } .refuted, .contradicted { color: #a01818; }
.undecided { color: #8a5a00; }
ul { margin: .3rem 0; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #171717; }
  .proved, .supported { color: #6fcf85; } .refuted, .contradicted { color: #ff8a80; }
  .undecided { color: #f0c060; } }
"""


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The outcome for programs; keys are added, not renamed, within one ``version``."""
    return {
        "format": "farkas-certify",
        "version": 1,
        "farkas": VERSION,
        "title": outcome.title,
        "verdict": outcome.verdict,
        "thresholds": [vars(each) for each in outcome.judged],
        "tasks": {"done": outcome.done, "found": outcome.found},
        "seconds": outcome.seconds,
        "sections": {
            name: [
                {
                    "title": part.title,
                    "lines": list(part.lines),
                    "assumptions": list(part.assumptions),
                    "thresholds": [vars(each) for each in part.judged],
                    **({"facts": dict(part.facts)} if part.facts else {}),
                }
                for part in parts
            ]
            for name, parts in outcome.parts.items()
        },
    }


def as_text(outcome: Outcome) -> Iterator[str]:
    """The outcome for a terminal, line by line."""
    for parts in outcome.parts.values():
        for part in parts:
            yield ""
            yield part.title
            yield from (f"  {line}" for line in part.lines)
            for each in part.judged:
                yield f"  {each.verdict}: {each.asked} (found: {each.found})"
    assumed = _assumptions(outcome)
    if assumed:
        yield ""
        yield "assumed:"
        yield from (f"  - {line}" for line in assumed)
    if not outcome.judged:
        yield ""
        yield "no threshold was stated, so nothing was judged"


def as_html(outcome: Outcome) -> str:
    """The outcome as a page; pictures where matplotlib is installed."""
    return "".join(_page(outcome))


def _page(outcome: Outcome) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>{escape(outcome.title)}</title><style>{_STYLE}</style></head><body>\n"
    yield f"<h1>{escape(outcome.title)}</h1>\n"
    yield f'<p><strong class="{outcome.verdict}">{outcome.verdict}</strong>'
    yield f" &middot; farkas {VERSION} &middot; {outcome.seconds:.1f} s &middot; "
    yield f"{outcome.done} results made, {outcome.found} kept from before</p>\n"
    judged = tuple((each.asked, each.found, each.verdict) for each in outcome.judged)
    if judged:
        yield from _table(Rows("Thresholds", ("asked", "found", "verdict"), judged))
    for parts in outcome.parts.values():
        for part in parts:
            yield from _part(part)
    yield f"<h2>Assumed</h2>\n{_list(_assumptions(outcome))}</body></html>\n"


def _part(part: Part) -> Iterator[str]:
    yield f"<h2>{escape(part.title)}</h2>\n{_list(part.lines)}"
    for rows in part.tables:
        yield from _table(rows)
    for caption, draw in part.drawings:
        image = _picture(draw)
        if image is not None:
            yield f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{image}">'
            yield f"<figcaption>{escape(caption)}</figcaption></figure>\n"


def _table(rows: Rows) -> Iterator[str]:
    yield f"<table><caption>{escape(rows.title)}</caption><tr>"
    yield "".join(f"<th>{escape(cell)}</th>" for cell in rows.head) + "</tr>\n"
    for row in rows.rows:
        cells = (
            f'<td class="{cell}">{cell}</td>' if cell in WORST_FIRST else f"<td>{escape(cell)}</td>"
            for cell in row
        )
        yield f"<tr>{''.join(cells)}</tr>\n"
    yield "</table>\n"


def _list(lines: tuple[str, ...]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>\n"


def _picture(draw: Callable[[Any], None]) -> str | None:
    if importlib.util.find_spec("matplotlib") is None:
        return None
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode()


def _assumptions(outcome: Outcome) -> tuple[str, ...]:
    """Each once."""
    every = (line for own in outcome.parts.values() for part in own for line in part.assumptions)
    return tuple(dict.fromkeys(every))
