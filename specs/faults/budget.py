"""What a budget of faults comes to: by how much constants move, and the worst ``k`` of many.

For a linear form ``a`` over a node's tensor, word ``p`` gains at most ``c_p(j)`` when ``j`` of its
bits fail: the largest of ``step * g``, where ``step`` is a move of the constants that the word
stands for and ``g = sum of a_t x_s`` over the products ``(t, s)`` that it takes part in, all of
them added up before anything is maximised.  ``k`` faults then gain at most the largest sum of
``c_p(j_p)`` with ``sum of j_p <= k``.  The gains of one word do not add up from those of single
bits: two exponent bits of a float gain more than any ten others.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.enclosure import FloatArray
from specs.errors import QuestionError
from specs.faults.placed import at_place
from specs.faults.reach import Hull
from specs.reader import rounding
from specs.reader.parameters import Place

Numbers = npt.NDArray[Any]


def moves(place: Place, values: FloatArray, hull: Hull) -> tuple[FloatArray, FloatArray]:
    """How far the constants of a place move when entries become any number of their hulls.

    Args:
        place: where a parameter stands.
        values: ``(size,)`` its stored values.
        hull: of every entry; one that a model does not expose has its value for both ends.

    Returns:
        ``(n,)`` at most and at least the smallest and the largest of new less old constants; 0
        where no entry stands, infinite where the hull holds values without a real constant.
    """
    held = np.flatnonzero(place.entries >= 0)
    entries = place.entries[held]
    old, _ = at_place(place, held, values[entries])
    lower, upper = np.zeros(place.entries.size), np.zeros(place.entries.size)
    ends = []
    # A constant is monotone in its entry: linear, or an inverse root on its domain.
    for end in (hull.lower, hull.upper):
        new, defined = at_place(place, held, end[entries])
        step = rounding.subtract(new, old)
        width = 0.0 if step.radius is None else step.radius
        low = np.where(width == 0.0, step.value, np.nextafter(step.value - width, -np.inf))
        high = np.where(width == 0.0, step.value, np.nextafter(step.value + width, np.inf))
        ends.append((np.where(defined, low, -np.inf), np.where(defined, high, np.inf)))
    same = hull.lower[entries] == hull.upper[entries]
    lower[held] = np.where(same, 0.0, np.minimum(ends[0][0], ends[1][0]))
    upper[held] = np.where(same, 0.0, np.maximum(ends[0][1], ends[1][1]))
    return lower, upper


def worst(gains: Numbers, add: Callable[[Numbers, Numbers], Numbers] = operator.add) -> Numbers:
    """The largest total gain of at most ``k`` faults, spread over words in any way.

    Exact where ``add`` is; an upper bound where it rounds up.

    Args:
        gains: ``(k, R, n)``: row by row, what at most ``1, 2, ..., k`` faults in each of ``n``
            words gain; floats or Python integers, none NaN.
        add: addition of arrays.

    Returns:
        ``(R,)``, at least 0: no fault has to strike.

    Raises:
        QuestionError: the gains are not of that shape, or one is NaN.
    """
    found: Numbers = totals(gains, add)[-1]
    return found


def totals(
    gains: Numbers, add: Callable[[Numbers, Numbers], Numbers] = operator.add, limit: int = 0
) -> Numbers:
    """As :func:`worst`, of at most ``0, 1, ..., k`` faults: ``(k + 1, R)``.

    With a ``limit``, each word fails once or not at all, gains are ``(1, R, n)``, and ``k`` is
    the limit.
    """
    if limit and gains.shape[:1] != (1,):
        raise QuestionError(f"gains of shape {gains.shape}, and words that fail once")
    if gains.ndim != 3 or not len(gains):
        raise QuestionError(f"gains of shape {gains.shape}")
    if np.any(gains != gains):
        raise QuestionError("a gain is no number")
    k, rows, words = gains.shape
    if limit:
        return _best(gains[0], add, limit)
    total = np.zeros((k + 1, rows), dtype=gains.dtype)
    if not words:
        return total
    if k == 1:
        total[1] = np.maximum(gains[0].max(axis=1), 0)
        return total
    # At most k words are struck.  One with j faults that is not among the k best for j faults
    # can be exchanged for one that is, and that is not struck: so only those matter.
    best = np.broadcast_to(np.arange(words), gains.shape)
    if k < words:
        best = np.argpartition(-gains, k - 1, axis=2)[:, :, :k]
    kept = np.moveaxis(best, 0, 1).reshape(rows, -1)
    order = np.sort(kept, axis=1)
    again = np.zeros(order.shape, dtype=np.bool_)
    again[:, 1:] = order[:, 1:] == order[:, :-1]
    row = np.arange(rows)
    for column in range(order.shape[1]):
        own = np.where(again[:, column], 0, gains[:, row, order[:, column]])
        # More faults first: every word is counted once.
        for budget in range(k, 0, -1):
            for faults in range(1, budget + 1):
                other = add(total[budget - faults], np.maximum(own[faults - 1], 0))
                total[budget] = np.maximum(total[budget], other)
    return total


def _best(gains: Numbers, add: Callable[[Numbers, Numbers], Numbers], limit: int) -> Numbers:
    """Sums of the ``0, 1, ..., limit`` largest gains of rows, none of them negative."""
    rows, words = gains.shape
    total = np.zeros((limit + 1, rows), dtype=gains.dtype)
    kept = np.maximum(gains, 0)
    if limit < words:
        kept = -np.partition(-kept, limit - 1, axis=1)[:, :limit]
    order = -np.sort(-kept, axis=1)
    for number in range(1, limit + 1):
        more = number <= order.shape[1]
        before = total[number - 1]
        total[number] = add(before, order[:, number - 1]) if more else before
    return total


def together(
    first: Numbers, second: Numbers, add: Callable[[Numbers, Numbers], Numbers] = operator.add
) -> Numbers:
    """Totals, ``(k + 1, R)``, of the words of both; none of them is in both."""
    found = np.maximum(first, second)
    for budget in range(1, len(found)):
        for faults in range(1, budget):
            other = add(first[budget - faults], second[faults])
            found[budget] = np.maximum(found[budget], other)
    return found
