"""Which triggers keep their labels when parameters of all layers change, and how far they may.

A trigger is a point, what may happen to the parameters is a fault model: each statement is an
ordinary question, whose proof holds for every change that the model allows.  All triggers meet the
same change, so the triggers that are proved survive it together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

from specs.document import Document
from specs.errors import InputError
from specs.faults.models import FaultModel, followed
from specs.faults.placed import place_model
from specs.faults.schema import read_faults
from specs.faults.struck import WordFaults
from specs.watermarks.samples import Labelled
from verifier.certify.delivery import BY_EVALUATION, BY_EVIDENCE, WORDS, Asked
from verifier.certify.faults import common
from verifier.certify.faults.common import FAULT_KEYS, in_words, message_of, point_text
from verifier.certify.questions import ask
from verifier.certify.section import Part, Place, Record, Rows, Task, at_least, shown
from verifier.certify.table import Table
from verifier.certify.watermark.common import Marked, triggers_of
from verifier.watermarks.survival import (
    SIZES,
    Changes,
    Settings,
    Span,
    Trigger,
    curve,
    question_of,
)

BEYOND = (
    "not covered: changes outside the stated model, such as training on; permuted, split or "
    "inserted units; inputs that are filtered before the network sees them"
)


@dataclass(frozen=True, eq=False)
class Survival:
    """The answer ``[watermark.survival]``.

    Attributes:
        marked: the model and the mark.
        triggers: and the labels that they are to keep.
        fault: what may happen to the parameters.
        stated: the same as the table ``[faults]``.
        certified: threshold of the share of triggers.
        curve: what is left open by the size, and how hard to try; ``None``: not asked.
    """

    marked: Marked
    triggers: Labelled
    fault: FaultModel
    stated: Mapping[str, Any]
    certified: Fraction | None
    curve: tuple[Changes, Fraction, Settings] | None

    def tasks(self) -> Sequence[Task]:
        """One for each trigger, and one more for each if there is a curve."""
        found = []
        for number, (point, label) in enumerate(
            zip(self.triggers.points, self.triggers.labels.tolist(), strict=True)
        ):
            own = (self.marked.model.digest, repr(dict(self.stated)), point_text(point), str(label))
            limit = str(self.marked.setting.timeout)
            run = partial(self._run, number)
            found.append(Task(f"trigger {number}", ("watermark.survival 1", *own, limit), run))
        for number in range(len(self.triggers.points) if self.curve is not None else 0):
            depends = ("watermark.curve 1", *found[number].depends[1:], repr(self.curve))
            found.append(Task(f"curve of trigger {number}", depends, partial(self._span, number)))
        return found

    def _run(self, number: int, place: Place) -> Record:
        point, label = self.triggers.points[number], int(self.triggers.labels[number])
        question = question_of(point, label, self.stated)
        return Record(ask(place, self.marked.model, question, self.marked.setting.timeout).values)

    def _span(self, number: int, place: Place) -> Record:
        assert self.curve is not None
        changes, start, settings = self.curve
        placed = place_model(self.marked.model, *followed(self.fault))
        point, label = self.triggers.points[number], int(self.triggers.labels[number])
        found = Trigger(placed, point.tolist(), label, changes, settings).span(start)
        broken = None if found.broken is None else str(found.broken)
        return Record({"certified": str(found.certified), "broken": broken})

    def conclude(self, records: Sequence[Record]) -> Part:
        """How many triggers survive, and the curve."""
        total = len(self.triggers.points)
        answers = [record.values["answer"] for record in records[:total]]
        proved, lost = answers.count("unsat"), answers.count("sat")
        lines = [
            f"{in_words(self.fault)}: at least {proved} of {total} triggers keep their labels, "
            "all under the same change, whatever it is",
            f"{lost} lose theirs by some change, each by one of its own; {total - proved - lost} "
            "are open",
        ]
        judged = []
        if self.certified is not None:
            possible = 1 - Fraction(min(1, lost), total)  # those lost need different changes
            judged = [
                at_least(
                    "certified share of triggers",
                    self.certified,
                    Fraction(proved, total),
                    possible,
                )
            ]
        rows = tuple(
            (
                str(number),
                WORDS.get(record.values["answer"], "undecided"),
                f"{record.values['seconds']:.2f}",
            )
            for number, record in enumerate(records[:total])
        )
        facts: dict[str, Any] = {"proved": proved, "lost": lost, "triggers": total}
        tables = [Rows("By trigger", ("trigger", "verdict", "seconds"), rows)]
        drawings: tuple[Any, ...] = ()
        if self.curve is not None:
            spans = [_span_of(record) for record in records[total:]]
            steps = curve(spans)
            facts["curve"] = [[str(step.size), step.certified, step.broken] for step in steps]
            cells = tuple(
                (shown(step.size), str(step.certified), str(step.broken)) for step in steps
            )
            head = (self.curve[0].size, "certified", "broken")
            tables.append(Rows("Triggers by how much may change", head, cells))
            drawings = (("triggers certified and broken, by how much may change", _draw(steps)),)
        return Part(
            "Survival of triggers",
            tuple(lines),
            (common.REAL_ARITHMETIC, common.INTACT, BEYOND),
            tuple(judged),
            facts,
            tuple(tables),
            drawings,
            asked=tuple(
                Asked.of(f"trigger {number}", record.values)
                for number, record in enumerate(records[:total])
            ),
            basis=(BY_EVIDENCE,) if self.curve is None else (BY_EVIDENCE, BY_EVALUATION),
        )


def _span_of(record: Record) -> Span:
    broken = record.values["broken"]
    return Span(Fraction(record.values["certified"]), None if broken is None else Fraction(broken))


def _draw(steps: Sequence[Any]) -> Any:
    def draw(figure: Any) -> None:
        panel = figure.add_subplot()
        sizes = [float(step.size) for step in steps]
        panel.step(sizes, [step.certified for step in steps], where="pre", label="certified")
        panel.step(sizes, [step.broken for step in steps], where="post", label="broken")
        panel.set_xscale("symlog", linthresh=min((s for s in sizes if s > 0), default=1.0))
        panel.set_xlabel("how much may change")
        panel.set_ylabel("triggers")
        panel.legend()

    return draw


def read(marked: Marked, table: Table) -> Survival:
    """Keys: those of a fault model, ``samples``, ``certified``, ``curve``, ``seconds``."""
    triggers = triggers_of(marked, table)
    stated = {key: table.values[key] for key in FAULT_KEYS if table.has(key)}
    fault = _fault(stated, table)
    table.placed(
        "model", lambda: WordFaults(place_model(marked.model, *followed(fault)), fault).network
    )
    certified, wanted = table.share("certified"), table.flag("curve")
    seconds = table.number("seconds", None, 0)
    if seconds is not None and not wanted:
        raise table.error("seconds", "'seconds' goes with curve = true")
    shape = None
    if wanted:
        size = next((key for key in SIZES if key in stated), None)
        if size is None:
            raise table.error("curve", f"a curve needs one of {', '.join(SIZES)}: where to begin")
        left = {key: value for key, value in stated.items() if key != size}
        start = Fraction(stated[size])
        settings = Settings() if seconds is None else Settings(float(seconds))
        if start <= 0:
            raise table.error(size, f"a curve begins at a positive '{size}'")
        shape = (Changes(left, size), start, settings)
    return Survival(marked, triggers, fault, stated, certified, shape)


def _fault(stated: Mapping[str, Any], table: Table) -> FaultModel:
    try:
        return read_faults(
            Document(table.document.folder, table.document.source, {"faults": stated})
        )
    except InputError as error:
        key = next((key for key in stated if f"'{key}'" in str(error)), "model")
        raise table.error(key, message_of(error)) from None
