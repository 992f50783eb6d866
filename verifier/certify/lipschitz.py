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

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from proofs.format import replacing, write_arrays
from proofs.partitions.check import check_partition
from specs.errors import EvidenceError
from specs.lipschitz import NORMS, LipschitzQuestion, load_lipschitz_question
from specs.onnx_reader import read_model
from specs.query import ModelFile
from specs.source import read_source
from verifier.certify.delivery import BY_EVIDENCE
from verifier.certify.questions import box_around, model_file
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
from verifier.probability.lipschitz import Bounded, bound
from verifier.toml import toml

ASSUMED = (
    "a constant is proved by a partition of the box that the kernel replays; the largest gradient "
    "found is a number in floats that a search found: the constant is hardly smaller, but nothing "
    "is proved by it",
)


@dataclass(frozen=True, eq=False)
class Asked:
    """One constant that is asked for.

    Attributes:
        title: of it.
        region: the table ``[region]``.
        functions: the keys of ``[lipschitz]`` that say which function, and the norm.
        beside: the content of a property file; ``None``: there is none.
    """

    title: str
    region: Mapping[str, Any]
    functions: Mapping[str, Any]
    beside: bytes | None = None

    def text(self, model: str, at_most: Fraction) -> str:
        """The question file.

        Raises:
            QuestionError: a number is no decimal.
        """
        region = dict(self.region)
        if self.beside is not None:
            region["file"] = _name(self.beside)
        lines = ["[models]", f"net = {toml(model)}"]
        for name, values in (
            ("region", region),
            ("lipschitz", {**self.functions, "at_most": at_most}),
        ):
            lines += [f"[{name}]", *(f"{key} = {toml(value)}" for key, value in values.items())]
        return "\n".join(lines) + "\n"


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
        text = asked.text("net", Fraction(0))
        limits = f"{self.close} {self.leaves} {self.seconds}"
        beside = "" if asked.beside is None else asked.beside.hex()
        depends = ("lipschitz-2", model.digest, text, beside, limits)
        return Task(asked.title, depends, lambda place: self._run(place, model, asked))

    def _run(self, place: Place, model: ModelFile, asked: Asked) -> Record:
        found = bound(
            _ask(place, model, asked),
            self.seconds,
            close=float(self.close),
            leaves=self.leaves,
            progress=lambda value, leaves: place.progress.leaves(
                f"{asked.title}: at most {value:.6g}", leaves, 0
            ),
        )
        place.progress.clear()
        files = _keep(place, model, asked, found)
        return Record(
            {
                "constant": str(found.constant),
                "without_splits": found.first,
                "gradient_found": found.found,
                "leaves": found.leaves,
                "seconds": found.seconds,
                "evidence": files,
            }
        )

    def conclude(self, records: Sequence[Record]) -> Part:
        """Constants, and thresholds judged on what is proved."""
        judged, rows, lines, facts = [], [], [], []
        for asked, record in zip(self.asked, records, strict=True):
            values = record.values
            constant = Fraction(values["constant"])
            lines.append(
                f"{asked.title}: proved: a Lipschitz constant is {above(constant)} "
                f"({asked.functions['norm']}); found, not proved: a gradient of norm "
                f"{values['gradient_found']:.6g}"
            )
            rows.append(
                (
                    asked.title,
                    above(constant),
                    f"{values['gradient_found']:.6g}",
                    str(values["leaves"]),
                    f"{values['seconds']:.1f}",
                )
            )
            facts.append({"title": asked.title, **values})
            if self.at_most is not None:
                verdict = PROVED if constant <= self.at_most else UNDECIDED
                judged.append(
                    Judged(
                        f"{asked.title}: Lipschitz constant at most {shown(self.at_most)}",
                        f"proved: at most {above(constant)}",
                        verdict,
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


def _name(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()[:16]}.vnnlib"


def _write(
    place: Place, model: ModelFile, asked: Asked, at_most: Fraction, ending: str = ""
) -> Path:
    file = model_file(place, model)
    if asked.beside is not None:
        with replacing(place.evidence / _name(asked.beside)) as stream:
            stream.write(asked.beside)
    text = asked.text(os.path.relpath(file, place.evidence), at_most)
    name = hashlib.sha256((model.digest + text).encode()).hexdigest()[:16]
    path = place.evidence / f"{name}{ending}.toml"
    with replacing(path) as stream:
        stream.write(text.encode())
    return path


def _ask(place: Place, model: ModelFile, asked: Asked) -> LipschitzQuestion:
    """The question as it is read, whatever constant it claims."""
    path = _write(place, model, asked, Fraction(0), f"-{os.getpid()}")  # nobody else's
    try:
        return load_lipschitz_question(path)
    finally:
        path.unlink(missing_ok=True)


def _keep(place: Place, model: ModelFile, asked: Asked, found: Bounded) -> list[str]:
    """The question that claims the constant, and its partition, checked by the kernel."""
    path = _write(place, model, asked, found.constant)
    question = load_lipschitz_question(path)
    made = replace(found.evidence, question=question.digest)
    checked = check_partition(question, made).checked
    if checked.verdict != "valid unsat":
        path.unlink(missing_ok=True)
        raise EvidenceError(f"a partition is not accepted: {checked.reason}")
    write_arrays(path.with_suffix(".farkas"), made)
    if not path.is_file():  # another process has tidied up, for want of this evidence
        _write(place, model, asked, found.constant)
    files = [path.name, path.with_suffix(".farkas").name]
    files.append(os.path.relpath(model_file(place, model), place.evidence))
    return files if asked.beside is None else [*files, _name(asked.beside)]


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
        largest = max(questions, key=lambda asked: asked.functions.get("label", 0))
        for one in dict.fromkeys((questions[0], largest)):
            rehearse(each, lambda place, one=one: _ask(place, model, one))
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
    file = table.text("property")
    radius, clip = table.number("radius", None, 0), table.interval("clip")
    first = table.integer("first", None, 1)
    box = {key: _numbers(table, key) for key in ("lower", "upper") if table.has(key)}
    functions: dict[str, Any] = {"norm": norm}
    for key in ("output", "label", "target"):
        index = table.integer(key)
        if index is not None:
            functions[key] = index
    if sum([file is not None, radius is not None, bool(box)]) != 1:
        raise table.error("", "say one of 'property', 'lower' and 'upper', or 'radius'")
    if radius is None and (clip is not None or first is not None):
        raise table.error("clip" if clip else "first", "goes with 'radius' only")
    if file is not None:
        path = setting.document.folder / file
        content = table.placed("property", lambda: read_source(path)[0].text)
        return [Asked(title, {"file": file}, functions, content.encode())]
    if radius is None:
        return [Asked(title, box, functions)]
    if setting.data is None:
        raise table.error("radius", "'radius' needs [data]")
    data, made = setting.data.first(first), []
    for place, (point, number) in enumerate(zip(data.points, data.numbers, strict=True)):
        sides = table.placed("radius", lambda point=point: box_around(point, radius, clip))
        region = {"lower": list(sides[0]), "upper": list(sides[1])}
        own = dict(functions)
        if "target" in own and "label" not in own:
            if data.labels is None:
                raise table.error("target", "'target' without 'label' needs [data] with labels")
            own["label"] = int(data.labels[place])
            if own["label"] == own["target"]:
                continue
        made.append(Asked(f"{title}, sample {number}", region, own))
    if not made:
        raise table.error("target", "'target' is the label of every sample: nothing is asked")
    return made


def _numbers(table: Table, key: str) -> Any:
    """A number, or a list of them."""
    if isinstance(table.values[key], list):
        return list(table.numbers(key))
    return table.number(key)
