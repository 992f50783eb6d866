"""Probabilistic robustness (``statistics.robustness``) as an answer: sampled, never proved.

All intervals of the section hold together with the stated confidence: what may fail is divided
evenly among its statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from specs.decimals import round_down, round_up
from verifier.certify.data import Data
from verifier.certify.delivery import BY_SAMPLES, Measured
from verifier.certify.sampled import GENERATOR, RUNTIME, SAMPLED, versions
from verifier.certify.section import (
    Judged,
    Part,
    Place,
    Record,
    Rows,
    Task,
    above,
    below,
    measured_at_least,
    shown,
)
from verifier.resumed import or_anew
from verifier.statistics.blackbox import BlackBox
from verifier.statistics.intervals import clopper_pearson
from verifier.statistics.noise import Around
from verifier.statistics.robustness import Counts, Measurement, Plan, side_level

WORST = 10
"""Inputs that the report lists."""

TITLE = "Probabilistic robustness, sampled"
DRAWN = "the samples of the data set were drawn independently from the population that is spoken of"


@dataclass(frozen=True)
class Cell:
    """A model and a distribution around inputs."""

    net: str
    around: Around


@dataclass(frozen=True)
class Wanted:
    """A threshold: a number of all cells, or of some, is at least this."""

    number: str
    at_least: Fraction
    net: str | None
    noise: str | None
    radius: Fraction | None
    rho: Fraction | None

    def about(self, cell: Cell) -> bool:
        """Whether it is about a cell."""
        around = cell.around
        wanted = ((self.net, cell.net), (self.noise, around.kind), (self.radius, around.radius))
        return all(own is None or own == its for own, its in wanted)


@dataclass(frozen=True, eq=False)
class Probabilistic:
    """The answer.

    Attributes:
        boxes: by name of the model.
        data: the samples.
        arounds: distributions.
        rhos: of ProbAcc.
        plan: how much is sampled.
        confidence: of all statements together.
        population: whether samples were drawn from a population that is spoken of.
        wanted: thresholds.
    """

    boxes: Mapping[str, BlackBox]
    data: Data
    arounds: tuple[Around, ...]
    rhos: tuple[Fraction, ...]
    plan: Plan
    confidence: Fraction
    population: bool = False
    wanted: tuple[Wanted, ...] = ()
    statements: int = field(default=1)

    @property
    def level(self) -> Fraction:
        """What each end of each interval may fail with."""
        return side_level(self.confidence, self.statements)

    @property
    def cells(self) -> list[Cell]:
        """Models and distributions."""
        return [Cell(net, around) for net, around in product(self.boxes, self.arounds)]

    def tasks(self) -> Sequence[Task]:
        """One for every cell, each of which resumes within itself."""
        return [self._task(cell) for cell in self.cells]

    def _task(self, cell: Cell) -> Task:
        box = self.boxes[cell.net]
        depends = (
            "probabilistic 1",
            box.model.digest,
            box.device,
            cell.around.text,
            self.plan.text,
            self.data.digest,
            repr(self.data.numbers.tolist()),
        )
        name = f"{cell.net}, {cell.around.kind} noise, radius {shown(cell.around.radius)}"
        return Task(name, depends, partial(self._run, cell))

    def _run(self, cell: Cell, place: Place) -> Record:
        data = self.data
        file = place.scratch / "counts.json"
        measurement = Measurement(
            self.boxes[cell.net],
            data.points,
            np.zeros(0, np.int64) if data.labels is None else data.labels,
            data.numbers,
            cell.around,
            self.plan,
            file,
            place.progress,
        )
        found = or_anew(measurement.run, file, place.progress)
        arrays = {"numbers": found.numbers, "hits": found.hits, "trials": found.trials}
        return Record({"inputs": found.inputs, "with": versions()}, arrays)

    def conclude(self, records: Sequence[Record]) -> Part:
        """Shares with their intervals, a table for each distribution, thresholds."""
        facts = [
            self._cell(cell, self._counts(record))
            for cell, record in zip(self.cells, records, strict=True)
        ]
        judged = tuple(self._judged(facts))
        return Part(
            TITLE,
            tuple(self._lines(facts)),
            (SAMPLED, GENERATOR, RUNTIME, *((DRAWN,) if self.population else ())),
            judged,
            {
                "measured": True,
                "confidence_together": float(self.confidence),
                "confidence_each": float(1 - 2 * self.level),
                "statements": self.statements,
                "seed": self.plan.seed,
                "sequential": self.plan.stop is not None,
                "with": dict(records[0].values["with"]),
                "cells": facts,
            },
            tuple(self._tables(facts)),
            ((f"Mean PR with its intervals, {self._together}", partial(_draw, facts)),),
            basis=(BY_SAMPLES,),
            measured=(
                Measured(
                    f"all {self.statements} statements together",
                    self.confidence,
                    judged=bool(judged),
                ),
            ),
        )

    def _counts(self, record: Record) -> Counts:
        arrays = record.arrays
        return Counts(
            arrays["numbers"],
            arrays["hits"],
            arrays["trials"],
            int(record.values["inputs"]),
            self.plan.stop is not None,
        )

    def _cell(self, cell: Cell, counts: Counts) -> dict[str, Any]:
        right, level = len(counts.hits), self.level
        found: dict[str, Any] = {
            "net": cell.net,
            "noise": cell.around.kind,
            "radius": float(cell.around.radius),
            "inputs": counts.inputs,
            "correct": right,
            "samples": int(counts.trials.sum()),
            "pr": {
                "sampled": int(counts.hits.sum()) / max(1, int(counts.trials.sum())),
                "interval": list(counts.mean(level)),
            },
            "prob_acc": [self._prob_acc(counts, rho) for rho in self.rhos],
            "each": {
                "number": counts.numbers.tolist(),
                "hits": counts.hits.tolist(),
                "trials": counts.trials.tolist(),
                "interval": [list(pair) for pair in counts.each(level)],
            },
        }
        if self.population:
            ends = clopper_pearson(right, counts.inputs, 1 - 2 * level)
            found["population_accuracy"] = list(ends)
            found["pr"]["population"] = list(counts.population_mean(level))
        return found

    def _prob_acc(self, counts: Counts, rho: Fraction) -> dict[str, Any]:
        low, high = counts.prob_acc(1 - rho, self.level)
        whole = len(counts.hits)
        pairs = zip(counts.hits.tolist(), counts.trials.tolist(), strict=True)
        seen = sum(hits > trials * (1 - rho) for hits, trials in pairs)
        found: dict[str, Any] = {
            "rho": float(rho),
            "sampled": seen / max(1, whole),
            "at_least": low,
            "at_most": high,
            "interval": _shares(low, high, whole),
        }
        if self.population:
            found["population"] = list(counts.population(1 - rho, self.level))
        return found

    @property
    def _together(self) -> str:
        return f"confidence {shown(self.confidence)} for all together"

    def _lines(self, facts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        drawn = sum(fact["samples"] for fact in facts)
        most = f"{self.plan.samples} samples for an input"
        if self.plan.stop is not None:
            most = f"at most {most}, stopped as soon as nothing is open"
        yield (
            f"sampled, not proved: {drawn} samples in all, {most}; seed {self.plan.seed}; "
            f"{self.statements} statements, {self._together}, "
            f"{below(1 - 2 * self.level, 8)} for each"
        )
        for fact in facts:
            low, high = fact["pr"]["interval"]
            yield (
                f"{_of(fact)}: {fact['correct']} of {fact['inputs']} correctly classified "
                f"(counted); of these, mean PR sampled in [{below(low)}, {above(high)}]"
            )

    def _tables(self, facts: Sequence[Mapping[str, Any]]) -> Iterator[Rows]:
        for kind in dict.fromkeys(fact["noise"] for fact in facts):
            own = [fact for fact in facts if fact["noise"] == kind]
            head = ["model", "radius", "accuracy (counted)", "mean PR"]
            head += [f"ProbAcc({shown(rho)})" for rho in self.rhos]
            if self.population:
                head += ["accuracy, population", "mean PR, population"]
                head += [f"ProbAcc({shown(rho)}), population" for rho in self.rhos]
            rows = tuple(tuple(self._row(fact)) for fact in own)
            yield Rows(f"{kind} noise: sampled, {self._together}", tuple(head), rows)
        worst = [row for fact in facts for row in _inputs(fact)]
        worst.sort(key=lambda row: row[0])
        yield Rows(
            f"Inputs whose lower bounds of PR are least: sampled, {self._together}",
            ("cell", "input", "right", "samples", "PR"),
            tuple(row[1] for row in worst[:WORST]),
        )

    def _row(self, fact: Mapping[str, Any]) -> Iterator[str]:
        yield from (fact["net"], shown(fact["radius"]))
        yield f"{fact['correct']} of {fact['inputs']}"
        yield _interval(fact["pr"]["interval"])
        yield from (_interval(each["interval"]) for each in fact["prob_acc"])
        if self.population:
            yield _interval(fact["population_accuracy"])
            yield _interval(fact["pr"]["population"])
            yield from (_interval(each["population"]) for each in fact["prob_acc"])

    def _judged(self, facts: Sequence[Mapping[str, Any]]) -> Iterator[Judged]:
        for wanted in self.wanted:
            for cell, fact in zip(self.cells, facts, strict=True):
                if not wanted.about(cell):
                    continue
                for what, ends in _numbers(wanted, fact):
                    yield measured_at_least(
                        f"{_of(fact)}: {what}", wanted.at_least, ends, self.confidence
                    )


def _numbers(wanted: Wanted, fact: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, float]]]:
    """What a threshold speaks of in a cell, with the interval."""
    if wanted.number == "pr":
        yield "mean PR", tuple(fact["pr"]["interval"])
        return
    for each in fact["prob_acc"]:
        if wanted.rho is None or float(wanted.rho) == each["rho"]:
            if wanted.number == "population":
                yield f"ProbAcc({shown(each['rho'])}), population", tuple(each["population"])
            else:
                yield f"ProbAcc({shown(each['rho'])})", tuple(each["interval"])


def _shares(low: int, high: int, whole: int) -> list[float]:
    """Counts as shares, rounded outward; of nothing nothing is known."""
    if not whole:
        return [0.0, 1.0]
    return [round_down(Fraction(low, whole)), round_up(Fraction(high, whole))]


def _of(fact: Mapping[str, Any]) -> str:
    return f"{fact['net']}, {fact['noise']}, radius {shown(fact['radius'])}"


def _interval(ends: Sequence[float]) -> str:
    return f"{below(ends[0], 4)} to {above(ends[1], 4)}"


def _inputs(fact: Mapping[str, Any]) -> Iterator[tuple[float, tuple[str, ...]]]:
    each = fact["each"]
    columns = (each[key] for key in ("number", "hits", "trials", "interval"))
    for number, hits, trials, ends in zip(*columns, strict=True):
        yield ends[0], (_of(fact), str(number), str(hits), str(trials), _interval(ends))


def _draw(facts: Sequence[Mapping[str, Any]], figure: Any) -> None:
    axes = figure.subplots()
    for net, noise in dict.fromkeys((fact["net"], fact["noise"]) for fact in facts):
        own = [fact for fact in facts if (fact["net"], fact["noise"]) == (net, noise)]
        radii = [fact["radius"] for fact in own]
        seen = np.array([fact["pr"]["sampled"] for fact in own])
        ends = np.array([fact["pr"]["interval"] for fact in own])
        errors = np.maximum(0.0, [seen - ends[:, 0], ends[:, 1] - seen])
        axes.errorbar(radii, seen, errors, marker="o", capsize=3, label=f"{net}, {noise}")
    axes.set(xlabel="radius", ylabel="mean PR, sampled")
    axes.legend()
