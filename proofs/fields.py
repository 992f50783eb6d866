"""Rows that start in a part of an image pass only through what that part depends on.

A frame cut to a receptive field (``specs/receptive.py``) has the prices, magnitudes and
lines of the whole frame at the entries that are left; all others have coefficient 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from proofs.arithmetic import Numbers
from proofs.frame import Frame, IndexArray, Lines, Relaxations
from specs.receptive import Receptive, Window, receptive, tiles

EACH = 48
"""Rows that a window should have: fewer do not fill a matrix product."""


class Field(Frame):
    """A frame cut to a receptive field."""

    def __init__(self, whole: Frame, field: Receptive) -> None:
        self.network = field.network
        self.arithmetic = whole.arithmetic
        self._whole, self._index = whole, field.index
        self._count_work()

    def magnitude(self, tensor: int) -> Numbers:
        return self.cut(tensor, self._whole.magnitude(tensor))

    def cost(self, tensor: int) -> tuple[Numbers, Any]:
        vector, flat = self._whole.cost(tensor)  # what is cut sums up fewer terms
        return self.cut(tensor, vector), flat

    def box_columns(self, tensor: int) -> IndexArray:
        return self.cut(tensor, self._whole.box_columns(tensor))

    @property
    def input_size(self) -> int:
        return self._whole.input_size

    def cut(self, tensor: int, numbers: Numbers) -> Numbers:
        """The last axis of what belongs to a tensor, where it is in the field."""
        index = self._index[tensor]
        return numbers if index is None else numbers[..., index]


@dataclass(eq=False)
class CutRelaxations(Relaxations):
    """The lines of whole tensors, cut to a field."""

    whole: Relaxations | None = None

    def _lines(self, tensor: int) -> Lines:
        if self.whole is None or not isinstance(self.frame, Field):
            raise TypeError("lines are cut without a field")
        lines, cut = self.whole.lines(tensor), self.frame.cut
        return Lines(*(cut(tensor, part) for part in vars(lines).values()))


def parts(
    frame: Frame, relaxations: Relaxations, tensor: int, entry: IndexArray, stop: int | None = None
) -> Iterator[tuple[Frame, Relaxations, IndexArray, IndexArray]]:
    """Entries of a tensor by the field that their rows can be passed back in.

    Rows that stop at a tensor, at stored bounds, are not worth a field.

    Yields:
        A frame and its relaxations, positions in ``entry``, and the entries under the
        frame's own numbering.
    """
    found = [] if stop is not None else tiles(frame.network.nodes[tensor].shape, entry, EACH)
    uncut = [np.arange(entry.size)] if not found else []
    for window, place in found:
        field = _field(frame, tensor, window)
        if field is None:
            uncut.append(place)
            continue
        cut = CutRelaxations(field, relaxations.batch, whole=relaxations)
        yield field, cut, place, np.searchsorted(window.index, entry[place])
    if uncut:
        place = np.concatenate(uncut)
        yield frame, relaxations, place, entry[place]


def _field(frame: Frame, tensor: int, window: Window) -> Field | None:
    key = tensor, window.ranges
    if key not in frame.fields:
        found = receptive(frame.network, tensor, window)
        frame.fields[key] = None if found is None else Field(frame, found)
    return frame.fields[key]
