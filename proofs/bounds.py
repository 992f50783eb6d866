"""The rule Bound: interval propagation, sweeps, and bounds of chosen neurons."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from proofs import layers
from proofs.arithmetic import Interval, Numbers
from proofs.domains import Mask
from proofs.faulty import reads, spread
from proofs.fields import parts
from proofs.frame import (
    Batch,
    Frame,
    Hints,
    IndexArray,
    Relaxations,
    Rows,
    Stop,
    image,
    shares_of,
    unstable,
)
from proofs.perturbed import widened
from proofs.proof import Side
from proofs.substitution import substitute
from specs.network import Faulty, Input, Linear, Perturbed


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
        elif isinstance(node, Perturbed) and isinstance(node.error, Faulty):
            read = [intervals[source] for source in reads(network, tensor)]
            shares, size = shares_of(frame, batch), network.sizes[tensor]
            errors = spread(arithmetic, node.error, size, shares, read)
            interval = widened(arithmetic, intervals[node.source], *errors)
        elif isinstance(node, Perturbed):
            radius = frame.radius(tensor)
            interval = widened(arithmetic, intervals[node.source], radius, radius)
        else:
            interval = image(arithmetic, node, [intervals[source] for source in node.sources])
        if record:
            frame.record(tensor, interval)
        if exact.get(tensor) is False and frame.passes([tensor]):
            # intervals lose what cancels on the way
            batch.improve(tensor, *layers.interval(frame, tensor, batch))
        if tensor in frame.stored:
            batch.improve(tensor, *interval)
            if refine is not None and tensor in frame.preactivations:
                refine(tensor)
            interval = batch.bounds[tensor]
            if record:
                frame.record(tensor, interval)
        intervals.append(interval)
        if tensor == last:
            return


def sweep(
    frame: Frame,
    batch: Batch,
    *,
    record: bool = False,
    tick: Callable[[], None] = lambda: None,
    hints: Hints | None = None,
    wanted: Callable[[int], Mask] | None = None,
) -> None:
    """Bound every unstable neuron anew, layer by layer.

    Args:
        frame, batch: of the domains; the batch is changed in place.
        record: as in :func:`propagate`.
        tick: called between pieces of work; may raise to stop at a deadline.
        hints: slopes; default ones where left out.
        wanted: which entries of a tensor are bounded anew, ``(B, n)``; the unstable ones where
            left out.
    """
    relaxations = Relaxations(frame, batch, {} if hints is None else hints)

    def refine(tensor: int) -> None:
        if tensor in frame.first_layers:
            return
        mask = wanted(tensor) if wanted else unstable(frame, tensor, batch.bounds[tensor])
        owner, entry = np.nonzero(mask & ~batch.empty[:, None])
        for part in parts(frame, tensor, entry):
            own, lines = owner[part.place], part.relaxations(relaxations)
            found = bound_rows(part.frame, lines, tensor, own, part.inside, tick=tick)
            improve(batch, tensor, own, entry[part.place], found)

    propagate(frame, batch, refine=refine, record=record)


def bound_rows(
    frame: Frame,
    relaxations: Relaxations,
    tensor: int,
    owner: IndexArray,
    entry: IndexArray,
    sides: tuple[Side, ...] = tuple(Side),
    stop: Stop | None = None,
    tick: Callable[[], None] = lambda: None,
) -> dict[Side, Numbers]:
    """Bounds of entries of a pre-activation by substituting back, ``(R,)`` by side.

    ``owner`` numbers the domains of the relaxations, ``entry`` the frame's entries.
    """
    arithmetic, count, every = frame.arithmetic, owner.size, len(sides) * owner.size
    signs = [1.0 if side is Side.LOWER else -1.0 for side in sides]
    sign = arithmetic.lift_down(np.repeat(signs, count))
    start = (np.arange(every), np.tile(entry, len(sides)), sign)
    rows = Rows(np.tile(owner, len(sides)), arithmetic.zeros((every,)), {tensor: start})
    least = substitute(frame, relaxations.batch, relaxations, rows, stop, tick)
    found = {side: least[k * count : (k + 1) * count] for k, side in enumerate(sides)}
    return {side: part if side is Side.LOWER else -part for side, part in found.items()}


def improve(
    batch: Batch,
    tensor: int,
    owner: IndexArray,
    entry: IndexArray,
    found: Mapping[Side, Numbers],
) -> None:
    """Intersect stored bounds with those found for some entries of some domains."""
    ends = [ends.copy() for ends in batch.bounds[tensor]]
    for end, side in zip(ends, Side, strict=True):
        if side in found:
            end[owner, entry] = found[side]
    batch.improve(tensor, *ends)


def _repeat(interval: Interval, count: int) -> Interval:
    return np.repeat(interval[0], count, axis=0), np.repeat(interval[1], count, axis=0)
