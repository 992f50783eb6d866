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

from proofs.frame import Batch, unstable
from proofs.outward import Outward
from proofs.partitions.evidence import Kind, PartitionEvidence
from proofs.partitions.gradient import Gradients
from proofs.tree import DeadlineError
from specs.lipschitz import LipschitzQuestion
from verifier.attack_forward import NumpyEvaluator
from verifier.probability.growing import Growing

FloatArray = npt.NDArray[np.float64]

DIGITS = 7
"""Significant digits of a constant that is claimed; rounded up."""
BATCH = 64
"""Boxes that are split at a time, at most."""
NEAR = 8
"""Inputs in a box at which gradients are looked at."""
GROWN = 1e-6
"""Relative: by how much a constant is rounded up, so that the kernel closes every leaf."""


@dataclass(frozen=True, eq=False)
class Bounded:
    """What a search found.

    Attributes:
        constant: it is at most this, by the partition; ``None``: the gradient is not bounded there.
        evidence: of it, for the question that claims it.
        question: that one; without a constant the question that was asked.
        found: the largest norm of a gradient that was seen; ``point``: where.
        leaves: of the partition.
        first: the bound without any split.
        seconds: it took.
    """

    constant: Fraction | None
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
    clock: Callable[[], float] = time.monotonic,
) -> Bounded:
    """The smallest constant that is found for a question, whatever it claims itself.

    Args:
        close: ends where the constant is at most so much above the largest gradient, relatively.
        leaves: of the partition, at most.
        progress: called with the bound and the number of leaves.
        clock: tells seconds.
    """
    begun = clock()

    def tick() -> None:
        if clock() > begun + seconds:
            raise DeadlineError("the time limit is over")

    run = _Search(replace(question, at_most=Fraction(0)), close, tick)
    with np.errstate(all="ignore"):
        run.start()
        first = lowest = run.highest
        nodes = 1
        while (
            lowest > run.enough
            and run.leaves < leaves
            and clock() < begun + seconds
            and run.round()
        ):
            # The bound of a part may be above that of the whole: lines of the parts are others.
            if run.highest < lowest:
                lowest, nodes = run.highest, len(run.tree.kind)
            progress(lowest, (nodes + 1) // 2)
    constant = _rounded_up(lowest * (1 + GROWN))
    stated = question if constant is None else replace(question, at_most=constant)
    evidence = run.tree.first(nodes).evidence(stated.digest, "unsat")
    spent = clock() - begun
    return Bounded(constant, evidence, stated, run.found, run.point, (nodes + 1) // 2, first, spent)


class _Search:
    def __init__(self, question: LipschitzQuestion, close: float, late: Callable[[], None]) -> None:
        self._close, self._late = close, late
        self._gradients = Gradients(question, Outward(), self._tick)
        self._network = NumpyEvaluator(question.network)
        self._neurons = question.network.preactivations
        self._norms = Norms(question)
        self._free = list(question.free)
        self._squared = question.norm == "l2"
        self._rng = np.random.default_rng(1)
        self._heap: list[_Leaf] = []
        self._done = 0.0  # the largest bound of a leaf that is never split
        self._hurry = False
        self.tree = Growing()
        self.leaves = 1
        self.found, self.point = largest_gradient(question)

    def _tick(self) -> None:
        if self._hurry:
            self._late()

    @property
    def enough(self) -> float:
        """A bound with which the search ends."""
        return (1 + self._close) * self.found

    @property
    def highest(self) -> float:
        """The largest bound of the norm on a leaf."""
        return max(self._done, *(-leaf.key for leaf in self._heap[:1]), 0.0)

    def start(self) -> None:
        """Bound the whole box; this is not interrupted."""
        batch = self._gradients.root().batch
        self._keep([0], batch, self._values(batch))
        self._hurry = True

    def round(self) -> bool:
        """Split the leaves with the largest bounds; false where nothing is left to do."""
        count = min(BATCH, max(1, self._gradients.width // 2), len(self._heap))
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
            self._gradients.tighten(both)
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

    def _keep(self, nodes: list[int], batch: Batch, values: FloatArray) -> None:
        # Not the least of a box's bound and its parent's: a check has the box's alone.
        for node in nodes:
            self.tree.close(node, Kind.SAFE)
        self._note(batch)
        large = np.flatnonzero(~(values <= self.enough))
        self._done = max(self._done, *np.delete(values, large).tolist(), 0.0)
        if not large.size:
            return
        batch = batch.pick(large)
        axes = np.array(self._free)[self._scores(batch).argmax(axis=1)]
        for place, number in enumerate(large.tolist()):
            leaf = _Leaf(-float(values[number]), nodes[number], int(axes[place]), batch, place)
            heapq.heappush(self._heap, leaf)

    def _values(self, batch: Batch) -> FloatArray:
        """Bounds of the norm, ``(B,)``."""
        above = self._gradients.above(batch)
        values = np.where(np.isnan(above), np.inf, np.maximum(above, 0.0))
        return np.sqrt(values) if self._squared else values

    def _scores(self, batch: Batch) -> FloatArray:
        """How much splitting an input narrows what is undecided, ``(B, free)``.

        The share of a neuron's interval that the neuron crosses along the side through the box's
        middle, summed over neurons that no line describes exactly.
        """
        frame, count = self._gradients.frame, len(batch.empty)
        middle, half = 0.5 * (batch.lower + batch.upper), 0.5 * (batch.upper - batch.lower)
        ends = np.repeat(middle[:, None, None], 2 * len(self._free), axis=1)
        ends = ends.reshape(count, len(self._free), 2, -1)
        for place, entry in enumerate(self._free):
            ends[:, place, 0, entry] -= half[:, entry]
            ends[:, place, 1, entry] += half[:, entry]
        values = self._network.values(ends.reshape(-1, ends.shape[-1]))
        scores = half[:, self._free] * 1e-9 / half.max()
        for tensor in self._neurons:
            low, high = batch.bounds[tensor]
            sides = values[tensor].reshape(count, len(self._free), 2, -1)
            crossed = np.abs(sides[:, :, 1] - sides[:, :, 0])
            share = unstable(frame, tensor, (low, high)) / np.maximum(high - low, 1e-300)
            part = np.nan_to_num(crossed * share[:, None])  # ends may be infinite
            scores += np.minimum(part, 1.0).sum(axis=2)
        return scores

    def _note(self, batch: Batch) -> None:
        """Look for a larger gradient in boxes."""
        shape = NEAR, *batch.lower.shape
        share = self._rng.random(shape)
        points = (batch.lower * (1.0 - share) + batch.upper * share).reshape(-1, shape[-1])
        values = self._norms(points)
        best = int(values.argmax())
        if values[best] > self.found:
            self.found, self.point = float(values[best]), points[best]


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


class Norms:
    """Dual norms of gradients at points, the largest over a question's functions; in floats.

    What is not finite there counts as 0: it says nothing.
    """

    def __init__(self, question: LipschitzQuestion) -> None:
        self._network = NumpyEvaluator(question.network)
        self._rows, self._free, self._norm = question.rows, list(question.free), question.norm

    def __call__(self, points: FloatArray) -> FloatArray:
        """``(B,)`` at points ``(B, inputs)``."""
        best = np.zeros(len(points))
        with np.errstate(all="ignore"):
            _, pull_back = self._network.evaluate(points)
            for row in self._rows:
                part = pull_back(np.tile(row, (len(points), 1)))[:, self._free]
                order = {"linf": 1, "l2": 2, "l1": np.inf}[self._norm]
                norms = np.linalg.norm(part, ord=order, axis=1)
                best = np.maximum(best, np.where(np.isfinite(norms), norms, 0.0))
        return best


def largest_gradient(
    question: LipschitzQuestion, tries: int = 4096, rounds: int = 40, seed: int = 0
) -> tuple[float, FloatArray]:
    """The largest dual norm of a gradient that a search finds, and where.

    Random inputs and corners, then random steps around the best, shorter and shorter, or across
    the box.  It is a number in floats: nothing is proved by it.
    """
    rng, norms = np.random.default_rng(seed), Norms(question)
    low, high = (
        np.array(end, dtype=np.float64) for end in (question.case.lower, question.case.upper)
    )
    x = low + (high - low) * rng.random((tries, low.size))
    x[::2] = np.where(rng.random(x[::2].shape) < 0.5, low, high)
    values, flipped = norms(x), min(0.5, 3.0 / len(question.free))
    for number in range(rounds):
        kept = np.argsort(values)[-32:]
        around = np.repeat(x[kept], 16, axis=0)
        reach = 0.5 ** (1 + number / 4)
        near = np.clip(around + reach * (high - low) * rng.uniform(-1, 1, around.shape), low, high)
        across = np.where(rng.random(around.shape) < flipped, low + high - around, around)
        around = np.where(rng.random((len(around), 1)) < 0.5, near, np.clip(across, low, high))
        x = np.concatenate([x[kept], around])
        values = np.concatenate([values[kept], norms(around)])
    best = int(values.argmax())
    return float(values[best]), x[best]


def _rounded_up(value: float) -> Fraction | None:
    """To a decimal of ``DIGITS`` significant digits; ``None``: it is not finite."""
    if not math.isfinite(value):
        return None
    if value <= 0:
        return Fraction(0)
    exact = Fraction(value)
    scale = Fraction(10) ** (DIGITS - 1 - math.floor(math.log10(value)))
    return Fraction(math.ceil(exact * scale)) / scale
