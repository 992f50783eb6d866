"""Points of a region at which single faults change a prediction, decided exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.faults.formats import IndexArray
from specs.faults.struck import WordFaults
from specs.property import Case, Property
from verifier.attack_forward import NumpyEvaluator
from verifier.faults.candidates import UNDECIDED, Candidates, part
from verifier.faults.judge import Judge
from verifier.faults.question_text import predicted


@dataclass(frozen=True, eq=False)
class Found:
    """Critical cells of a parameter, and a point for each.

    Attributes:
        tensor: the parameter.
        cells: ``(n,)`` numbers of candidates.
        points: ``(n, input_size)``.
    """

    tensor: str
    cells: IndexArray
    points: FloatArray


class RegionAttack:
    """Looks for inputs of a region at which single faults change the prediction.

    Args:
        faults: the model.
        region: one case; where it does not say that one output exceeds all others, there is no
            attack.
        seed: of random numbers.
    """

    def __init__(self, faults: WordFaults, region: Property, seed: int) -> None:
        self._faults, self._case = faults, region.cases[0]
        self.label = predicted(region)
        self._rng = np.random.default_rng(seed)
        self._low, self._high = inner_box(self._case)
        self._evaluator = NumpyEvaluator(faults.intact)

    def points(self, many: int) -> FloatArray:
        """The centre, worst points for every other output, and random corners and points."""
        if self.label is None or np.any(self._low > self._high):
            return np.zeros((0, self._low.size))
        low, high = self._low, self._high
        found = [(low + high) / 2, *self._worst()]
        for k in range(many):
            side = self._rng.random(low.size)
            found.append(np.where(side < 0.5, low, high) if k % 2 else low + side * (high - low))
        return np.clip(np.unique(np.array(found), axis=0), low, high)

    def _worst(self, steps: int = 12) -> list[FloatArray]:
        """Points at which the margin to each other output is small, by signed gradients."""
        low, high = self._low, self._high
        outputs = self._faults.intact.output_size
        others = [k for k in range(outputs) if k != self.label]
        x = np.repeat(((low + high) / 2)[None], len(others), axis=0)
        best, least = x.copy(), np.full(len(others), np.inf)
        step = (high - low) / 2
        for number in range(steps + 1):
            y, back = self._evaluator.evaluate(x)
            margin = y[:, self.label] - y[np.arange(len(others)), others]
            better = margin < least
            best[better], least[better] = x[better], margin[better]
            slopes = np.zeros_like(y)
            slopes[:, self.label] = 1.0
            slopes[np.arange(len(others)), others] -= 1.0
            gradient = back(slopes)
            x = np.clip(x - np.sign(gradient) * step * (1.0 if number < 2 else 0.5), low, high)
        return list(best)

    def critical(self, tables: Mapping[str, Candidates], points: FloatArray) -> Iterator[Found]:
        """Cells that are critical at some point, of those that are undecided."""
        if not len(points) or self.label is None:
            return
        found = self._faults.cells
        if found is None:
            return
        judge = Judge(found.memory, points)
        try:
            labels = judge.labels
        except InputError:  # a tie without any fault
            return
        for name, table in tables.items():
            for point in range(len(points)):
                if int(labels[point]) != self.label:
                    continue
                open_ = np.flatnonzero(table.state == UNDECIDED)
                if not open_.size:
                    break
                target = judge.target(part(table.faults, open_))
                hit = [index for index, outcome in judge.bad(target, point) if outcome is False]
                cells = open_[np.concatenate(hit)] if hit else open_[:0]
                if cells.size:
                    yield Found(name, cells, np.repeat(points[point : point + 1], cells.size, 0))


def inner_box(case: Case) -> tuple[FloatArray, FloatArray]:
    """Floats between the ends of a box that has no other constraints; empty where it has."""
    lower, upper = [], []
    for low, high in zip(case.lower, case.upper, strict=True):
        a, b = float(low), float(high)
        lower.append(a if a >= low else float(np.nextafter(a, np.inf)))
        upper.append(b if b <= high else float(np.nextafter(b, -np.inf)))
    if case.constraints or case.strict_lower or case.strict_upper:
        return np.array(upper) + 1.0, np.array(upper)
    return np.array(lower), np.array(upper)
