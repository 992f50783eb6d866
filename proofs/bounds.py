"""The rule Bound: interval propagation, sweeps, and bounds of chosen neurons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from proofs import layers
from proofs.arithmetic import Interval
from proofs.fields import parts
from proofs.frame import Batch, Frame, IndexArray, Relaxations, Rows, unstable
from proofs.functions import function
from proofs.proof import Side
from proofs.substitution import substitute
from specs.network import Input, Linear


def propagate(
    frame: Frame,
    batch: Batch,
    *,
    refine: Callable[[int], None] | None = None,
    record: bool = False,
    last: int | None = None,
) -> None:
    """Propagate intervals forward and intersect them with the stored bounds.

    Args:
        frame: the case's.
        batch: changed in place.
        refine: called for each pre-activation as soon as its bounds are stored.
        record: take magnitudes from the intervals (for a single domain, a case's root).
        last: tensor at which to stop.
    """
    network, arithmetic = frame.network, frame.arithmetic
    exact = frame.first_layers
    intervals: list[Interval] = []
    for tensor, node in enumerate(network.nodes):
        if isinstance(node, Input):
            columns = frame.box_columns(tensor)
            box = batch.lower[:, columns], batch.upper[:, columns]
            interval = arithmetic.lift_down(box[0]), arithmetic.lift_up(box[1])
        elif isinstance(node, Linear):
            interval = arithmetic.linear_interval(node, [intervals[t.source] for t in node.terms])
            if len(interval[0]) != len(batch.lower):  # a node without terms
                interval = _repeat(interval, len(batch.lower))
        else:
            interval = function(node.function).image(arithmetic, *intervals[node.source])
        if record:
            frame.record(tensor, interval)
        if exact.get(tensor) is False:  # intervals lose what cancels on the way
            batch.improve(tensor, *layers.interval(frame, tensor, batch))
        if tensor in frame.preactivations:
            batch.improve(tensor, *interval)
            if refine is not None:
                refine(tensor)
            interval = batch.bounds[tensor]
            if record:
                frame.record(tensor, interval)
        intervals.append(interval)
        if tensor == last:
            return


def sweep(
    frame: Frame, batch: Batch, *, record: bool = False, tick: Callable[[], None] = lambda: None
) -> None:
    """Bound every unstable neuron anew, layer by layer, with default slopes."""
    relaxations = Relaxations(frame, batch)

    def refine(tensor: int) -> None:
        if tensor in frame.first_layers:
            return
        owner, entry = np.nonzero(
            unstable(frame, tensor, batch.bounds[tensor]) & ~batch.empty[:, None]
        )
        bound_neurons(frame, batch, relaxations, tensor, owner, entry, tuple(Side), tick=tick)

    propagate(frame, batch, refine=refine, record=record)


def bound_neurons(
    frame: Frame,
    batch: Batch,
    relaxations: Relaxations,
    tensor: int,
    owner: IndexArray,
    entry: IndexArray,
    sides: tuple[Side, ...],
    stop: int | None = None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Bound entries of a pre-activation by substituting back, and store what is better."""
    if not owner.size:
        return
    arithmetic = frame.arithmetic
    lower, upper = (part.copy() for part in batch.bounds[tensor])
    for field, lines, place, inside in parts(frame, relaxations, tensor, entry, stop):
        own, count = owner[place], place.size
        for side in sides:
            sign = 1.0 if side is Side.LOWER else -1.0
            start = (np.arange(count), inside, arithmetic.lift_down(np.full(count, sign)))
            rows = Rows(own, arithmetic.zeros((count,)), {tensor: start})
            found = substitute(field, batch, lines, rows, stop, tick)
            if side is Side.LOWER:
                lower[own, entry[place]] = found
            else:
                upper[own, entry[place]] = -found
    batch.improve(tensor, lower, upper)


def _repeat(interval: Interval, count: int) -> Interval:
    return np.repeat(interval[0], count, axis=0), np.repeat(interval[1], count, axis=0)
