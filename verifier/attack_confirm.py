"""Turning a suspicious point into a witness that two independent evaluations confirm.

``sat`` is said only when the kernel's exact evaluation of an exact point of the region and
onnxruntime's replay of its float32 rounding both violate the property at zero tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proofs.check import check_witness
from proofs.witness import Witness
from specs.query import Query
from verifier.attack_targets import InnerBox, rounded_to_float32
from verifier.replay import Replay, Replayed, ReplayError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Confirmed:
    """A witness that both evaluations confirm.

    Attributes:
        witness: the exact point.
        replay: what onnxruntime made of its rounding.
        degenerate: inputs whose interval contains no float32 number.
    """

    witness: Witness
    replay: Replayed
    degenerate: int


class Confirm:
    """Judges points that an attack or a search suggests.

    Attributes:
        doubt: why the last point that one evaluation confirmed was not confirmed by the
            other; ``None`` when that never happened.
    """

    def __init__(self, query: Query) -> None:
        self._query = query
        self._boxes: dict[int, InnerBox] = {}
        self._replay: Replay | None = None
        self.doubt: str | None = None

    def __call__(self, case: int, disjunct: int, x: FloatArray) -> Confirmed | None:
        """The witness near ``x``, or ``None``.

        Raises:
            MissingExtraError: onnxruntime is not installed.
        """
        region = self._query.property.cases[case]
        if case not in self._boxes:
            self._boxes[case] = InnerBox(region)
        box = self._boxes[case]
        point = box.point(np.asarray(x, dtype=np.float64))
        if not region.contains(point):
            return None
        try:
            if self._replay is None:
                self._replay = Replay(self._query)
            replayed = self._replay.judge(region, rounded_to_float32(point))
        except ReplayError as error:
            self.doubt = f"the counterexample found cannot be replayed: {error}"
            return None
        witness = Witness(self._query.digest, case, disjunct, point)
        checked = check_witness(self._query, witness)
        exact = checked.verdict == "valid sat"
        if exact and replayed.violated:
            return Confirmed(witness, replayed, box.empty)
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
