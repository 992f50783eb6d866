"""Vulnerability ranges: how far one activation may move before the prediction changes.

From the fault-free value outwards, intervals of values are shown to be harmless one after the
other: the network behind the activation is evaluated for all values of an interval at once, with
a rigorous bound (``floats``, whose errors hold for any size).  What stops it is halved; so a
certified end comes as near to the true one as the smallest step.  Values at which the prediction
certainly changes are looked for beyond it, which says how much may be missing.

The *searched* range is what estimating methods such as DeepVigor's report: doubling until the
prediction changes, and bisection, in the direction in which the gradient says that the margin
falls, or in both.  They look at single values, and so may pass over others that are harmful.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from specs.enclosure import FloatArray
from specs.linear import IndexArray
from verifier.faults.floats import BoolArray, Floats, Tensor, judged

ENTRIES = 1 << 19
"""Tensor entries that are evaluated at a time."""
ROUNDS = 600
"""Intervals in one direction at most."""
FINE = 2.0**-12
"""The smallest step, relative to how far an end lies from the fault-free value."""
GROWTH = 1.5
"""Of steps after one that was harmless."""
HALVINGS = 24
"""Bisections towards a harmful value."""


@dataclass(frozen=True, eq=False)
class Ranges:
    """Of the ``n`` activations of a tensor at one point.

    Attributes:
        value: ``(n,)`` fault-free, to float64.
        lower, upper: ``(n,)`` every value between them leaves the prediction as it is, and the
            fault-free value, or one within its rounding error, lies there.
        below, above: ``(n,)`` values beyond with which the prediction certainly changes; infinite
            where none was found within the limits.
        searched: ``(n, 2)`` the range that doubling and bisection would report.
        falls: ``(n,)`` the direction in which the margin falls at the fault-free value; 0: none.
        limits: no value outside them was looked at.
    """

    value: FloatArray
    lower: FloatArray
    upper: FloatArray
    below: FloatArray
    above: FloatArray
    searched: FloatArray
    falls: FloatArray
    limits: tuple[float, float]

    @property
    def overstated(self) -> BoolArray:
        """``(n,)`` where the searched range holds a value that certainly changes the prediction."""
        return self._holds_harm(self.searched[:, 0], self.searched[:, 1])

    @property
    def overstated_one_way(self) -> BoolArray:
        """The same, where the search looks only in the direction in which the margin falls."""
        low, high = self.limits
        lower = np.where(self.falls < 0, self.searched[:, 0], low)
        return self._holds_harm(lower, np.where(self.falls > 0, self.searched[:, 1], high))

    def _holds_harm(self, lower: FloatArray, upper: FloatArray) -> BoolArray:
        return np.asarray((self.below > lower) | (self.above < upper))


@dataclass(eq=False)
class _Behind:
    """The network behind one tensor at one point."""

    floats: Floats
    tensors: Mapping[int, Tensor]
    number: int
    label: int

    def judged(self, entry: IndexArray, middle: FloatArray, radius: FloatArray) -> BoolArray:
        """``(2, m)``: the prediction certainly stands, certainly does not, with entries so."""
        base = self.tensors[self.number]
        size = base.value.shape[1]
        after = (self.number, *self.floats.after[self.number])
        widest = max(self.floats.network.sizes[i] for i in after)
        step = max(1, ENTRIES // max(widest, size))
        found = np.zeros((2, entry.size), dtype=np.bool_)
        for start in range(0, entry.size, step):
            part = slice(start, start + step)
            rows = np.arange(entry[part].size)
            value = np.repeat(base.value, rows.size, axis=0)
            error = np.repeat(np.broadcast_to(base.error, base.value.shape), rows.size, axis=0)
            value[rows, entry[part]] = middle[part]
            error[rows, entry[part]] = radius[part]
            known = {**self.tensors, self.number: Tensor(value, error)}
            outputs = self.floats.outputs(known, self.number, sharp=True)
            wide = np.broadcast_to(outputs.value, (rows.size, outputs.value.shape[1]))
            outputs = Tensor(wide, np.broadcast_to(outputs.error, wide.shape))
            found[:, part] = judged(outputs, np.full(rows.size, self.label))
        return found

    def margins(self, entry: IndexArray, value: FloatArray) -> FloatArray:
        """``(m,)``: by how much the label exceeds the others, to float64."""
        if not entry.size:
            return np.zeros(0)
        base = self.tensors[self.number]
        rows = np.repeat(base.value, entry.size, axis=0)
        rows[np.arange(entry.size), entry] = value
        known = {**self.tensors, self.number: Tensor(rows, np.zeros((entry.size, 1)))}
        outputs = self.floats.outputs(known, self.number).value
        outputs = np.broadcast_to(outputs, (entry.size, outputs.shape[1])).copy()
        own = outputs[:, self.label].copy()
        outputs[:, self.label] = -np.inf
        return np.asarray(own - outputs.max(axis=1))


def vulnerability_ranges(
    floats: Floats,
    tensors: Mapping[int, Tensor],
    number: int,
    label: int,
    limits: tuple[float, float],
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Ranges:
    """The ranges of all entries of a tensor.

    Args:
        floats: the evaluator.
        tensors: the fault-free ones, at one point.
        number: of the tensor.
        label: the prediction; it certainly stands without faults.
        limits: no value outside them is looked at.
        tick: called with how many ends are settled, of how many.
    """
    behind = _Behind(floats, tensors, number, label)
    value = tensors[number].value[0].copy()
    size = value.size
    entry = np.tile(np.arange(size), 2)
    sign = np.repeat([-1.0, 1.0], size)
    cap = np.repeat(limits, size)
    start = np.tile(value, 2)
    unit = max(float(np.abs(value).max(initial=0.0)), 2.0**-20)
    ends = _certified(behind, entry, sign, cap, start, unit, tick)
    harmful = _harmful(behind, entry, sign, cap, start, ends, unit)
    searched = _searched(behind, entry, sign, cap, start, unit).reshape(2, size).T
    halves = (ends[:size], ends[size:], harmful[:size], harmful[size:])
    return Ranges(value, *halves, searched, _falls(behind, value, unit), limits)


def _certified(
    behind: _Behind,
    entry: IndexArray,
    sign: FloatArray,
    cap: FloatArray,
    start: FloatArray,
    unit: float,
    tick: Callable[[int, int], None],
) -> FloatArray:
    """How far each entry may go in its direction."""
    ends, step = start.copy(), np.full(start.size, unit / 4)
    beyond = (cap - start) * sign <= 0
    active = np.flatnonzero(~beyond)
    for _ in range(ROUNDS):
        if not active.size:
            break
        tick(start.size - active.size, start.size)
        own, limit = ends[active], cap[active]
        goal = own + sign[active] * step[active]
        goal = np.where(sign[active] > 0, np.minimum(goal, limit), np.maximum(goal, limit))
        middle = 0.5 * own + 0.5 * goal
        radius = np.nextafter(np.maximum(np.abs(goal - middle), np.abs(own - middle)), np.inf)
        good = behind.judged(entry[active], middle, radius)[0]
        ends[active[good]] = goal[good]
        step[active[good]] *= GROWTH
        step[active[~good]] *= 0.5
        reach = np.maximum(np.abs(ends[active] - start[active]), unit * FINE)
        left = (goal != limit) | ~good
        active = active[left & (step[active] > reach * FINE)]
    return ends


def _harmful(
    behind: _Behind,
    entry: IndexArray,
    sign: FloatArray,
    cap: FloatArray,
    start: FloatArray,
    ends: FloatArray,
    unit: float,
) -> FloatArray:
    """A value beyond each end with which the prediction certainly changes; infinite: none found."""
    found = sign * np.inf
    step = np.maximum(np.abs(ends - start), unit * FINE) * FINE
    good_to = ends.copy()
    active = np.flatnonzero((cap - ends) * sign > 0)
    while active.size:
        goal = ends[active] + sign[active] * step[active]
        past = (goal - cap[active]) * sign[active] >= 0
        goal = np.where(past, cap[active], goal)
        wrong = behind.judged(entry[active], goal, np.zeros(goal.size))[1]
        found[active[wrong]] = goal[wrong]
        good_to[active[~wrong]] = goal[~wrong]
        active = active[~wrong & ~past]
        step[active] *= 2.0
    active = np.flatnonzero(np.isfinite(found))
    for _ in range(HALVINGS):
        if not active.size:
            break
        middle = 0.5 * good_to[active] + 0.5 * found[active]
        wrong = behind.judged(entry[active], middle, np.zeros(middle.size))[1]
        found[active[wrong]] = middle[wrong]
        good_to[active[~wrong]] = middle[~wrong]
    return found


def _searched(
    behind: _Behind,
    entry: IndexArray,
    sign: FloatArray,
    cap: FloatArray,
    start: FloatArray,
    unit: float,
) -> FloatArray:
    """How far doubling and bisection of single values would let each entry go."""
    kept, changed = start.copy(), np.full(start.size, np.nan)
    step = np.full(start.size, unit / 4)
    active = np.flatnonzero((cap - start) * sign > 0)
    while active.size:
        goal = start[active] + sign[active] * step[active]
        past = (goal - cap[active]) * sign[active] >= 0
        goal = np.where(past, cap[active], goal)
        stands = behind.margins(entry[active], goal) > 0
        kept[active[stands]] = goal[stands]
        changed[active[~stands]] = goal[~stands]
        active = active[stands & ~past]
        step[active] *= 2.0
    active = np.flatnonzero(np.isfinite(changed))
    for _ in range(HALVINGS):
        middle = 0.5 * kept[active] + 0.5 * changed[active]
        stands = behind.margins(entry[active], middle) > 0
        kept[active[stands]] = middle[stands]
        changed[active[~stands]] = middle[~stands]
    return np.where(np.isnan(changed), cap, kept)


def _falls(behind: _Behind, value: FloatArray, unit: float) -> FloatArray:
    """``(n,)``: the direction in which the margin falls at the fault-free value; 0: neither."""
    entry, small = np.arange(value.size), unit * 2.0**-10
    fall = behind.margins(entry, value - small) - behind.margins(entry, value + small)
    return np.sign(fall)
