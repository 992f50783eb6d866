"""Attacks on linear marks: the cheapest change of the weights found that meets the demands.

Which rows are to cross is chosen first, by what each costs alone or by where a certificate's
bound is attained, and improved by exchanges; what they cost together is a quadratic or a linear
programme.  Whatever comes out is tried exactly before it is believed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.optimize import linprog, nnls
from scipy.sparse import csr_matrix, hstack, identity, vstack

from proofs.watermarks.persistence import refuted
from specs.enclosure import FloatArray
from specs.watermarks.changes import Ball, Changes, Flips, Pruned
from verifier.watermarks.moves import Rows, crossing, ease, fewest, greedy, pick
from verifier.watermarks.problem import Problem

PUSH = 1e-9
"""By how much margins are exceeded, relatively."""


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
    needed = ease(asked, low, high)
    tried = [greedy(asked, low, high, most, order) for order in (None, needed)]
    starts = [crossing(asked, change) for change in tried if change is not None]
    tried += [fewest(asked, low, high, rows) for rows in (*starts, pick(asked, needed))]
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
    return [pick(asked, order) for order in orders]


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
