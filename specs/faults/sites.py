"""What a fault model comes to for a network: sites, single faults, and hulls of values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from specs.decimals import round_down, round_up
from specs.enclosure import FloatArray
from specs.errors import QuestionError
from specs.faults.formats import BoolArray, IndexArray, Words
from specs.faults.memory import Memory, Stored
from specs.faults.models import (
    CHANNEL,
    ActivationFaults,
    BitFaults,
    Pruning,
    Spared,
    StuckAt,
    ValueFaults,
    Where,
)
from specs.faults.placed import Placed
from specs.faults.reach import Hull, hull, mask_of
from specs.network import RESERVED

BATCH = 1 << 16
"""Single faults that are listed at a time."""


@dataclass(frozen=True, eq=False)
class Faults:
    """Single faults of one parameter.

    Attributes:
        tensor: the initialiser.
        entry: ``(n,)`` flat, which of its entries.
        bit: ``(n,)`` which bit of the word.
        reads: ``(n,)`` what the bit reads then.
        word: ``(n,)`` the faulty word.
        value: ``(n,)`` what it stands for, exactly; NaN where it is no number.
        number: ``(n,)`` whether it is one.  A word that is Inf or NaN is a class of its own.
    """

    tensor: str
    entry: IndexArray
    bit: IndexArray
    reads: IndexArray
    word: Words
    value: FloatArray
    number: BoolArray

    def __len__(self) -> int:
        return int(self.entry.size)


@dataclass(frozen=True, eq=False)
class Cells:
    """The memory cells that a model of bit faults may strike.

    Attributes:
        memory: the stored parameters.
        model: which faults.
        exposed: by parameter, ``(size,)``, the cells of each word that may be struck.
    """

    memory: Memory
    model: BitFaults
    exposed: Mapping[str, Words]

    @cached_property
    def count(self) -> int:
        """How many memory cells there are."""
        return sum(int(ones(words).sum()) for words in self.exposed.values())

    @property
    def faults(self) -> int:
        """How many single faults: a cell that may be stuck at 0 or at 1 has two."""
        both = isinstance(self.model, StuckAt) and self.model.reads is None
        return self.count * (2 if both else 1)

    @property
    def combinations(self) -> int:
        """How many faults of at most ``k`` cells there are, the absence of any included.

        Stuck cells that read what was written count as faults of their own.
        """
        k, ways = self.model.k, self.faults // max(1, self.count)
        if not self.model.per_word:
            return sum(math.comb(self.count, j) * ways**j for j in range(k + 1))
        total = 1
        for words in self.exposed.values():
            sizes, counts = np.unique(ones(words), return_counts=True)
            for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
                total += count * sum(math.comb(size, j) * ways**j for j in range(1, k + 1))
        return total

    def changeable(self, name: str) -> Words:
        """``(size,)``: the bits of each word that a fault inverts."""
        exposed, words = self.exposed[name], self.memory.stored[name].words
        if isinstance(self.model, StuckAt) and self.model.reads is not None:
            return exposed & (words if self.model.reads == 0 else ~words)
        return exposed

    def batches(self, name: str, size: int = BATCH) -> Iterator[Faults]:
        """All single faults of a parameter, entry by entry, the lowest bit first.

        A stuck cell that reads what was written is a fault that changes nothing; it is listed.
        """
        stored, exposed = self.memory.stored[name], self.exposed[name]
        bits = np.arange(stored.format.bits)
        readings = self._readings()
        step = max(1, size // (bits.size * len(readings)))
        for start in range(0, exposed.size, step):
            part = exposed[start : start + step]
            has = (part[:, None] >> bits.astype(np.uint32)) & np.uint32(1)
            entry, bit = np.nonzero(has)
            if entry.size:
                yield self._single(stored, entry + start, bit, readings)

    def singles(self, name: str) -> Faults | None:
        """All single faults of a parameter at once; ``None``: it has none."""
        parts = list(self.batches(name))
        if not parts:
            return None
        keys = ("entry", "bit", "reads", "word", "value", "number")
        return Faults(name, *(np.concatenate([getattr(p, key) for p in parts]) for key in keys))

    def _readings(self) -> tuple[int | None, ...]:
        if not isinstance(self.model, StuckAt):
            return (None,)
        return (0, 1) if self.model.reads is None else (self.model.reads,)

    def _single(
        self, stored: Stored, entry: IndexArray, bit: IndexArray, readings: tuple[int | None, ...]
    ) -> Faults:
        entry, bit = np.repeat(entry, len(readings)), np.repeat(bit, len(readings))
        place, words = bit.astype(np.uint32), stored.words[entry]
        now = ((words >> place) & np.uint32(1)).astype(np.int64)
        if readings == (None,):
            reads = 1 - now
        else:
            reads = np.resize(np.array(readings, dtype=np.int64), entry.shape)
        word = words ^ ((reads != now).astype(np.uint32) << place)
        value, number = stored.decode(entry, word)
        return Faults(stored.parameter.name, entry, bit, reads, word, value, number)

    def hull(self, name: str, k: int | None = None) -> Hull:
        """What each entry of a parameter can become when at most ``k`` of its cells fail.

        Args:
            name: the initialiser.
            k: ``None``: as many as the model says.
        """
        stored, count = self.memory.stored[name], self.model.k if k is None else k
        return hull(stored.format, stored.words, self.changeable(name), count, stored.channel)


def cells(memory: Memory, model: BitFaults) -> Cells:
    """The memory cells that a model may strike.

    Raises:
        QuestionError: it names something that is not there, or nothing is left of it.
    """
    chosen = chosen_entries(memory.placed, model.where)
    exposed = {}
    for name, mask in chosen.items():
        format = memory.stored[name].format
        exposed[name] = np.where(mask, np.uint32(mask_of(model.where.bits, format)), np.uint32(0))
    for name, spared in _spared(memory, model.spared).items():
        if name in exposed:
            exposed[name] &= ~spared
    found = Cells(memory, model, exposed)
    if not found.count:
        raise QuestionError("no stored bit is left by what [faults] says of where")
    return found


def _spared(memory: Memory, spared: Spared) -> dict[str, Words]:
    """By parameter, the bits of every word that are spared.

    Raises:
        QuestionError: there is no such cell.
    """
    by_name: dict[str, list[tuple[int, int]]] = {}
    for name, entry, bit in spared.cells:
        by_name.setdefault(name, []).append((entry, bit))
    _known("tensor", tuple(by_name), memory.stored, "except")
    found = {}
    for name, listed in by_name.items():
        stored = memory.stored[name]
        entry, bit = np.array(listed, dtype=np.int64).T
        wrong = np.flatnonzero((entry >= stored.words.size) | (bit >= stored.format.bits))
        if wrong.size:
            cell = [name, *listed[int(wrong[0])]]
            raise QuestionError(
                f"except: there is no cell {cell}; '{name}' has entries 0 to "
                f"{stored.words.size - 1} with bits 0 to {stored.format.bits - 1}"
            )
        mask = np.zeros(stored.words.size, dtype=np.uint32)
        np.bitwise_or.at(mask, entry, np.uint32(1) << bit.astype(np.uint32))
        found[name] = mask
    return found


def chosen_entries(placed: Placed, where: Where) -> dict[str, BoolArray]:
    """By parameter, ``(size,)``, which entries a model speaks of; only those with some.

    Raises:
        QuestionError: a tensor, layer or channel is not there.
    """
    _known("tensor", where.tensors, placed.parameters)
    _known("layer", where.layers, {place.result for place in placed.places})
    found = {}
    channels: set[int] = set()
    for name, parameter in placed.parameters.items():
        if where.tensors is not None and name not in where.tensors:
            continue
        if where.layers is not None and not any(p.result in where.layers for p in placed.of[name]):
            continue
        mask = np.ones(parameter.size, dtype=np.bool_)
        if where.channels is not None:
            own = placed.channels(name)
            channels.update(np.unique(own[own >= 0]).tolist())
            mask = np.isin(own, where.channels)
        if mask.any():
            found[name] = mask
    if missing := sorted(set(where.channels or ()) - channels):
        raise QuestionError(f"no parameter stands in channel {missing[0]}")
    return found


def weight_intervals(
    placed: Placed, model: ValueFaults
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """By parameter, where every entry may lie, rounded outward; ``(size,)`` each.

    Raises:
        QuestionError: the model names something that is not there.
    """
    found = {}
    for name, mask in chosen_entries(placed, model.where).items():
        values = placed.parameters[name].values
        ends = [values.copy(), values.copy()]
        if isinstance(model, Pruning):
            zero = np.where(mask, 0.0, values)
            found[name] = (np.minimum(values, zero), np.maximum(values, zero))
            continue
        for entry in np.flatnonzero(mask):
            centre = Fraction(float(values[entry]))
            radius = model.absolute + model.relative * abs(centre)
            ends[0][entry] = round_down(centre - radius)
            ends[1][entry] = round_up(centre + radius)
        found[name] = (ends[0], ends[1])
    return found


def activation_groups(placed: Placed, model: ActivationFaults) -> dict[int, list[IndexArray]]:
    """By tensor, the groups of entries that one fault strikes: a neuron, or a channel.

    Channels lie along axis 1, in tensors of one axis along that.  Where no tensor is named, all
    that were kept apart are struck: those that operators with functions or products compute.

    Raises:
        QuestionError: there is no such tensor or channel, or it was not kept apart.
    """
    network, named = placed.network, model.where.tensors
    inputs = {network.nodes[number].name for number in network.inputs}
    if given := sorted(inputs & set(named or ())):
        raise QuestionError(f"'{given[0]}' is an input, not an activation")
    _known("tensor", named, [n for n in network.tensors if not n.startswith(RESERVED)])
    if merged := sorted(set(named or ()) - set(placed.activations)):
        raise QuestionError(f"tensor '{merged[0]}' was not kept apart when the model was read")
    kept = [name for name in placed.activations if named is None or name in named]
    found: dict[int, list[IndexArray]] = {}
    seen: set[int] = set()
    for number in sorted(network.tensors[name] for name in kept):
        node = network.nodes[number]
        axis = 1 if len(node.shape) > 1 else 0
        where = np.indices(node.shape)[axis].reshape(-1) if node.shape else np.zeros(1, np.int64)
        seen.update(where.tolist())
        wanted = where if model.where.channels is None else np.array(model.where.channels)
        entries = np.flatnonzero(np.isin(where, wanted))
        if model.unit == CHANNEL:
            groups = [np.flatnonzero(where == c) for c in np.unique(where[entries])]
        else:
            groups = list(entries.reshape(-1, 1))
        if groups:
            found[number] = groups
    if missing := sorted(set(model.where.channels or ()) - seen):
        raise QuestionError(f"no activation stands in channel {missing[0]}")
    if not found:
        raise QuestionError("no activation is left by what [faults] says of where")
    return found


def _known(what: str, names: tuple[str, ...] | None, known: object, key: str | None = None) -> None:
    listed = sorted(known)  # type: ignore[call-overload]
    if missing := [name for name in names or () if name not in listed]:
        shown = ", ".join(f"'{name}'" for name in listed[:12]) + (
            ", ..." if len(listed) > 12 else ""
        )
        where = "" if key is None else f"{key}: "
        raise QuestionError(f"{where}there is no {what} '{missing[0]}'; known: {shown}")


def ones(words: Words) -> IndexArray:
    """How many bits of each word are set."""
    found = np.zeros(words.shape, dtype=np.int64)
    for bit in range(32):
        found += (words >> np.uint32(bit)) & np.uint32(1)
    return found
