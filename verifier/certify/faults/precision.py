"""Whether predictions survive other formats: of the stored values, or of the evaluation.

*Stored* in a format: every parameter that is followed is rounded to it, and the network with
these values is evaluated in real numbers; decided exactly at samples.  On boxes the kernel proves
that both networks give the same answer on all of a box.  *Evaluated* in float32, float16 or
bfloat16: every evaluation of the stored graph in that format, in any order of summation, gives the
prediction of the real-valued network; proved by the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

import numpy as np

from proofs.evaluate import evaluate
from specs.errors import InputError
from specs.faults.memory import Choice, Memory, store
from specs.faults.models import ActivationFaults, BitFlips, followed
from specs.faults.placed import Placed, read_placed
from specs.faults.schema import read_faults
from specs.network import Network
from specs.onnx_reader import read_model
from specs.perturbation import FORMATS
from verifier.certify.data import Data
from verifier.certify.delivery import BY_EVALUATION, BY_EVIDENCE
from verifier.certify.faults import common
from verifier.certify.faults.common import Faults, around, message_of, point_text, radius_of
from verifier.certify.faults.stand import label_at, labels_at, stands
from verifier.certify.models import stored_model
from verifier.certify.question_files import in_memory
from verifier.certify.questions import Question, ask, box_around
from verifier.certify.section import (
    Judged,
    Part,
    Place,
    Record,
    Rows,
    Task,
    at_least,
    digest_of,
)
from verifier.certify.table import Table
from verifier.faults.judge import exact_verdict

SAME, OTHER, OPEN = "unchanged", "changed", "undecided"


@dataclass(frozen=True, eq=False)
class Precision:
    """The answer ``[faults.precision]``.

    Attributes:
        faults: the model.
        data: the samples.
        choices: formats of stored values, by name.
        semantics: formats of evaluation.
        radius: of boxes; ``None``: at the samples.
        clip: ends that boxes are cut at.
        unchanged: threshold of the share of samples, for each format.
    """

    faults: Faults
    data: Data
    choices: Mapping[str, Choice]
    semantics: tuple[str, ...]
    radius: Fraction | None
    clip: tuple[Fraction, Fraction] | None
    unchanged: Fraction | None
    _memories: dict[str, Memory] = field(default_factory=dict)

    def tasks(self) -> Sequence[Task]:
        """For each format one of all samples, or one for each."""
        model = self.faults.plain.model.digest
        found = []
        for name, choice in self.choices.items():
            stored = " ".join(sorted(self._followed.parameters))
            text = f"stored {'' if choice is None else choice.text} {stored}"
            if self.radius is None:
                depends = ("faults.precision 1", model, text, digest_of(self.data.points))
                run = partial(self._stored, name)
                found.append(Task(f"precision, stored in {name}", depends, run))
                continue
            found += self._each(name, text, partial(self._stored_box, name))
        for name in self.semantics:
            found += self._each(name, f"evaluated {name}", partial(self._evaluated, name))
        return found

    def _each(self, name: str, text: str, run: Any) -> list[Task]:
        region = f"{self.radius} {self.clip} {self.faults.setting.timeout}"
        model = self.faults.plain.model.digest
        return [
            Task(
                f"precision, {name}, sample {self.data.numbers[index]}",
                ("faults.precision 1", model, text, region, point_text(point)),
                partial(run, index),
            )
            for index, point in enumerate(self.data.points)
        ]

    @cached_property
    def _followed(self) -> Placed:
        """The model, with the parameters followed that are stored in a format."""
        fault = self.faults.fault
        names = None if fault is None else followed(fault)[0]
        if isinstance(fault, ActivationFaults):
            names = None
        return read_placed(self.faults.path, names)

    @property
    def _partly(self) -> str:
        """The parameters that are stored in a format, where these are not all."""
        fault = self.faults.fault
        named = fault is not None and not isinstance(fault, ActivationFaults)
        return ", ".join(fault.where.tensors or ()) if named and fault else ""

    def memory(self, name: str) -> Memory:
        """The parameters, stored in a format."""
        if name not in self._memories:
            self._memories[name] = store(self._followed, self.choices[name])
        return self._memories[name]

    def _stored(self, name: str, place: Place) -> Record:
        """All samples at once, exactly."""
        place.progress.stage(f"precision: stored in {name}")
        points = self.data.points
        labels = labels_at(self.faults.plain.network, points)
        known = np.array([0 if label is None else label for label in labels])
        kept = stands(self.memory(name).network, points, known)
        found = [
            OPEN if label is None or sure is None else SAME if sure else OTHER
            for label, sure in zip(labels, kept, strict=True)
        ]
        return Record({"verdicts": found})

    def _stored_box(self, name: str, index: int, place: Place) -> Record:
        """Both networks on a box."""
        point, timeout = self.data.points[index], self.faults.setting.timeout
        plain = self.faults.plain
        label = label_at(plain.network, point)
        if label is None:
            return Record({"verdicts": [OPEN], "why": "no output exceeds every other"})
        box = box_around(point.tolist(), self.radius or Fraction(0), self.clip)
        question = Question(box, {"kind": "robust", "label": label})
        memory = self.memory(name)
        first = ask(place, plain.model, question, timeout)
        second = ask(place, in_memory(stored_model(memory), place), question, timeout)
        verdict = OPEN
        if first.answer == second.answer == "unsat":
            verdict = SAME
        witnesses = [found.witness for found in (first, second) if found.witness is not None]
        if any(_differ(plain.network, memory.network, w.point) for w in witnesses):
            verdict = OTHER
        why = f"original: {first.answer}, stored: {second.answer}"
        evidence = [*first.evidence, *second.evidence]
        return Record({"verdicts": [verdict], "why": why, "evidence": evidence})

    def _evaluated(self, name: str, index: int, place: Place) -> Record:
        """Every evaluation in a format."""
        point = self.data.points[index]
        if self.radius is None:
            point = np.asarray(FORMATS[name].rounded(point))
        label = label_at(self.faults.plain.network, point)
        if label is None:
            return Record({"verdicts": [OPEN], "why": "no output exceeds every other"})
        box = box_around(point.tolist(), self.radius or Fraction(0), self.clip)
        question = Question(box, {"kind": "robust", "label": label}, semantics=name)
        answered = ask(place, self.faults.plain.model, question, self.faults.setting.timeout)
        verdict = {"unsat": SAME, "sat": OTHER}.get(answered.answer, OPEN)
        return Record({**answered.values, "verdicts": [verdict], "why": answered.reason})

    def conclude(self, records: Sequence[Record]) -> Part:
        """How many predictions are unchanged, by format."""
        left = iter(records)
        rows, judged, facts = [], list[Judged](), {}
        total = len(self.data.points)
        kinds = [(name, "stored") for name in self.choices]
        kinds += [(name, "evaluated") for name in self.semantics]
        for name, how in kinds:
            one = how == "stored" and self.radius is None
            verdicts = [
                v for _ in range(1 if one else total) for v in next(left).values["verdicts"]
            ]
            counts = {kind: verdicts.count(kind) for kind in (SAME, OTHER, OPEN)}
            rows.append((f"{how} in {name}", *(str(count) for count in counts.values())))
            facts[f"{how} {name}"] = {**counts, "by_sample": verdicts}
            if self.unchanged is not None:
                certain = Fraction(counts[SAME], total)
                possible = 1 - Fraction(counts[OTHER], total)
                words = f"share of predictions unchanged, {how} in {name},"
                judged.append(at_least(words, self.unchanged, certain, possible))
        where = "" if self.radius is None else f", on boxes: {around(self.radius, self.clip)}"
        lines = tuple(
            f"{name}: {same} of {total} predictions unchanged{where}, {other} changed, "
            f"{open_} undecided"
            for name, same, other, open_ in rows
        )
        if self.choices and (names := self._partly):
            lines += (f"stored in a format: {names}; all else as in the file",)
        assumed = [common.REAL_ARITHMETIC] if self.choices else []
        if self.semantics:
            assumed.append(
                "evaluation in a float format: operator by operator, sums in any order, "
                "fused multiply-add and flushing to zero or not, rounded to nearest; "
                "samples are rounded to the format first"
            )
        head = ("format", SAME, OTHER, OPEN)
        asked = self.radius is not None or bool(self.semantics)
        basis = (*((BY_EVIDENCE,) if asked else ()), *((BY_EVALUATION,) if self.choices else ()))
        return Part(
            "Precision",
            lines,
            (*assumed, common.SAMPLES),
            tuple(judged),
            facts,
            (Rows("By format", head, tuple(rows)),),
            basis=basis,
        )


def read(faults: Faults, table: Table) -> Precision:
    """Keys: ``formats``, ``axis``, ``semantics``, ``radius``, ``clip``, ``unchanged``,
    ``first``.
    """
    formats, semantics = table.strings("formats"), table.strings("semantics")
    axis = table.integer("axis")
    if not formats and not semantics:
        raise table.error("", f"[{table.name}] needs formats or semantics")
    for name in semantics:
        if name not in FORMATS:
            known = ", ".join(FORMATS)
            raise table.error("semantics", f"semantics '{name}': use {known}")
        table.placed("semantics", partial(read_model, faults.path, FORMATS[name]))
    choices = {name: _choice(faults, table, name, axis) for name in formats}
    radius, clip = radius_of(table)
    unchanged = table.share("unchanged")
    data = faults.samples(table)
    found = Precision(faults, data, choices, semantics, radius, clip, unchanged)
    for name in choices:
        table.placed("formats", partial(found.memory, name))
        if radius is not None:
            table.placed("formats", partial(stored_model, found.memory(name)))
    return found


def _choice(faults: Faults, table: Table, name: str, axis: int | None) -> Choice:
    """A format by its name."""
    stated: dict[str, Any] = {"model": "bit_flips", "format": name}
    if axis is not None and "int" in name:
        stated["axis"] = axis
    document = replace(faults.setting.document, tables={"faults": stated})
    try:
        model = read_faults(document)
    except InputError as error:
        raise table.error("formats", message_of(error)) from None
    return model.format if isinstance(model, BitFlips) else None


def _differ(first: Network, second: Network, point: Sequence[Fraction]) -> bool:
    """Whether both have a prediction at a point, and another one."""
    labels = []
    for network in (first, second):
        outputs = evaluate(network, list(point))
        best = max(range(len(outputs)), key=lambda k: outputs[k][0])
        if exact_verdict(outputs, best) is not True:
            return False
        labels.append(best)
    return labels[0] != labels[1]
