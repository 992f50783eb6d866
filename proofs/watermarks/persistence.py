"""No change of a set meets demands on the bits of linear marks: the rules, in exact arithmetic.

A change ``d`` moves the form of bit ``j`` by ``u_j = B_j d``.  Row ``j`` *crosses* if its bit then
is the one demanded: with ``s_j`` the sign that this asks for, ``s_j u_j`` must reach a margin
``m_j``, which is what the form lacks now.  A demand is met only if at least ``k`` rows cross.

*Each bit.*  A row whose margin exceeds the largest ``s_j B_j d`` of the set cannot cross.

*Prices.*  With a price ``l_j >= 0`` for each row, ``k`` rows that cross take at least the ``k``
least ``l_j m_j``; and a weight that moves by ``d_i`` pays no more than ``d_i`` times the ``k``
largest positive ``l_j s_j B_ji`` if it rises, and likewise if it falls.

*All bits.*  ``sum of w_j u_j ** 2 + 2 g_j u_j`` has an upper bound over all changes of the set.  It
also has a lower bound over all ``u`` that meet the demands: a sum over rows, each of which either
crosses or does not, and at least ``k`` must.  If the lower bound is larger, no change is left.
The upper bound is one of two:

* the form is convex in ``d``: over a hull of moves of single weights it is largest at one of them;
* for a positive diagonal ``P`` with ``P - B' W B`` positive semidefinite (equivalently, by Schur
  complements, ``diag(1/w) - G`` with ``G = B P^-1 B'``) and any ``v``, expanding the square of
  ``d - P^-1 B' v`` in that matrix gives ``d' P d >= sum of w_j u_j ** 2 + 2 g_j u_j - y' g`` with
  ``y = G v`` and ``g = v - W y``; and a set knows what ``d' P d + 2 (B' tilt) d`` comes to.

Hints are prices, ``w``, ``v``, ``P`` and ``tilt``.  They are rounded to short numbers first, and
``1/w`` is raised until the matrix is positive semidefinite, so that the rules hold for all hints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from proofs.watermarks.definite import exceeding
from proofs.watermarks.signs import Dyadics, dyadics, products
from proofs.watermarks.sums import combined, gram, moderate, short
from specs.enclosure import FloatArray
from specs.errors import EvidenceError
from specs.watermarks.changes import Changes, above
from specs.watermarks.key import BoolArray
from specs.watermarks.rows import Demand, Rows, spread

BLOCK = 1 << 22
"""Entries of rows that are spread out at a time."""

INVERSE_BITS, WEIGHT_BITS, SLOPE_BITS = 12, 10, 20
"""To which hints are rounded."""

FINER = 32
"""Bits of widths below the unit of ``G``."""

Tick = Callable[[], None]


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """Hints for a diagonal form above the squares of the moves; all finite.

    Attributes:
        widths: ``(n,)`` positive, ``1/w``.
        centre: ``(n,)`` ``v``.
        inverse: ``(N,)`` positive, ``1/P``.  Empty: ones.
        tilt: ``(n,)``, or empty: zeros.
    """

    widths: FloatArray
    centre: FloatArray
    inverse: FloatArray
    tilt: FloatArray


@dataclass(frozen=True, eq=False)
class Corners:
    """Hints for a convex form at the ends of moves of single weights; all finite.

    Attributes:
        weights: ``(n,)`` at least 0, ``w``.
        slopes: ``(n,)`` ``g``; taken to be 0 where ``w`` is.
    """

    weights: FloatArray
    slopes: FloatArray


@dataclass(frozen=True)
class Shown:
    """Whether it was shown that no change meets the demands, and by which rule."""

    holds: bool
    reason: str


@dataclass(frozen=True, eq=False)
class Stacked:
    """All rows of all demands, stacked.

    Attributes:
        rows: of the marks; their weights are the same.
        signs: ``(n,)``.
        margins: what ``s_j u_j`` must reach.
        strict: ``(n,)`` whether it must exceed that.
        least: of each demand, with the places of its rows.
    """

    rows: Rows
    signs: FloatArray
    margins: tuple[Fraction, ...]
    strict: BoolArray
    least: tuple[tuple[int, range], ...]


def forms_at(rows: Rows, values: FloatArray) -> list[Fraction]:
    """``(n,)``: ``B w`` exactly.

    Args:
        values: ``(N,)`` finite.
    """
    held = dyadics(values)
    sums = [0] * (rows.columns.shape[1] + 1)
    for column, whole in zip(rows.column_of.tolist(), held.whole, strict=True):
        sums[column] += whole  # -1: the last, which nothing multiplies
    unit = Fraction(2) ** held.exponent
    return [
        total * unit for total in products(rows.columns, Dyadics(tuple(sums[:-1]), held.exponent))
    ]


def met(demand: Demand, values: Sequence[Fraction]) -> int:
    """How many bits are as demanded when the forms have these values."""
    return sum((x > 0) == bool(b) for x, b in zip(values, demand.bits.tolist(), strict=True))


def refuted(
    demands: Sequence[Demand],
    sets: Sequence[Changes],
    weights: FloatArray,
    change: FloatArray,
) -> Shown:
    """Whether a change ``(N,)`` is in all sets and meets all demands; exactly."""
    steps = [Fraction(step) for step in change.tolist()]
    for each in sets:
        if not each.contains(steps, weights):
            return Shown(False, f"the change is none of {each.words}")
    counts = []
    for demand in demands:
        before, moved = forms_at(demand.rows, weights), forms_at(demand.rows, change)
        count = met(demand, [x + y for x, y in zip(before, moved, strict=True)])
        counts.append(f"{count} of {demand.rows.bits}")
        if count < demand.least:
            return Shown(False, f"the change leads to {counts[-1]} bits, not {demand.least}")
    return Shown(True, f"a change leads to {' and '.join(counts)} bits")


def proved(
    demands: Sequence[Demand],
    sets: Sequence[Changes],
    weights: FloatArray,
    ellipsoid: Ellipsoid | None = None,
    corners: Corners | None = None,
    prices: FloatArray | None = None,
    tick: Tick = lambda: None,
) -> Shown:
    """Whether it is shown that no change that is in all sets meets all demands.

    Args:
        demands: on marks of the same weights.
        sets: one at least.
        weights: ``(N,)`` finite.
        ellipsoid, corners: hints.
        prices: ``(n,)`` at least 0; a hint.
        tick: called now and then.

    Raises:
        EvidenceError: hints are of the wrong size, not finite, or beyond ``MODERATE``.
    """
    stacked = stack(demands, weights)
    possible = _possible(stacked, sets, weights, tick)
    for least, places in stacked.least:
        able = sum(possible[place] for place in places)
        if able < least:
            return Shown(True, f"at most {able} of {len(places)} bits can change as demanded")
    if prices is not None:
        paid, needed = _paid(stacked, sets, weights, prices, possible)
        if paid < needed:
            return Shown(True, "no allowed change pays the price that the demands take")
    if ellipsoid is not None:
        upper, w, h = _above(stacked, sets, weights, ellipsoid, tick)
        if upper is not None and _below(stacked, possible, w, h) > upper:
            return Shown(True, "no allowed change has the energy that the demands take")
    if corners is not None:
        upper, w, h = _at_corners(stacked, sets, weights, corners)
        if upper is not None and _below(stacked, possible, w, h) > upper:
            return Shown(True, "no allowed change moves bits as far as the demands take")
    return Shown(False, "the hints do not show that no allowed change does it")


def stack(demands: Sequence[Demand], weights: FloatArray) -> Stacked:
    """The rows of all demands.

    Raises:
        EvidenceError: they are not of the same weights.
    """
    margins: list[Fraction] = []
    least = []
    for demand in demands:
        if demand.rows.size != weights.size:
            raise EvidenceError(f"rows for {demand.rows.size} of {weights.size} weights")
        values = forms_at(demand.rows, weights)
        least.append((demand.least, range(len(margins), len(margins) + len(values))))
        margins += [-x if bit else x for x, bit in zip(values, demand.bits.tolist(), strict=True)]
    rows = demands[0].rows
    for demand in demands[1:]:
        rows = _both(rows, demand.rows)
    signs = np.concatenate([demand.signs for demand in demands])
    strict = np.concatenate([demand.bits for demand in demands])
    return Stacked(rows, signs, tuple(margins), strict, tuple(least))


def _both(first: Rows, second: Rows) -> Rows:
    """Rows of both, columns being pairs of columns that some weight has."""
    pairs = np.stack([first.column_of, second.column_of])
    kinds, column_of = np.unique(pairs, axis=1, return_inverse=True)
    columns = np.concatenate([spread(first.columns, kinds[0]), spread(second.columns, kinds[1])])
    return Rows(columns, column_of.reshape(-1).astype(np.int64))


def _possible(
    stacked: Stacked, sets: Sequence[Changes], weights: FloatArray, tick: Tick
) -> list[bool]:
    """Which rows may cross, each by itself."""
    found = []
    step = max(1, BLOCK // max(1, weights.size))
    for start in range(0, stacked.signs.size, step):
        tick()
        part = slice(start, start + step)
        forms = spread(stacked.rows.columns[part], stacked.rows.column_of)
        forms = forms * stacked.signs[part, None]
        reach = np.min([each.support(forms, weights) for each in sets], axis=0)
        found += reach.tolist()
    return [
        math.isinf(most) or (Fraction(most) > m if strict else Fraction(most) >= m)
        for most, m, strict in zip(found, stacked.margins, stacked.strict.tolist(), strict=True)
    ]


def _below(
    stacked: Stacked, possible: Sequence[bool], weights: list[Fraction], slopes: list[Fraction]
) -> Fraction:
    """The least ``sum of w_j u_j ** 2 + 2 g_j u_j`` of all moves that meet the demands.

    With ``t = s_j u_j`` a row costs ``w t ** 2 + 2 s_j g_j t``: least at ``a = -s_j g_j / w``, and
    ``w (t - a) ** 2`` more elsewhere.
    """
    free, extra = Fraction(0), []
    for j, (w, g, m) in enumerate(zip(weights, slopes, stacked.margins, strict=True)):
        if not w:
            extra.append(Fraction(0))
            continue
        a = -g / w if stacked.signs[j] > 0 else g / w
        free -= g * g / w
        crossing, staying = w * max(m - a, Fraction(0)) ** 2, w * max(a - m, Fraction(0)) ** 2
        free += staying
        extra.append(crossing - staying)
    for least, places in stacked.least:
        costs = sorted(extra[place] for place in places if possible[place])
        free += sum(costs[:least], Fraction(0))
        free += sum((min(cost, Fraction(0)) for cost in costs[least:]), Fraction(0))
    return free


def _paid(
    stacked: Stacked,
    sets: Sequence[Changes],
    weights: FloatArray,
    prices: FloatArray,
    possible: Sequence[bool],
) -> tuple[Fraction | float, Fraction]:
    """What a change pays at most, and what the demands take at least, at prices of rows."""
    given = moderate("prices", prices, stacked.signs.size)
    if np.any(given < 0.0):
        raise EvidenceError("a price is negative")
    whole, unit = short(given, WEIGHT_BITS)
    columns = stacked.rows.columns
    rise, fall = np.zeros(columns.shape[1]), np.zeros(columns.shape[1])
    needed = Fraction(0)
    for least, places in stacked.least:
        able = np.array([place for place in places if possible[place]])
        worth = columns[able] * (whole * stacked.signs)[able, None]  # whole, below 2**30
        for ends, sign in ((rise, 1.0), (fall, -1.0)):
            kept = np.maximum(sign * worth, 0.0)
            ends += np.partition(kept, len(able) - least, axis=0)[len(able) - least :].sum(axis=0)
        costs = [Fraction(whole[place]) * stacked.margins[place] for place in able.tolist()]
        needed += sum(sorted(costs)[:least], Fraction(0))
    both = spread(np.stack([rise, fall]) * float(unit), stacked.rows.column_of)
    paid = min(each.gain(both[0], both[1], weights) for each in sets)
    return (Fraction(paid) if math.isfinite(paid) else paid), needed * unit


Bound = tuple[Fraction | None, list[Fraction], list[Fraction]]


def _above(
    stacked: Stacked,
    sets: Sequence[Changes],
    weights: FloatArray,
    hints: Ellipsoid,
    tick: Tick,
) -> Bound:
    """An upper bound over all changes, ``None`` if there is none, with ``w`` and ``g``."""
    rows, count = stacked.rows, stacked.signs.size
    widths = moderate("widths", hints.widths, count)
    if np.any(widths <= 0.0):
        raise EvidenceError("a width is not positive")
    inverse, whole_unit = _inverse(hints.inverse, rows)
    products_of, unit = gram(rows, inverse, tick) << FINER, whole_unit / (1 << FINER)
    proposal = [max(1, math.ceil(Fraction(x) / unit)) for x in widths.tolist()]
    tick()
    raised = exceeding(products_of, proposal)
    tick()
    whole, step = short(moderate("centre", hints.centre, count), SLOPE_BITS)
    centre = np.array([int(x) for x in whole.tolist()], dtype=object)
    pushed = products_of.dot(centre)  # y, in units of unit * step
    slopes = [
        step * (v - Fraction(y, top)) for v, y, top in zip(centre, pushed, raised, strict=True)
    ]
    constant = sum((y * g for y, g in zip(pushed.tolist(), slopes, strict=True)), Fraction(0)) * (
        unit * step
    )
    tilt, tilt_step = short(
        moderate("tilt", hints.tilt if hints.tilt.size else np.zeros(count), count), SLOPE_BITS
    )
    linear = combined(tilt, rows.columns)
    energies = []
    spread_inverse = np.where(rows.column_of < 0, np.inf, inverse * float(whole_unit))
    spread_linear = spread(linear[None] * float(tilt_step), rows.column_of)[0]
    for each in sets:
        found = each.energy(spread_inverse, spread_linear, weights)
        if math.isfinite(found):
            energies.append(Fraction(found))
    tilted = [g + Fraction(x) * tilt_step for g, x in zip(slopes, tilt.tolist(), strict=True)]
    w = [1 / (top * unit) for top in raised]
    return (min(energies) + constant if energies else None), w, tilted


def _at_corners(
    stacked: Stacked, sets: Sequence[Changes], weights: FloatArray, hints: Corners
) -> Bound:
    """As :func:`_above`, for sets within hulls of moves of single weights."""
    rows, count = stacked.rows, stacked.signs.size
    given = moderate("corner weights", hints.weights, count)
    if np.any(given < 0.0):
        raise EvidenceError("a weight of corners is negative")
    squares, unit = short(given, WEIGHT_BITS)
    slopes, step = short(moderate("corner slopes", hints.slopes, count), SLOPE_BITS)
    slopes = np.where(squares == 0.0, 0.0, slopes)
    whole = rows.columns.astype(np.int64)
    quadratic = squares.astype(np.int64) @ (whole * whole)  # below 2**62 for 4096 rows
    linear = combined(slopes, rows.columns)
    curve = above(quadratic.astype(np.float64) * float(unit))
    tilt = 2.0 * linear * float(step)
    curve, tilt = spread(np.stack([curve, tilt]), rows.column_of)
    bounds = []
    for each in sets:
        ends = each.spikes(weights)
        if ends is None:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            most = max(
                float(above(above(above(end * end) * curve) + above(end * tilt)).max(initial=0.0))
                for end in ends
            )
        if math.isfinite(most):
            bounds.append(Fraction(most))
    w = [Fraction(x) * unit for x in squares.tolist()]
    g = [Fraction(x) * step for x in slopes.tolist()]
    return (min(bounds) if bounds else None), w, g


def _inverse(given: FloatArray, rows: Rows) -> tuple[FloatArray, Fraction]:
    """``1/P`` for each weight, in whole numbers of at least 1, and their unit."""
    if not given.size:
        return np.ones(rows.size), Fraction(1)
    whole, unit = short(moderate("inverse", given, rows.size), INVERSE_BITS)
    return np.maximum(whole, 1.0), unit
