"""Maps of single faults over boxes around samples: benign cells by one proof for each box.

The search is a *mapper* (``verifier.faults.region.map_region``).  It is not trusted: what is said
to be benign is what the question in the evidence folder speaks of, whose proof the kernel accepted,
and that question lists all other cells in ``except``.  What is said to be critical is evaluated
again, and the input is kept with the result.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Protocol

import numpy as np

from proofs.check import check_proof
from proofs.format import write_proof
from proofs.proof import Proof
from specs.builders import misclassified
from specs.enclosure import FloatArray
from specs.errors import QuestionError
from specs.faults.exact import WordFault, faulted_network
from specs.faults.formats import IndexArray
from specs.faults.sites import Faults as Singles
from specs.faults.struck import WordFaults, faults_of
from specs.property import Case, Property
from specs.query import Query
from specs.question import load_question
from verifier.certify.data import Data
from verifier.certify.delivery import BY_EVALUATION, BY_EVIDENCE
from verifier.certify.faults import common
from verifier.certify.faults.common import Faults, around, in_words, point_text
from verifier.certify.faults.stand import label_at, stands
from verifier.certify.question_files import model_file, question_path, write_text
from verifier.certify.questions import Box, Question, box_around
from verifier.certify.section import Array, Judged, Part, Place, Record, Rows, Task, at_least, below

UNDECIDED, BENIGN, CRITICAL, NO_NUMBER = range(4)
"""States of a cell, as the mapper gives them."""
KINDS = {BENIGN: "benign", CRITICAL: "critical", NO_NUMBER: "no number", UNDECIDED: "undecided"}


Cell = tuple[str, int, int]
"""A parameter, an entry of it, and a bit of its word."""


class Cells(Protocol):
    """The cells of one parameter whose failure changes its word, and what is known of each."""

    @property
    def faults(self) -> Singles: ...
    @property
    def state(self) -> IndexArray: ...


class Mapped(Protocol):
    """What a mapper found; ``unchanged`` cells are not among ``cells``."""

    @property
    def cells(self) -> Mapping[str, Cells]: ...
    @property
    def witnesses(self) -> Mapping[Cell, FloatArray]: ...
    @property
    def unchanged(self) -> int: ...
    @property
    def query(self) -> Query | None: ...
    @property
    def proof(self) -> Proof | None: ...
    @property
    def reason(self) -> str: ...


Mapper = Callable[[WordFaults, Property, float, Callable[[str, int, int], None]], Mapped]
"""Faults, the property of one box, seconds, and what is told of progress."""


def mapper() -> Mapper:
    """The search; torch is imported when it begins."""

    def run(
        faults: WordFaults,
        region: Property,
        seconds: float,
        progress: Callable[[str, int, int], None],
    ) -> Mapped:
        from verifier.faults.region import Settings, map_region

        return map_region(faults, region, Settings(seconds=seconds), progress)

    return run


@dataclass(frozen=True, eq=False)
class RegionMaps:
    """The answer ``[faults.map]`` with a radius.

    Attributes:
        faults: the model.
        data: the samples.
        radius, clip: of the boxes.
        thresholds: ``certified_benign_mean`` and ``decided``, where they are stated.
        search: the mapper.
    """

    faults: Faults
    data: Data
    radius: Fraction
    clip: tuple[Fraction, Fraction] | None
    thresholds: Mapping[str, Fraction]
    search: Mapper

    def tasks(self) -> Sequence[Task]:
        """One for each box."""
        found = []
        for index, point in enumerate(self.data.points):
            depends = (
                "faults.map over boxes 2",
                self.faults.text,
                repr(dict(self.faults.stated)),
                point_text(point),
                f"{self.radius} {self.clip} {self.faults.setting.timeout}",
            )
            name = f"map over the box of sample {self.data.numbers[index]}"
            found.append(Task(name, depends, partial(self._run, index)))
        return found

    def _run(self, index: int, place: Place) -> Record:
        start = time.perf_counter()
        point, fault = self.data.points[index], self.faults.cells.model
        network = self.faults.memory.network
        label = label_at(network, point)
        if label is None:
            return Record({"reason": "no output exceeds every other without faults"})
        box = box_around(point.tolist(), self.radius, self.clip)
        case = Case(*box, misclassified(network.output_size, label))
        region = Property(network.input_size, network.output_size, (case,))
        number = int(self.data.numbers[index])

        def tick(what: str, done: int, total: int) -> None:
            place.progress.count(f"map over the box of sample {number}, {what}", done, total)

        faults = WordFaults(self.faults.placed, fault)
        mapped = self.search(faults, region, self.faults.setting.timeout, tick)
        evidence = self._kept(place, mapped, box, label)
        critical, points = witnessed(faults, mapped.witnesses, box, label)
        arrays: dict[str, Array] = {"points": np.array(points).reshape(len(points), len(point))}
        for place_, name in enumerate(self.faults.cells.exposed):
            own = mapped.cells.get(name)
            if own is not None:
                state = np.where(own.state == BENIGN, BENIGN if evidence else UNDECIDED, own.state)
                cells = zip(own.faults.entry.tolist(), own.faults.bit.tolist(), strict=True)
                at = np.array([critical.get((name, *cell), -1) for cell in cells], dtype=np.int64)
                state = np.where((own.state == CRITICAL) & (at < 0), UNDECIDED, state)
                arrays[f"witness{place_}"] = at
                arrays[f"entry{place_}"] = own.faults.entry
                arrays[f"bit{place_}"] = own.faults.bit
                arrays[f"state{place_}"] = state.astype(np.int8)
        values = {
            "label": label,
            "unchanged": mapped.unchanged if evidence else 0,
            "reason": mapped.reason,
            "evidence": evidence,
            "seconds": time.perf_counter() - start,
        }
        return Record(values, arrays)

    def _kept(self, place: Place, mapped: Mapped, box: Box, label: int) -> list[str]:
        """The question about all benign cells, and its proof, checked as they lie there."""
        asked = None if mapped.query is None else faults_of(mapped.query)
        if mapped.proof is None or asked is None:
            return []
        model = self.faults.placed.model
        file = model_file(place, model)
        stated = {key: v for key, v in self.faults.stated.items() if key not in ("k", "per_word")}
        spared = getattr(asked.model, "spared", None)
        listed = [] if spared is None else [list(cell) for cell in spared.cells]
        stated |= {"k": 1, **({"except": listed} if listed else {})}
        question = Question(box, {"kind": "robust", "label": label}, stated)
        text = question.text(os.path.relpath(file, place.evidence))
        path = question_path(place, model.digest, text)
        write_text(path, text)
        query = load_question(path)
        left = {tuple(cell) for cell in listed}
        covered = all(
            (table, int(entry), int(bit)) not in left
            for table, own in mapped.cells.items()
            for entry, bit in zip(
                own.faults.entry[own.state == BENIGN],
                own.faults.bit[own.state == BENIGN],
                strict=True,
            )
        )
        if not covered or check_proof(query, mapped.proof).verdict != "valid unsat":
            path.unlink()
            return []
        proof = path.with_suffix(".farkas")
        write_proof(proof, mapped.proof, pack=True)
        return [path.name, proof.name, os.path.relpath(file, place.evidence)]

    def conclude(self, records: Sequence[Record]) -> Part:
        """Shares of cells, by box and on average."""
        cells, counts, rows = self.faults.cells.count, [], []
        table: dict[str, list[int]] = {}
        for number, record in zip(self.data.numbers, records, strict=True):
            own = self._counts(record, table)
            counts.append(own)
            shown = (f"{below(Fraction(100 * own[kind], cells), 5)} %" for kind in KINDS.values())
            reason = str(record.values.get("reason", ""))
            rows.append(
                (str(int(number)), *shown, f"{record.values.get('seconds', 0):.1f}", reason)
            )
        mean = {
            kind: Fraction(sum(own[kind] for own in counts), cells * len(counts))
            for kind in KINDS.values()
        }
        lines = (
            f"fault model: {in_words(self.faults.cells.model)}; the map is of single ones, for "
            f"every input {around(self.radius, self.clip)}",
            *(
                f"{kind}: {below(100 * share, 5)} % of {cells} cells, on average"
                for kind, share in mean.items()
            ),
            "the benign cells of a box have one proof, in the folder evidence; critical ones were "
            "evaluated exactly at an input of it",
        )
        head = ("sample", *KINDS.values(), "seconds", "why")
        facts = {"cells": cells, "radius": str(self.radius), "boxes": counts, "by_bit": table}
        return Part(
            "Critical bits over boxes",
            lines,
            (common.REAL_ARITHMETIC, common.NOTICED, common.INTACT),
            tuple(self._judged(mean)),
            facts,
            (Rows("By box", head, tuple(rows)),),
            (("Certified benign share, by parameter and bit position", partial(_draw, table)),),
            basis=(BY_EVIDENCE, BY_EVALUATION),
        )

    def _counts(self, record: Record, table: dict[str, list[int]]) -> dict[str, int]:
        """The cells of a box by kind; those of ``table``, by parameter and bit, are added to."""
        found = dict.fromkeys(KINDS.values(), 0)
        for place, name in enumerate(self.faults.cells.exposed):
            state = record.arrays.get(f"state{place}")
            if state is None:
                continue
            width = self.faults.memory.stored[name].format.bits
            for code, kind in KINDS.items():
                found[kind] += int(np.count_nonzero(state == code))
                own = np.bincount(record.arrays[f"bit{place}"][state == code], minlength=width)
                known = table.setdefault(f"{name} {kind}", [0] * width)
                table[f"{name} {kind}"] = [a + int(b) for a, b in zip(known, own, strict=True)]
        found["benign"] += int(record.values.get("unchanged", 0))
        found["undecided"] += self.faults.cells.count - sum(found.values())
        return found

    def _judged(self, mean: Mapping[str, Fraction]) -> list[Judged]:
        found = []
        for name, asked in self.thresholds.items():
            certain, possible = mean["benign"], mean["benign"] + mean["undecided"]
            words = "share certified benign over a box, on average, of cells"
            if name == "decided":
                certain = possible = 1 - mean["undecided"]
                words = "share decided over a box, on average, of cells"
            found.append(at_least(words, asked, certain, possible))
        return found


def witnessed(
    faults: WordFaults, witnesses: Mapping[Cell, FloatArray], box: Box, label: int
) -> tuple[dict[Cell, int], list[FloatArray]]:
    """Cells whose failure changes the prediction at their point, and which of the points that is.

    Args:
        faults: the model.
        witnesses: a point for each cell.
        box: the region; points outside of it show nothing.
        label: the prediction without faults.
    """
    found: dict[Cell, int] = {}
    points: list[FloatArray] = []
    place: dict[bytes, int] = {}
    for (name, entry, bit), point in witnesses.items():
        inside = all(
            low <= Fraction(float(x)) <= high
            for low, x, high in zip(box[0], point, box[1], strict=True)
        )
        try:
            network = faulted_network(faults, [WordFault(name, entry, (bit,))])
        except QuestionError:  # a fault that the model does not have, or no network
            continue
        if inside and stands(network, point[None], np.array([label])) == [False]:
            key = np.ascontiguousarray(point).tobytes()
            if key not in place:
                place[key] = len(points)
                points.append(point)
            found[name, entry, bit] = place[key]
    return found, points


def _draw(table: Mapping[str, Sequence[int]], figure: Any) -> None:
    names = sorted({key.rpartition(" ")[0] for key in table if key.endswith(" benign")})
    width = max(len(counts) for counts in table.values())
    shares = np.full((len(names), width), np.nan)
    for row, name in enumerate(names):
        kinds = np.array([table[f"{name} {kind}"] for kind in KINDS.values()], dtype=np.float64)
        with np.errstate(invalid="ignore"):
            shares[row, : kinds.shape[1]] = kinds[0] / kinds.sum(axis=0)
    panel = figure.add_subplot()
    image = panel.imshow(shares, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    panel.set_yticks(range(len(names)), names)
    panel.set_xlabel("bit position; 0 is the least significant")
    figure.colorbar(image, label="certified benign share")
