"""The rule Clip: the unsafe constraints' linear bounds cut the region itself.

A violation in a domain satisfies every constraint of some disjunct, so also the linear
function of the input that bounds the constraint from below: ``a x + c <= 0``.  What is
bounded over the box alone may be bounded over the box and that half-space, by adding a
multiple ``t >= 0`` of the fact (rule Assume).  Here the kernel chooses the multiple, so
that the file need not hold any: for a box end in closed form, for an entry of a first
layer by the breakpoints of its one-dimensional dual (Zhou et al., *Clip-and-Verify*,
2025, do so during the search).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Arithmetic, Numbers
from proofs.domain import Path
from proofs.frame import Affine, Batch, Frame, IndexArray, unstable
from proofs.layers import affine
from proofs.substitution import linearize
from proofs.tables import Substitution
from proofs.unsafe import Group, Unsafe
from specs.enclosure import FloatArray

BLOCK = 1 << 15
"""Coefficients of entries that are bounded at a time: what is made of them stays in cache."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """A pre-activation that is linear in the inputs: its entries, then their negatives.

    Attributes:
        cost: of one rounding of each coefficient, ``(2 n,)``.
        floats, signs: of the coefficients, nearly.
    """

    affine: Affine
    cost: Numbers
    floats: npt.NDArray[np.float32]
    signs: FloatArray


class Clipper:
    """Clips domains in batches.

    Args:
        frame, unsafe: of the cases that are checked.
        tick: called between pieces of work; may raise to stop at a deadline.
    """

    def __init__(self, frame: Frame, unsafe: Unsafe, tick: Callable[[], None]) -> None:
        self._frame, self._unsafe, self._tick = frame, unsafe, tick
        self._arithmetic: Arithmetic = frame.arithmetic
        self._layers: dict[int, _Layer] | None = None

    def clip(
        self, paths: Sequence[Path], hints: Sequence[Substitution | None], batch: Batch
    ) -> None:
        """Improve boxes and first layers of a batch in place.

        Bounds hold for the violations in a domain: those of different disjuncts are
        clipped apart, and the domain keeps the hull of what is left of them.  A disjunct of
        which no box is left has none.  Without hints only boxes are clipped.
        """
        width = batch.lower.shape[1] + sum(len(v.cost) for v in self._first_layers().values())
        for group in self._unsafe.groups(paths, hints, batch, self._room(width)):
            self._tick()
            if not self._frame.passes(group.rows.entries):
                continue
            cuts = linearize(
                self._frame, group.batch, group.relaxations, group.rows, group.stop, self._tick
            )
            hull = _Hull.of(group, paths)
            if not hull.places.size:
                continue
            box = self._box(group, cuts)
            alive = hull.alive(*box)
            some = np.logical_or.reduceat(alive, hull.domains)
            batch.empty = batch.empty.copy()
            batch.empty[hull.places[~some]] = True
            if not some.any():
                continue
            places = hull.places[some]
            own = hints[int(group.places[0])]  # plain ones have groups of their own
            hinted = own is not None and not own.plain
            found = {
                tensor: hull.around(alive, *self._layer(group, cuts, tensor, layer))
                for tensor, layer in (self._first_layers().items() if hinted else ())
            }
            batch.cut(places, *(ends[some] for ends in hull.around(alive, *box)))
            for tensor, ends in found.items():
                lower, upper = (part.copy() for part in batch.bounds[tensor])
                lower[places], upper[places] = (part[some] for part in ends)
                batch.improve(tensor, lower, upper)

    def _room(self, width: int) -> int:
        """How many rows with bounds of their own fit into a temporary array."""
        return max(1, 4 * self._arithmetic.entry_budget // width)

    def _box(self, group: Group, cuts: Affine) -> tuple[FloatArray, FloatArray]:
        """Ends of the box under each cut, ``(R, input_size)``."""
        arithmetic, owner = self._arithmetic, group.rows.owner
        lower, upper = group.batch.lower[owner], group.batch.upper[owner]
        low, high = arithmetic.lift_down(lower), arithmetic.lift_up(upper)
        positive = np.asarray(cuts.matrix > 0, dtype=bool)
        least = arithmetic.multiply_up(cuts.matrix, np.where(positive, low, high))
        # a_i x_i is at most -c - sum of the least values of the other terms
        total = arithmetic.add_down(cuts.constant, arithmetic.box_down(cuts.matrix, low, high))
        most = arithmetic.add_up(-total[:, None], least)
        size = np.abs(cuts.matrix)
        used = np.asarray(size > 0, dtype=bool) & self._finite(cuts)[:, None]
        ratio = arithmetic.divide_up(most, np.where(used, size, arithmetic.lift_up(np.ones(1))))
        end = arithmetic.floats_up(ratio)
        cut_above = used & positive & (end < upper)
        cut_below = used & ~positive & (-end > lower)
        return np.where(cut_below, -end, lower), np.where(cut_above, end, upper)

    def _finite(self, cuts: Affine) -> npt.NDArray[np.bool_]:
        """Rows that say something: a coefficient that overflowed has an infinite price."""
        return np.asarray(np.isfinite(self._arithmetic.floats_down(cuts.constant)), dtype=bool)

    def _layer(
        self, group: Group, cuts: Affine, tensor: int, layer: _Layer
    ) -> tuple[Numbers, Numbers]:
        """Bounds of a first layer's unstable entries under each cut, ``(R, n)``."""
        arithmetic, owner = self._arithmetic, group.rows.owner
        bounds = group.batch.bounds[tensor]
        lower, upper = bounds[0][owner], bounds[1][owner]
        open_ = unstable(self._frame, tensor, (lower, upper)) & self._finite(cuts)[:, None]
        outside = self._corners(group, cuts, layer) > 0
        count = lower.shape[1]
        duals, cost = self._duals(group, cuts), self._cost(cuts.matrix)
        size = max(1, min(arithmetic.entry_budget, BLOCK) // max(1, cuts.matrix.shape[1]))
        for first in (0, count):
            row, entry = np.nonzero(open_ & outside[:, first : first + count])
            for start in range(0, row.size, size):
                self._tick()
                rows, entries = row[start : start + size], entry[start : start + size]
                multiple = duals.best(layer.floats[entries + first], rows)
                found = self._entries(group, cuts, cost, layer, rows, entries + first, multiple)
                if first == 0:
                    held = lower[rows, entries]
                    lower[rows, entries] = np.where(found > held, found, held)
                else:
                    held = upper[rows, entries]
                    upper[rows, entries] = np.where(-found < held, -found, held)
        return lower, upper

    def _corners(self, group: Group, cuts: Affine, layer: _Layer) -> FloatArray:
        """The cut's value where an entry is least in the box, ``(R, 2 n)``.

        Where it is not positive the entry's minimum lies on this side of the cut, and no
        multiple helps; only that is decided here, so plain floats do.
        """
        owner, arithmetic = group.rows.owner, self._arithmetic
        lower, upper = group.batch.lower[owner], group.batch.upper[owner]
        cut = arithmetic.floats_down(cuts.matrix)
        middle = arithmetic.floats_down(cuts.constant)
        middle = middle + (cut * (0.5 * lower + 0.5 * upper)).sum(axis=1)
        swing = (cut * (0.5 * upper - 0.5 * lower)) @ layer.signs.T
        return np.concatenate([middle[:, None] - swing, middle[:, None] + swing], axis=1)

    def _duals(self, group: Group, cuts: Affine) -> Duals:
        owner, arithmetic = group.rows.owner, self._arithmetic
        coefficients, constant = map(arithmetic.floats_down, (cuts.matrix, cuts.constant))
        return Duals.of(coefficients, constant, group.batch.lower[owner], group.batch.upper[owner])

    def _entries(
        self,
        group: Group,
        cuts: Affine,
        cost: Numbers,
        layer: _Layer,
        row: IndexArray,
        entry: IndexArray,
        multiple: FloatArray,
    ) -> Numbers:
        """At most the least of entries ``(P,)`` over their row's box and half-space.

        ``cost``: of one rounding of each coefficient of a cut, ``(R,)``.
        """
        arithmetic, owner = self._arithmetic, group.rows.owner[row]
        times = arithmetic.lift_down(multiple)
        total = arithmetic.accumulate(
            layer.affine.matrix[entry], arithmetic.scale(cuts.matrix[row], times[:, None])
        )
        constant = arithmetic.add_down(
            layer.affine.constant[entry],
            arithmetic.multiply_down(times, cuts.constant[row]),
        )
        price = self._price(layer.cost[entry], arithmetic.multiply_up(times, cost[row]))
        constant = arithmetic.add_down(constant, -price)
        lower = arithmetic.lift_down(group.batch.lower)
        upper = arithmetic.lift_up(group.batch.upper)
        return arithmetic.add_down(constant, arithmetic.box_down(total, lower, upper, owner))

    def _cost(self, rows: Numbers) -> Numbers:
        """What one rounding of each coefficient at the inputs costs, but for what is flat."""
        return self._arithmetic.cost(rows, self._arithmetic.rounding(self._magnitude()))

    def _magnitude(self) -> Numbers:
        inputs = self._frame.network.inputs
        return np.concatenate([self._frame.magnitude(i) for i in inputs])

    def _price(self, entry: Numbers, scaled: Numbers) -> Numbers:
        """What ``entry + t cut`` pays for rounding the product and the sum.

        Args:
            entry: what one rounding of each coefficient of the entry costs.
            scaled: ``t`` times that of the cut: a rounded product is off by at most ``t`` times
                as much, and a rounded sum by at most as much as both of its terms.
        """
        arithmetic = self._arithmetic
        flat = arithmetic.rounding_scalar(self._magnitude())
        costs = arithmetic.add_up(arithmetic.add_up(entry, scaled), scaled)
        return arithmetic.add_up(costs, arithmetic.add_up(flat, flat))

    def _first_layers(self) -> dict[int, _Layer]:
        if self._layers is None:
            found = {tensor: affine(self._frame, tensor) for tensor in self._frame.first_layers}
            self._layers = {tensor: self._made(own) for tensor, own in found.items()}
        return self._layers

    def _made(self, affine: Affine) -> _Layer:
        """A layer of entries and their negatives."""
        floats = self._arithmetic.floats_down(affine.matrix)
        return _Layer(
            affine,
            self._cost(affine.matrix),
            floats.astype(np.float32),
            np.sign(floats[: len(floats) // 2]),
        )


@dataclass(frozen=True, eq=False)
class _Hull:
    """How the rows of a group make up its domains.

    Attributes:
        places: the domains of the batch in which every disjunct has a row.
        rows: their rows, grouped by domain and by disjunct.
        disjuncts, domains: where in ``rows`` a disjunct starts, where in those a domain.
    """

    places: IndexArray
    rows: IndexArray
    disjuncts: IndexArray
    domains: IndexArray

    @staticmethod
    def of(group: Group, paths: Sequence[Path]) -> _Hull:
        """A disjunct without a row is not cut at all, so neither is its domain."""
        owner, disjunct = group.rows.owner, group.disjunct
        starts = np.ones(owner.size, dtype=bool)
        starts[1:] = (owner[1:] != owner[:-1]) | (disjunct[1:] != disjunct[:-1])
        wanted = np.array([len(paths[place].disjuncts) for place in group.places.tolist()])
        found = np.bincount(owner[starts], minlength=len(wanted))
        whole = (found == wanted) & (wanted > 0)
        rows = np.flatnonzero(whole[owner])
        disjuncts = np.flatnonzero(starts[rows])
        first = owner[rows[disjuncts]]
        return _Hull(
            group.places[whole],
            rows,
            disjuncts,
            np.flatnonzero(np.diff(first, prepend=-1)),
        )

    def alive(self, lower: FloatArray, upper: FloatArray) -> npt.NDArray[np.bool_]:
        """The disjuncts whose cuts, given by row, leave some of the box."""
        low, high = self._together(lower, upper)
        return np.asarray((low <= high).all(axis=1), dtype=bool)

    def around(
        self, alive: npt.NDArray[np.bool_], lower: Numbers, upper: Numbers
    ) -> tuple[Numbers, Numbers]:
        """Bounds by row to bounds by domain: all cuts of a disjunct, any disjunct alive.

        Where none is alive they say nothing.
        """
        low, high = self._together(lower, upper)
        low[~alive], high[~alive] = np.inf, -np.inf
        return (
            np.minimum.reduceat(low, self.domains, axis=0),
            np.maximum.reduceat(high, self.domains, axis=0),
        )

    def _together(self, lower: Numbers, upper: Numbers) -> tuple[Numbers, Numbers]:
        """Bounds under all cuts of each disjunct."""
        return (
            np.maximum.reduceat(lower[self.rows], self.disjuncts, axis=0),
            np.minimum.reduceat(upper[self.rows], self.disjuncts, axis=0),
        )


@dataclass(frozen=True, eq=False)
class Duals:
    """The one-dimensional duals of cuts, ``(R, n)``: what is gained by multiples of them.

    ``min (entry + t cut) x + t constant`` over a box is concave and piecewise linear in ``t``:
    it bends where a coefficient changes its sign.  Whatever multiple comes out is sound, so
    this is computed in plain float32.

    Attributes:
        negated: the negatives of the coefficients.
        falls: by how much the slope falls where a coefficient changes its sign, the bits of a
            float32 as an integer.
        last: ``(R,)`` the slope beyond all bends.
    """

    negated: npt.NDArray[np.float32]
    falls: IndexArray
    last: npt.NDArray[np.float32]

    @staticmethod
    def of(cut: FloatArray, constant: FloatArray, lower: FloatArray, upper: FloatArray) -> Duals:
        """Of cuts ``cut x + constant`` over boxes, ``(R, n)``."""
        swing = np.abs(cut) * (0.5 * upper - 0.5 * lower)
        last = constant + (cut * (0.5 * lower + 0.5 * upper)).sum(axis=1) - swing.sum(axis=1)
        falls = (2.0 * swing).astype(np.float32).view(np.int32).astype(np.int64)
        return Duals((-cut).astype(np.float32), falls, last.astype(np.float32))

    def best(self, entry: npt.NDArray[np.float32], row: IndexArray) -> FloatArray:
        """The best ``t >= 0`` for entries ``(P, n)`` and a cut for each of them, ``(P,)``."""
        width = entry.shape[1]
        # Non-negative floats are ordered as their bits are; what bends at t < 0 comes first.
        keys = (entry / self.negated[row]).view(np.int32).astype(np.int64)
        keys <<= 32
        keys |= self.falls[row]
        keys.sort(axis=1)
        falls = keys.astype(np.int32).view(np.float32)
        last = self.last[row]
        # Going back from beyond all bends, the best one is where the slope becomes positive.
        passed = np.count_nonzero(np.cumsum(falls[:, ::-1], axis=1) <= -last[:, None], axis=1)
        place = np.maximum(width - 1 - passed, 0)
        at = (keys[np.arange(len(keys)), place] >> 32).astype(np.int32).view(np.float32)
        found = (passed < width) & (last <= 0) & (at > 0) & np.isfinite(at)
        return np.where(found, at, 0.0).astype(np.float64)
