"""How far each activation of a layer may move: at samples, or on boxes around them.

At a sample every neuron has a range of its own (``verifier.faults.ranges``).  On a box one range is
looked for that any single neuron of the layer, or of a channel, may take any value of, whatever the
input of the box; the kernel says of each candidate whether the empty proof shows it, and the one
that is kept has a proof in the evidence folder.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

import numpy as np

from proofs.check import check_proof
from specs.builders import misclassified
from specs.faults.models import ActivationFaults, Where
from specs.faults.placed import Placed, read_placed
from specs.faults.struck import WordFaults
from specs.network import Input
from specs.property import Case, Property
from specs.query import Query
from verifier.certify.data import Data
from verifier.certify.delivery import BY_EVALUATION, BY_EVIDENCE
from verifier.certify.faults import common
from verifier.certify.faults.common import Faults, around, point_text, radius_of
from verifier.certify.faults.stand import label_at
from verifier.certify.questions import Box, Question, ask, box_around
from verifier.certify.section import (
    Judged,
    Part,
    Place,
    Record,
    Rows,
    Task,
    above,
    at_least,
    below,
    shown,
)
from verifier.certify.table import Table
from verifier.faults.floats import Floats
from verifier.faults.ranges import vulnerability_ranges

HALVINGS = 7
"""Bisections of a range's size; of each end, half as many."""
KINDS = ("lower", "upper", "below", "above", "value")
SHOWN = 64
"""Neurons in a picture."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What the table says.

    Attributes:
        tensor: of activations, by its name.
        within: no value outside is looked at.
        covers: values that ranges should hold; ``None``: no threshold.
        covered: of the neurons at the samples, the share whose ranges should.
        radius: of boxes; ``None``: at the samples.
        clip: ends that boxes are cut at.
        per: of boxes, ``"layer"`` or ``"channel"``: what has a range of its own.
    """

    tensor: str
    within: tuple[Fraction, Fraction]
    covers: tuple[Fraction, Fraction] | None
    covered: Fraction | None
    radius: Fraction | None
    clip: tuple[Fraction, Fraction] | None
    per: str


@dataclass(frozen=True, eq=False)
class ActivationRanges:
    """The answer ``[faults.ranges]``."""

    faults: Faults
    data: Data
    asked: Asked

    @cached_property
    def placed(self) -> Placed:
        """The model, in which the tensor stands apart from what computes the same."""
        return read_placed(self.faults.path, (), (self.asked.tensor,))

    def tasks(self) -> Sequence[Task]:
        """One for each sample, or for each channel of each."""
        found = []
        asked = self.asked
        parts = [None] if asked.radius is None or asked.per == "layer" else self._channels()
        for index, point in enumerate(self.data.points):
            for channel in parts:
                depends = [
                    "faults.ranges 1",
                    self.placed.model.digest,
                    f"{asked.tensor} {asked.within} {asked.radius} {asked.clip} {channel}",
                    point_text(point),
                ]
                run = partial(self._at_point, index)
                if asked.radius is not None:
                    depends.append(str(self.faults.setting.timeout))
                    run = partial(self._on_box, index, channel)
                where = "" if channel is None else f", channel {channel}"
                name = f"ranges of {asked.tensor} at sample {self.data.numbers[index]}{where}"
                found.append(Task(name, tuple(depends), run))
        return found

    def conclude(self, records: Sequence[Record]) -> Part:
        """Ranges, what a search reports beside them, the threshold."""
        return self._points(records) if self.asked.radius is None else self._boxes(records)

    @property
    def _number(self) -> int:
        return self.placed.network.tensors[self.asked.tensor]

    def _channels(self) -> list[int | None]:
        shape = self.placed.network.nodes[self._number].shape
        return list(range(shape[1] if len(shape) > 1 else shape[0]))

    def _at_point(self, index: int, place: Place) -> Record:
        network = self.placed.network
        point = self.data.points[index]
        label = label_at(network, point)
        if label is None:
            return Record({"label": None})
        floats = Floats(network)
        tensors = dict(enumerate(floats.run(point[None], sharp=True)))
        low, high = (float(end) for end in self.asked.within)
        found = vulnerability_ranges(
            floats, tensors, self._number, label, (low, high), partial(_tick, place)
        )
        arrays = {kind: getattr(found, kind) for kind in KINDS}
        arrays["overstated"] = found.overstated
        arrays["overstated_one_way"] = found.overstated_one_way
        return Record({"label": label}, arrays)

    def _points(self, records: Sequence[Record]) -> Part:
        held = [record for record in records if record.values["label"] is not None]
        joined = {
            kind: np.concatenate([record.arrays[kind] for record in held] or [np.zeros(0)])
            for kind in (*KINDS, "overstated", "overstated_one_way")
        }
        count = joined["lower"].size
        low, high = (float(end) for end in self.asked.within)
        lower, upper = joined["lower"], joined["upper"]
        sizes = [_gap(upper, joined["above"], high), _gap(-lower, -joined["below"], -low)]
        gap = np.concatenate(sizes)
        most = above(float(np.max(gap, initial=0.0)), 3)
        lines = [
            f"{self.asked.tensor}: {count} ranges, at {len(held)} samples; values within "
            f"[{shown(low)}, {shown(high)}]",
            f"median width {np.median(upper - lower):.4g}; {int((upper >= high).sum())} reach the "
            f"upper limit, {int((lower <= low).sum())} the lower"
            if count
            else "no sample has a prediction",
            f"beyond a certified end lies a value that changes the prediction, or the limit, after "
            f"at most {most} ({np.median(gap):.2g} in the median)"
            if count
            else "",
            "a search by doubling and bisection in both directions would have called values "
            f"harmless that are not for {int(joined['overstated'].sum())} of {count} neurons; one "
            "in the direction of the gradient's sign only, for "
            f"{int(joined['overstated_one_way'].sum())}",
        ]
        facts: dict[str, Any] = {
            "tensor": self.asked.tensor,
            "ranges": count,
            "overstated_by_bisection": int(joined["overstated"].sum()),
            "overstated_one_way": int(joined["overstated_one_way"].sum()),
            "samples": [
                {
                    "sample": int(number),
                    "lower": list(r.arrays["lower"]),
                    "upper": list(r.arrays["upper"]),
                }
                for number, r in zip(self.data.numbers, records, strict=True)
                if r.values["label"] is not None
            ],
        }
        judged = self._judged(joined, count, self._neurons * (len(records) - len(held)))
        drawing = (f"Certified ranges of {self.asked.tensor}, first sample", partial(_draw, held))
        return Part(
            "Ranges of activations",
            tuple(line for line in lines if line),
            (common.REAL_ARITHMETIC, common.SAMPLES, "a single activation is faulty"),
            tuple(judged),
            facts,
            (),
            (drawing,) if held else (),
            basis=(BY_EVALUATION,),
        )

    @property
    def _neurons(self) -> int:
        return self.placed.network.sizes[self._number]

    def _judged(self, joined: dict[str, Any], count: int, open_: int) -> list[Judged]:
        if self.asked.covers is None or self.asked.covered is None:
            return []
        low, high = self.asked.covers
        sure = sum(
            a <= low and b >= high
            for a, b in zip(joined["lower"].tolist(), joined["upper"].tolist(), strict=True)
        )
        # Compared as exact numbers; a harmful value inside refutes.
        harm = sum(
            low <= a or b <= high
            for a, b in zip(joined["below"].tolist(), joined["above"].tolist(), strict=True)
        )
        total = count + open_
        words = f"share of ranges that hold [{shown(low)}, {shown(high)}]"
        return [
            at_least(
                words, self.asked.covered, Fraction(sure, total), Fraction(total - harm, total)
            )
        ]

    def _on_box(self, index: int, channel: int | None, place: Place) -> Record:
        start = time.perf_counter()
        network = self.placed.network
        point = self.data.points[index]
        label = label_at(network, point)
        if label is None:
            return Record({"label": None, "range": None, "calls": 0})
        box = box_around(point.tolist(), self.asked.radius or Fraction(0), self.asked.clip)
        deadline = time.monotonic() + self.faults.setting.timeout
        search = _Search(self, box, label, channel, deadline, place)
        found = search.range(self._middle(point, channel))
        values: dict[str, Any] = {"label": label, "calls": search.calls, "range": None}
        if found is not None:
            statement = {"kind": "robust", "label": label}
            question = Question(box, statement, search.stated(*found))
            model = self.placed.model
            answered = ask(place, model, question, self.faults.setting.timeout)
            values |= {"evidence": list(answered.evidence), "answer": answered.answer}
            if answered.answer == "unsat":
                values["range"] = [str(end) for end in found]
        return Record(values | {"seconds": time.perf_counter() - start})

    def _middle(self, point: np.ndarray[Any, Any], channel: int | None) -> Fraction:
        """Where a range begins: among the fault-free values at the sample."""
        network = self.placed.network
        value = Floats(network).run(point[None])[self._number].value[0]
        value = value.reshape(network.nodes[self._number].shape)
        if channel is not None:
            value = np.take(value, channel, axis=1 if value.ndim > 1 else 0)
        middle = _grid(Fraction(float(value.min()) + float(value.max())) / 2)
        return min(max(middle, self.asked.within[0]), self.asked.within[1])

    def _boxes(self, records: Sequence[Record]) -> Part:
        rows, facts = [], []
        sure = 0
        parts = len(records) // len(self.data.points)
        for place, record in enumerate(records):
            number = int(self.data.numbers[place // parts])
            channel = "all" if self.asked.per == "layer" else str(place % parts)
            ends = record.values["range"]
            text = "none proved"
            if ends is not None:
                low, high = (Fraction(end) for end in ends)
                text = f"[{above(low)}, {below(high)}]"
                covers = self.asked.covers
                sure += covers is not None and low <= covers[0] and covers[1] <= high
            rows.append((str(number), channel, text, str(record.values["calls"])))
            facts.append({"sample": number, "channel": channel, "range": ends})
        proved = sum(record.values["range"] is not None for record in records)
        judged = []
        if self.asked.covers is not None and self.asked.covered is not None:
            low, high = self.asked.covers
            words = f"share of ranges that hold [{shown(low)}, {shown(high)}]"
            judged = [at_least(words, self.asked.covered, Fraction(sure, len(records)), 1)]
        where = around(self.asked.radius or Fraction(0), self.asked.clip)
        lines = (
            f"{self.asked.tensor}: any single neuron may take any value of these ranges, for every "
            f"input {where}; {proved} of {len(records)} have one, each with a proof in the folder "
            "evidence",
            "they are the largest that the empty proof shows; others may hold as well",
        )
        head = ("sample", "channel", "range", "checks")
        return Part(
            "Ranges of activations over boxes",
            lines,
            (common.REAL_ARITHMETIC, "a single activation is faulty"),
            tuple(judged),
            {"tensor": self.asked.tensor, "ranges": facts},
            (Rows("By sample", head, tuple(rows)),),
            basis=(BY_EVIDENCE,),
        )


@dataclass(eq=False)
class _Search:
    """Candidates for a range over a box, and the kernel's word on each."""

    owner: ActivationRanges
    box: Box
    label: int
    channel: int | None
    deadline: float
    place: Place
    calls: int = 0

    def stated(self, low: Fraction, high: Fraction) -> dict[str, Any]:
        """The table ``[faults]`` of a candidate."""
        channels = {} if self.channel is None else {"channels": [self.channel]}
        return {
            "model": "activation_faults",
            "range": [low, high],
            "tensors": [self.owner.asked.tensor],
            **channels,
        }

    def holds(self, low: Fraction, high: Fraction) -> bool:
        """Whether the empty proof shows it."""
        if time.monotonic() > self.deadline:
            return False
        self.calls += 1
        self.place.progress.stage(f"ranges, check {self.calls}")
        channels = None if self.channel is None else (self.channel,)
        where = Where(tensors=(self.owner.asked.tensor,), channels=channels)
        placed = self.owner.placed
        faults = WordFaults(placed, ActivationFaults(1, low, high, where))
        network = faults.network
        unsafe = misclassified(network.output_size, self.label)
        stated = Property(network.input_size, network.output_size, (Case(*self.box, unsafe),))
        query = Query(network, stated, (placed.model,), stated.digest, (faults,))
        return check_proof(query, None, deadline=self.deadline).verdict == "valid unsat"

    def range(self, middle: Fraction) -> tuple[Fraction, Fraction] | None:
        """A large range around a value, or around 0; ``None``: not even these are shown."""
        low, high = self.owner.asked.within
        starts = (middle, min(max(Fraction(0), low), high))
        middle = next((start for start in starts if self.holds(start, start)), high + 1)
        if middle > high:
            return None

        def of(share: Fraction) -> tuple[Fraction, Fraction]:
            return middle - share * (middle - low), middle + share * (high - middle)

        best = self._largest(of, Fraction(0), HALVINGS)
        lower, upper = of(best)
        more = self._largest(lambda t: (lower, upper + t * (high - upper)), Fraction(0), 4)
        upper = upper + more * (high - upper)
        more = self._largest(lambda t: (lower - t * (lower - low), upper), Fraction(0), 4)
        return lower - more * (lower - low), upper

    def _largest(self, of: Any, good: Fraction, halvings: int) -> Fraction:
        """The largest share that is shown, by bisection; ranges grow with the share."""
        if self.holds(*of(Fraction(1))):
            return Fraction(1)
        bad = Fraction(1)
        for _ in range(halvings):
            middle = (good + bad) / 2
            good, bad = (middle, bad) if self.holds(*of(middle)) else (good, middle)
        return good


def read(faults: Faults, table: Table) -> ActivationRanges:
    """Keys: ``tensor``, ``within``, ``covers``, ``covered``, ``radius``, ``clip``, ``per``,
    ``first``.
    """
    apart = read_placed(faults.path, (), None)
    network = apart.network
    tensor, within = table.text("tensor"), table.interval("within")
    covers, covered = table.interval("covers"), table.share("covered")
    radius, clip = radius_of(table)
    per = table.text("per", "layer", ("layer", "channel")) or "layer"
    if tensor is None or within is None:
        raise table.error("", f"[{table.name}] needs tensor and within = [LOW, HIGH]")
    if tensor not in network.tensors or isinstance(network.nodes[network.tensors[tensor]], Input):
        known = ", ".join(f"'{name}'" for name in apart.activations)
        raise table.error("tensor", f"there is no activation '{tensor}'; known: {known}")
    if (covers is None) != (covered is None):
        raise table.error("covers", "'covers' = [LOW, HIGH] and 'covered' = SHARE go together")
    asked = Asked(tensor, within, covers, covered, radius, clip, per)
    found = ActivationRanges(faults, faults.samples(table), asked)
    table.placed("tensor", lambda: found.placed)
    return found


def _gap(ends: np.ndarray[Any, Any], harm: np.ndarray[Any, Any], limit: float) -> Any:
    """How far it is from an end to a harmful value, or to the limit."""
    return np.maximum(np.minimum(harm, limit) - ends, 0.0)


def _grid(number: Fraction) -> Fraction:
    return Fraction(math.floor(number * 1024), 1024)


def _tick(place: Place, done: int, total: int) -> None:
    place.progress.count("ranges: ends", done, total)


def _draw(records: Sequence[Record], figure: Any) -> None:
    panel = figure.add_subplot()
    arrays = records[0].arrays
    count = min(SHOWN, arrays["value"].size)
    place = np.arange(count)
    lower, upper = arrays["lower"][:count], arrays["upper"][:count]
    panel.bar(place, upper - lower, bottom=lower, width=0.8, color="#9ecae1", label="certified")
    panel.plot(place, arrays["value"][:count], "k.", markersize=3, label="fault-free value")
    panel.set_yscale("symlog")
    panel.set_xlabel("neuron")
    panel.set_ylabel("value")
    panel.legend(frameon=False)
