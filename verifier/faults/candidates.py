"""The single faults of a model as rows of tables, and how far each can move something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from proofs.arithmetic import Interval
from specs.enclosure import FloatArray
from specs.faults.formats import BoolArray, IndexArray, Words
from specs.faults.models import Spared
from specs.faults.placed import image
from specs.faults.sites import Cells, Faults
from specs.faults.struck import WordFaults

UNDECIDED, BENIGN, CRITICAL, NO_NUMBER = range(4)
"""What is known of a cell."""

FARTHEST = 2.0**16
"""Cells that move a constant, or anything, further are not bounded: what the high exponent bits
of floats come to in all layers at once exceeds what the kernel can pay for."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The memory cells of one parameter whose failure changes its word.

    Attributes:
        faults: one for each cell; what they read does not matter, as it is the other value.
        number: ``(n,)`` those that leave a number with which the network is defined.
        reach: ``(n,)`` at most about how far an entry of a tensor moves; infinite at no numbers,
            and where it is too far to be bounded.
        state: ``(n,)`` what is known of each; changed in place.
        first_word: the number of the parameter's first word.
    """

    faults: Faults
    number: BoolArray
    reach: FloatArray
    state: IndexArray
    first_word: int

    @property
    def words(self) -> IndexArray:
        """``(n,)`` the number of each cell's word."""
        return self.faults.entry + self.first_word


def candidates(
    faults: WordFaults, found: Cells, multipliers: Mapping[str, FloatArray]
) -> dict[str, Candidates]:
    """By parameter its cells, all undecided but those that leave no number.

    Args:
        faults: the model and the network.
        found: its cells.
        multipliers: by parameter, ``(size,)``: what an entry is multiplied by, at most.
    """
    made = {}
    for name in faults.parameters:
        own = _joined(found, name)
        places = faults.placed.of[name]
        old = found.memory.stored[name].values[own.entry]
        number, reach = own.number.copy(), np.zeros(len(own))
        for place in places:
            new = np.where(number, own.value, old)
            value, defined = image(place, new)
            number &= defined
            step = np.abs(value.value - image(place, old)[0].value)
            reach = np.maximum(reach, step)
        bounded = number & (reach <= FARTHEST)
        reach = np.where(bounded, reach * multipliers[name][own.entry], np.inf)
        state = np.where(number, UNDECIDED, NO_NUMBER)
        made[name] = Candidates(own, number, reach, state, faults.first_words[name])
    return made


def _joined(found: Cells, name: str) -> Faults:
    """The single faults of a parameter that change its word, each cell once."""
    stored, changeable = found.memory.stored[name], found.changeable(name)
    bits = np.arange(stored.format.bits, dtype=np.uint32)
    entry, bit = np.nonzero((changeable[:, None] >> bits) & np.uint32(1))
    old = stored.words[entry]
    word: Words = old ^ (np.uint32(1) << bit.astype(np.uint32))
    reads = 1 - ((old >> bit.astype(np.uint32)) & np.uint32(1)).astype(np.int64)
    value, number = stored.decode(entry, word)
    return Faults(name, entry, bit, reads, word, value, number)


def part(own: Faults, chosen: IndexArray | BoolArray) -> Faults:
    """Some of the faults."""
    return Faults(
        own.tensor,
        own.entry[chosen],
        own.bit[chosen],
        own.reads[chosen],
        own.word[chosen],
        own.value[chosen],
        own.number[chosen],
    )


def spared(
    tables: Mapping[str, Candidates], before: Spared, kept: Mapping[str, BoolArray]
) -> Spared:
    """What a model is to leave out so that it speaks of the cells kept, and of no numbers."""
    listed = list(before.cells)
    for name, table in tables.items():
        out = np.flatnonzero(~kept[name] & table.number)
        entry, bit = table.faults.entry[out].tolist(), table.faults.bit[out].tolist()
        listed += [(name, e, b) for e, b in zip(entry, bit, strict=True)]
    return Spared.of(listed)


def largest(bounds: Interval) -> FloatArray:
    """The largest magnitudes of intervals of floats."""
    lower, upper = bounds
    return np.asarray(np.maximum(np.abs(lower), np.abs(upper)), dtype=np.float64)
