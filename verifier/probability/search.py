"""Branch and bound on a box: parts are proved safe or unsafe, the likeliest open part is split.

Bounds are the kernel's own, so what is found here is found again by ``farkas check``; what
rounding decides otherwise there counts as open.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from proofs.arrays import FAILS, HOLDS
from proofs.domain import Path
from proofs.frame import Batch
from proofs.outward import Outward
from proofs.partitions.evidence import Kind, PartitionEvidence, Tree
from proofs.partitions.prover import Prover
from proofs.substitution import linearize
from proofs.tree import DeadlineError
from specs.probability import NORMAL, ProbabilityQuestion
from verifier.probability.growing import Growing

FloatArray = npt.NDArray[np.float64]

MARGIN = 1e-10
"""By how much a bound must exceed 0 here, so that it does so in the kernel as well."""
BATCH = 256
"""Boxes that are split at a time, at most."""
ENTRIES = 1 << 26
"""Bounds of open boxes that are kept; what is open beyond starts from those of the whole box."""
SAVED = 30.0
"""Seconds after which what there is is saved again."""
SLACK = 1e-9
"""Relative: sums of floats are that much worse than exact ones, at most."""


@dataclass(frozen=True)
class State:
    """Where a search stands.

    Attributes:
        low, high: ``P(unsafe)`` lies between them, up to rounding of sums.
        leaves, open: how many there are.
        seconds: since the start.
    """

    low: float
    high: float
    leaves: int
    open: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Result:
    """What a search came to.

    Attributes:
        evidence: the partition.
        state: the last one.
        history: some states on the way.
        ended: why: ``"claim"`` (decided), ``"width"``, ``"closed"``, ``"leaves"``, ``"time"``, or
            ``"enough"``, as the caller said.
    """

    evidence: PartitionEvidence
    state: State
    history: tuple[State, ...]
    ended: str


@dataclass(frozen=True)
class Limits:
    """When a search ends.

    Attributes:
        seconds: at most.
        width: of the interval that is enough; 0: none is.
        leaves: at most.
        decide: whether it ends as soon as the claim is decided.
        clock: in seconds.
    """

    seconds: float
    width: float = 0.0
    leaves: int = 2_000_000
    decide: bool = True
    clock: Callable[[], float] = time.monotonic


@dataclass(order=True)
class _Open:
    """An open box: a node of the tree, its probability, its box and where its bounds are."""

    key: float
    node: int
    box: tuple[FloatArray, FloatArray] = field(compare=False)
    axis: int = field(compare=False)
    batch: Batch | None = field(compare=False)
    place: int = field(compare=False)


def search(
    question: ProbabilityQuestion,
    limits: Limits,
    progress: Callable[[State], None] = lambda _: None,
    start: Tree | None = None,
    save: Callable[[PartitionEvidence], None] = lambda _: None,
    enough: Callable[[Sequence[State]], bool] = lambda _: False,
) -> Result:
    """Look for a partition.

    Args:
        start: one to go on with, of the same box and unsafe set.
        save: called now and then with what there is.
        enough: whether to end, asked with some states up to now.
    """
    return _Search(question, limits, progress, save, enough).run(start)


class _Search:
    def __init__(
        self,
        question: ProbabilityQuestion,
        limits: Limits,
        progress: Callable[[State], None],
        save: Callable[[PartitionEvidence], None],
        enough: Callable[[Sequence[State]], bool],
    ) -> None:
        self._question, self._limits, self._progress = question, limits, progress
        self._clock, self._enough = limits.clock, enough
        self._begun = self._saved = self._clock()
        self._save = save
        self._deadline = self._begun + limits.seconds
        self._prover = Prover(question.query, Outward(), self._tick)
        self._tree = Growing()
        self._heap: list[_Open] = []
        self._safe = self._unsafe = 0.0
        self._kept = 0
        self._leaves = 1
        self._history: list[State] = []
        self._all = (
            *self._prover.sides.unsafe,
            *(n for d in self._prover.sides.negations for n in d),
        )
        self._cells = sum(question.query.network.sizes[t] for t in self._prover.frame.stored) * 2

    def _tick(self) -> None:
        if self._clock() > self._deadline:
            raise DeadlineError("the time limit is over")

    def run(self, start: Tree | None) -> Result:
        """Search."""
        ended = "time"
        try:
            with np.errstate(all="ignore"):
                self._root = self._prover.root()
                self._begin(start)
                while not (over := self._over()):
                    self._round()
                    if self._clock() - self._saved > SAVED:
                        self._save(self._evidence())
                        self._saved = self._clock()
                ended = over
        except DeadlineError:
            pass
        state = self._note()
        return Result(
            self._evidence(),
            state,
            tuple(self._history),
            ended,
        )

    def _evidence(self) -> PartitionEvidence:
        return self._tree.evidence(self._question.digest, self._claims())

    def _claims(self) -> str:
        low, high = self._interval()
        most, least = self._question.at_most, self._question.at_least
        wrong = (most is not None and low > most) or (least is not None and high < least)
        return FAILS if wrong else HOLDS

    def _interval(self) -> tuple[float, float]:
        return self._unsafe, max(self._unsafe, 1.0 - self._safe)

    def _over(self) -> str:
        """Why the search ends now; nothing: it goes on."""
        self._note()
        low, high = self._interval()
        if not self._heap:
            return "closed"
        if self._limits.decide and self._decided(low, high):
            return "claim"
        if high - low <= self._limits.width:
            return "width"
        if self._leaves >= self._limits.leaves:
            return "leaves"
        if self._enough(self._history):
            return "enough"
        self._tick()
        return ""

    def _decided(self, low: float, high: float) -> bool:
        most = self._question.at_most
        least = self._question.at_least
        above, below = high * (1 + SLACK) + SLACK**2, low * (1 - SLACK)
        holds = (most is None or above <= most) and (least is None or below >= least)
        fails = (most is not None and below > most) or (least is not None and above < least)
        return holds or fails

    def _note(self) -> State:
        low, high = self._interval()
        seconds = self._clock() - self._begun
        state = State(low, high, self._leaves, len(self._heap), seconds)
        kept = self._history  # the last one is the newest, those before are some way apart
        if len(kept) < 2 or kept[-1].seconds > 1.05 * kept[-2].seconds:
            kept.append(state)
        else:
            kept[-1] = state
        self._progress(state)
        return state

    def _begin(self, start: Tree | None) -> None:
        box = self._root.batch.lower[0], self._root.batch.upper[0]
        if start is None:
            batch = replace(self._root.batch, bounds=dict(self._root.batch.bounds))
            self._settle([0], [1.0], batch)
            return
        self._tree = Growing.of(start)
        waiting = [(0, 1.0, *box)]
        nodes, chances, lows, highs = [], [], [], []
        self._leaves = 0
        while waiting:
            node, chance, low, high = waiting.pop()
            kind = self._tree.kind[node]
            if kind == Kind.SPLIT:
                axis, point = self._tree.axis[node], self._tree.point[node]
                if math.isnan(point):
                    point = 0.5 * float(low[axis]) + 0.5 * float(high[axis])
                    self._tree.point[node] = point
                for side, part in enumerate(self._parts(axis, low[axis], point, high[axis])):
                    child = self._tree.lower_child[node] + side
                    ends = _cut(low, high, axis, point, side)
                    waiting.append((child, chance * part, *ends))
                continue
            self._leaves += 1
            if kind == Kind.SAFE:
                self._safe += chance
            elif kind == Kind.UNSAFE:
                self._unsafe += chance
            else:
                nodes.append(node)
                chances.append(chance)
                lows.append(low)
                highs.append(high)
        width = self._prover.width
        for first in range(0, len(nodes), width):
            part = slice(first, first + width)
            many = len(nodes[part])
            batch = self._root.batch.pick(np.zeros(many, dtype=np.int64))
            batch.lower, batch.upper = np.stack(lows[part]), np.stack(highs[part])
            self._prover.tighten(batch)
            self._settle(nodes[part], chances[part], batch)

    def _parts(self, axis: int, low: float, point: float, high: float) -> tuple[float, float]:
        """How the probability of a side is divided by a split."""
        distribution = self._question.distribution
        if distribution.kind != NORMAL:
            lower = (point - low) / (high - low)
            return lower, 1.0 - lower
        mean, deviation = (
            float(values[axis]) for values in (distribution.means, distribution.deviations)
        )
        whole = _mass(low, high, mean, deviation)
        if not whole > 0.0:
            return 0.5, 0.5
        lower = _mass(low, point, mean, deviation) / whole
        return lower, 1.0 - lower

    def _round(self) -> None:
        """Split the likeliest open boxes."""
        count = min(BATCH, max(1, self._prover.width // 2), len(self._heap))
        taken = [heapq.heappop(self._heap) for _ in range(count)]
        splits = [(each, _middle(each)) for each in taken]
        splits = [(each, point) for each, point in splits if point is not None]
        if not splits:  # as small as floats allow: they stay open
            return
        try:
            self._halve(splits)
        except DeadlineError:  # nothing is lost
            for each in taken:
                heapq.heappush(self._heap, each)
            raise

    def _halve(self, splits: list[tuple[_Open, float]]) -> None:
        batch = self._joined([each for each, _ in splits])
        count = len(splits)
        axis = np.array([each.axis for each, _ in splits])
        point = np.array([point for _, point in splits])
        place = np.arange(count)
        batch = batch.pick(np.concatenate([place, place]))
        batch.upper[place, axis] = point
        batch.lower[place + count, axis] = point
        self._prover.tighten(batch)
        values = self._values(batch)
        nodes, chances = [0] * (2 * count), [0.0] * (2 * count)
        for k, (each, at) in enumerate(splits):
            first = self._tree.split(each.node, each.axis, at)
            low, high = (float(end[each.axis]) for end in each.box)
            for side, part in enumerate(self._parts(each.axis, low, at, high)):
                nodes[k + side * count] = first + side
                chances[k + side * count] = -each.key * part
            if each.batch is not None:
                self._kept -= self._cells
        self._leaves += count
        self._settle(nodes, chances, batch, values)

    def _joined(self, taken: list[_Open]) -> Batch:
        """The boxes of open leaves, with the bounds that were kept of them."""
        bounds = {}
        root = self._root.batch
        for tensor in root.bounds:
            sides = []
            for side in (0, 1):
                rows = [
                    (root if each.batch is None else each.batch).bounds[tensor][side][
                        0 if each.batch is None else each.place
                    ]
                    for each in taken
                ]
                sides.append(np.stack(rows))
            bounds[tensor] = (sides[0], sides[1])
        lower = np.stack([each.box[0] for each in taken])
        upper = np.stack([each.box[1] for each in taken])
        return Batch(lower, upper, bounds, np.zeros(len(taken), dtype=bool))

    def _values(self, batch: Batch) -> tuple[FloatArray, FloatArray]:
        """Bounds of all disjuncts' rows, ``(B, disjuncts)``, and by input what they depend on."""
        frame, count = self._prover.frame, len(batch.empty)
        best = np.full((count, len(self._all)), -np.inf)
        weight = np.zeros((count, batch.lower.shape[1]))
        paths = [Path(0, self._all)] * count
        for group in self._prover.unsafe_rows.groups(paths, [None] * count, batch):
            affine = linearize(
                frame, group.batch, group.relaxations, group.rows, group.stop, self._tick
            )
            owner = group.places[group.rows.owner]
            low, high = batch.lower[owner], batch.upper[owner]
            least = frame.arithmetic.box_down(affine.matrix, low, high) + affine.constant
            np.maximum.at(best, (owner, group.disjunct), least)
            missing = (least <= MARGIN)[:, None]
            np.add.at(weight, owner, np.where(missing, np.abs(affine.matrix) * (high - low), 0.0))
        return best, weight

    def _settle(
        self,
        nodes: list[int],
        chances: list[float],
        batch: Batch,
        values: tuple[FloatArray, FloatArray] | None = None,
    ) -> None:
        """Close what is proved, and keep the rest."""
        best, weight = self._values(batch) if values is None else values
        refuted = (best > MARGIN) & ~batch.empty[:, None]
        sides = self._prover.sides
        safe = refuted[:, list(sides.unsafe)].all(axis=1) & ~batch.empty
        widths = batch.upper - batch.lower
        fixed = np.array(
            [
                low == high
                for low, high in zip(
                    self._question.case.lower, self._question.case.upper, strict=True
                )
            ]
        )
        weight = np.where(fixed, -1.0, weight + 1e-300 * widths)
        axes = weight.argmax(axis=1)
        for place, (node, chance) in enumerate(zip(nodes, chances, strict=True)):
            if safe[place]:
                self._tree.close(node, Kind.SAFE)
                self._safe += chance
                continue
            found = next(
                (d for d, own in enumerate(sides.negations) if refuted[place, list(own)].all()),
                None,
            )
            if found is not None and not batch.empty[place]:
                self._tree.close(node, Kind.UNSAFE, found)
                self._unsafe += chance
                continue
            keep = self._kept + self._cells <= ENTRIES
            self._kept += self._cells if keep else 0
            box = batch.lower[place], batch.upper[place]
            held = batch if keep else None
            heapq.heappush(self._heap, _Open(-chance, node, box, int(axes[place]), held, place))


def _cut(
    low: FloatArray, high: FloatArray, axis: int, point: float, side: int
) -> tuple[FloatArray, FloatArray]:
    low, high = low.copy(), high.copy()
    (high if side == 0 else low)[axis] = point
    return low, high


def _middle(each: _Open) -> float | None:
    """Where an open box is split; ``None``: its side has no float inside."""
    low, high = (float(end[each.axis]) for end in each.box)
    point = 0.5 * low + 0.5 * high
    return point if low < point < high else None


def _mass(low: float, high: float, mean: float, deviation: float) -> float:
    normal = NormalDist()
    a, b = (low - mean) / deviation, (high - mean) / deviation
    return normal.cdf(-a) - normal.cdf(-b) if a > 0 else normal.cdf(b) - normal.cdf(a)
