"""Samples of what a partition leaves open, and the exact bounds that they give.

A sample is not a point but a tiny cell of an open leaf (``cells.py``).  A cell counts as safe, or
as unsafe, only if the kernel proves that of all of it, so rounding cannot favour a claim: by an
evaluation whose error is bounded (``points.py``), and where that does not decide by the rules of
proofs.  Of independent samples of which at most ``k`` could be unsafe the interval of Clopper and
Pearson (1934) bounds the share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from flint import arb, fmpq

from proofs.arrays import ArrayEvidence
from proofs.balls import working
from proofs.frame import Batch
from proofs.partitions.cells import TINY, Draw
from proofs.partitions.points import Points
from proofs.partitions.prover import Prover
from specs.enclosure import FloatArray
from specs.probability import ProbabilityQuestion

if TYPE_CHECKING:
    from proofs.partitions.probability import Volumes

PRECISION = 256
"""Bits of working precision of binomial tails."""
TERMS = 10_000
"""Tails with fewer terms are summed."""
STEPS = 60
"""Binary places of a bound that is printed."""
DIGITS = 24
"""Significant ones of them."""


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
    report: Callable[[int], None] = lambda _: None,
) -> Drawn:
    """Draw the samples that question and partition determine, and look at their cells.

    A sample of which it is not certain in which leaf it lies counts as neither.
    """
    wanted = 0 if question.sampling is None else question.sampling.samples
    stream = Draw(question, evidence, volumes.lower, volumes.upper, volumes.shares)
    root = prover.root().batch
    low, high = root.lower[0], root.upper[0]
    radius = (high - low) * 2.0**-38 + (np.abs(low) + np.abs(high)) * 2.0**-48 + TINY
    points = Points.of(prover, root, radius)
    size = prover.width if points is None else max(prover.width, points.width)
    unsafe = safe = done = 0
    while done < wanted:
        tick()
        count = min(size, wanted - done)
        done += count
        lower, upper = stream.take(count)
        good = bad = np.zeros(len(lower), dtype=bool)
        if points is not None:
            x, _ = stream.boxes(0.5 * lower + 0.5 * upper, upper)
            good, bad = points.look(x)
            near = ((upper - lower) * 1.5 <= radius[stream.free]).all(axis=1)
            good, bad = good & near, bad & near
        safe, unsafe = safe + int(good.sum()), unsafe + int(bad.sum())
        left = np.flatnonzero(~good & ~bad)
        for first in range(0, len(left), prover.width):
            own = left[first : first + prover.width]
            found = _looked_at(prover, root, *stream.boxes(lower[own], upper[own]))
            safe, unsafe = safe + found[0], unsafe + found[1]
        report(done)
    return Drawn(wanted, unsafe, wanted - safe)


def _looked_at(
    prover: Prover, root: Batch, lower: FloatArray, upper: FloatArray
) -> tuple[int, int]:
    """Of how many boxes all is safe, and of how many all is unsafe; by the rules of proofs."""
    batch = root.pick(np.zeros(len(lower), dtype=np.int64))
    batch = Batch(lower, upper, batch.bounds, batch.empty)
    prover.intervals(batch)
    good = prover.safe(batch)
    left = np.flatnonzero(~good)
    bad = np.zeros(left.size, dtype=bool)
    for disjunct in prover.sides.unsafe:
        if left.size:
            bad |= prover.unsafe(batch.pick(left), np.full(left.size, disjunct))
    return int(good.sum()), int(bad.sum())


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
    for near, is_high in _around(k, n, miss):  # guesses, which spare steps where they are right
        if low < near < high and excludes_above(k, n, Fraction(near, 1 << STEPS), miss) == is_high:
            low, high = (low, near) if is_high else (near, high)
    while high - low > 1 << max(0, high.bit_length() - DIGITS):
        middle = (low + high) // 2
        if excludes_above(k, n, Fraction(middle, 1 << STEPS), miss):
            high = middle
        else:
            low = middle
    return Fraction(high, 1 << STEPS)


def _around(k: int, n: int, miss: Fraction) -> list[tuple[int, bool]]:
    """Numbers below and above the bound, if the normal approximation (Wilson's) is good."""
    z = -NormalDist().inv_cdf(float(max(miss, Fraction(1, 1 << 60))))
    share, spread = min(1.0, (k + 0.5) / n), z * z / n
    root = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    found, error = (share + spread / 2 + root) / (1 + spread), (z * z + 1) / n
    return [(round((found + e) * (1 << STEPS)), e > 0) for e in (-error, error)]


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
