"""The section ``[lipschitz]``: how much outputs can change at most, proved on boxes.

net              one of the models
norm             of inputs: "linf", "l2" or "l1"
close            ends where the constant is so much above the largest gradient found, relatively
leaves           of a partition, at most
[[lipschitz.question]]
title            how to call it
lower, upper     a box; or
property         a property file, whose region is meant; or
radius, clip     boxes around samples; with ``first``
output           f is this output; or
label, target    f is the margin; around samples label is the sample's where it is left out
at_most          T: of each constant
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from specs.errors import EvidenceError
from specs.lipschitz import NORMS, TABLE, load_lipschitz_question
from specs.onnx_reader import read_model
from specs.query import ModelFile
from verifier.certify.delivery import BY_EVIDENCE
from verifier.certify.regions import regions_of
from verifier.certify.rehearsal import rehearse
from verifier.certify.section import (
    PROVED,
    UNDECIDED,
    Judged,
    Part,
    Place,
    Record,
    Rows,
    Setting,
    Task,
    above,
    shown,
)
from verifier.certify.table import Table
from verifier.probability.files import Asked, ask, first_and_largest, keep
from verifier.probability.lipschitz import bound as search

ASSUMED = (
    "a constant is proved by a partition of the box that the kernel replays; the largest gradient "
    "found is a number in floats that a search found: the constant is hardly smaller, but nothing "
    "is proved by it",
)

UNBOUNDED = "no constant was proved, since no bound of the gradient was found"


@dataclass(frozen=True, eq=False)
class Lipschitz:
    """A table ``[[lipschitz.question]]``.

    Attributes:
        asked: its questions: one, or one for each sample.
        at_most: threshold of each.
        close, leaves, seconds: when a search ends.
    """

    title: str
    model: Path
    asked: tuple[Asked, ...]
    at_most: Fraction | None
    close: Fraction
    leaves: int
    seconds: float

    def tasks(self) -> Sequence[Task]:
        """One for each question."""
        _, model = read_model(self.model)
        return [self._task(model, asked) for asked in self.asked]

    def _task(self, model: ModelFile, asked: Asked) -> Task:
        text = asked.named.text("net", {"at_most": 0})
        limits = f"{self.close} {self.leaves} {self.seconds}"
        beside = "" if asked.beside is None else asked.beside.hex()
        depends = ("lipschitz-2", model.digest, text, beside, limits)
        return Task(asked.title, depends, lambda place: self._run(place, model, asked))

    def _run(self, place: Place, model: ModelFile, asked: Asked) -> Record:
        found = search(
            ask(place, model, asked, load_lipschitz_question),
            self.seconds,
            close=float(self.close),
            leaves=self.leaves,
            progress=lambda value, leaves: place.progress.leaves(
                f"{asked.title}: at most {value:.6g}", leaves, 0
            ),
        )
        place.progress.clear()
        files: tuple[str, ...] = ()
        if found.constant is not None:
            kept = keep(place, model, asked, {"at_most": found.constant}, found.evidence)
            if not kept.files:
                raise EvidenceError(f"a partition is not accepted: {kept.replayed.checked.reason}")
            files = kept.files
        return Record(
            {
                "constant": None if found.constant is None else str(found.constant),
                "without_splits": found.first if math.isfinite(found.first) else None,
                "gradient_found": found.found,
                "leaves": found.leaves,
                "seconds": found.seconds,
                "evidence": list(files),
            }
        )

    def conclude(self, records: Sequence[Record]) -> Part:
        """Constants, and thresholds judged on what is proved."""
        judged, rows, lines, facts = [], [], [], []
        for asked, record in zip(self.asked, records, strict=True):
            values = record.values
            constant = None if values["constant"] is None else Fraction(values["constant"])
            bound = "" if constant is None else above(constant)
            norm = asked.tables[TABLE]["norm"]
            proved = f"proved: a Lipschitz constant is {bound} ({norm})"
            lines.append(
                f"{asked.title}: {proved if bound else UNBOUNDED}; found, not proved: a gradient "
                f"of norm {values['gradient_found']:.6g}"
            )
            rows.append(
                (
                    asked.title,
                    bound,
                    f"{values['gradient_found']:.6g}",
                    str(values["leaves"]),
                    f"{values['seconds']:.1f}",
                )
            )
            facts.append({"title": asked.title, **values})
            if self.at_most is not None:
                met = constant is not None and constant <= self.at_most
                judged.append(
                    Judged(
                        f"{asked.title}: Lipschitz constant at most {shown(self.at_most)}",
                        f"proved: at most {bound}" if bound else UNBOUNDED,
                        PROVED if met else UNDECIDED,
                    )
                )
        head = ("question", "proved: at most", "largest gradient found", "leaves", "seconds")
        return Part(
            self.title,
            tuple(lines),
            ASSUMED,
            tuple(judged),
            {"questions": facts},
            (Rows("Lipschitz constants", head, tuple(rows)),),
            basis=(BY_EVIDENCE,),
        )


def read(setting: Setting) -> Sequence[Lipschitz]:
    """The answers that ``[lipschitz]`` asks for.

    Raises:
        InputError: it is malformed; the message says where.
    """
    table = Table.of(setting.document, "lipschitz")
    name = setting.named(table, "net")
    norm = table.text("norm", NORMS[0], NORMS) or NORMS[0]
    close = table.number("close", Fraction(1, 100), 0)
    leaves = table.integer("leaves", 100_000, 1)
    asked = table.tables("question")
    table.done()
    if not asked:
        raise table.error("", "[lipschitz] asks nothing: add [[lipschitz.question]]")
    model = table.placed("net", lambda: read_model(setting.models[name])[1])
    found = []
    for number, each in enumerate(asked):
        title = each.text("title") or f"Lipschitz constant {number + 1}"
        at_most = each.number("at_most", None, 0)
        questions = tuple(_questions(setting, each, title, norm))
        each.done()
        for one in first_and_largest(questions):
            rehearse(each, lambda place, one=one: ask(place, model, one, load_lipschitz_question))
        found.append(
            Lipschitz(
                title,
                setting.models[name],
                questions,
                at_most,
                Fraction(close or 0),
                int(leaves or 1),
                setting.timeout,
            )
        )
    return found


def _questions(setting: Setting, table: Table, title: str, norm: str) -> Sequence[Asked]:
    regions = regions_of(setting, table, title)
    functions: dict[str, Any] = {"norm": norm}
    for key in ("output", "label", "target"):
        index = table.integer(key)
        if index is not None:
            functions[key] = index
    of_samples = table.has("radius") and "target" in functions and "label" not in functions
    made = []
    for region in regions:
        own = dict(functions)
        if of_samples:
            if region.label is None:
                raise table.error("target", "'target' without 'label' needs [data] with labels")
            if region.label == own["target"]:
                continue
            own["label"] = region.label
        tables = {"region": region.stated, TABLE: own}
        made.append(Asked(region.title, tables, TABLE, region.beside))
    if not made:
        raise table.error("target", "'target' is the label of every sample: nothing is asked")
    return made
