"""Bounds of Lipschitz constants on a box: branch and bound from above, a search from below.

From above the leaf with the largest bound of the gradient's norm is split, and the largest that is
left is the constant.  From below the gradient is evaluated at many inputs.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from proofs.domain import Path
from proofs.frame import Batch
from proofs.outward import Outward
from proofs.partitions.evidence import Kind, PartitionEvidence
from proofs.partitions.prover import Prover
from proofs.substitution import linearize
from proofs.tree import DeadlineError
from specs.lipschitz import LipschitzQuestion
from verifier.attack_forward import NumpyEvaluator
from verifier.probability.growing import Growing

FloatArray = npt.NDArray[np.float64]

DIGITS = 7
"""Significant digits of a constant that is claimed; rounded up."""
BATCH = 64
"""Boxes that are split at a time, at most."""
GROWN = 1e-6
"""Relative: by how much a constant is rounded up, so that the kernel closes every leaf."""


@dataclass(frozen=True, eq=False)
class Bounded:
    """What a search found.

    Attributes:
        constant: it is at most this, by the partition.
        evidence: of it, for the question that claims it.
        question: that one.
        found: the largest norm of a gradient that was seen; ``point``: where.
        leaves: of the partition.
        first: the bound without any split.
        seconds: it took.
    """

    constant: Fraction
    evidence: PartitionEvidence
    question: LipschitzQuestion
    found: float
    point: FloatArray
    leaves: int
    first: float
    seconds: float


@dataclass(order=True)
class _Leaf:
    key: float
    node: int
    axis: int = field(compare=False)
    batch: Batch = field(compare=False)
    place: int = field(compare=False)


def bound(
    question: LipschitzQuestion,
    seconds: float,
    *,
    close: float = 0.01,
    leaves: int = 100_000,
    progress: Callable[[float, int], None] = lambda _, __: None,
) -> Bounded:
    """The smallest constant that is found for a question, whatever it claims itself.

    Args:
        close: ends where the constant is at most so much above the largest gradient, relatively.
        leaves: of the partition, at most.
        progress: called with the bound and the number of leaves.
    """
    begun = time.monotonic()
    found, point = largest_gradient(question)
    run = _Search(replace(question, at_most=Fraction(0)), begun + seconds)
    with np.errstate(all="ignore"):
        run.start()
        first, whole = run.highest, run.tree.evidence("", "unsat")
        while (
            run.highest > (1 + close) * found
            and run.leaves < leaves
            and time.monotonic() < begun + seconds
            and run.round()
        ):
            progress(run.highest, run.leaves)
    # The bound of a part may be above that of the whole: lines of the parts are others.
    split = run.highest < first
    constant = _rounded_up(min(run.highest, first) * (1 + GROWN))
    stated = replace(question, at_most=constant)
    evidence = run.tree.evidence(stated.digest, "unsat") if split else whole
    evidence = replace(evidence, question=stated.digest)
    spent = time.monotonic() - begun
    leaves = run.leaves if split else 1
    return Bounded(constant, evidence, stated, found, point, leaves, first, spent)


class _Search:
    def __init__(self, question: LipschitzQuestion, deadline: float) -> None:
        self._question, self._deadline = question, deadline
        self._prover = Prover(question.query, Outward(), self._tick, question.stops)
        self._tries: dict[int, list[int]] = {}
        for disjunct, stop in enumerate(question.stops):
            self._tries.setdefault(stop, []).append(disjunct)
        self._disjuncts = self._prover.sides.unsafe
        self._free = list(question.free)
        self._squared = question.norm == "l2"
        self._heap: list[_Leaf] = []
        self._hurry = False
        self.tree = Growing()
        self.leaves = 1

    def _tick(self) -> None:
        if self._hurry and time.monotonic() > self._deadline:
            raise DeadlineError("the time limit is over")

    @property
    def highest(self) -> float:
        """The largest bound of the norm on a leaf."""
        return -self._heap[0].key

    def start(self) -> None:
        """Bound the whole box; this is not interrupted."""
        batch = self._prover.root().batch
        self._keep([0], replace(batch, bounds=dict(batch.bounds)))
        self._hurry = True

    def round(self) -> bool:
        """Split the leaves with the largest bounds; false where nothing is left to do."""
        count = min(BATCH, max(1, self._prover.width // 2), len(self._heap))
        taken = [heapq.heappop(self._heap) for _ in range(count)]
        try:
            batch = _joined(taken)
            place, axis = np.arange(count), np.array([each.axis for each in taken])
            low, high = batch.lower[place, axis], batch.upper[place, axis]
            point = 0.5 * low + 0.5 * high
            if not np.all((low < point) & (point < high)):
                raise DeadlineError("boxes are as small as floats allow")
            both = batch.pick(np.concatenate([place, place]))
            both.upper[place, axis] = point
            both.lower[place + count, axis] = point
            self._prover.tighten(both)
            values = self._values(both)
        except DeadlineError:
            for each in taken:
                heapq.heappush(self._heap, each)
            return False
        first = [
            self.tree.split(each.node, each.axis, float(at))
            for each, at in zip(taken, point, strict=True)
        ]
        self._keep(first + [node + 1 for node in first], both, values)
        self.leaves += count
        return True

    def _keep(
        self,
        nodes: list[int],
        batch: Batch,
        values: tuple[FloatArray, FloatArray] | None = None,
    ) -> None:
        # Not the least of a box's bound and its parent's: a check has the box's alone.
        bounds, weight = self._values(batch) if values is None else values
        scores = weight[:, self._free]
        axes = np.array(self._free)[scores.argmax(axis=1)]
        for place, node in enumerate(nodes):
            self.tree.close(node, Kind.SAFE)
            heapq.heappush(
                self._heap, _Leaf(-float(bounds[place]), node, int(axes[place]), batch, place)
            )

    def _values(self, batch: Batch) -> tuple[FloatArray, FloatArray]:
        """Bounds of the norm, ``(B,)``, and by input how much they depend on it."""
        frame, count = self._prover.frame, len(batch.empty)
        best = np.full((count, len(self._disjuncts)), -np.inf)
        width = batch.upper - batch.lower
        weight = np.zeros(width.shape)
        for disjuncts in self._tries.values():
            paths = [Path(0, tuple(disjuncts))] * count
            for hint in (self._prover.second_try(disjuncts[0]), None):
                for group in self._prover.unsafe_rows.groups(paths, [hint] * count, batch):
                    affine = linearize(
                        frame, group.batch, group.relaxations, group.rows, group.stop, self._tick
                    )
                    owner = group.places[group.rows.owner]
                    low, high = batch.lower[owner], batch.upper[owner]
                    least = frame.arithmetic.box_down(affine.matrix, low, high) + affine.constant
                    np.fmax.at(best, (owner, group.disjunct), least)
                    np.add.at(weight, owner, np.abs(affine.matrix) * (high - low))
        highest = np.maximum(-best, 0.0).max(axis=1)
        highest = np.sqrt(highest) if self._squared else highest
        whole = self._prover.sides.query.property.cases[0].box()
        spread = np.maximum(whole[1] - whole[0], 1e-300)
        return highest, weight / np.maximum(weight.max(axis=1, keepdims=True), 1e-300) + (
            width / spread
        )


def _joined(taken: list[_Leaf]) -> Batch:
    bounds = {
        tensor: (
            np.stack([each.batch.bounds[tensor][0][each.place] for each in taken]),
            np.stack([each.batch.bounds[tensor][1][each.place] for each in taken]),
        )
        for tensor in taken[0].batch.bounds
    }
    lower = np.stack([each.batch.lower[each.place] for each in taken])
    upper = np.stack([each.batch.upper[each.place] for each in taken])
    return Batch(lower, upper, bounds, np.zeros(len(taken), dtype=bool))


def largest_gradient(
    question: LipschitzQuestion, tries: int = 4096, rounds: int = 40, seed: int = 0
) -> tuple[float, FloatArray]:
    """The largest dual norm of a gradient that a search finds, and where.

    Random inputs, then random steps around the best, shorter and shorter.  It is a number in
    floats: nothing is proved by it.
    """
    rng = np.random.default_rng(seed)
    network = NumpyEvaluator(question.network)
    low, high = (
        np.array(end, dtype=np.float64) for end in (question.case.lower, question.case.upper)
    )
    free = list(question.free)

    def norms(x: FloatArray) -> FloatArray:
        _, pull_back = network.evaluate(x)
        best = np.zeros(len(x))
        for row in question.rows:
            part = pull_back(np.tile(row, (len(x), 1)))[:, free]
            size = {
                "linf": lambda g: np.abs(g).sum(axis=1),
                "l2": lambda g: np.sqrt((g * g).sum(axis=1)),
                "l1": lambda g: np.abs(g).max(axis=1),
            }[question.norm](part)
            best = np.maximum(best, size)
        return best

    x = low + (high - low) * rng.random((tries, low.size))
    values = norms(x)
    for number in range(rounds):
        kept = np.argsort(values)[-32:]
        around = np.repeat(x[kept], 16, axis=0)
        reach = 0.5 ** (1 + number / 4)
        around = np.clip(
            around + reach * (high - low) * rng.uniform(-1, 1, around.shape), low, high
        )
        x = np.concatenate([x[kept], around])
        values = np.concatenate([values[kept], norms(around)])
    best = int(values.argmax())
    return float(values[best]), x[best]


def _rounded_up(value: float) -> Fraction:
    """To a decimal of ``DIGITS`` significant digits.

    Raises:
        OverflowError: the value is not finite.
    """
    if value <= 0:
        return Fraction(0)
    exact = Fraction(value)
    scale = Fraction(10) ** (DIGITS - 1 - math.floor(math.log10(value)))
    return Fraction(math.ceil(exact * scale)) / scale
