"""Finding the symmetry that makes a suspect most like the owner's network.

Layer by layer, units are paired so that the sum of their distances is least (an assignment
problem), and their factors estimated.  A unit's distance counts the directions of the weights
that lead to it and, once all layers have been paired, of those that lead from it; the latter
decide among units that nothing leads to.  What is found are hints for
``proofs.watermarks.symmetry``, which compares exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from proofs.watermarks.evidence import HOLDS, MarkEvidence
from proofs.watermarks.symmetry import Symmetry, factors_of
from specs.enclosure import FloatArray
from specs.errors import QuestionError
from specs.linear import IndexArray
from specs.watermarks.chain import FIXED, SIGNED, Chain, differing
from specs.watermarks.key import BoolArray
from verifier.watermarks.folded_chain import Folded, fold

ROUNDS = 8
"""Passes over the layers, at most."""
SURE, CERTAIN = 0.5, 0.99
"""Between these lie the cosines from which on weights say something about a factor."""
EQUAL = 1.0 - 2.0**-24
"""Cosines from which on weights are proportional, up to rounding."""
DEAD = 2.0**-10
"""Weights so small beside those of the usual unit say nothing."""
NEAR = 2.0**-18
"""Factors that are so near to a power of two are taken to be it."""


@dataclass(frozen=True, eq=False)
class Matched:
    """The symmetry that was found.

    Attributes:
        orders: for each layer but the last ``(units,)``: the owner's unit for each of the suspect.
        factors: likewise: what the owner's unit is multiplied by.
        alike: likewise ``(units,)``: the cosine between both units' incoming weights and biases.
    """

    orders: tuple[IndexArray, ...]
    factors: tuple[FloatArray, ...]
    alike: tuple[FloatArray, ...]

    @property
    def symmetry(self) -> Symmetry:
        """For the kernel."""
        return Symmetry(self.orders, tuple(factors_of(own.tolist()) for own in self.factors))

    @property
    def trivial(self) -> bool:
        """Nothing is permuted or scaled."""
        still = all(np.array_equal(own, np.arange(own.size)) for own in self.orders)
        return still and all(np.all(own == 1.0) for own in self.factors)

    def evidence(self, question: str) -> MarkEvidence:
        """Hints for a claim with this digest."""
        arrays = {}
        if self.orders:
            arrays["order"] = np.concatenate(self.orders).astype(np.int64)
            arrays["factor"] = np.concatenate(self.factors)
        return MarkEvidence(question, HOLDS, arrays)


def match(owner: Chain, suspect: Chain) -> Matched:
    """The symmetry that makes two chains most alike.

    Raises:
        QuestionError: they are not of the same structure.
    """
    found = differing(owner, suspect)
    if found is not None:
        raise QuestionError(f"no symmetry can make these networks one: {found}")
    return _Search(fold(owner), fold(suspect)).run()


class _Search:
    """What is known of the symmetry so far."""

    def __init__(self, ours: list[Folded], theirs: list[Folded]) -> None:
        self.ours = ours
        self.theirs = theirs
        self.orders = [np.arange(layer.units) for layer in ours[:-1]]
        self.factors = [np.ones(layer.units) for layer in ours[:-1]]
        self.alike = [np.ones(layer.units) for layer in ours[:-1]]
        self.weak = [np.zeros(layer.units, dtype=np.bool_) for layer in ours[:-1]]
        """Units of the suspect whose incoming weights say nothing about their factors."""

    def run(self) -> Matched:
        """Go over the layers until nothing changes."""
        for turn in range(ROUNDS):
            before = [order.copy() for order in self.orders]
            for place in range(len(self.orders)):
                self._pair(place, turn)
            for place in reversed(range(len(self.orders))):
                self._weak_factors(place)
            same = zip(before, self.orders, strict=True)
            if turn > 1 and all(np.array_equal(a, b) for a, b in same):
                break
        return Matched(tuple(self.orders), tuple(self.factors), tuple(self.alike))

    def _pair(self, place: int, turn: int) -> None:
        layer = self.ours[place].layer
        into, other = self._into(place)
        likeness = _cosines(other, into)
        if turn:
            away, there = self._away(place)
            outgoing = _cosines(there, away)
            likeness = likeness + outgoing
            if layer.factors == SIGNED:
                likeness = np.abs(likeness - outgoing) + np.abs(outgoing)
        elif layer.factors == SIGNED:
            likeness = np.abs(likeness)
        order = np.asarray(linear_sum_assignment(-likeness)[1])
        self.orders[place] = order
        self.factors[place] = _factors(other, into[order], layer.factors)
        self.alike[place] = _cosines(other, into)[np.arange(layer.units), order]
        silent = ~self.ours[place].heard[order] | ~self.theirs[place].heard
        dead = _dead(np.linalg.norm(into, axis=1))[order]
        alike = np.abs(self.alike[place])
        self.weak[place] = silent | ((dead | (alike < _sure(into.shape[1]))) & (alike < EQUAL))

    def _into(self, place: int) -> tuple[FloatArray, FloatArray]:
        """Incoming weights and biases as rows, the owner's and the suspect's, in the same order.

        What comes from weak units is left out: their factors are not known well.
        """
        own, other = self.ours[place], self.theirs[place]
        weight, held = own.weight, other.weight
        if place:
            weight = weight[:, self.orders[place - 1]]
            held = held * self.factors[place - 1][None, :, None]
            kept = ~self.weak[place - 1][None, :, None]
            weight, held = weight * kept, held * kept
        rows = [
            np.concatenate([w.reshape(own.units, -1), b[:, None]], axis=1)
            for w, b in ((weight, own.bias), (held, other.bias))
        ]
        return rows[0], rows[1]

    def _away(self, place: int) -> tuple[FloatArray, FloatArray]:
        """Outgoing weights as rows; those of each unit of the next layer weigh alike."""
        weight = self.ours[place + 1].weight
        held = self.theirs[place + 1].weight * self.factors[place][None, :, None]
        if place + 1 < len(self.orders):
            weight = weight[self.orders[place + 1]]
        rows = []
        weak = np.empty_like(self.weak[place])
        weak[self.orders[place]] = self.weak[place]
        for each, vague in ((weight, weak), (held, self.weak[place])):
            # The factors of the next layer's units are not known well: they are taken out.
            size = np.linalg.norm((each * ~vague[None, :, None]).reshape(len(each), -1), axis=1)
            scaled = each / np.where(size > 0, size, 1.0)[:, None, None]
            rows.append(scaled.transpose(1, 0, 2).reshape(each.shape[1], -1))
        return rows[0], rows[1]

    def _weak_factors(self, place: int) -> None:
        """Factors of weak units, from what leads from them.

        Of units that nothing is known of (dead ones after fine-tuning), incoming and outgoing
        weights get the proportion that they have in other units.
        """
        weak = self.weak[place]
        if self.ours[place].layer.factors in (FIXED, SIGNED) or not weak.any():
            return
        weight = self.ours[place + 1].weight[:, self.orders[place]]
        held = self.theirs[place + 1].weight
        if place + 1 < len(self.orders):
            weight = weight[self.orders[place + 1]]
            held = held / self.factors[place + 1][:, None, None]
        inner = np.einsum("ijk,ijk->j", held, weight)
        size, out = np.einsum("ijk,ijk->j", held, held), np.sqrt(np.einsum("ijk->j", weight**2))
        sent = np.sqrt(size)
        found = self.factors[place].copy()
        least = np.where(_dead(out), EQUAL, _sure(held.shape[0] * held.shape[2]))
        sure = weak & (inner > 0) & (inner >= least * sent * out)
        found[sure] = neat(inner[sure] / size[sure])
        heard = np.linalg.norm(self._into(place)[1], axis=1)
        known = ~weak & (heard > 0) & (sent > 0)
        if known.any():
            usual = float(np.median(heard[known] / (sent[known] * found[known] ** 2)))
            vague = weak & ~sure & (heard > 0) & (sent > 0)
            found[vague] = neat(np.sqrt(heard[vague] / (sent[vague] * usual)))
        self.factors[place] = found


def _sure(size: int) -> float:
    """A cosine that rows of so many random numbers hardly reach."""
    return min(max(SURE, 3.0 / math.sqrt(size)), CERTAIN)


def _dead(sizes: FloatArray) -> BoolArray:
    """Which norms are nothing beside the usual one."""
    found: BoolArray = sizes < DEAD * float(np.median(sizes))
    return found


def _cosines(one: FloatArray, other: FloatArray) -> FloatArray:
    """``(n, n)``; of two rows of zeros 1."""
    sizes = [np.linalg.norm(rows, axis=1) for rows in (one, other)]
    scaled = [
        rows / np.where(size > 0, size, 1.0)[:, None]
        for rows, size in zip((one, other), sizes, strict=True)
    ]
    found: FloatArray = scaled[0] @ scaled[1].T
    found[np.ix_(sizes[0] == 0, sizes[1] == 0)] = 1.0
    return found


def _factors(held: FloatArray, own: FloatArray, kind: str) -> FloatArray:
    """What rows are multiplied by: the most likely ones that the activation lets pass."""
    if kind == FIXED:
        return np.ones(len(own))
    inner = np.einsum("ij,ij->i", held, own)
    if kind == SIGNED:
        return np.where(inner < 0, -1.0, 1.0)
    size = np.einsum("ij,ij->i", own, own)
    ratio = np.ones(len(own))
    usable = (inner > 0) & (size > 0)
    ratio[usable] = inner[usable] / size[usable]
    return neat(ratio)


def neat(ratio: FloatArray) -> FloatArray:
    """Powers of two where they are meant; thieves that want no rounding take them."""
    power = np.ldexp(1.0, np.round(np.log2(ratio)).astype(np.int64))
    return np.where(np.abs(ratio / power - 1.0) < NEAR, power, ratio)
