"""Rows that start in a part of an image pass only through what that part depends on.

A frame cut to a receptive field (``specs/receptive.py``) has the prices, magnitudes and
lines of the whole frame at the entries that are left; all others have coefficient 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from proofs.arithmetic import Numbers
from proofs.frame import Batch, Frame, Hints, IndexArray, Relaxations
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

    def passes(self, tensors: Iterable[int]) -> bool:
        return self._whole.passes(tensors)

    def magnitude(self, tensor: int) -> Numbers:
        return self.cut(tensor, self._whole.magnitude(tensor))

    def cost(self, tensor: int) -> tuple[Numbers, Any]:
        vector, flat = self._whole.cost(tensor)  # what is cut sums up fewer terms
        return self.cut(tensor, vector), flat

    def radius(self, tensor: int) -> Numbers:
        return self.cut(tensor, self._whole.radius(tensor))

    def box_columns(self, tensor: int) -> IndexArray:
        return self.cut(tensor, self._whole.box_columns(tensor))

    @property
    def input_size(self) -> int:
        return self._whole.input_size

    def cut(self, tensor: int, numbers: Numbers) -> Numbers:
        """The last axis of what belongs to a tensor, where it is in the field."""
        index = self._index[tensor]
        return numbers if index is None else np.take(numbers, index, axis=-1)

    def batch(self, whole: Batch) -> Batch:
        """The bounds of a batch where the field has them; boxes stay whole."""
        bounds = {
            tensor: (self.cut(tensor, low), self.cut(tensor, high))
            for tensor, (low, high) in whole.bounds.items()
            if tensor in self._index
        }
        return Batch(whole.lower, whole.upper, bounds, whole.empty)

    def hints(self, whole: Hints) -> Hints:
        """Slopes where the field has them."""
        return {
            (tensor, side): self.cut(tensor, slopes)
            for (tensor, side), slopes in whole.items()
            if tensor in self._index
        }


@dataclass(frozen=True, eq=False)
class Part:
    """Entries of a tensor whose rows can be passed back in one frame.

    Attributes:
        frame: a field's, or the whole one.
        place: positions among the entries that were asked for.
        inside: these entries under the frame's own numbering.
    """

    frame: Frame
    place: IndexArray
    inside: IndexArray

    def batch(self, whole: Batch) -> Batch:
        """A batch's bounds in this frame."""
        return self.frame.batch(whole) if isinstance(self.frame, Field) else whole

    def hints(self, whole: Hints) -> Hints:
        """Slopes in this frame."""
        return self.frame.hints(whole) if isinstance(self.frame, Field) else whole

    def relaxations(self, whole: Relaxations) -> Relaxations:
        """The lines of a batch in this frame."""
        if not isinstance(self.frame, Field):
            return whole
        return Relaxations(self.frame, self.batch(whole.batch), self.hints(whole.hints))


def whole(frame: Frame, entry: IndexArray) -> Part:
    """Entries in the frame itself."""
    return Part(frame, np.arange(entry.size), entry)


def parts(frame: Frame, tensor: int, entry: IndexArray) -> Iterator[Part]:
    """Entries of a tensor by the field that their rows can be passed back in."""
    found = tiles(frame.network.nodes[tensor].shape, entry, EACH)
    uncut = [] if found else [np.arange(entry.size)]
    for window, place in found:
        field = _field(frame, tensor, window)
        if field is None:
            uncut.append(place)
        else:
            yield Part(field, place, np.searchsorted(window.index, entry[place]))
    if uncut:
        place = np.concatenate(uncut)
        yield Part(frame, place, entry[place])


def _field(frame: Frame, tensor: int, window: Window) -> Field | None:
    key = tensor, window.ranges
    if key not in frame.fields:
        found = receptive(frame.network, tensor, window)
        frame.fields[key] = None if found is None else Field(frame, found)
    known: Field | None = frame.fields[key]
    return known
