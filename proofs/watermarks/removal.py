"""How far a last layer must move before triggers lose their labels.

Samples ``i`` have hidden activations ``h_i``, labels ``l_i`` and margins ``d_ic``, the logit of
the label minus that of class ``c``.  A change ``D``, ``(C, m)``, of the last layer's weights makes
the margins ``d_ic + <a_c, D h_i>`` with ``a_c = e_l - e_c``.  A sample is *lost* when one of its
margins is not positive, a tie included, and *kept* otherwise.  The claim: no ``D`` with
``|D| <= r`` loses at least ``lost`` of the triggers and keeps at least ``kept`` of the others.

Evidence is a tree.  An inner node names a sample and a class: either that margin is ``<= 0``, or
it is ``> 0``.  A leaf holds a vector ``g_i`` for each sample and is refuted by

    sum of <g_i, D h_i>  <=  sum of ceilings,   and   >=  -r |sum of g_i h_i^T|_*

if the first is less than the second.  The ceiling of a sample is at least the greatest
``<g_i, D h_i>`` over all ``D`` of the ball that agree with what the path says of its margins;
where the path leaves open whether it is lost, each of both has a ceiling, and at most as many
samples take the unwanted one as the claim allows.  Everything is in whole numbers, and every
number is a valid hint: a bad one proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Numbers
from proofs.watermarks.check import Tick
from specs.errors import EvidenceError

LEAF = -1
NORMS = ("linf", "l2", "l1")
MOST_NODES = 1 << 22

Vector = list[int]
Ends = dict[int, tuple[int | None, frozenset[int]]]
"""By sample, the class that the path says it was lost to, and the classes that it was not."""


@dataclass(frozen=True, eq=False)
class Samples:
    """What the last layer reads and says, in whole numbers of one unit.

    Attributes:
        hidden: ``(n, m)``; with a column of ones where the bias may move, too.
        blur: ``(n, m)``: hidden activations lie no farther than that from ``hidden``.
        low, high: ``(n, C)`` what margins are at least, and at most; 0 at the label.
        labels: ``(n,)``.
        trigger: ``(n,)`` which samples are to be lost; the others are to be kept.
    """

    hidden: Numbers
    blur: Numbers
    low: Numbers
    high: Numbers
    labels: tuple[int, ...]
    trigger: tuple[bool, ...]

    @property
    def classes(self) -> int:
        """How many there are."""
        return int(self.low.shape[1])


@dataclass(frozen=True, eq=False)
class Removal:
    """That no change within a radius loses enough triggers and keeps enough other samples.

    Attributes:
        samples: triggers and others.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``, of all entries of the change.
        radius: of the closed ball.
        lost: how many triggers at least.
        kept: how many of the others at least.
    """

    samples: Samples
    norm: str
    radius: Fraction
    lost: int
    kept: int = 0


@dataclass(frozen=True, eq=False)
class Tree:
    """Evidence: splits, and vectors at leaves.

    Attributes:
        sample: ``(nodes,)`` in pre-order: the sample whose margin is split, -1 of a leaf.  The
            child in which the margin is not positive comes first.
        target: ``(nodes,)`` the class of the margin; of a leaf anything.
        first: ``(leaves + 1,)`` where the entries of each leaf begin; the last is their number.
        row, column, value: ``(entries,)``: ``g[row, column]`` is ``value``; 0 where none is
            given, the sum where several are.
    """

    sample: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    column: npt.NDArray[np.int64]
    value: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        for name in ("sample", "target", "first", "row", "column", "value"):
            array = getattr(self, name)
            if array.ndim != 1 or array.dtype != np.int64:
                raise EvidenceError(f"'{name}' is no list of 64-bit integers")
        if not 0 < self.sample.size <= MOST_NODES or self.sample.size != self.target.size:
            raise EvidenceError(f"a tree of {self.sample.size} and {self.target.size} nodes")
        leaves = int((self.sample == LEAF).sum())
        if 2 * leaves != self.sample.size + 1 or self.first.size != leaves + 1:
            raise EvidenceError(f"{leaves} leaves do not fit {self.sample.size} nodes")
        sizes = {self.row.size, self.column.size, self.value.size}
        if sizes != {int(self.first[-1])} or self.first[0] != 0 or np.any(np.diff(self.first) < 0):
            raise EvidenceError("the entries of the leaves do not follow each other")


@dataclass(frozen=True)
class Gap:
    """Why a tree proves nothing.

    Attributes:
        leaf: which one, from 0, is not refuted.
        excess: how much the ceilings exceed what would be refuted, over the sum of both.
    """

    leaf: int
    excess: float


def refuted(claim: Removal, tree: Tree, tick: Tick = lambda: None) -> Gap | None:
    """The first leaf that is not refuted; ``None``: the claim holds.

    Raises:
        EvidenceError: the tree is malformed.
    """
    known = LeafRule(claim)
    for number, ends in enumerate(_leaves(claim.samples, tree)):
        tick()
        part = slice(int(tree.first[number]), int(tree.first[number + 1]))
        excess = known.excess(ends, _vectors(claim.samples, tree, part))
        if excess is not None:
            return Gap(number, excess)
    return None


def _leaves(samples: Samples, tree: Tree) -> Iterator[Ends]:
    """What the paths to all leaves say, in pre-order."""
    waiting: list[Ends] = [{}]
    for sample, target in zip(tree.sample.tolist(), tree.target.tolist(), strict=True):
        if not waiting:
            raise EvidenceError("the tree ends before its nodes do")
        ends = waiting.pop()
        if sample == LEAF:
            yield ends
            continue
        if not 0 <= sample < len(samples.labels):
            raise EvidenceError(f"a split of sample {sample}")
        lost, not_lost = ends.get(sample, (None, frozenset()))
        label = samples.labels[sample]
        wrong = target == label or not 0 <= target < samples.classes
        if wrong or lost is not None or target in not_lost:
            raise EvidenceError(f"a split of sample {sample} at class {target}, which is none")
        waiting.append({**ends, sample: (None, not_lost | {target})})
        waiting.append({**ends, sample: (target, not_lost)})
    if waiting:
        raise EvidenceError("the tree does not end")


def _vectors(samples: Samples, tree: Tree, part: slice) -> dict[int, Vector]:
    """The vectors of a leaf that are not 0."""
    found: dict[int, Vector] = {}
    entries = (array[part].tolist() for array in (tree.row, tree.column, tree.value))
    for row, column, value in zip(*entries, strict=True):
        if not (0 <= row < len(samples.labels) and 0 <= column < samples.classes):
            raise EvidenceError(f"an entry of sample {row} and class {column}")
        found.setdefault(row, [0] * samples.classes)[column] += value
    return found


class LeafRule:
    """The rule for leaves.  Numbers are multiples of the samples' unit over ``den``.

    A ceiling ``None`` stands for minus infinity: nothing in the ball agrees with the path.
    """

    def __init__(self, claim: Removal) -> None:
        if claim.norm not in NORMS or claim.radius < 0:
            raise EvidenceError(f"a ball of norm '{claim.norm}' and radius {claim.radius}")
        self._claim, self._samples = claim, claim.samples
        self._num, self._den = claim.radius.numerator, claim.radius.denominator
        samples = claim.samples
        self._blur = [self._dual(row) for row in samples.blur]
        self._size = [
            self._dual(row) + blur for row, blur in zip(samples.hidden, self._blur, strict=True)
        ]
        self._others = [
            tuple(c for c in range(samples.classes) if c != label) for label in samples.labels
        ]

    def excess(self, ends: Ends, vectors: Mapping[int, Vector]) -> float | None:
        """``None``: the leaf is refuted; otherwise by how much, relatively, it is not."""
        total = 0
        counts = self._claim.lost, self._claim.kept
        for group, need in zip((True, False), counts, strict=True):
            found = self._group(group, need, ends, vectors)
            if found is None:
                return None
            total += found
        rows = sorted(vectors)
        if not rows:
            return math.inf
        sums = np.array([vectors[i] for i in rows], dtype=object).T.dot(self._samples.hidden[rows])
        reach = self._dual(sums.reshape(-1))
        reach += sum(self._dual(vectors[i]) * self._blur[i] for i in rows)
        total += self._num * reach
        if total < 0:
            return None
        scale = self._den * sum(
            max(map(abs, vectors[i])) * max(1, *map(abs, self._samples.low[i])) for i in rows
        )
        return float(Fraction(total, max(scale, 1)))

    def _group(
        self, trigger: bool, need: int, ends: Ends, vectors: Mapping[int, Vector]
    ) -> int | None:
        """The sum of ceilings of the triggers, or of the others."""
        total, allowed, gains = 0, -need, []
        for i, own in enumerate(self._samples.trigger):
            if own is not trigger:
                continue
            allowed += 1
            if i not in vectors and i not in ends:
                continue  # 0 either way, unless no margin can be reached, which is not looked at
            vector = vectors.get(i)
            target, spared = ends.get(i, (None, frozenset()))
            lost, kept = self.lost(i, vector, target, spared), None
            if target is None:
                kept = self.kept(i, vector, spared)
            wanted, other = (lost, kept) if trigger else (kept, lost)
            if wanted is None:
                if other is None:
                    return None
                total, allowed = total + other, allowed - 1
            else:
                total += wanted
                if other is not None and other > wanted:
                    gains.append(other - wanted)
        if allowed < 0:
            return None
        gains.sort(reverse=True)
        return total + sum(gains[:allowed])

    def lost(
        self, i: int, vector: Vector | None, target: int | None, spared: frozenset[int]
    ) -> int | None:
        """The ceiling of a sample one of whose margins is not positive."""
        targets = [c for c in self._others[i] if c not in spared] if target is None else [target]
        pair = self._dual([1, -1])
        found = [
            0 if vector is None else self._lost_to(i, vector, c, spared)
            for c in targets
            if self._num * self._size[i] * pair >= self._den * self._samples.low[i, c]
        ]
        return max(found, default=None)

    def _lost_to(self, i: int, vector: Vector, target: int, spared: frozenset[int]) -> int:
        """At least ``<g, D h>`` where a margin is not positive and others are.

        ``<a_c, D h> <= -d_c`` with a multiplier ``y``, ``-<a_e, D h> <= d_e`` with ``z_e``.
        """
        label, low = self._samples.labels[i], self._samples.low[i, target]
        best = None
        for rest, cost in self._without(i, vector, spared):
            own, other = rest[label], rest[target]
            tried = {own, -other, (own - other) // 2}
            if self._claim.norm == "l1":
                peak = max(
                    (abs(v) for c, v in enumerate(rest) if c not in (label, target)), default=0
                )
                tried |= {own - peak, own + peak, peak - other, -peak - other}
            elif self._claim.norm == "l2":
                tried.add(self._steepest(i, rest, target))
            for y in {0, *(y for y in tried if y > 0)}:
                moved = [*rest]
                moved[label], moved[target] = own - y, other + y
                value = cost - self._den * y * low + self._reach(i, moved)
                best = value if best is None or value < best else best
        assert best is not None
        return best

    def kept(self, i: int, vector: Vector | None, spared: frozenset[int]) -> int | None:
        """The ceiling of a sample all of whose margins are positive."""
        if vector is None:
            return 0
        others = frozenset(self._others[i])
        return min(
            cost + self._reach(i, rest)
            for kinds in {others, spared}
            for rest, cost in self._without(i, vector, kinds)
        )

    def _without(
        self, i: int, vector: Vector, positive: frozenset[int]
    ) -> Iterator[tuple[Vector, int]]:
        """The vector after multiples of positive margins were added, and what that costs."""
        yield vector, 0
        label, high = self._samples.labels[i], self._samples.high[i]
        room = -vector[label]
        for limit in {room, sum(max(vector[c], 0) for c in positive)}:
            rest, cost, left = [*vector], 0, limit
            for c in sorted(positive, key=lambda c: (high[c], c)):
                z = min(vector[c], left)
                if z > 0:
                    rest[c] -= z
                    rest[label] += z
                    cost += self._den * z * int(high[c])
                    left -= z
            if cost or rest != vector:
                yield rest, cost

    def _steepest(self, i: int, rest: Vector, target: int) -> int:
        """About the best multiplier in the l2 norm; any would do."""
        label = self._samples.labels[i]
        own, other = rest[label], rest[target]
        flat = sum(v * v for v in rest) - own * own - other * other + (own + other) ** 2 // 2
        reach, fall = self._num * self._size[i], self._den * int(self._samples.low[i, target])
        if fall <= 0 or 2 * reach * reach <= fall * fall:
            return 0
        step = math.isqrt(flat * fall * fall // (2 * (2 * reach * reach - fall * fall)))
        return (own - other) // 2 + step

    def _reach(self, i: int, vector: Sequence[int]) -> int:
        """At least the greatest ``<g, D h>`` over the ball."""
        return self._num * self._size[i] * self._dual(vector)

    def _dual(self, vector: Sequence[int]) -> int:
        """The dual norm, rounded up."""
        if self._claim.norm == "linf":
            return sum(abs(int(v)) for v in vector)
        if self._claim.norm == "l1":
            return max((abs(int(v)) for v in vector), default=0)
        square = sum(int(v) * int(v) for v in vector)
        root = math.isqrt(square)
        return root + (root * root < square)
