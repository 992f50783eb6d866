"""Several faults at once, at a point: costs of single faults that may be added up.

Every fault has a *cost* such that any faults whose costs add up to less than 1 leave the prediction
as it is, wherever they strike and however many they are.

A faulty word moves the sum that it stands in by its step times what it is multiplied by: a
fault-free number plus what the faults before have made of it.  Suppose that faults move no entry
of the tensor ``l`` by more than ``B_l``; then a step is multiplied by at most ``|x| + B_l``, and
going back through absolute values (``sensitivity``) says what it adds at most to the distance of
any two outputs, and to how far each entry of a tensor ``m`` behind moves.  The cost is the largest
of these, the former relative to the margin, the latter to ``B_m``.  If costs add up to less than 1,
then, from the first tensor to the last, nothing moves further than was supposed; and no margin is
used up.  So ``B`` may be any positive numbers; several are tried.

Steps of flips in one word add up where its format is one of integers or fixed point and its
constants depend on it linearly.  Of other words no more than one fault each is spoken of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from proofs.outward import TINY
from specs.decimals import round_up
from specs.enclosure import FloatArray
from specs.faults.formats import BoolArray, FloatFormat, IndexArray
from specs.faults.placed import weighted
from specs.faults.sites import Cells
from specs.network import Input
from specs.reader.parameters import LINEAR
from verifier.faults.floats import UP, Tensor
from verifier.faults.judge import Judge, Target
from verifier.faults.sensitivity import propagated, sensitivities
from verifier.faults.struck import Struck

GRID = 64
"""Costs are rounded up to multiples of ``1 / GRID`` where probabilities are made of them."""
ENTRIES = 1 << 24
"""Of tensors whose forms would have more entries, sums of moves are bounded, not the largest."""
SLACK, TINIEST = 1.0 + 2.0**-46, 2.0**-1000
"""Pay for the rounding of a few operations, and for what falls below the smallest numbers."""
SHARES = (0.5, 1.0, 2.0)
"""What ``B_l`` is tried as, of the largest magnitude of the tensor."""


@dataclass(frozen=True, eq=False)
class Costs:
    """The costs of the memory cells of one parameter.

    Attributes:
        entry, bit: ``(n,)`` of the cell.
        cost: ``(n,)``, of the worst of its faults; infinite where nothing is known.
        number: ``(n,)`` each of its faults leaves a number that the network is defined with.
        additive: faults of one word may be added up, too.
    """

    entry: IndexArray
    bit: IndexArray
    cost: FloatArray
    number: BoolArray
    additive: bool

    @property
    def classes(self) -> IndexArray:
        """``(n,)`` the costs in units of the grid, rounded up; ``GRID``: at least 1."""
        return np.minimum(np.ceil(self.cost * GRID), GRID).astype(np.int64)


def targets(judge: Judge, found: Cells) -> list[Target]:
    """The faults of every parameter, and where they strike."""
    every = (found.singles(name) for name in found.exposed)
    return [judge.target(faults) for faults in every if faults is not None]


def costs(judge: Judge, struck: list[Target], point: int, share: float) -> dict[str, Costs] | None:
    """The costs of all cells at one point.

    Args:
        judge: the network at points.
        struck: the faults, of one memory; see :func:`targets`.
        point: the number of the point.
        share: what tensors are supposed to move by, of their largest magnitude.

    Returns:
        ``None``: some function has no known bound of its slope, or the margin is not positive.
    """
    tensors, label = judge.at(point), int(judge.labels[point])
    lower, upper = (part[point] for part in judge.ends)
    margins = np.delete(lower[label] - upper, label) * (1.0 - 2.0**-40)
    rows = sensitivities(judge.network, label)
    if rows is None or not margins.min() > 0:
        return None
    forms = [{n: part / margins[:, None] * UP + TINY for n, part in rows.items()}]
    limits = _limits(judge, struck, tensors, share)
    widest = max([1, *judge.network.sizes, *(v.size for v in judge.memory.values.values())])
    for number, limit in limits.items():
        size = judge.network.sizes[number]
        own = np.eye(size) if size * widest <= ENTRIES else np.ones((1, size))
        made = propagated(judge.network, {number: own * (UP / limit)})
        if made is None:
            return None
        forms.append(made)
    return {target.faults.tensor: _of(judge, target, tensors, forms, limits) for target in struck}


def _limits(
    judge: Judge, struck: list[Target], tensors: Mapping[int, Tensor], share: float
) -> dict[int, float]:
    """By tensor that struck words are multiplied by, how far it may move; not of inputs."""
    found = {}
    for target in struck:
        source = None if target.struck is None else target.struck.source
        if source is None or isinstance(judge.network.nodes[source], Input):
            continue
        found[source] = max(share * float(np.abs(tensors[source].value).max()), 2.0**-100)
    return found


def _of(
    judge: Judge,
    target: Target,
    tensors: Mapping[int, Tensor],
    forms: list[dict[int, FloatArray]],
    limits: Mapping[int, float],
) -> Costs:
    """The costs of one parameter's cells."""
    faults, places = target.faults, judge.memory.placed.of[target.faults.tensor]
    cost = np.where(target.number, np.inf, 0.0)
    if not places:
        cost = np.zeros(len(faults))
    elif target.struck is not None and target.steps is not None:
        rate = _rates(target.struck, tensors, forms, limits)
        with np.errstate(all="ignore"):
            cost = (np.abs(target.steps.step) + target.steps.error) * rate[faults.entry] * UP
        cost = np.where(target.steps.none | ~target.number, 0.0, cost)
        cost = np.where(np.isnan(cost), np.inf, cost)
    format = judge.memory.stored[faults.tensor].format
    additive = not isinstance(format, FloatFormat)
    additive = additive and all(place.function == LINEAR for place in places)
    cell = faults.entry * 32 + faults.bit
    cells, where = np.unique(cell, return_inverse=True)
    worst = np.zeros(cells.size)
    np.maximum.at(worst, where.reshape(-1), cost)
    number = np.ones(cells.size, dtype=np.bool_)
    np.logical_and.at(number, where.reshape(-1), target.number)
    return Costs(cells // 32, cells % 32, worst, number, additive)


def _rates(
    struck: Struck,
    tensors: Mapping[int, Tensor],
    forms: list[dict[int, FloatArray]],
    limits: Mapping[int, float],
) -> FloatArray:
    """``(size,)``: what a step of one of every entry costs."""
    total = np.zeros(struck.values.size)
    for form in forms:
        rows = form.get(struck.place.node)
        if rows is None:
            continue
        if struck.source is not None and struck.place.term is not None:
            read = tensors[struck.source]
            reach = (np.abs(read.value) + read.error + limits.get(struck.source, 0.0)) * UP
            term = weighted(struck.node.terms[struck.place.term])
            size = np.repeat(reach, len(rows), axis=0)
            rows = term.gradient(rows, size, np.matmul).reshape(len(rows), -1)
        with np.errstate(all="ignore"):
            own = struck.summed(rows) * UP + TINY
        own = np.where(np.isnan(own), np.inf, own)
        total = np.maximum(total, own.max(axis=0))
    return total * UP


def histogram(found: Mapping[str, Costs], noticed: bool) -> IndexArray:
    """``(GRID + 1,)`` how many cells have a cost of so many units.

    Args:
        found: of all parameters.
        noticed: words that are no number are noticed, and so do no harm.
    """
    total = np.zeros(GRID + 1, dtype=np.int64)
    for each in found.values():
        classes = each.classes
        if not noticed:
            classes = np.where(each.number, classes, GRID)
        total += np.bincount(classes, minlength=GRID + 1)
    return total


def words_apart(found: Mapping[str, Costs]) -> dict[int, int]:
    """By number of cells, how many words there are whose faults may not be added up."""
    counts: dict[int, int] = {}
    for each in found.values():
        if not each.additive:
            _, sizes = np.unique(each.entry, return_counts=True)
            for size in sizes.tolist():
                counts[size] = counts.get(size, 0) + 1
    return counts


def any_faults(found: Mapping[str, Costs], most: int = 64) -> int:
    """The largest ``k``, up to ``most``, such that any ``k`` failing cells do no harm.

    Cells whose word becomes no number are taken to be noticed.  0: some single fault may do harm,
    or faults of one word may not be added up (then 1 at most).
    """
    cost = np.concatenate([each.cost for each in found.values()] or [np.zeros(0)])
    worst = np.sort(cost)[::-1][:most]
    if not all(each.additive for each in found.values()):
        worst = worst[:1]
    sums = np.cumsum(worst) * UP
    return int(np.sum(sums < 1.0))


def certified_sets(counts: IndexArray, apart: Mapping[int, int], k: int) -> tuple[int, int]:
    """How many sets of ``k`` cells may fail together for certain, and how many sets there are.

    Args:
        counts: ``(GRID + 1,)`` how many cells have a cost of so many units, of all cells.
        apart: of their words, see :func:`words_apart`; sets with two cells of one such word are
            not counted as certain.
        k: at least 1.
    """
    # By size of a set and units of its cost, up to GRID - 1: how many there are.
    table = [[0] * GRID for _ in range(k + 1)]
    table[0][0] = 1
    for units, cells in enumerate(counts[:GRID].tolist()):
        if not cells:
            continue
        made = [row.copy() for row in table]
        for some in range(1, min(k, cells) + 1):
            ways, more = math.comb(cells, some), some * units
            if more >= GRID:
                break
            for size in range(k - some + 1):
                for cost in range(GRID - more):
                    if table[size][cost]:
                        made[size + some][cost + more] += table[size][cost] * ways
        table = made
    total = int(counts.sum())
    twice = sum(math.comb(size, 2) * words for size, words in apart.items())
    lost = twice * math.comb(max(0, total - 2), k - 2) if k >= 2 else 0
    return max(0, sum(table[k]) - lost), math.comb(total, k)


def tails_above(counts: IndexArray, rates: Sequence[Fraction]) -> FloatArray:
    """Upper bounds of the probability that two or more cells fail whose costs reach 1.

    Every cell fails with the same probability, independently.

    Args:
        counts: ``(S, GRID + 1)`` how many cells have a cost of so many units, by sample; those of
            0 are among the two.
        rates: ``R`` probabilities, less than 1.

    Returns:
        ``(S, R)``.
    """
    odds = np.array([float(round_up(rate / (1 - rate))) for rate in rates])
    keep = np.array([float(round_up(1 - rate)) for rate in rates])
    shape = (len(counts), len(rates))
    # None failed; one did, and its cost; more did, and the sum of theirs.  All numbers are upper
    # bounds, and sums of products of non-negative ones.
    none = np.ones((*shape, 1))
    one, more = np.zeros((*shape, GRID + 1)), np.zeros((*shape, GRID + 1))
    for units in range(1, GRID + 1):
        own = _failures(counts[:, units, None], keep, odds, max(2, -(-GRID // units)))
        nothing, single = own[0][..., None], own[1][..., None]
        after = nothing * more + single * (_shifted(one, units) + _shifted(more, units))
        for m, weight in enumerate(own[2:], start=2):
            both = _shifted(one, m * units) + _shifted(more, m * units)
            both[..., min(m * units, GRID)] += none[..., 0]
            after += weight[..., None] * both
        more, one = after, nothing * one
        one[..., units] += none[..., 0] * own[1]
        none = none * nothing
    # One alone reaches 1, and some of those that cost nothing failed with it.
    free = counts[:, :1] * np.array([float(round_up(rate)) for rate in rates]) * SLACK
    more[..., GRID] += one[..., GRID] * np.minimum(free, 1.0)
    return np.minimum(more[..., GRID] * (1.0 + 2.0**-20) + 2.0**-900, 1.0)


def _failures(
    cells: IndexArray, keep: FloatArray, odds: FloatArray, times: int
) -> list[FloatArray]:
    """Upper bounds of ``P(Bin(cells, p) = m)`` for m up to ``times - 1``, and of the rest.

    Args:
        cells: ``(S, 1)``.
        keep, odds: ``(R,)`` upper bounds of ``1 - p`` and ``p / (1 - p)``.
        times: at least 1.
    """
    found = [_power(keep, cells)]
    for m in range(times):
        step = (np.maximum(cells - m, 0) / (m + 1)) * odds
        found.append(np.minimum(found[-1] * step * SLACK, 1.0) + TINIEST * (cells > m))
    after = (np.maximum(cells - times, 0) / (times + 1)) * odds * SLACK
    with np.errstate(divide="ignore"):  # what follows falls at least as fast as a power
        rest = np.where(after < 1.0, found[-1] / np.maximum(1.0 - after, 0.0) * SLACK, 1.0)
    found[-1] = np.minimum(rest, 1.0)
    return found


def _power(base: FloatArray, exponent: IndexArray) -> FloatArray:
    """At least ``base ** exponent``, for numbers from 0 to 1."""
    found = np.ones(np.broadcast_shapes(base.shape, exponent.shape))
    square, left = base.copy(), exponent.copy()
    while np.any(left):
        found = np.where(left & 1, np.minimum(found * square * SLACK, 1.0) + TINIEST, found)
        square = np.minimum(square * square * SLACK, 1.0) + TINIEST
        left = left >> 1
    return np.minimum(found, 1.0)


def _shifted(sums: FloatArray, by: int) -> FloatArray:
    """The distribution of sums that are so much larger; what is above ``GRID`` counts as it."""
    found = np.zeros_like(sums)
    if by < GRID:
        found[..., by:GRID] = sums[..., : GRID - by]
    found[..., GRID] = sums[..., max(0, GRID - by) :].sum(axis=-1)
    return found
