"""An answer that is a list of questions, each of which a property holds or does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

from specs.errors import QuestionError
from specs.property import Case, Conjunction, Property
from specs.query import ModelFile
from verifier.certify.delivery import BY_EVIDENCE, WORDS, Asked
from verifier.certify.faults import common
from verifier.certify.faults.common import around
from verifier.certify.pairs import Near, Paired, pairs
from verifier.certify.questions import Box, Question, Stated, ask, box_around
from verifier.certify.section import (
    Judged,
    Part,
    Place,
    Record,
    Rows,
    Setting,
    Task,
    at_least,
    shown,
)
from verifier.certify.subject import Subject
from verifier.certify.table import Table

Posed = tuple[ModelFile, Question | Stated]
"""A model, and what is asked about it."""


@dataclass(frozen=True, eq=False)
class Item:
    """One question.

    Attributes:
        name: of its answer, unique.
        depends: what the question is made of, as text.
        pose: makes it; ``None``: there is nothing to ask, with this reason.
        paired: shows a witness beside what it is near; ``None``: there is nothing such.
    """

    name: str
    depends: tuple[str, ...]
    pose: Callable[[Place], Posed | str]
    paired: Paired | None = None


@dataclass(frozen=True, eq=False)
class Inquiry:
    """An answer of several questions.

    Attributes:
        kind: of the section, as results are told apart by.
        title: of the part.
        words: what is asked, a line each.
        items: the questions.
        setting: of the configuration.
        holds: threshold of the share of questions that are proved.
        what: the share, in words.
        assumptions: beside real arithmetic.
    """

    kind: str
    title: str
    words: tuple[str, ...]
    items: tuple[Item, ...]
    setting: Setting
    holds: Fraction | None
    what: str
    assumptions: tuple[str, ...] = ()

    def tasks(self) -> Sequence[Task]:
        """One for each question."""
        return [
            Task(
                f"{self.title}, {item.name}",
                (f"{self.kind} 1", *item.depends, str(self.setting.timeout)),
                partial(self._run, item),
            )
            for item in self.items
        ]

    def _run(self, item: Item, place: Place) -> Record:
        posed = item.pose(place)
        if isinstance(posed, str):
            return Record({"answer": "unknown", "reason": posed, "seconds": 0.0})
        return Record(ask(place, *posed, self.setting.timeout, self.setting.device).values)

    def conclude(self, records: Sequence[Record]) -> Part:
        """How many are proved."""
        total = len(records)
        answers = [record.values["answer"] for record in records]
        proved, refuted = answers.count("unsat"), answers.count("sat")
        lines = (
            *self.words,
            f"proved {proved} of {total}, refuted {refuted}, open {total - proved - refuted}",
            *origins(record.values for record in records),
        )
        judged: tuple[Judged, ...] = ()
        if self.holds is not None:
            certain, possible = Fraction(proved, total), Fraction(total - refuted, total)
            judged = (at_least(self.what, self.holds, certain, possible),)
        rows = tuple(
            (
                item.name,
                WORDS.get(record.values["answer"], "undecided"),
                f"{record.values['seconds']:.2f}",
                record.values["reason"],
            )
            for item, record in zip(self.items, records, strict=True)
        )
        return Part(
            self.title,
            lines,
            (common.REAL_ARITHMETIC, *self.assumptions),
            judged,
            {"proved": proved, "refuted": refuted, "questions": total},
            (Rows("By question", ("question", "verdict", "seconds", "why"), rows),),
            asked=tuple(
                Asked.of(item.name, record.values)
                for item, record in zip(self.items, records, strict=True)
            ),
            pairs=tuple(
                pairs(
                    (record.values, item.paired)
                    for item, record in zip(self.items, records, strict=True)
                )
            ),
            basis=(BY_EVIDENCE,),
        )


def origins(questions: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Where answers are from, in a line."""
    counts: Counter[str] = Counter()
    for each in questions:
        answered = each["answer"] in WORDS
        counts[each.get("origin", "searched") if answered else "left open"] += 1
    words = {
        "searched": "found by a search",
        "kept": "by evidence that was there, checked",
        "reused": "by a proof of another model, as it was",
        "mended": "by such a proof, mended",
        "left open": "left open",
    }
    listed = ", ".join(f"{counts[key]} {words[key]}" for key in words if counts[key])
    return (f"{_counted(counts.total(), 'question')}: {listed}",) if listed else ()


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def stated(box: Box, unsafe: tuple[Conjunction, ...], outputs: int) -> Stated:
    """The question whether no input of a box has these outputs."""
    return Stated.of(Property(len(box[0]), outputs, (Case(*box, unsafe),)))


@dataclass(frozen=True, eq=False)
class Regions:
    """Boxes that are asked about.

    Attributes:
        words: which ones.
        named: each with its name, and what is shown beside counterexamples.
    """

    words: str
    named: tuple[tuple[str, Box, Near], ...]


def regions_of(table: Table, subject: Subject) -> Regions:
    """``domain``, or ``lower`` and ``upper``, or boxes around samples.

    Raises:
        QuestionError: none of these, or several, or they make no box.
    """
    size = subject.network.input_size
    domain = table.interval("domain")
    lower, upper = table.spread("lower", size), table.spread("upper", size)
    radius, clip = table.ratio("radius", 0), table.interval("clip")
    given = [domain is not None, lower is not None or upper is not None, radius is not None]
    if sum(given) != 1:
        raise table.error(
            "", f"[{table.name}] needs one of domain; lower and upper; radius (around samples)"
        )
    if radius is not None:
        data = subject.samples(table, predicted=False)
        boxes = table.placed(
            "clip", lambda: [box_around(p.tolist(), radius, clip) for p in data.points]
        )
        named = tuple(
            (near.name, box, near) for near, box in zip(Near.samples(data), boxes, strict=True)
        )
        return Regions(around(radius, clip), named)
    if table.has("first") or clip is not None:
        raise table.error("first", "'first' and 'clip' go with a radius")
    if domain is not None:
        low, high = domain
        words = f"every input from {shown(low)} to {shown(high)}"
        return Regions(words, (_region("the domain", ((low,) * size, (high,) * size)),))
    if lower is None or upper is None:
        raise table.error("lower", "'lower' and 'upper' go together")
    if any(a > b for a, b in zip(lower, upper, strict=True)):
        raise table.error("lower", "a lower bound exceeds its upper bound")
    return Regions("every input of the box that is given", (_region("the box", (lower, upper)),))


def _region(name: str, box: Box) -> tuple[str, Box, Near]:
    return name, box, Near.middle(name, box)


def asked_of(table: Table, build: Callable[[], Any]) -> Any:
    """What ``build`` makes; errors are said to be the table's."""
    try:
        return build()
    except QuestionError as error:
        raise table.error("", str(error)) from None


def index_of(table: Table, key: str, count: int) -> int:
    """An index from 0 to ``count - 1``.

    Raises:
        QuestionError: it is missing, or none of these.
    """
    found = table.integer(key)
    if found is None or found >= count:
        raise table.error(key, f"'{key}' must be an integer from 0 to {count - 1}")
    return found
