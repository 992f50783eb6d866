"""Pre-activations that are linear in the inputs, as such."""

from __future__ import annotations

import numpy as np

from proofs.arithmetic import Interval, Numbers
from proofs.fields import parts
from proofs.frame import Affine, Batch, Frame, Relaxations, Rows
from proofs.substitution import linearize


def affine(frame: Frame, tensor: int) -> Affine:
    """Entries of a first layer, then their negatives, from below, over the whole case."""
    if tensor not in frame.affine:
        count, arithmetic = frame.network.sizes[tensor], frame.arithmetic
        width = frame.input_size
        anywhere = Batch(np.zeros((1, width)), np.zeros((1, width)), {}, np.zeros(1, dtype=bool))
        matrix = arithmetic.zeros((2 * count, width))
        constant = arithmetic.zeros((2 * count,))
        for part in parts(frame, tensor, np.arange(count)):
            row, sign = np.arange(2 * part.place.size), np.repeat([1.0, -1.0], part.place.size)
            start = (row, np.tile(part.inside, 2), arithmetic.lift_down(sign))
            rows = Rows(np.zeros_like(row), arithmetic.zeros((row.size,)), {tensor: start})
            found = linearize(part.frame, anywhere, Relaxations(part.frame, anywhere), rows)
            both = np.concatenate([part.place, part.place + count])
            matrix[both], constant[both] = found.matrix, found.constant
        frame.affine[tensor] = Affine(matrix, constant)
    return frame.affine[tensor]


def interval(frame: Frame, tensor: int, batch: Batch) -> Interval:
    """Bounds of a first layer over the boxes of a batch, ``(B, n)`` each."""
    arithmetic, layer = frame.arithmetic, affine(frame, tensor)
    rows, width = layer.matrix.shape
    low, high = arithmetic.lift_down(batch.lower), arithmetic.lift_up(batch.upper)
    size = max(1, arithmetic.entry_budget // max(1, rows * width))
    parts: list[Numbers] = [arithmetic.zeros((0, rows))]
    for start in range(0, len(low), size):
        box = (np.repeat(end[start : start + size], rows, axis=0) for end in (low, high))
        count = len(low[start : start + size])
        least = arithmetic.box_down(np.tile(layer.matrix, (count, 1)), *box)
        least = arithmetic.add_down(np.tile(layer.constant, count), least)
        parts.append(least.reshape(count, rows))
    found = np.concatenate(parts)
    return found[:, : rows // 2], -found[:, rows // 2 :]
