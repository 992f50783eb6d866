"""Few moves of single weights that meet demands: greedily, and by linear programmes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from specs.enclosure import FloatArray
from verifier.watermarks.problem import Problem

Rows = tuple[int, ...]


def pick(asked: Problem, order: FloatArray) -> Rows:
    """For each demand, the rows of the least values."""
    chosen: list[int] = []
    for least, places in asked.least:
        inside = np.argsort(order[places.start : places.stop], kind="stable")[:least]
        chosen += (inside + places.start).tolist()
    return tuple(chosen)


def ease(asked: Problem, low: FloatArray, high: FloatArray) -> FloatArray:
    """``(n,)``: how many moves a row needs by itself."""
    used = asked.used
    needed = []
    for form, margin in zip(asked.forms, asked.margins, strict=True):
        entries = form[asked.column_of[used]]
        gains = np.sort(np.maximum(entries * low[used], entries * high[used]))[::-1]
        reached = np.cumsum(np.maximum(gains, 0.0))
        needed.append(float(np.searchsorted(reached, margin)))
    return np.array(needed)


def greedy(
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
    fixed = None if order is None else list(pick(asked, order))
    for _ in range(most):
        if _done(asked, lacking):
            return change
        rows = list(pick(asked, lacking / scale)) if fixed is None else fixed
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


def crossing(asked: Problem, change: FloatArray) -> Rows:
    """The rows that a change carries furthest, as many as are needed."""
    used = asked.used
    moved = np.bincount(asked.column_of[used], weights=change[used], minlength=asked.counts.size)
    norms = np.sqrt((asked.forms**2 * asked.counts).sum(axis=1)) + 1e-300
    return pick(asked, (asked.margins - asked.forms @ moved) / norms)


def fewest(
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
