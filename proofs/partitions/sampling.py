"""Samples of what a partition leaves open, and the exact bounds that they give.

A sample is not a point but a tiny cell of an open leaf: each side of the leaf is cut into
``2 ** CELL_BITS`` parts of the same probability, and one of them is drawn.  An input of the open
leaves, drawn as the question says, lies in exactly such a cell.  A cell counts as safe, or as
unsafe, only if the kernel proves that of all of it, so rounding cannot favour a claim.  Of
independent samples of which at most ``k`` could be unsafe the interval of Clopper and Pearson
(1934) bounds the share.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from flint import arb, fmpq

from proofs.arrays import HOLDS, ArrayEvidence
from proofs.balls import working
from proofs.frame import Batch
from proofs.partitions.measure import Measure, Share, quantiles
from proofs.partitions.prover import Prover
from proofs.signature import content_hash
from specs.decimals import outward
from specs.enclosure import FloatArray
from specs.probability import ProbabilityQuestion

if TYPE_CHECKING:
    from proofs.partitions.probability import Volumes

CELL_BITS = 40
"""Each side of an open leaf has so many bits of cells."""
LEAF_BITS = 128
"""Of the number that chooses a leaf."""
PRECISION = 256
"""Bits of working precision of binomial tails."""
TERMS = 2000
"""Tails with fewer terms are summed."""
STEPS = 60
"""Of the bisection for a bound that is printed."""


@dataclass(frozen=True)
class Drawn:
    """Samples of what is left open.

    Attributes:
        count: how many.
        unsafe: of which all inputs are unsafe, proved.
        not_safe: of which it is not proved that all inputs are safe.
    """

    count: int
    unsafe: int
    not_safe: int


def draw(
    question: ProbabilityQuestion,
    evidence: ArrayEvidence,
    prover: Prover,
    volumes: Volumes,
    tick: Callable[[], None] = lambda: None,
) -> Drawn:
    """Draw the samples that question and partition determine, and look at their cells.

    A sample of which it is not certain in which leaf it lies counts as neither.
    """
    wanted = 0 if question.sampling is None else question.sampling.samples
    stream = _Stream(question, evidence)
    choose = _Leaves(volumes.shares)
    measure = Measure(question)
    unsafe = safe = done = 0
    root = prover.root().batch
    while done < wanted:
        tick()
        size = min(prover.width, wanted - done)
        done += size
        cells = []
        for _ in range(size):
            place = choose(stream.number(LEAF_BITS))
            parts = [stream.number(CELL_BITS) for _ in range(volumes.lower.shape[1])]
            if place is not None:
                cells.append(cell(measure, volumes.lower[place], volumes.upper[place], parts))
        if not cells:
            continue
        lower, upper = (np.stack(ends) for ends in zip(*cells, strict=True))
        batch = root.pick(np.zeros(len(cells), dtype=np.int64))
        batch = Batch(lower, upper, batch.bounds, batch.empty)
        prover.intervals(batch)
        good = prover.safe(batch)
        safe += int(good.sum())
        left = np.flatnonzero(~good)
        bad = np.zeros(left.size, dtype=bool)
        for disjunct in prover.sides.unsafe:
            if left.size:
                bad |= prover.unsafe(batch.pick(left), np.full(left.size, disjunct))
        unsafe += int(bad.sum())
    return Drawn(wanted, unsafe, wanted - safe)


def cell(
    measure: Measure, lower: FloatArray, upper: FloatArray, parts: list[int]
) -> tuple[FloatArray, FloatArray]:
    """The cell of a leaf, rounded outward; ``parts``: which of each side."""
    ends = [
        quantiles(measure, axis, float(low), float(high), part, CELL_BITS)
        for axis, (low, high, part) in enumerate(zip(lower, upper, parts, strict=True))
    ]
    below, above = outward([low for low, _ in ends], [high for _, high in ends])
    return np.maximum(below, lower), np.minimum(above, upper)


class _Stream:
    """Numbers that question, seed and partition determine."""

    def __init__(self, question: ProbabilityQuestion, evidence: ArrayEvidence) -> None:
        splits = content_hash(replace(evidence, question="", claims=HOLDS))
        seed = f"farkas-samples-1\n{question.draws}\n{splits}\n"
        self._bytes = self._blocks(seed.encode())

    @staticmethod
    def _blocks(seed: bytes) -> Iterator[int]:
        block = 0
        while True:
            yield from hashlib.shake_256(seed + str(block).encode()).digest(1 << 16)
            block += 1

    def number(self, bits: int) -> int:
        """A uniform number of so many bits, a multiple of 8."""
        return int.from_bytes(bytes(next(self._bytes) for _ in range(bits // 8)), "big")


class _Leaves:
    """Chooses leaves with the probabilities that they have among themselves."""

    def __init__(self, shares: tuple[Share, ...]) -> None:
        self._below = list(accumulate(low for low, _ in shares))
        self._above = list(accumulate(high for _, high in shares))

    def __call__(self, number: int) -> int | None:
        """The leaf of a number of ``LEAF_BITS`` bits; ``None`` where it may be another one."""
        # With exact shares c_k / c_n in between, leaf k is that with c_(k-1) <= u c_n < c_k.
        first = Fraction(number, 1 << LEAF_BITS)
        last = Fraction(number + 1, 1 << LEAF_BITS)
        place = bisect_right(self._below, first * self._below[-1])
        other = bisect_right(self._above, first * self._above[-1])
        if place != other or place == len(self._below):
            return None
        low = self._above[place - 1] if place else Fraction(0)
        inside = low <= first * self._below[-1] and last * self._above[-1] <= self._below[place]
        return place if inside else None


def tail_below(k: int, n: int, p: Fraction) -> arb:
    """A ball around ``P[Bin(n, p) <= k]``.

    A sum of few terms, or the regularised incomplete beta function.
    """
    with working(PRECISION):
        if k >= n or p <= 0:
            return arb(1)
        if k < 0 or p >= 1:
            return arb(0)
        q = arb(fmpq(p.numerator, p.denominator))
        if k < TERMS:
            return _first_terms(k, n, q)
        if n - k <= TERMS:
            return 1 - _first_terms(n - k - 1, n, 1 - q)
        return (1 - q).beta_lower(n - k, k + 1, regularized=1)


def _first_terms(k: int, n: int, q: arb) -> arb:
    """The sum of the first ``k + 1`` terms of a binomial distribution."""
    odds = q / (1 - q)
    term = (1 - q) ** n
    total = term
    for j in range(k):
        term = term * odds * (n - j) / (j + 1)
        total += term
    return total


def upper_bound(k: int, n: int, miss: Fraction) -> Fraction:
    """A dyadic number that is at least Clopper and Pearson's upper bound."""
    low, high = 0, 1 << STEPS
    while high - low > 1:
        middle = (low + high) // 2
        if excludes_above(k, n, Fraction(middle, 1 << STEPS), miss):
            high = middle
        else:
            low = middle
    return Fraction(high, 1 << STEPS)


def lower_bound(k: int, n: int, miss: Fraction) -> Fraction:
    """A dyadic number that is at most Clopper and Pearson's lower bound."""
    return 1 - upper_bound(n - k, n, miss)


def excludes_above(k: int, n: int, p: Fraction, miss: Fraction) -> bool:
    """Whether ``k`` of ``n`` would have at most the probability ``miss`` at rates of at least p."""
    if p >= 1:
        return True
    level = fmpq(miss.numerator, miss.denominator)
    return bool(tail_below(k, n, p) <= arb(level))


def supports(
    volumes: Volumes,
    drawn: Drawn,
    miss: Fraction,
    *,
    most: Fraction | None = None,
    least: Fraction | None = None,
    strictly: bool = False,
) -> bool:
    """Whether samples show that ``P(unsafe)`` is at most, or at least, a number.

    Args:
        miss: the probability with which they may show it although it is wrong.
        strictly: below, or above.
    """
    tiny = Fraction(1, 1 << 128) if strictly else Fraction(0)
    if most is not None:
        room = most - tiny - volumes.unsafe[1]
        if volumes.open[1] <= 0 or room < 0:
            return room >= 0
        return excludes_above(drawn.not_safe, drawn.count, room / volumes.open[1], miss)
    if least is not None:
        need = least + tiny - volumes.unsafe[0]
        if need <= 0:
            return True
        if volumes.open[0] < need:
            return False
        spared = 1 - need / volumes.open[0]
        return excludes_above(drawn.count - drawn.unsafe, drawn.count, spared, miss)
    return False
