"""Whether triggers are adversarial neighbours of honest inputs, for a reference model.

A trigger is one if an input within the radius has another label.  It is none if the reference model
says the same on the whole box around it, whatever honest inputs there are; and no *stated* honest
input is such a neighbour where none of them lies within the radius.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

from specs.enclosure import FloatArray
from specs.watermarks.samples import Labelled
from verifier.certify.delivery import BY_EVIDENCE, Asked, Pair, image_shape
from verifier.certify.faults import common
from verifier.certify.faults.common import around, point_text
from verifier.certify.faults.stand import label_at
from verifier.certify.pairs import Near, Paired, class_words, pairs
from verifier.certify.questions import ask
from verifier.certify.section import Part, Place, Record, Rows, Task, at_least
from verifier.certify.table import Table
from verifier.certify.watermark.common import (
    Claim,
    Marked,
    ask_claim,
    in_words,
    stored_triggers,
    triggers_of,
)
from verifier.watermarks.sanity import ball_question

BEYOND = (
    "not covered: neighbours beyond the radius or in another norm; other reference models; "
    "adversarial inputs that transfer to a suspect without being near an honest one"
)


@dataclass(frozen=True, eq=False)
class Sanity:
    """The answer ``[watermark.sanity]``.

    Attributes:
        marked: the mark; the model does not matter.
        triggers: of it.
        reference: the name of the reference model.
        radius: in every entry.
        clip: what every input lies in.
        others: a file of honest samples; ``None``: not asked.
        certified: threshold of the share of triggers.
    """

    marked: Marked
    triggers: Labelled
    reference: str
    radius: Fraction
    clip: tuple[Fraction, Fraction] | None
    others: str | None
    certified: Fraction | None

    def tasks(self) -> Sequence[Task]:
        """One for each trigger, and one for the honest samples."""
        file = self.marked.other(self.reference)
        limits = f"{self.radius} {self.clip} {self.marked.setting.timeout}"
        found = [
            Task(
                f"around trigger {number}",
                ("watermark.sanity 1", file.digest, point_text(point), limits),
                partial(self._run, number),
            )
            for number, point in enumerate(self.triggers.points)
        ]
        if self.others is not None:
            honest = hashlib.sha256(Path(self.others).read_bytes()).hexdigest()
            depends = ("watermark.apart 2", self.triggers.text, honest, limits)
            found.append(Task("distances to honest samples", depends, self._apart))
        return found

    def _run(self, number: int, place: Place) -> Record:
        file, point = self.marked.other(self.reference), self.triggers.points[number]
        label = label_at(self.marked.network(self.reference), point)
        if label is None:
            reason = "no output of the reference model exceeds every other for certain"
            return Record({"answer": "unknown", "reason": reason, "seconds": 0.0})
        question = ball_question(point.tolist(), label, self.radius, self.clip)
        return Record(ask(place, file, question, self.marked.setting.timeout).values)

    def _apart(self, place: Place) -> Record:
        claim: Claim = {
            "kind": "apart",
            "samples": str(stored_triggers(self.triggers, place)),
            "others": self.others,
            "radius": self.radius,
        }
        return Record(ask_claim(place, {"net": self.marked.model}, None, claim).values)

    @property
    def _shape(self) -> tuple[int, int, int] | None:
        data = self.marked.setting.data
        known = data is not None and data.points.shape[1] == self.triggers.points.shape[1]
        return image_shape(data.shape) if data is not None and known else None

    def _paired(self, near: Near) -> Paired:
        def paired(point: FloatArray) -> Pair:
            network = self.marked.network(self.reference)
            return near.pair(point, *(class_words(network, x) for x in (near.point, point)))

        return paired

    def conclude(self, records: Sequence[Record]) -> Part:
        """How many triggers are proved to be none."""
        total = len(self.triggers.points)
        answers = [record.values["answer"] for record in records[:total]]
        proved, refuted = answers.count("unsat"), answers.count("sat")
        lines = [
            f"{around(self.radius, self.clip).replace('sample', 'trigger')}, the reference model "
            f"'{self.reference}' has one label: proved for {proved} of {total} triggers, refuted "
            f"for {refuted}, open for {total - proved - refuted}",
        ]
        assumed = [common.REAL_ARITHMETIC]
        if self.others is not None:
            values = records[total].values
            lines.append(f"none of the honest samples lies there: {in_words(values['answer'])}")
            assumed += values["assumed"]
        judged = []
        if self.certified is not None:
            certain, possible = Fraction(proved, total), Fraction(total - refuted, total)
            words = "share of triggers that are no adversarial neighbours"
            judged = [at_least(words, self.certified, certain, possible)]
        rows = tuple(
            (str(number), in_words(record.values["answer"]), f"{record.values['seconds']:.2f}")
            for number, record in enumerate(records[:total])
        )
        facts = {"proved": proved, "refuted": refuted, "triggers": total}
        near_by = [
            (Near(f"trigger {number}", point, "trigger", self._shape), record.values)
            for number, (point, record) in enumerate(
                zip(self.triggers.points, records[:total], strict=True)
            )
        ]
        return Part(
            "Sanity of triggers",
            tuple(lines),
            (*assumed, BEYOND),
            tuple(judged),
            facts,
            (Rows("By trigger", ("trigger", "verdict", "seconds"), rows),),
            asked=tuple(Asked.of(near.name, values) for near, values in near_by),
            pairs=tuple(pairs((values, self._paired(near)) for near, values in near_by)),
            basis=(BY_EVIDENCE,),
        )


def read(marked: Marked, table: Table) -> Sanity:
    """Keys: ``reference``, ``samples``, ``radius``, ``clip``, ``others``, ``certified``."""
    triggers = triggers_of(marked, table)
    reference, models = table.text("reference"), marked.setting.models
    if reference not in models:
        known = ", ".join(f"'{name}'" for name in models)
        raise table.error("reference", f"'reference' must name a model of [models]: {known}")
    radius, clip = table.number("radius", None, 0), table.interval("clip")
    if radius is None:
        raise table.error("radius", "'radius' is missing")
    size = marked.network(str(reference)).input_size
    if size != triggers.points.shape[1]:
        raise table.error("reference", f"it has {size} inputs, triggers {triggers.points.shape[1]}")
    others = table.text("others")
    if others is not None:
        path = (table.document.folder / others).resolve()
        table.placed("others", lambda: path.open("rb").close())
        others = str(path)
    certified = table.share("certified")
    return Sanity(marked, triggers, str(reference), radius, clip, others, certified)
