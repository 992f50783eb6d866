"""How large a change of weights is certain not to remove a linear mark, and hints for proofs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from proofs.watermarks.persistence import Corners, Ellipsoid, Shown, proved
from specs.enclosure import FloatArray
from specs.watermarks.changes import Ball, Changes, Flips, Pruned
from verifier.watermarks.ascent import (
    Best,
    Hints,
    Settings,
    best_corners,
    best_form,
    best_prices,
)
from verifier.watermarks.energies import BallEnergy, MovesEnergy, moves_energy
from verifier.watermarks.problem import Problem

DIGITS = 3
"""Of certified radii."""

Search = Callable[[Problem, MovesEnergy, Settings], Best]


@dataclass(frozen=True, eq=False)
class Certified:
    """The largest budget that the kernel accepted.

    Attributes:
        budget: a radius, or how many weights or bits.
        changes: the set that it makes.
        hints: arrays of the evidence, by their names there.
        reason: the kernel's.
        alone: the budget that is certified bit by bit, without hints.
        shares: ``(n,)`` how far each row crosses where the bound is attained; a good start for
            an attack.
    """

    budget: Fraction
    changes: Changes
    hints: Hints
    reason: str
    alone: Fraction
    shares: FloatArray


def kernel(asked: Problem, changes: Changes, hints: Hints) -> Shown:
    """What the kernel says of hints."""
    none = np.zeros(0)
    ellipsoid = corners = None
    if "widths" in hints:
        names = ("widths", "centre", "inverse", "tilt")
        ellipsoid = Ellipsoid(*(hints.get(name, none) for name in names))
    if "corner_weights" in hints:
        corners = Corners(hints["corner_weights"], hints["corner_slopes"])
    prices = hints.get("prices")
    return proved(asked.demands, [changes], asked.weights, ellipsoid, corners, prices)


def _short(hints: Hints) -> Hints:
    """Hints as float32, in which they are stored; the kernel keeps fewer bits."""
    return {name: values.astype(np.float32).astype(np.float64) for name, values in hints.items()}


def certified_ball(asked: Problem, norm: str, settings: Settings | None = None) -> Certified:
    """The largest certified radius, to three digits, rounded down; 0 where there is none."""
    settings = settings or Settings()
    found = [best_prices(asked, BallEnergy(norm), settings)]
    if norm == "l1":
        ends = np.ones(asked.weights.size)
        found.append(best_corners(asked, (-ends, ends), settings))
    else:
        found.append(best_form(asked, BallEnergy(norm), settings))
    best = max(found, key=lambda each: each.radius)
    best = dataclasses.replace(best, hints=_short(best.hints))
    alone = _accepted(asked, norm, bit_by_bit(asked, norm), {})
    budget, hints = _accepted(asked, norm, best.radius, best.hints), best.hints
    if budget <= alone:
        budget, hints = alone, {}
    changes = Ball(norm, budget)
    reason = kernel(asked, changes, hints).reason
    return Certified(budget, changes, hints, reason, alone, best.shares)


def certified_count(
    asked: Problem,
    of: Callable[[int], Pruned | Flips],
    most: int,
    settings: Settings | None = None,
) -> Certified:
    """The largest certified number of pruned weights, or of flipped bits.

    Args:
        asked: a mark that stands: no change at all does not meet the demands.
        of: makes the set for a number, at least 1.
        most: numbers to look at.
    """
    settings = settings or Settings()
    alone = _largest(lambda count: kernel(asked, of(count), {}).holds, most)
    shown: list[tuple[int, Best]] = []

    def holds(count: int, search: Search) -> bool:
        if count <= alone or (shown and count <= shown[-1][0]):
            return True
        for _, before in shown[-1:]:
            if kernel(asked, of(count), before.hints).holds:
                shown.append((count, before))
                return True
        best = search(asked, moves_energy(of(count), asked.weights), settings)
        best = dataclasses.replace(best, hints=_short(best.hints))
        if kernel(asked, of(count), best.hints).holds:
            shown.append((count, best))
            return True
        return False

    budget = _largest(lambda count: holds(count, best_prices), most)  # few large moves
    if budget < most and holds(budget + 1, best_form):  # many small ones
        budget = _largest(lambda count: holds(count, best_form), most)
    hints: Hints = {}
    shares = np.zeros(asked.margins.size)
    if shown:
        _, best = shown[-1]
        hints, shares = best.hints, best.shares
    changes = of(budget) if budget else Ball("linf", Fraction(0))
    reason = kernel(asked, changes, hints).reason
    return Certified(Fraction(budget), changes, hints, reason, Fraction(alone), shares)


def bit_by_bit(asked: Problem, norm: str) -> float:
    """The radius below which too few bits can change, each by itself; not rounded."""
    forms, counts = asked.forms, asked.counts
    if norm == "linf":
        dual = (np.abs(forms) * counts).sum(axis=1)
    elif norm == "l2":
        dual = np.sqrt((forms**2 * counts).sum(axis=1))
    else:
        dual = np.abs(forms).max(axis=1, initial=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(asked.margins <= 0.0, 0.0, asked.margins / dual)
    return max(
        float(np.sort(needed[places.start : places.stop])[least - 1])
        for least, places in asked.least
    )


def digits_down(value: float, digits: int = DIGITS) -> Fraction:
    """A positive number cut to so many decimal digits."""
    exact = Fraction(value)
    unit = Fraction(10) ** (math.floor(math.log10(value)) - digits + 1)
    return Fraction(math.floor(exact / unit)) * unit


def _accepted(asked: Problem, norm: str, estimate: float, hints: Hints) -> Fraction:
    """The largest radius near an estimate, and below, that the kernel accepts; 0 if none."""
    if not (math.isfinite(estimate) and estimate > 0.0):
        return Fraction(0)
    radius = digits_down(estimate)
    for step in (0, 1, 1, 2, 5, 10, 20, 40):
        radius -= step * Fraction(10) ** (math.floor(math.log10(radius)) - DIGITS + 1)
        if radius <= 0:
            break
        if kernel(asked, Ball(norm, radius), hints).holds:
            return radius
    return Fraction(0)


def _largest(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to ``most`` that holds, if all below it do; 0 if 1 does not."""
    low, high = 0, 1
    while high <= most and holds(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
