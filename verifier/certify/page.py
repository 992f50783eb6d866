"""The report of a configuration as one HTML page that needs nothing beside it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

from proofs.format import replacing
from specs.version import VERSION
from verifier.certify import plots
from verifier.certify.counterexamples import pair_html
from verifier.certify.delivery import Asked, Sweep, told_apart
from verifier.certify.run import REPORTED, WORST_FIRST, Outcome
from verifier.certify.section import (
    CONTRADICTED,
    PROVED,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Drawing,
    Judged,
    Part,
    Rows,
    above,
    below,
    shown,
)
from verifier.certify.standing import standing

VERDICTS = ("proved", "refuted", "undecided")
MET = {
    PROVED: "met: proved",
    SUPPORTED: "met: sampled",
    REFUTED: "missed: refuted",
    CONTRADICTED: "missed: sampled",
    UNDECIDED: "undecided",
}
"""By its verdict, what became of a threshold."""

WHOLE = {
    PROVED: "every threshold is met, and proved",
    SUPPORTED: "every threshold is met; some by samples, with the stated confidence",
    REFUTED: "a threshold is missed, and that is proved",
    CONTRADICTED: "a threshold is missed by samples, with the stated confidence",
    UNDECIDED: "some thresholds are neither met nor missed",
    REPORTED: "no threshold was stated",
}
"""By the verdict on all thresholds, what it means."""

QUESTIONS = 5000
"""Rows of the table of questions; what is not proved comes first where there are more."""

PAIRS = 24
"""Counterexamples that a part shows."""

TALL = 14
"""Rows from which a table scrolls on a screen."""

SHORT = 28
"""Characters of a cell that stays on one line."""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?( ?%)?|-?inf|nan|")
_SPAN = re.compile(rf"({_NUMBER.pattern}) (to|of) ({_NUMBER.pattern})|{_NUMBER.pattern}")


def as_html(outcome: Outcome, kept: Path | None = None) -> str:
    """The outcome as a page; plots where matplotlib is installed.

    Args:
        outcome: what it shows.
        kept: a file of the plots that were drawn last; those of the same results are not drawn
            again, and others take their place.
    """
    drawn = _kept(kept, outcome.digest)
    page = _Page(outcome, drawn)
    text = "".join(page.lines())
    if kept is not None and outcome.digest and page.plots != drawn:
        with replacing(kept) as stream:
            stream.write(json.dumps({"digest": outcome.digest, "plots": page.plots}).encode())
    return text


def _kept(file: Path | None, digest: str) -> Mapping[str, str]:
    """The plots of earlier results, if they are those of this digest."""
    try:
        found = {} if file is None or not digest else json.loads(file.read_text())
        right = found.get("digest") == digest
        return {str(key): str(value) for key, value in found["plots"].items()} if right else {}
    except (OSError, ValueError, KeyError, AttributeError):
        return {}


def every(outcome: Outcome) -> list[Part]:
    """All parts, in order."""
    return [part for own in outcome.parts.values() for part in own]


def assumptions(outcome: Outcome) -> tuple[str, ...]:
    """What the answers rest on, each once."""
    return tuple(dict.fromkeys(line for part in every(outcome) for line in part.assumptions))


class _Page:
    """A page; its parts are named ``p0``, ``p1``, ... in order."""

    def __init__(self, outcome: Outcome, drawn: Mapping[str, str]) -> None:
        self.outcome = outcome
        self._earlier = drawn
        self.plots: dict[str, str] = {}
        self.parts = {f"p{number}": part for number, part in enumerate(every(outcome))}
        titles = told_apart([part.title for part in self.parts.values()])
        self.titles = dict(zip(self.parts, map(escape, titles), strict=True))
        self.asked = [(name, each) for name, part in self.parts.items() for each in part.asked]
        self.drawn = 0

    def lines(self) -> Iterator[str]:
        title = escape(self.outcome.title)
        yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        yield f"<title>{title}</title>\n<style>\n{_resource('page.css')}</style></head><body>\n"
        yield f"<header><h1>{title}</h1>\n{self._summary()}</header>\n<main>\n"
        yield from self._thresholds()
        yield from self._standing()
        yield from self._costs()
        for name, part in self.parts.items():
            yield from self._part(name, part)
        yield from self._questions()
        assumed = assumptions(self.outcome)
        if assumed:
            yield f'<section id="assumed"><h2>Assumed</h2>\n{_list(assumed)}</section>\n'
        yield f"</main>\n<script>\n{_resource('page.js')}</script>\n</body></html>\n"

    def _summary(self) -> str:
        outcome = self.outcome
        links = [f'<a href="#{name}">{title}</a>' for name, title in self.titles.items()]
        if self.asked:
            links.append('<a href="#questions">All questions</a>')
        return (
            f'<p><strong class="badge {outcome.verdict}">{outcome.verdict}</strong> '
            f"{WHOLE[outcome.verdict]}</p>\n"
            f'<p class="meta">{_counted(outcome.judged)} &middot; farkas {VERSION} &middot; '
            f"{outcome.seconds:.1f} s &middot; {outcome.done} results made, {outcome.found} kept "
            f"from before</p>\n<nav>{' '.join(links)}</nav>\n"
        )

    def _thresholds(self) -> Iterator[str]:
        if not self.outcome.judged:
            return
        yield '<section id="thresholds"><h2>Thresholds</h2>\n<ul class="thresholds">\n'
        for verdict in WORST_FIRST:
            for name, part in self.parts.items():
                for each in part.judged:
                    if each.verdict == verdict:
                        yield self._threshold(name, part, each)
        yield "</ul></section>\n"

    def _threshold(self, name: str, part: Part, each: Judged) -> str:
        counts = Counter(asked.verdict for asked in part.asked)
        links = [
            f'<a href="#questions?part={name}&amp;verdict={verdict}">{counts[verdict]} '
            f"{verdict}</a>"
            for verdict in VERDICTS
            if counts[verdict]
        ]
        questions = f", with questions {', '.join(links)}" if links else ""
        return (
            f'<li class="{each.verdict}"><strong>{MET[each.verdict]}</strong>'
            f"<span>{escape(each.asked)}</span><small>found: {escape(each.found)}</small>"
            f'<small>in <a href="#{name}">{self.titles[name]}</a>{questions}</small></li>\n'
        )

    def _standing(self) -> Iterator[str]:
        lines = standing(list(self.parts.values()))
        if lines:
            yield '<section id="standing"><h2>What these numbers rest on</h2>\n'
            yield f"{_list(lines)}</section>\n"

    def _costs(self) -> Iterator[str]:
        asked = [each for _, each in self.asked]
        decided = [each for each in asked if each.verdict != "undecided"]
        proofs = [each for each in asked if plots.measured(each)]
        if len(decided) < 2:
            return
        yield '<section id="costs"><h2>What it cost</h2>\n'
        yield from _table(_cost_rows(asked))
        drawings: list[Drawing] = [("Questions decided against time", plots.cactus(asked))]
        if len(proofs) > 1:
            drawings.append(("Proof sizes and check times", plots.sizes(asked)))
        yield from self._drawings(drawings)
        yield "</section>\n"

    def _part(self, name: str, part: Part) -> Iterator[str]:
        tags = " ".join(f'<span class="tag">{kind}</span>' for kind in part.basis)
        yield f'<section id="{name}"><h2>{self.titles[name]} {tags}</h2>\n{_list(part.lines)}'
        for sweep in part.sweeps:
            drawing = (sweep.title, plots.accuracy(sweep))
            yield from self._drawings([drawing], beside=_table(_sweep_rows(sweep)))
        yield from self._drawings(part.drawings)
        if part.pairs:
            yield "<h3>Counterexamples beside their originals</h3>\n"
            if len(part.pairs) > PAIRS:
                yield f"<p>{PAIRS} of {len(part.pairs)} are shown.</p>\n"
            yield '<div class="pairs">\n'
            for pair in part.pairs[:PAIRS]:
                yield from pair_html(pair)
            yield "</div>\n"
        for rows in part.tables:
            yield from _table(rows)
        yield "</section>\n"

    def _drawings(self, drawings: Sequence[Drawing], beside: Iterable[str] = ()) -> Iterator[str]:
        """Plots side by side, where there is room, and what else goes with them."""
        known = drawings if plots.available() else ()
        others = "".join(beside)
        if not known and not others:
            return
        yield '<div class="plots">\n'
        for caption, draw in known:
            name = f"d{self.drawn}"
            self.drawn += 1
            self.plots[name] = self._earlier.get(name) or plots.svg(draw, caption, name)
            yield f"<figure>{self.plots[name]}"
            yield f"<figcaption>{escape(caption)}</figcaption></figure>\n"
        yield f"{others}</div>\n"

    def _questions(self) -> Iterator[str]:
        if not self.asked:
            return
        shown = self.asked
        yield '<section id="questions"><h2>All questions</h2>\n'
        if len(shown) > QUESTIONS:
            order = {verdict: number for number, verdict in enumerate(reversed(VERDICTS))}
            shown = sorted(shown, key=lambda one: order[one[1].verdict])[:QUESTIONS]
            yield f"<p>{QUESTIONS} of {len(self.asked)} are listed, undecided and refuted ones "
            yield "first; results.json has all.</p>\n"
        yield self._filters()
        one = ' class="one"' if len({name for name, _ in self.asked}) == 1 else ""
        yield f'<div class="wide tall" tabindex="0"><table id="questions-table"{one}><thead><tr>'
        yield '<th>question</th><th>verdict</th><th class="number">seconds</th>'
        yield '<th class="number">evidence bytes</th><th class="number">check seconds</th>'
        yield "<th>evidence</th><th>origin</th><th>why</th><th>part</th></tr></thead><tbody>\n"
        for name, each in shown:
            yield self._question(name, each)
        yield "</tbody></table></div></section>\n"

    def _question(self, name: str, each: Asked) -> str:
        link = "" if each.evidence is None else _link(each.evidence)
        return (
            f'<tr data-part="{name}" data-verdict="{each.verdict}">'
            f'<td>{escape(each.name)}</td><td class="{each.verdict}">{each.verdict}</td>'
            f"{_figure(each.seconds)}{_figure(each.bytes)}{_figure(each.check_seconds)}"
            f"<td>{link}</td><td>{escape(each.origin)}</td>"
            f"<td>{escape(each.reason)}</td><td>{self.titles[name]}</td></tr>\n"
        )

    def _filters(self) -> str:
        parts = {name for name, _ in self.asked}
        options = "".join(
            f'<option value="{name}">{title}</option>'
            for name, title in self.titles.items()
            if name in parts
        )
        verdicts = "".join(f"<option>{verdict}</option>" for verdict in VERDICTS)
        return (
            '<form class="filters" id="filters" hidden>'
            f'<label>part <select name="part"><option value="">all</option>{options}</select>'
            '</label> <label>verdict <select name="verdict"><option value="">all</option>'
            f"{verdicts}</select></label> "
            '<label>holds <input type="search" name="text" size="14"></label> '
            '<output id="shown"></output></form>\n'
        )


def _link(file: str) -> str:
    kind = "proof" if file.endswith(".farkas") else "witness"
    return f'<a href="evidence/{escape(file)}" title="{escape(file)}">{kind}</a>'


def _counted(judged: Sequence[Judged]) -> str:
    if not judged:
        return "no threshold was stated"
    counts = Counter(each.verdict for each in judged)
    listed = [f"{counts[v]} {MET[v]}" for v in WORST_FIRST if counts[v]]
    return f"{len(judged)} threshold{'s' if len(judged) > 1 else ''}, {', '.join(listed)}"


def _cost_rows(asked: Sequence[Asked]) -> Rows:
    """Over the questions by verdict: how many, how long, how large."""
    rows = []
    for verdict in VERDICTS:
        own = [each for each in asked if each.verdict == verdict]
        if own:
            seconds = sorted(each.seconds for each in own)
            sizes = sorted(each.bytes for each in own if each.bytes is not None)
            checks = sorted(each.check_seconds for each in own if each.check_seconds is not None)
            rows.append(
                (
                    verdict,
                    str(len(own)),
                    f"{sum(seconds):.4g}",
                    f"{seconds[len(seconds) // 2]:.3g}",
                    f"{seconds[-1]:.3g}",
                    str(sizes[len(sizes) // 2]) if sizes else "",
                    str(sum(sizes)) if sizes else "",
                    f"{sum(checks):.4g}" if checks else "",
                )
            )
    head = ("verdict", "questions", "seconds in all", "median", "longest")
    more = ("evidence bytes, median", "in all", "check seconds in all")
    return Rows("Questions, by verdict", (*head, *more), tuple(rows))


def _filled(rows: Rows) -> Rows:
    """Without columns in which nothing stands."""
    some = [k for k in range(len(rows.head)) if any(row[k] for row in rows.rows) or not rows.rows]
    kept = tuple(tuple(row[k] for k in some) for row in rows.rows)
    return Rows(rows.title, tuple(rows.head[k] for k in some), kept)


def _sweep_rows(sweep: Sweep) -> Rows:
    rows = tuple(
        (
            shown(point.radius),
            f"{float(point.radius):.4g}" if "/" in shown(point.radius) else "",
            below(point.certified, 4),
            above(point.possible, 4),
        )
        for point in sweep.points
    )
    return Rows(sweep.title, ("radius", "about", "proved: at least", "not refuted: at most"), rows)


def _table(whole: Rows) -> Iterator[str]:
    rows = _filled(whole)
    numeric = [
        bool(rows.rows) and all(_SPAN.fullmatch(row[column]) for row in rows.rows)
        for column in range(len(rows.head))
    ]
    kinds = [' class="number"' if own else "" for own in numeric]
    heads = zip(rows.head, kinds, strict=True)
    tall = " tall" if len(rows.rows) >= TALL else ""
    title = escape(rows.title)
    yield f'<div><p class="caption">{title}</p><div class="wide{tall}" tabindex="0">'
    yield f'<table aria-label="{title}"><thead><tr>' + "".join(
        f"<th{kind}>{escape(cell)}</th>" for cell, kind in heads
    )
    yield "</tr></thead><tbody>\n"
    for row in rows.rows:
        cells = (
            f'<td class="{cell}">{cell}</td>'
            if cell in VERDICTS
            else f"<td{kind or _long(cell)}>{escape(cell)}</td>"
            for cell, kind in zip(row, kinds, strict=True)
        )
        yield f"<tr>{''.join(cells)}</tr>\n"
    yield "</tbody></table></div></div>\n"


def _long(cell: str) -> str:
    return ' class="word"' if len(cell) > SHORT else ""


def _figure(value: float | None) -> str:
    """A number's cell; scripts sort by what it is exactly."""
    if value is None:
        return '<td class="number" data-value=""></td>'
    shown = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f'<td class="number" data-value="{value!r}">{shown}</td>'


def _list(lines: tuple[str, ...]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>\n"


@cache
def _resource(name: str) -> str:
    return (files("verifier.certify") / name).read_text(encoding="utf-8")
