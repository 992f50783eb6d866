"""Attacks on linear marks: the cheapest change of the weights found that meets the demands.

Which rows are to cross is chosen first, by what each costs alone or by where a certificate's
bound is attained, and improved by exchanges; what they cost together is a quadratic or a linear
programme.  Whatever comes out is tried exactly before it is believed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog, nnls
from scipy.sparse import csr_matrix, hstack, identity, vstack

from proofs.watermarks.persistence import refuted
from specs.enclosure import FloatArray
from specs.watermarks.changes import Ball, Changes, Flips, Pruned
from verifier.watermarks.problem import Problem

PUSH = 1e-9
"""By how much margins are exceeded, relatively."""

Rows = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Removal:
    """A change that does what a certificate would exclude.

    Attributes:
        cost: a radius, or how many weights or bits; exact or rounded up.
        changes: the set of this cost, in which the change lies.
        change: ``(N,)``.
    """

    cost: Fraction
    changes: Changes
    change: FloatArray


def cheapest_ball(
    asked: Problem, norm: str, shares: FloatArray | None = None, rounds: int = 40
) -> Removal | None:
    """The change of the least norm that was found; ``None``: none was.

    Args:
        shares: ``(n,)`` how far each row crosses where a certificate's bound is attained.
        rounds: programmes with exchanged rows to look at, of the Euclidean norm five times as many.
    """
    starts = _starts(asked, shares)
    best: tuple[float, FloatArray, Rows] | None = None
    for start in starts:
        found = _exchange(asked, "l2", start, 5 * rounds)
        if norm != "l2" and found is not None:
            found = _exchange(asked, norm, found[2], rounds)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    if best is None:
        return None
    columns = best[1]
    change = _to_weights(asked, norm, columns)
    for _ in range(20):
        radius = _radius(norm, change)
        ball = Ball(norm, radius)
        if refuted(asked.demands, [ball], asked.weights, change).holds:
            return Removal(radius, ball, change)
        change = change * (1.0 + 1e-7)
    return None


def cheapest_count(asked: Problem, changes: Pruned | Flips, most: int) -> Removal | None:
    """The fewest weights pruned, or bits flipped, that were found to do it.

    Args:
        changes: which kind; its count does not matter.
        most: look no further.
    """
    low, high = _single_moves(asked, changes)
    best: Removal | None = None
    ease = _ease(asked, low, high)
    tried = [_greedy(asked, low, high, most, order) for order in (None, ease)]
    starts = [_crossing(asked, change) for change in tried if change is not None]
    tried += [_fewest(asked, low, high, rows) for rows in (*starts, _pick(asked, ease))]
    for change in tried:
        if change is None or np.count_nonzero(change) > most:
            continue
        count = int(np.count_nonzero(change))
        made = _of_count(changes, count)
        shown = refuted(asked.demands, [made], asked.weights, change).holds
        if shown and (best is None or count < best.cost):
            best = Removal(Fraction(count), made, change)
    return best


def _of_count(changes: Pruned | Flips, count: int) -> Pruned | Flips:
    if isinstance(changes, Pruned):
        return Pruned(count)
    return Flips(count, changes.format, changes.channel, changes.bits)


def _starts(asked: Problem, shares: FloatArray | None) -> list[Rows]:
    norms = np.sqrt((asked.forms**2 * asked.counts).sum(axis=1)) + 1e-300
    orders = [asked.margins / norms]
    if shares is not None and np.any(shares):
        orders.append(-shares)
    return [_pick(asked, order) for order in orders]


def _pick(asked: Problem, order: FloatArray) -> Rows:
    """For each demand, the rows of the least values."""
    chosen: list[int] = []
    for least, places in asked.least:
        inside = np.argsort(order[places.start : places.stop], kind="stable")[:least]
        chosen += (inside + places.start).tolist()
    return tuple(chosen)


def _exchange(
    asked: Problem, norm: str, start: Rows, rounds: int
) -> tuple[float, FloatArray, Rows] | None:
    """Solve for rows, exchange one that costs much for one that lacks little, again and again."""
    found = _solve(asked, norm, start)
    if found is None:
        return None
    cost, columns, prices = found
    chosen, spent = start, 1
    improved = True
    while improved and spent < rounds:
        improved = False
        for rows in _neighbours(asked, norm, chosen, columns, prices):
            tried = _solve(asked, norm, rows)
            spent += 1
            if tried is not None and tried[0] < cost * (1.0 - 1e-9):
                (cost, columns, prices), chosen, improved = tried, rows, True
                break
            if spent >= rounds:
                break
    return cost, columns, chosen


def _neighbours(
    asked: Problem, norm: str, chosen: Rows, columns: FloatArray, prices: FloatArray
) -> Iterator[Rows]:
    lacking = asked.margins - asked.forms @ _summed(asked, norm, columns)
    lacking = lacking / (np.sqrt((asked.forms**2 * asked.counts).sum(axis=1)) + 1e-300)
    worth = prices * asked.margins[list(chosen)]
    width = 4 if norm == "l2" else 2
    for _, places in asked.least:
        inside = [k for k, row in enumerate(chosen) if row in places]
        outside = [row for row in places if row not in chosen]
        leaving = sorted(inside, key=lambda k: -worth[k])[:width]
        entering = sorted(outside, key=lambda row: lacking[row])[:width]
        for k in leaving:
            for row in entering:
                yield (*chosen[:k], row, *chosen[k + 1 :])


def _solve(asked: Problem, norm: str, rows: Rows) -> tuple[float, FloatArray, FloatArray] | None:
    """The least norm at which these rows cross.

    Returns:
        The norm, ``(K,)`` the move of each weight of a column (of ``l1``: of all of them
        together), and the price of each row.
    """
    forms = asked.forms[list(rows)]
    wanted = asked.margins[list(rows)]
    wanted = wanted + PUSH * (np.abs(wanted) + np.abs(asked.margins).mean())
    if norm == "l2":
        return _least_squares(forms, asked.counts, wanted)
    return _linear(norm, forms, asked.counts, wanted)


def _least_squares(
    forms: FloatArray, counts: FloatArray, wanted: FloatArray
) -> tuple[float, FloatArray, FloatArray] | None:
    gram = (forms * counts) @ forms.T
    unit = np.trace(gram) / len(gram)
    try:
        lower = np.linalg.cholesky(gram / unit + 1e-11 * np.eye(len(gram)))
        prices, _ = nnls(lower.T, np.linalg.solve(lower, wanted), maxiter=50 * len(gram))
    except (np.linalg.LinAlgError, RuntimeError):
        return None
    prices = prices / unit
    columns = prices @ forms
    reached = (forms * counts) @ columns
    if np.any(reached < wanted - 0.9 * PUSH * (np.abs(wanted) + 1.0 * np.abs(wanted).mean())):
        short = float(np.max((wanted - reached) / (np.abs(wanted) + np.abs(wanted).mean())))
        if short > 1e-6:
            return None
    return float(np.sqrt((columns**2 * counts).sum())), columns, prices


def _linear(
    norm: str, forms: FloatArray, counts: FloatArray, wanted: FloatArray
) -> tuple[float, FloatArray, FloatArray] | None:
    """By HiGHS, in units in which coefficients and margins are near 1."""
    many = forms.shape[1]
    reach = forms * counts if norm == "linf" else forms
    unit, level = float(np.abs(reach).max()) or 1.0, float(np.abs(wanted).mean()) or 1.0
    left = csr_matrix(reach / unit)
    right = wanted / level
    if norm == "l1":
        above = hstack([-left, left], format="csr")
        solved = linprog(np.ones(2 * many), A_ub=above, b_ub=-right, method="highs")
    else:
        # x + r lies between 0 and 2 r.
        above = vstack(
            [
                hstack([-left, csr_matrix(left.sum(axis=1))]),
                hstack([identity(many), csr_matrix(np.full((many, 1), -2.0))]),
            ],
            format="csr",
        )
        costs = np.append(np.zeros(many), 1.0)
        solved = linprog(costs, A_ub=above, b_ub=np.append(-right, np.zeros(many)), method="highs")
    if solved.x is None:
        return None
    columns = solved.x[:many] - (solved.x[many:] if norm == "l1" else solved.x[many])
    prices = -solved.ineqlin.marginals[: len(wanted)]
    return float(solved.fun) * level / unit, columns * level / unit, prices


def _summed(asked: Problem, norm: str, columns: FloatArray) -> FloatArray:
    """``(K,)``: by how much the weights of a column move in sum."""
    return columns if norm == "l1" else columns * asked.counts


def _to_weights(asked: Problem, norm: str, columns: FloatArray) -> FloatArray:
    change = np.zeros(asked.weights.size)
    used = asked.used
    if norm == "l1":
        which, first = np.unique(asked.column_of[used], return_index=True)
        change[used[first]] = columns[which]
    else:
        change[used] = columns[asked.column_of[used]]
    return change


def _radius(norm: str, change: FloatArray) -> Fraction:
    """The norm of a change, rounded up to six digits."""
    exact = [Fraction(abs(step)) for step in change.tolist() if step]
    if norm == "linf":
        return max(exact, default=Fraction(0))
    if norm == "l1":
        return sum(exact, Fraction(0))
    square = sum((step * step for step in exact), Fraction(0))
    if not square:
        return square
    unit = Fraction(10) ** (math.floor(math.log10(math.sqrt(float(square)))) - 9)
    whole = math.isqrt(math.floor(square / unit**2)) + 1
    return whole * unit


def _single_moves(asked: Problem, changes: Pruned | Flips) -> tuple[FloatArray, FloatArray]:
    """``(N,)`` each: to which weights move lowest and highest by one of the changes."""
    if isinstance(changes, Pruned):
        return np.minimum(-asked.weights, 0.0), np.maximum(-asked.weights, 0.0)
    one = Flips(1, changes.format, changes.channel, changes.bits)
    words, ends = one.stored(asked.weights), [asked.weights, asked.weights]
    bits = range(one.format.bits) if one.bits is None else one.bits
    for bit in bits:
        value, number = one.format.decode(words ^ np.uint32(1 << bit), one.channel)
        found = np.where(number, value, asked.weights)
        ends = [np.minimum(ends[0], found), np.maximum(ends[1], found)]
    return ends[0] - asked.weights, ends[1] - asked.weights


def _ease(asked: Problem, low: FloatArray, high: FloatArray) -> FloatArray:
    """``(n,)``: how many moves a row needs by itself."""
    used = asked.used
    needed = []
    for form, margin in zip(asked.forms, asked.margins, strict=True):
        entries = form[asked.column_of[used]]
        gains = np.sort(np.maximum(entries * low[used], entries * high[used]))[::-1]
        reached = np.cumsum(np.maximum(gains, 0.0))
        needed.append(float(np.searchsorted(reached, margin)))
    return np.array(needed)


def _greedy(
    asked: Problem, low: FloatArray, high: FloatArray, most: int, order: FloatArray | None
) -> FloatArray | None:
    """Move one weight after the other, that which brings the rows nearest to the demands.

    Args:
        order: ``(n,)`` the rows of the least values are to cross; ``None``: those that lack
            least at the time.
    """
    used = asked.used
    columns = asked.column_of[used]
    scale = np.sqrt((asked.forms**2 * asked.counts).sum(axis=1)) + 1e-300
    lacking = asked.margins.copy()
    change = np.zeros(asked.weights.size)
    ends = np.stack([low[used], high[used]])
    fixed = None if order is None else list(_pick(asked, order))
    for _ in range(most):
        if _done(asked, lacking):
            return change
        rows = list(_pick(asked, lacking / scale)) if fixed is None else fixed
        short = lacking[rows] / scale[rows]
        pull = np.maximum(short, 0.0) + 1e-3 * np.abs(short).max()
        pull[short < 0.0] = 0.0
        worth = (pull / scale[rows]) @ asked.forms[rows]
        gains = worth[columns] * ends
        best = _best_move(asked, rows, lacking, scale, columns, ends, gains)
        if best is None:
            return None
        end, place = best
        step = ends[end, place]
        lacking -= asked.forms[:, columns[place]] * step
        change[used[place]] = step
        ends[:, place] = 0.0
    return change if _done(asked, lacking) else None


def _crossing(asked: Problem, change: FloatArray) -> Rows:
    """The rows that a change carries furthest, as many as are needed."""
    used = asked.used
    moved = np.bincount(asked.column_of[used], weights=change[used], minlength=asked.counts.size)
    norms = np.sqrt((asked.forms**2 * asked.counts).sum(axis=1)) + 1e-300
    return _pick(asked, (asked.margins - asked.forms @ moved) / norms)


def _fewest(
    asked: Problem, low: FloatArray, high: FloatArray, rows: Rows, rounds: int = 8
) -> FloatArray | None:
    """Moves that make rows cross, few of them: a linear programme of which all shares are kept.

    It has hardly more shares between 0 and 1 than rows; those that are not needed go.  Rows that
    cost much are exchanged for rows that came near.
    """
    used = asked.used
    columns = asked.column_of[used]
    best, best_count = None, math.inf
    for _ in range(rounds):
        forms = asked.forms[list(rows)]
        wanted = asked.margins[list(rows)]
        entries = forms[:, columns]
        gains = np.concatenate([entries * low[used], entries * high[used]], axis=1)
        unit = np.abs(gains).max(axis=1, keepdims=True) + 1e-300
        wanted = wanted + 1e-6 * unit[:, 0]  # more than the solver's tolerance
        solved = linprog(
            np.ones(gains.shape[1]),
            A_ub=-gains / unit,
            b_ub=-wanted / unit[:, 0],
            bounds=(0.0, 1.0),
            method="highs",
        )
        if solved.x is None:
            break
        change = _kept(asked, low, high, solved.x, rows)
        count = np.count_nonzero(change)
        if change is None or count >= best_count:
            break
        best, best_count = change, count
        prices = -solved.ineqlin.marginals * wanted / unit[:, 0]
        rows = _swapped(asked, change, rows, prices)
    return best


def _kept(
    asked: Problem, low: FloatArray, high: FloatArray, shares: FloatArray, rows: Rows
) -> FloatArray | None:
    """The moves with a share, less those that are not needed."""
    used = asked.used
    half = used.size
    upward = shares[half:] > shares[:half]
    share = np.maximum(shares[half:], shares[:half])
    change = np.zeros(asked.weights.size)
    change[used] = np.where(share > 1e-9, np.where(upward, high[used], low[used]), 0.0)
    forms = asked.forms[list(rows)]
    moved = np.bincount(asked.column_of[used], weights=change[used], minlength=asked.counts.size)
    spare = forms @ moved - asked.margins[list(rows)]
    if np.any(spare < 0.0):
        return None
    for place in np.argsort(share):  # the least shares first
        step = change[used[place]]
        without = spare - forms[:, asked.column_of[used[place]]] * step
        if step and np.all(without > 0.0):
            spare, change[used[place]] = without, 0.0
    return change


def _swapped(asked: Problem, change: FloatArray, rows: Rows, prices: FloatArray) -> Rows:
    """Some of the dearest rows exchanged for those outside that lack least."""
    used = asked.used
    moved = np.bincount(asked.column_of[used], weights=change[used], minlength=asked.counts.size)
    norms = np.sqrt((asked.forms**2 * asked.counts).sum(axis=1)) + 1e-300
    lacking = (asked.margins - asked.forms @ moved) / norms
    chosen = list(rows)
    for _, places in asked.least:
        inside = [k for k, row in enumerate(chosen) if row in places]
        outside = sorted((row for row in places if row not in chosen), key=lambda r: lacking[r])
        dearest = sorted(inside, key=lambda k: -prices[k])
        for k, row in zip(dearest[:2], outside[:2], strict=False):
            chosen[k] = row
    return tuple(chosen)


def _best_move(
    asked: Problem,
    rows: Sequence[int],
    lacking: FloatArray,
    scale: FloatArray,
    columns: npt.NDArray[np.int64],
    ends: FloatArray,
    gains: FloatArray,
) -> tuple[int, int] | None:
    """Of the moves that gain most at first sight, the one that leaves the least to do."""
    flat = gains.reshape(-1)
    several = min(32, flat.size)
    likely = np.argpartition(-flat, several - 1)[:several]
    likely = likely[flat[likely] > 0.0]
    if not likely.size:
        return None
    end, place = np.unravel_index(likely, gains.shape)
    moved = asked.forms[np.ix_(rows, columns[place])] * ends[end, place]
    left = np.maximum(lacking[rows][:, None] - moved, 0.0) / scale[rows][:, None]
    chosen = int(np.argmin(left.sum(axis=0)))
    return int(end[chosen]), int(place[chosen])


def _done(asked: Problem, lacking: FloatArray) -> bool:
    return all(
        int(np.count_nonzero(lacking[places.start : places.stop] <= 0.0)) >= least
        for least, places in asked.least
    )
