"""Sets of changes of a tensor: what an attacker may do to the weights that carry a mark.

A change ``d`` is added to the weights ``w``, both ``(N,)``.  Each set bounds what a linear form
and what a diagonal quadratic form come to over its changes.  Bounds are float64 numbers rounded
upward at every step; sums of ``n`` terms that are not negative are off by less than
``n 2**-52`` of the sum, in whatever order they are added up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from specs.decimals import round_up
from specs.enclosure import FloatArray
from specs.errors import QuestionError
from specs.faults.formats import Format, IndexArray, Words
from specs.faults.reach import hull, mask_of

UNIT = 2.0**-52
TINY = 2.0**-900
NORMS = ("linf", "l2", "l1")


class Changes(Protocol):
    """A set of changes, of which no change at all is one.

    Methods take the weights ``(N,)``, on which a set may depend.
    """

    @property
    def words(self) -> str:
        """What the set is, as a reader is told."""
        ...

    def support(self, forms: FloatArray, weights: FloatArray) -> FloatArray:
        """``(r,)``: at least the largest ``a . d``, for every row ``a`` of ``forms`` ``(r, N)``."""
        ...

    def energy(self, inverse: FloatArray, linear: FloatArray, weights: FloatArray) -> float:
        """At least the largest ``sum of d_i ** 2 / inverse_i + 2 linear_i d_i``.

        Args:
            inverse: ``(N,)`` positive; infinite where a weight's square does not count.
            linear: ``(N,)``.
            weights: ``(N,)``.
        """
        ...

    def spikes(self, weights: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """Moves of single weights whose convex hull, 0 included, holds every change.

        Returns:
            ``(N,)`` each, the lowest (at most 0) and the highest (at least 0) move of each weight;
            ``None``: the set is not described like that.
        """
        ...

    def gain(self, up: FloatArray, down: FloatArray, weights: FloatArray) -> float:
        """At least the largest sum of ``up_i d_i`` where ``d_i`` is positive, else ``-down_i d_i``.

        Args:
            up, down: ``(N,)``, not negative.
            weights: ``(N,)``.
        """
        ...

    def contains(self, change: Sequence[Fraction], weights: FloatArray) -> bool:
        """Whether a change ``(N,)`` is one of the set, exactly."""
        ...


def above(values: FloatArray) -> FloatArray:
    """The next larger float64 numbers."""
    return np.nextafter(values, np.inf)


def total(terms: FloatArray) -> FloatArray:
    """At least the sums of rows of terms that are not negative."""
    return above(terms.sum(axis=-1) * (1.0 + (terms.shape[-1] + 4) * UNIT)) + TINY


def norm(forms: FloatArray) -> FloatArray:
    """At least the Euclidean norms of rows, ``TINY`` covering squares that underflow."""
    with np.errstate(over="ignore"):
        return above(np.sqrt(total(forms * forms * (1.0 + 2 * UNIT))))


def _times(x: FloatArray, y: FloatArray | float) -> FloatArray:
    """At least the products; of 0 and infinity, 0."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where((x == 0.0) | (y == 0.0), 0.0, above(x * y))


def _costs(inverse: FloatArray) -> FloatArray:
    """At least the inverses; of infinity, 0."""
    return np.where(np.isinf(inverse), 0.0, above(1.0 / inverse))


def _largest(terms: FloatArray, count: int) -> FloatArray:
    """At least the sums of the ``count`` largest positive terms of each row."""
    kept = np.maximum(terms, 0.0)
    if count < kept.shape[-1]:
        kept = np.partition(kept, kept.shape[-1] - count, axis=-1)[..., -count:]
    return np.where(kept.any(axis=-1), total(kept), 0.0)


def best_flips(gains: FloatArray, count: int) -> float:
    """At least the largest total gain of so many flips, spread over words in any way.

    One flip more in a word is taken to gain as much as any later one in it does; where gains
    diminish, as in integers, that is exact.

    Args:
        gains: ``(k, N)`` what ``1, ..., k`` flips in each word gain at most; more gain no more.
        count: of flips.
    """
    return float(_largest(_diminishing(gains).reshape(-1), count))


def _diminishing(gains: FloatArray) -> FloatArray:
    """``(k, N)`` steps that diminish and add up to at least the gains, clipped at 0."""
    gains = np.maximum(gains, 0.0)
    before = np.concatenate([np.zeros((1, gains.shape[1])), gains[:-1]])
    with np.errstate(invalid="ignore"):
        steps = np.where(gains > before, above(gains - before), 0.0)
    steps[np.isinf(gains)] = np.inf
    return np.asarray(np.maximum.accumulate(steps[::-1])[::-1], dtype=np.float64)


@dataclass(frozen=True)
class Ball:
    """All changes of norm at most ``radius``: fine-tuning, noise, rounding.

    Attributes:
        norm: ``linf``, ``l2`` or ``l1``.
        radius: at least 0.
        relative: of ``l2``: the radius is a multiple of the Euclidean norm of the weights.
    """

    norm: str
    radius: Fraction
    relative: bool = False

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise QuestionError(f"a norm {self.norm!r}; known are {', '.join(NORMS)}")
        if self.radius < 0:
            raise QuestionError(f"a radius of {self.radius}")
        if self.relative and self.norm != "l2":
            raise QuestionError("only a radius of l2 is relative to the norm of the weights")

    @property
    def words(self) -> str:
        of = " of that of the weights" if self.relative else ""
        return f"every change whose {self.norm} norm is at most {self.radius}{of}"

    def length(self, weights: FloatArray) -> float:
        """At least the radius."""
        radius = np.array(round_up(self.radius))
        return float(_times(radius, float(norm(weights)))) if self.relative else float(radius)

    def support(self, forms: FloatArray, weights: FloatArray) -> FloatArray:
        if self.norm == "linf":
            dual = total(np.abs(forms))
        elif self.norm == "l2":
            dual = norm(forms)
        else:
            dual = np.abs(forms).max(axis=1, initial=0.0)
        return _times(dual, self.length(weights))

    def energy(self, inverse: FloatArray, linear: FloatArray, weights: FloatArray) -> float:
        costs = _costs(inverse)
        most = total(costs) if self.norm == "linf" else costs.max(initial=0.0)
        radius = np.array(self.length(weights))
        square = _times(_times(radius, float(radius)), float(most))
        return float(above(square + 2.0 * self.support(linear[None], weights)[0]))

    def spikes(self, weights: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        if self.norm != "l1":
            return None
        ends = np.full(weights.size, self.length(weights))
        return -ends, ends

    def gain(self, up: FloatArray, down: FloatArray, weights: FloatArray) -> float:
        return float(self.support(np.maximum(up, down)[None], weights)[0])

    def contains(self, change: Sequence[Fraction], weights: FloatArray) -> bool:
        if self.norm == "linf":
            return all(abs(step) <= self.radius for step in change)
        if self.norm == "l1":
            return sum(map(abs, change), Fraction(0)) <= self.radius
        limit = self.radius**2
        if self.relative:
            limit *= sum((Fraction(w) ** 2 for w in weights.tolist()), Fraction(0))
        return sum((step * step for step in change), Fraction(0)) <= limit


def rounded_to_steps(step: Fraction) -> Ball:
    """Rounding to nearest multiples of ``step``: nothing moves by more than half of it."""
    return Ball("linf", step / 2)


@dataclass(frozen=True)
class Pruned:
    """At most ``count`` of the weights, whichever they are, become 0."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise QuestionError(f"{self.count} weights pruned")

    @property
    def words(self) -> str:
        return f"any {self.count} weights set to 0"

    def support(self, forms: FloatArray, weights: FloatArray) -> FloatArray:
        if not self.count:
            return np.zeros(len(forms))
        return _largest(_times(forms, -weights), self.count)

    def energy(self, inverse: FloatArray, linear: FloatArray, weights: FloatArray) -> float:
        if not self.count:
            return 0.0
        squares = _times(_times(weights, weights), _costs(inverse))
        return float(_largest(above(squares + _times(-2.0 * linear, weights)), self.count))

    def spikes(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        most = _times(np.abs(weights), float(self.count))
        return np.where(weights > 0.0, -most, 0.0), np.where(weights < 0.0, most, 0.0)

    def gain(self, up: FloatArray, down: FloatArray, weights: FloatArray) -> float:
        if not self.count:
            return 0.0
        worth = _times(np.where(weights > 0.0, down, up), np.abs(weights))
        return float(_largest(worth, self.count))

    def contains(self, change: Sequence[Fraction], weights: FloatArray) -> bool:
        gone = [(d, w) for d, w in zip(change, weights.tolist(), strict=True) if d]
        return len(gone) <= self.count and all(d == -Fraction(w) for d, w in gone)


@dataclass(frozen=True, eq=False)
class Flips:
    """At most ``count`` stored bits of the tensor are inverted.

    A word that becomes Inf or NaN is set apart, as with hardware faults: that it is noticed is
    an assumption, and nothing is said of it.

    Attributes:
        count: at least 1.
        format: of the words; the weights are numbers of it.
        channel: ``(N,)`` of every weight, for formats with several scales.
        bits: positions in a word that may be inverted; ``None``: all.
    """

    count: int
    format: Format
    channel: IndexArray
    bits: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise QuestionError(f"{self.count} flips")
        mask_of(self.bits, self.format)

    @property
    def words(self) -> str:
        where = "" if self.bits is None else f" at bits {list(self.bits)}"
        return f"any {self.count} stored bits of {self.format.name} inverted{where}"

    def stored(self, weights: FloatArray) -> Words:
        """The words of the weights.

        Raises:
            QuestionError: a weight is not a number of the format.
        """
        if self.channel.shape != weights.shape:
            raise QuestionError(f"{weights.size} weights, and {self.channel.size} channels given")
        words = self.format.encode(weights, self.channel)
        if not np.array_equal(self.format.decode(words, self.channel)[0], weights):
            raise QuestionError(f"the weights are not numbers of {self.format.name}")
        return words

    def moves(self, weights: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
        """How far each weight moves down and up when ``1, 2, ...`` of its bits flip.

        Up to ``count``, or to the length of a word.
        """
        words = self.stored(weights)
        changeable = np.full(words.shape, mask_of(self.bits, self.format), dtype=np.uint32)
        found = []
        for flips in range(1, min(self.count, self.format.bits) + 1):
            reached = hull(self.format, words, changeable, flips, self.channel)
            down = np.nextafter(reached.lower - weights, -np.inf)
            top = above(reached.upper - weights)
            still = (reached.lower == weights, reached.upper == weights)
            found.append((np.where(still[0], 0.0, down), np.where(still[1], 0.0, top)))
        return found

    def support(self, forms: FloatArray, weights: FloatArray) -> FloatArray:
        moves = self.moves(weights)
        falls = _diminishing(np.stack([-down for down, _ in moves]))
        rises = _diminishing(np.stack([top for _, top in moves]))
        found = np.zeros(len(forms))
        for row, form in enumerate(forms):
            worth = _times(np.abs(form), np.where(form > 0.0, rises, falls))
            found[row] = _largest(worth.reshape(-1), self.count)
        return found

    def energy(self, inverse: FloatArray, linear: FloatArray, weights: FloatArray) -> float:
        costs = _costs(inverse)

        def gain(step: FloatArray) -> FloatArray:
            return above(_times(_times(step, step), costs) + _times(2.0 * linear, step))

        return self._worst(weights, gain)

    def gain(self, up: FloatArray, down: FloatArray, weights: FloatArray) -> float:
        def gain(step: FloatArray) -> FloatArray:
            return _times(np.where(step > 0.0, up, down), np.abs(step))

        return self._worst(weights, gain)

    def _worst(self, weights: FloatArray, gain: Callable[[FloatArray], FloatArray]) -> float:
        moves = self.moves(weights)
        return best_flips(np.stack([np.maximum(gain(x), gain(y)) for x, y in moves]), self.count)

    def spikes(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        down, top = self.moves(weights)[-1]
        # k moves, each of one word, are the mean of k times each of them.
        return -_times(-down, float(self.count)), _times(top, float(self.count))

    def contains(self, change: Sequence[Fraction], weights: FloatArray) -> bool:
        words, spent = self.stored(weights), 0
        struck = [place for place, step in enumerate(change) if step]
        if len(struck) > self.count:
            return False
        for place in struck:
            value = Fraction(float(weights[place])) + change[place]
            number = float(value)
            at = slice(place, place + 1)
            if not math.isfinite(number) or Fraction(number) != value:
                return False
            channel = self.channel[at]
            try:
                word = self.format.encode(np.array([number]), channel)
            except QuestionError:  # beyond the format
                return False
            if float(self.format.decode(word, channel)[0][0]) != number:
                return False
            changed = int(word[0]) ^ int(words[place])
            if changed & ~mask_of(self.bits, self.format):
                return False
            spent += changed.bit_count()
        return spent <= self.count
