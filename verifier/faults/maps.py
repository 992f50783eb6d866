"""Maps of single faults over test points: benign, critical, or not a number; all decided.

For each point and each single fault the question is whether the fault-free prediction, the
output that exceeds every other, still exceeds every other output in the network with that one
word changed.  It is decided in three steps, each of which leaves little to the next (``judge``):

1. the change is too small: a bound of how far a margin can move (``sensitivity``);
2. the network is evaluated from the changed node on, thousands of faults at a time, in float64
   with a rigorous bound of the error (``floats``);
3. what is closer to a tie than that bound is evaluated in exact rationals (``proofs.evaluate``).

Whatever numpy rounds, a decision is one of the real-valued network with exactly the stored
words.  A tie counts as critical: the prediction no longer exceeds every other output.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from specs.enclosure import FloatArray
from specs.faults.sites import Cells, Faults
from specs.linear import IndexArray
from verifier.faults.judge import NUMPY, Judge, Tally

BoolArray = npt.NDArray[np.bool_]
CountArray = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class FaultMap:
    """The single faults of one parameter, and on how many points each is critical.

    Attributes:
        faults: all of them.
        number: ``(n,)`` the faulty word is a number, and one that the network is defined with
            (a negative variance has no root).  The others are detectable, and never critical
            or benign: no number was computed with them.
        critical: ``(n,)`` points whose prediction changes.
        undecided: ``(n,)`` points that were left open.
        first: ``(n,)`` the first point at which the fault is critical; -1: none.
        points: how many points there were.
    """

    faults: Faults
    number: BoolArray
    critical: CountArray
    undecided: CountArray
    first: CountArray
    points: int

    @property
    def benign(self) -> BoolArray:
        """``(n,)`` faults that change no prediction, for certain."""
        return np.asarray(self.number & (self.critical == 0) & (self.undecided == 0))

    def by_bit(self, bits: int) -> dict[str, IndexArray]:
        """How many faults of each bit position are benign, critical (at some point), no number.

        Args:
            bits: of a word.

        Returns:
            By kind ``(bits,)``; what none of them counts is undecided.
        """
        kinds = {"benign": self.benign, "critical": self.critical > 0, "not a number": ~self.number}
        return {
            kind: np.bincount(self.faults.bit[chosen], minlength=bits)
            for kind, chosen in kinds.items()
        }


@dataclass(frozen=True, eq=False)
class Maps:
    """The maps of all parameters that may be struck.

    Attributes:
        maps: by parameter.
        labels: ``(points,)`` the fault-free predictions.
        seconds: they took.
        tally: how the decisions were come to.
    """

    maps: Mapping[str, FaultMap]
    labels: IndexArray
    seconds: float
    tally: Tally

    @cached_property
    def totals(self) -> dict[str, int]:
        """Over all parameters: faults, benign, critical (at some point), no number, undecided."""
        found = dict.fromkeys(("faults", "benign", "critical", "not a number", "undecided"), 0)
        for each in self.maps.values():
            found["faults"] += len(each.faults)
            found["benign"] += int(each.benign.sum())
            found["critical"] += int((each.critical > 0).sum())
            found["not a number"] += int((~each.number).sum())
            found["undecided"] += int(((each.critical == 0) & (each.undecided > 0)).sum())
        return found

    @property
    def rate(self) -> float:
        """Decisions, of one fault at one point each, in a second."""
        return self.totals["faults"] * self.labels.size / max(self.seconds, 1e-9)


def single_fault_maps(
    found: Cells,
    points: FloatArray,
    tick: Callable[[str, int, int], None] = lambda name, done, total: None,
    device: str = NUMPY,
) -> Maps:
    """Decide every single fault at every point.

    Args:
        found: the memory cells.
        points: ``(P, input_size)``, exact inputs.
        tick: called with a parameter, how many of its points are done, and of how many.
        device: what evaluates batches: ``"numpy"``, or torch on ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: the points do not fit the network, or the prediction at one is a tie.
    """
    start = time.perf_counter()
    judge = Judge(found.memory, np.asarray(points, dtype=np.float64), device)
    labels = judge.labels
    maps = {}
    for name in found.exposed:
        faults = found.singles(name)
        if faults is not None:
            maps[name] = _map(judge, faults, tick)
    return Maps(maps, labels, time.perf_counter() - start, judge.tally)


def _map(judge: Judge, faults: Faults, tick: Callable[[str, int, int], None]) -> FaultMap:
    total, n = len(judge.points), len(faults)
    critical, undecided = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int32)
    first = np.full(n, -1, dtype=np.int32)
    target = judge.target(faults)
    for point in range(total):
        tick(faults.tensor, point, total)
        for index, outcome in judge.bad(target, point):
            if outcome is None:
                undecided[index] += 1
                continue
            critical[index] += 1
            first[index] = np.where(first[index] < 0, point, first[index])
    return FaultMap(faults, target.number, critical, undecided, first, total)
