"""Whether two networks agree: original and pruned, quantised or hardened.

Both are set side by side in one ONNX model with the same inputs; the question about it, the model
and the proof lie in the evidence folder.  ``at_most = e``: every output of one is within ``e`` of
the other's.  ``classes``: no input of the region makes the first prefer one class to all others by
at least ``margin`` and the second another one; a margin of 0 makes every tie a disagreement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial

import numpy as np

from specs.enclosure import FloatArray
from specs.errors import ModelError
from specs.network import Network
from specs.numerals import numeral
from specs.onnx_reader import read_model
from specs.query import ModelFile
from verifier.certify.data import Data
from verifier.certify.delivery import BY_EVIDENCE, WORDS, Asked, Pair
from verifier.certify.faults import common
from verifier.certify.faults.common import Faults, around, point_text
from verifier.certify.models import side_by_side
from verifier.certify.pairs import Near, Paired, class_words, outputs_at, pairs
from verifier.certify.question_files import in_memory
from verifier.certify.questions import Box, Question, ask, box_around
from verifier.certify.section import Part, Place, Record, Rows, Task, at_least, shown
from verifier.certify.table import Table

IN_CLASS = "in class"


@dataclass(frozen=True, eq=False)
class Agreement:
    """The answer ``[faults.agreement]``.

    Attributes:
        faults: the model.
        other: the name of the other one.
        most: how far outputs may differ; ``None``: not asked.
        margin: of the preference of a class; ``None``: classes are not asked for.
        data: the samples; ``None``: the domain is asked about.
        radius: of boxes around samples.
        clip: ends that boxes are cut at.
        domain: the least and the greatest value of every input.
        agreed: threshold of the share of regions.
    """

    faults: Faults
    other: str
    most: Fraction | None
    margin: Fraction | None
    data: Data | None
    radius: Fraction
    clip: tuple[Fraction, Fraction] | None
    domain: tuple[Fraction, Fraction] | None
    agreed: Fraction | None

    @cached_property
    def joined(self) -> bytes:
        """Both models in one."""
        return side_by_side(self.faults.plain.model, self._second)

    @property
    def _first(self) -> str:
        models = self.faults.setting.models.items()
        return next(name for name, path in models if path == self.faults.path)

    @property
    def _second(self) -> ModelFile:
        return self._read[1]

    @property
    def _other_network(self) -> Network:
        return self._read[0]

    @cached_property
    def _read(self) -> tuple[Network, ModelFile]:
        return read_model(self.faults.setting.models[self.other])

    def tasks(self) -> Sequence[Task]:
        """One for each region and statement."""
        found = []
        models = f"{self.faults.plain.model.digest} {self._second.digest}"
        for where, text, box, _ in self._regions():
            for words, formula in self._statements():
                depends = (
                    "faults.agreement 1",
                    models,
                    formula,
                    text,
                    str(self.faults.setting.timeout),
                )
                run = partial(self._run, box, formula)
                found.append(Task(f"agreement, {words}, {where}", depends, run))
        return found

    def _paired(self, near: Near, words: str) -> Paired:
        """Shows what both say of a counterexample."""

        def paired(point: FloatArray) -> Pair:
            networks = self.faults.plain.network, self._other_network
            one, two = (outputs_at(network, point) for network in networks)
            after = f"outputs differ by up to {float(np.abs(one - two).max()):.4g}"
            if words == IN_CLASS:
                after = ", ".join(
                    f"{name}: {class_words(network, point)}"
                    for name, network in zip((self._first, self.other), networks, strict=True)
                )
            return near.pair(point, after=after, add=f", {words}")

        return paired

    def _regions(self) -> list[tuple[str, str, Box, Near]]:
        size = self.faults.plain.network.input_size
        if self.domain is not None:
            low, high = self.domain
            box = ((low,) * size, (high,) * size)
            return [("the domain", f"{self.domain}", box, Near.middle("the domain", box))]
        if self.data is None:
            return []
        return [
            (
                near.name,
                f"{point_text(near.point)} {self.radius} {self.clip}",
                box_around(near.point.tolist(), self.radius, self.clip),
                near,
            )
            for near in Near.samples(self.data)
        ]

    def _statements(self) -> list[tuple[str, str]]:
        """Words and formula, of what must not happen."""
        count = self.faults.plain.network.output_size
        found = []
        if self.most is not None:
            found.append((f"within {shown(self.most)}", apart(count, self.most)))
        if self.margin is not None:
            found.append((IN_CLASS, otherwise(count, self.margin)))
        return found

    def _run(self, box: Box, formula: str, place: Place) -> Record:
        question = Question(box, {"kind": "unsafe", "formula": formula})
        model = in_memory(self.joined, place)
        return Record(ask(place, model, question, self.faults.setting.timeout).values)

    def conclude(self, records: Sequence[Record]) -> Part:
        """On how many regions they agree."""
        regions, statements = self._regions(), self._statements()
        lines, judged, rows, asked, paired, facts = [], [], [], [], [], {}
        for place, (words, _) in enumerate(statements):
            own = records[place :: len(statements)]
            answers = [record.values["answer"] for record in own]
            proved, refuted = answers.count("unsat"), answers.count("sat")
            lines.append(
                f"{words}: proved on {proved} of {len(own)} regions, refuted on {refuted}, open on "
                f"{len(own) - proved - refuted}"
            )
            facts[words] = answers
            if self.agreed is not None:
                certain, possible = Fraction(proved, len(own)), 1 - Fraction(refuted, len(own))
                name = f"share of regions on which the models agree {words}"
                judged.append(at_least(name, self.agreed, certain, possible))
            rows += [
                (
                    where,
                    words,
                    WORDS.get(record.values["answer"], "undecided"),
                    f"{record.values['seconds']:.2f}",
                )
                for (where, *_), record in zip(regions, own, strict=True)
            ]
            paired += [
                (record.values, self._paired(near, words))
                for (*_, near), record in zip(regions, own, strict=True)
            ]
            asked += [
                Asked.of(f"{where}, {words}", record.values)
                for (where, *_), record in zip(regions, own, strict=True)
            ]
        where = around(self.radius, self.clip)
        if self.domain is not None:
            where = f"every input from {shown(self.domain[0])} to {shown(self.domain[1])}"
        return Part(
            f"Agreement of {self._first} and {self.other}",
            (f"regions: {where}", *lines),
            (common.REAL_ARITHMETIC,)
            + (() if self.margin is None else (_class_words(self.margin),)),
            tuple(judged),
            facts,
            (Rows("By region", ("region", "statement", "verdict", "seconds"), tuple(rows)),),
            asked=tuple(asked),
            pairs=tuple(pairs(paired)),
            basis=(BY_EVIDENCE,),
        )


def apart(count: int, most: Fraction) -> str:
    """The formula of outputs that differ by more than a number.

    Args:
        count: outputs of each network; those of the second follow those of the first.
        most: the number.
    """
    parts = []
    for k in range(count):
        for a, b in ((k, count + k), (count + k, k)):
            parts.append(f"(> (- Y_{a} Y_{b}) {_literal(most)})")
    return f"(or {' '.join(f'(and {part})' for part in parts)})"


def otherwise(count: int, margin: Fraction) -> str:
    """The formula of a class that the first prefers by a margin, and another of the second."""

    def prefers(base: int, label: int) -> str:
        terms = (
            f"(>= (- Y_{base + label} Y_{base + k}) {_literal(margin)})"
            for k in range(count)
            if k != label
        )
        return " ".join(terms)

    parts = [
        f"(and {prefers(0, i)} {prefers(count, j)})"
        for i in range(count)
        for j in range(count)
        if i != j
    ]
    return f"(or {' '.join(parts)})"


def read(faults: Faults, table: Table) -> Agreement:
    """Keys: ``other``, ``at_most``, ``classes``, ``margin``, ``radius``, ``clip``, ``domain``,
    ``agreed``, ``first``.
    """
    other = table.text("other")
    models = faults.setting.models
    if other is None or models.get(other, faults.path) == faults.path:
        known = ", ".join(f"'{name}'" for name, path in models.items() if path != faults.path)
        raise table.error("other", f"'other' must name a further model of [models]: {known}")
    most, classes = table.number("at_most", None, 0), table.flag("classes")
    margin = table.number("margin", None, 0)
    if margin is not None and not classes:
        raise table.error("margin", "'margin' goes with classes = true")
    if most is None and not classes:
        raise table.error("", f"[{table.name}] needs at_most or classes = true")
    domain = table.interval("domain")
    radius, clip = table.number("radius", None, 0), table.interval("clip")
    agreed = table.share("agreed")
    first = table.has("first")
    if domain is not None and (radius is not None or clip is not None or first):
        raise table.error("domain", "'domain' stands for itself: no radius, clip or first with it")
    data = None if domain is not None else faults.samples(table, predicted=classes)
    wanted = (margin or Fraction(0)) if classes else None
    found = Agreement(
        faults, other, most, wanted, data, radius or Fraction(0), clip, domain, agreed
    )
    if classes and faults.plain.network.output_size < 2:
        raise table.error("classes", "classes need two outputs")
    table.placed("other", lambda: _checked(found))
    return found


def _checked(found: Agreement) -> None:
    sizes = [found.faults.plain.network.output_size]
    sizes.append(read_model(found.faults.setting.models[found.other])[0].output_size)
    if len(set(sizes)) > 1:
        raise ModelError(f"the models have {sizes[0]} and {sizes[1]} outputs")
    found.joined  # noqa: B018  errors come before any work


def _class_words(margin: Fraction) -> str:
    return (
        "in class: wherever the first prefers a class to every other by at least "
        f"{shown(margin)}, and the second one, too, these are the same"
    )


def _literal(number: Fraction) -> str:
    return numeral(number)
