"""The section ``[robustness]``: how far samples may change before their class does.

One task for each sample: it finds the greatest radius of the list that is certified and the least
that is violated.  Every answer has a question file with its proof or witness.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

from proofs.format import replacing
from specs.errors import QuestionError
from specs.query import ModelFile
from verifier.certify import robustness_report
from verifier.certify.balls import NORMS, Change
from verifier.certify.data import Data
from verifier.certify.prefix import differences
from verifier.certify.question_files import in_memory
from verifier.certify.questions import ask
from verifier.certify.section import Answer, Part, Place, Record, Setting, Task
from verifier.certify.subject import Subject, by_prediction
from verifier.certify.sweep import Sweep
from verifier.certify.table import Table

ZERO = Fraction(0)
UNDECIDED = ("unknown", "timeout")
OUTSIDE = "the violation that was found lies in the enclosure of the L2 ball, but not in the ball"


@dataclass(frozen=True)
class Threshold:
    """A share of samples at a radius.

    Attributes:
        radius: ``None``: the box of changes.
        at_least: the share.
    """

    radius: Fraction | None
    at_least: Fraction


@dataclass(frozen=True, eq=False)
class Robustness:
    """The answer ``[robustness]``.

    Attributes:
        subject: the model.
        data: the samples.
        change: how they may change.
        radii: ascending; none: the box of changes alone.
        predicted: the class is the one that is predicted, not the true label.
        thresholds: of the share of samples that are certified.
    """

    subject: Subject
    data: Data
    change: Change
    radii: tuple[Fraction, ...]
    predicted: bool
    thresholds: tuple[Threshold, ...]

    @cached_property
    def spread(self) -> bytes:
        """The model of differences."""
        return differences(self.subject.model)

    def tasks(self) -> Sequence[Task]:
        """One for each sample."""
        found = []
        radii = " ".join(map(str, self.radii))
        for index, point in enumerate(self.data.points):
            depends = (
                "robustness 1",
                self.subject.model.digest,
                point.tobytes().hex(),
                f"{self.change}",
                f"{radii}; {self._label(index)}; {self.subject.setting.timeout}",
            )
            name = f"robustness of sample {self.data.numbers[index]}"
            found.append(Task(name, depends, partial(self._run, index)))
        return found

    def _label(self, index: int) -> int | None:
        if self.predicted or self.data.labels is None:
            return None
        return int(self.data.labels[index])

    def _run(self, index: int, place: Place) -> Record:
        point = self.data.points[index]
        predicted = self.subject.predictions(self.data.points, index)
        label = self._label(index)
        if label is None:
            label = predicted
        asked = _Asked(self, place, [Fraction(x) for x in point.tolist()], label)
        if label is not None:
            asked.all(clean=predicted == label)
        return Record(
            {
                "label": label,
                "predicted": predicted,
                "verdicts": asked.verdicts,
                "questions": asked.questions,
                "seconds": sum(each["seconds"] for each in asked.questions),
                "evidence": sorted({f for each in asked.questions for f in each["evidence"]}),
            }
        )

    def conclude(self, records: Sequence[Record]) -> Part:
        """The curve of certified accuracy."""
        return robustness_report.part(self, records)


class _Asked:
    """The questions about one sample."""

    def __init__(
        self, answer: Robustness, place: Place, point: list[Fraction], label: int | None
    ) -> None:
        self.answer, self.place, self.point, self.label = answer, place, point, label
        self.questions: list[dict[str, Any]] = []
        self.sweep = Sweep(answer.radii or (ZERO,))
        self._file = place.scratch / "open.json"
        self._open: dict[str, Any] = {}
        with suppress(OSError, ValueError, TypeError):  # there is none, or it is damaged
            self._open = dict(json.loads(self._file.read_text()))

    @property
    def verdicts(self) -> list[str]:
        """Of each radius."""
        return self.sweep.verdicts

    def all(self, clean: bool) -> None:
        """Ask what has to be known.

        Args:
            clean: the sample itself is classified as it should be, for certain.
        """
        if not clean and self.answer.change.holds(self.point):
            answer = self._ask(ZERO)["answer"]
            if answer == "sat":
                self.sweep.violated(0)
            if answer != "unsat":
                return
        while (place := self.sweep.next) is not None:
            radius = self.answer.radii[place] if self.answer.radii else None
            found = self._ask(radius)
            if found["answer"] == "unsat":
                self.sweep.certified(place)
            elif found["answer"] == "sat":
                self.sweep.violated(place)
            else:
                self.sweep.left_open(place)
            if "distance" in found and radius is not None:
                self.sweep.found(Fraction(found["distance"]))

    def _ask(self, radius: Fraction | None) -> Mapping[str, Any]:
        """One question; what was left open before an interruption is not asked again."""
        key = "" if radius is None else str(radius)
        found: dict[str, Any] | None = self._open.get(key)
        if found is None:
            found = {"radius": key, **self._answered(radius)}
            if found["answer"] in UNDECIDED:
                self._open[key] = found
                with replacing(self._file) as stream:
                    stream.write(json.dumps(self._open).encode())
        self.questions.append(found)
        return found

    def _answered(self, radius: Fraction | None) -> dict[str, Any]:
        answer, change = self.answer, self.answer.change
        network, label = answer.subject.network, int(self.label or 0)
        question = change.question(self.point, radius, label, network.output_size)
        model: ModelFile = answer.subject.model
        if change.spread and radius:
            model = in_memory(answer.spread, self.place)
        setting = answer.subject.setting
        answered = ask(self.place, model, question, setting.timeout, setting.device)
        values = answered.values
        if answered.witness is None:
            return values
        other = change.input_of(answered.witness.point, len(self.point))
        distance = change.distance(self.point, other)
        values |= {"witness": [str(x) for x in other], "distance": str(distance)}
        if radius is not None and distance > radius:
            return values | {"answer": "unknown", "reason": OUTSIDE}
        return values


def read(setting: Setting) -> Sequence[Answer]:
    """The answers of one table ``[robustness]`` or of several.

    Raises:
        InputError: one is malformed; the message says where.
    """
    return [_read(setting, table) for table in Table.several(setting.document, "robustness")]


def _read(setting: Setting, table: Table) -> Robustness:
    subject = Subject.of(setting, table)
    data = subject.samples(table)
    change = _change(table, subject.network.input_size, data)
    radius, radii = table.ratio("radius", 0), table.ratios("radii")
    if radius is not None and table.has("radii"):
        raise table.error("radii", "'radii' and 'radius' exclude each other")
    listed = radii if radius is None else (radius,)
    if any(each < 0 for each in listed):
        raise table.error("radii", "a radius is negative")
    predicted = by_prediction(table, data)
    thresholds = _thresholds(table, listed, predicted, change)
    every = sorted({*listed, *(t.radius for t in thresholds if t.radius is not None)})
    if not every and change.down is None:
        raise table.error("", f"[{table.name}] needs a radius, radii or changes of features")
    if not every and change.norm != "linf":
        raise table.error("norm", "a norm goes with a radius")
    table.done()
    found = Robustness(subject, data, change, tuple(every), predicted, thresholds)
    if change.spread:
        table.placed("norm", lambda: found.spread)
    for index, point in enumerate(data.points):
        try:
            exact = [Fraction(x) for x in point.tolist()]
            change.box(exact, every[0] if every else None)
            if change.spread and not change.holds(exact):
                raise QuestionError(f"it lies outside the clip, and the norm is {change.norm}")
        except QuestionError as error:
            raise table.error("clip", f"sample {data.numbers[index]}: {error}") from None
    return found


def _change(table: Table, size: int, data: Data) -> Change:
    norm = table.text("norm", "linf", NORMS) or "linf"
    clip = table.interval("clip")
    sides = []
    for key in ("lower_change", "upper_change"):
        values = table.spread(key, size)
        if values is not None and min(values) < 0:
            raise table.error(key, f"'{key}' holds a negative number; changes are sizes")
        sides.append(values)
    down, up = sides
    if (down is None) != (up is None):
        raise table.error("lower_change", "'lower_change' and 'upper_change' go together")
    frozen = table.indices("immutable", size)
    if frozen:
        if down is None or up is None:
            raise table.error("immutable", "'immutable' goes with 'lower_change', 'upper_change'")
        down, up = (
            tuple(ZERO if k in frozen else x for k, x in enumerate(side)) for side in (down, up)
        )
    pixels = data.pixels if table.flag("pixels") else None
    if pixels is None and table.flag("pixels"):
        raise table.error("pixels", "'pixels' is about mean and std, and [data] states neither")
    return Change(norm, clip, down, up, pixels)


def _thresholds(
    table: Table, listed: Sequence[Fraction], predicted: bool, change: Change
) -> tuple[Threshold, ...]:
    right, other = "certified_accuracy", "certified_stability"
    if predicted:
        right, other = other, right
    if table.has(other):
        what = "the true label" if predicted else "label = 'predicted'"
        raise table.error(other, f"'{other}' needs {what}; '{right}' fits here")
    if not table.has(right):
        return ()
    if not isinstance(table.values[right], dict | list):
        share = table.share(right)
        if len(listed) > 1 or (not listed and change.down is None):
            raise table.error(
                right, f"'{right}' = {{ radius = R, at_least = SHARE }}: which radius?"
            )
        return (Threshold(listed[0] if listed else None, Fraction(share or 0)),)
    found = []
    for each in table.tables(right):
        radius, share = each.ratio("radius", 0), each.share("at_least")
        each.done()
        if radius is None or share is None:
            raise table.error(right, f"'{right}' needs radius and at_least")
        found.append(Threshold(radius, share))
    return tuple(found)
