"""How far an evaluation may lie from what a perturbed node names, from magnitudes.

``specs.network.Error`` says what the radius is made of; here it is computed, rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proofs.arithmetic import Arithmetic, Interval, Numbers, bounded
from specs.enclosure import FloatArray
from specs.network import Error, Linear, Node


def radius(
    arithmetic: Arithmetic,
    error: Error,
    before: Node,
    magnitude: Numbers,
    read: Sequence[Numbers],
) -> Numbers:
    """At least the largest error of every entry, ``(n,)``.

    Args:
        arithmetic: of the magnitudes.
        error: what it is made of.
        before: the node that defines the tensor before.
        magnitude: of that tensor, finite.
        read: those of the tensors that ``before`` reads, finite.

    Returns:
        Infinities in place of all entries where something may overflow.
    """

    def number(value: float) -> Numbers:
        return arithmetic.lift_up(np.array([value]))

    def times(value: float, numbers: Numbers) -> Numbers:
        return arithmetic.multiply_up(number(value), numbers)

    zero = arithmetic.zeros(magnitude.shape)
    size = magnitude
    if isinstance(before, Linear):
        size = arithmetic.add_up(zero, arithmetic.size(before, read))
        size = arithmetic.add_up(size, arithmetic.lift_up(error.base))
    total = arithmetic.add_up(zero, arithmetic.lift_up(error.floor))
    if error.own:
        total = arithmetic.add_up(total, times(error.own, magnitude))
    if error.spread:
        total = arithmetic.add_up(total, times(error.spread, size))
    if error.peak:
        total = arithmetic.add_up(total, times(error.peak, _largest([magnitude])))
    for other in read if error.lean else ():
        total = arithmetic.add_up(total, times(error.lean, other))
    on_the_way = arithmetic.add_up(size, total)
    if error.reach and read:
        on_the_way = np.maximum(on_the_way, times(error.reach, _largest(read)))
    limit = np.array([min(error.limit, float(np.finfo(np.float64).max))])
    if not np.all(on_the_way <= arithmetic.lift_down(limit)):  # not for NaN either
        return infinite(total)
    return total


def infinite(like: Numbers) -> Numbers:
    """Infinite radii."""
    return np.full(like.shape, np.inf, dtype=like.dtype)


def widened(arithmetic: Arithmetic, interval: Interval, below: Numbers, above: Numbers) -> Interval:
    """Interval propagation through a perturbed node, ``(B, n)``; errors reach so far each way."""
    lower, upper = interval
    finite = bounded((lower, upper), (below, above))
    if finite.all():
        return arithmetic.add_down(lower, -below), arithmetic.add_up(upper, above)
    lower, upper, below, above = (
        np.where(finite, part, 0) for part in (lower, upper, below, above)
    )
    low, high = arithmetic.add_down(lower, -below), arithmetic.add_up(upper, above)
    return np.where(finite, low, -np.inf), np.where(finite, high, np.inf)


def _largest(parts: Sequence[Numbers]) -> Numbers:
    """The largest of all entries, as an array of one."""
    found: FloatArray = np.concatenate([part.reshape(-1) for part in parts])
    return np.asarray(np.max(found), dtype=found.dtype).reshape(1)
