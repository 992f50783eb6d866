"""Turning a suspicious point into a witness that two independent evaluations confirm.

``sat`` is said only when the kernel's exact evaluation of an exact point of the region and
onnxruntime's replay of its float32 rounding both violate the property at zero tolerance.

Under float semantics the point is one of the format.  The kernel then confirms what every
evaluation violates; in float32 the replay of a float32 model decides alone, since it is one
of the evaluations that the question is about.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from proofs.check import Checked, check_witness
from proofs.witness import Witness
from specs.perturbation import Rounding
from specs.query import Query
from verifier.attack_forward import NumpyEvaluator, multiplications
from verifier.attack_targets import InnerBox, compile_targets, inner_point, rounded_to_float32
from verifier.replay import Replay, Replayed, ReplayError

FloatArray = npt.NDArray[np.float64]

_TRIES = 2
_SECONDS_PER_MULTIPLICATION = 1e-6
_CHEAP_SECONDS = 0.2


@dataclass(frozen=True)
class Confirmed:
    """A witness that both evaluations confirm, or the one that decides.

    Attributes:
        witness: the exact point.
        checked: what the kernel said of it.
        replay: what onnxruntime made of its rounding.
        degenerate: inputs whose interval contains no float32 number.
    """

    witness: Witness
    checked: Checked
    replay: Replayed
    degenerate: int


class Confirm:
    """Judges points that an attack or a search suggests.

    Args:
        query: what they may violate.
        deadline: in ``time.monotonic`` seconds; an exact evaluation that would end after
            it is not begun.

    Attributes:
        doubt: why the last point that one evaluation confirmed was not confirmed by the
            other; ``None`` when that never happened.
    """

    def __init__(self, query: Query, deadline: float = math.inf) -> None:
        self._query = query
        self._deadline = deadline
        self._exact_seconds = _SECONDS_PER_MULTIPLICATION * multiplications(query.network)
        self._boxes: dict[int, InnerBox] = {}
        self._all_boxes: tuple[FloatArray, FloatArray] | None = None
        self._replay: Replay | None = None
        self._evaluator: NumpyEvaluator | None = None
        self.doubt: str | None = None

    def __call__(self, case: int, disjunct: int, x: FloatArray) -> Confirmed | None:
        """The witness near ``x``, or ``None``.

        Raises:
            MissingExtraError: onnxruntime is not installed.
        """
        if self._query.rounding is not None:
            return self._in_format(case, disjunct, x, self._query.rounding)
        point = self._box(case).point(np.asarray(x, dtype=np.float64))
        return self.exactly(case, disjunct, point)

    def _box(self, case: int) -> InnerBox:
        if case not in self._boxes:
            self._boxes[case] = InnerBox(self._query.property.cases[case])
        return self._boxes[case]

    def exactly(self, case: int, disjunct: int, point: tuple[Fraction, ...]) -> Confirmed | None:
        """The witness at a point, in real arithmetic, or ``None``.

        Raises:
            MissingExtraError: onnxruntime is not installed.
        """
        region = self._query.property.cases[case]
        if not region.contains(point):
            return None
        try:
            if self._replay is None:
                self._replay = Replay(self._query)
            replayed = self._replay.judge(region, rounded_to_float32(point))
        except ReplayError as error:
            self.doubt = f"the counterexample found cannot be replayed: {error}"
            return None
        if not replayed.violated and self._exact_seconds > _CHEAP_SECONDS:
            return None
        if time.monotonic() + self._exact_seconds > self._deadline:
            self.doubt = (
                "onnxruntime's replay of a point violates the property, but the time left "
                f"is too short for its exact evaluation (about {self._exact_seconds:.0f} s)"
            )
            return None
        witness = Witness(self._query.digest, case, disjunct, point)
        checked = check_witness(self._query, witness)
        exact = checked.verdict == "valid sat"
        if exact and replayed.violated:
            return Confirmed(witness, checked, replayed, self._box(case).empty)
        if exact:
            self.doubt = (
                "a point violates the property exactly, but onnxruntime's replay of its "
                "float32 rounding does not"
            )
        elif replayed.violated:
            self.doubt = (
                "onnxruntime's replay of a point violates the property, but its exact "
                f"evaluation does not ({checked.reason})"
            )
        return None

    def _in_format(
        self, case: int, disjunct: int, x: FloatArray, format: Rounding
    ) -> Confirmed | None:
        region = self._query.property.cases[case]
        point = inner_point(region, np.asarray(x, dtype=np.float64), format)
        if not region.contains(point):
            return None
        try:
            if self._replay is None:
                self._replay = Replay(self._query)
            replayed = self._replay.judge(region, rounded_to_float32(point))
            decides = format.name == "float32" and self._replay.in_float32
        except ReplayError as error:
            self.doubt = f"the counterexample found cannot be replayed: {error}"
            return None
        if decides and not (replayed.violated and replayed.inside):
            return None
        witness = Witness(self._query.digest, case, disjunct, point)
        if time.monotonic() + self._exact_seconds > self._deadline:
            question, reason = self._query.digest, "the time left is too short"
            checked = Checked("incomplete", reason, question, "exact")
        else:
            checked = check_witness(self._query, witness)
        if checked.verdict == "valid sat" or decides:
            return Confirmed(witness, checked, replayed, 0)
        self.doubt = (
            f"a point violates the property as real numbers go, but not in every {format.name} "
            f"evaluation ({checked.reason})"
        )
        return None

    def anywhere(self, x: FloatArray) -> Confirmed | None:
        """The witness near ``x`` in whichever case and disjunct ``x`` violates most.

        Raises:
            MissingExtraError: onnxruntime is not installed.
        """
        cases = self._query.property.cases
        if self._all_boxes is None:
            boxes = [case.box() for case in cases]
            self._all_boxes = np.array([b[0] for b in boxes]), np.array([b[1] for b in boxes])
        slack = 1e-6 * (1 + np.abs(x))
        inside = (self._all_boxes[0] - slack <= x) & (x <= self._all_boxes[1] + slack)
        numbers = np.flatnonzero(inside.all(axis=1)).tolist()
        if not numbers:
            return None
        targets = compile_targets(self._query, numbers)
        if self._evaluator is None:
            self._evaluator = NumpyEvaluator(self._query.network)
        y, _ = self._evaluator.evaluate(x[None, :])
        count = targets.case.size
        rows = np.arange(count)
        margin = targets.margins(rows, np.tile(x, (count, 1)), np.tile(y, (count, 1)))
        for t in np.argsort(margin.max(axis=1))[:_TRIES]:
            case = int(targets.cases[targets.case[t]])
            found = self(case, int(targets.disjunct[t]), x)
            if found is not None:
                return found
        return None
