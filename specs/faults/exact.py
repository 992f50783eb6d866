"""Single faults, exactly: which words are struck, how, and the network that comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from specs.enclosure import Enclosure, FloatArray
from specs.errors import ModelError, QuestionError
from specs.faults.formats import LONGEST_WORD
from specs.faults.models import ActivationFaults, Pruning
from specs.faults.placed import Placed
from specs.faults.sites import Cells, activation_groups
from specs.faults.struck import WordFaults
from specs.linear import Scale
from specs.network import RESERVED, Linear, Network, Node, Term, moved


@dataclass(frozen=True)
class WordFault:
    """What is wrong with one word.

    Attributes:
        tensor: the initialiser; of activations, their tensor.
        entry: flat, which of its entries.
        bits: ascending, the bits that are inverted; of other faults none.
        value: of a box of weights, of pruning, or of activations, what the entry is now.
    """

    tensor: str
    entry: int
    bits: tuple[int, ...] = ()
    value: Fraction | None = None


def faulted_values(faults: WordFaults, listed: Sequence[WordFault]) -> dict[str, FloatArray]:
    """By parameter, all stored values with some faults, flat.

    Raises:
        QuestionError: the fault model does not allow these faults, or a word is no number then.
    """
    if listed and isinstance(faults.model, ActivationFaults):
        raise QuestionError("faulty activations are no stored values")
    values = {name: faults.values(name).copy() for name in faults.placed.parameters}
    places = [(fault.tensor, fault.entry) for fault in listed]
    if len(set(places)) != len(places):
        raise QuestionError("it names a faulty word twice")
    for fault in listed:
        if fault.tensor not in faults.parameters:
            raise QuestionError(f"no parameter '{fault.tensor:.100}' may be faulty")
        if not 0 <= fault.entry < values[fault.tensor].size:
            raise QuestionError(f"'{fault.tensor}' has no entry {fault.entry}")
        made = _moved(faults, fault) if faults.cells is None else _flipped(faults.cells, fault)
        values[fault.tensor][fault.entry] = made
    if isinstance(faults.model, Pruning) and len(listed) > faults.model.k:
        raise QuestionError(f"it prunes {len(listed)} parameters, of at most {faults.model.k}")
    if faults.cells is not None:
        model, count = faults.cells.model, sum(len(fault.bits) for fault in listed)
        if count > model.k:
            raise QuestionError(f"it has {count} faults, of at most {model.k}")
        if model.per_word and len(listed) > 1:
            raise QuestionError(f"its faults lie in {len(listed)} words, not in one")
    return values


def faulted_network(faults: WordFaults, listed: Sequence[WordFault]) -> Network:
    """The network with some faults.

    Raises:
        QuestionError: as for ``faulted_values``, or the network is not defined then.
    """
    if isinstance(faults.model, ActivationFaults):
        return _with_activations(faults.placed, faults.model, listed)
    try:
        return faults.placed.with_values(faulted_values(faults, listed))
    except ModelError as error:
        raise QuestionError(str(error)) from None


def _with_activations(
    placed: Placed, model: ActivationFaults, listed: Sequence[WordFault]
) -> Network:
    """The network in which the entries listed have the values listed."""
    network, groups, struck = (
        placed.network,
        activation_groups(placed, model),
        set[tuple[int, int]](),
    )
    values: dict[int, dict[int, float]] = {}
    for fault in listed:
        name = f"entry {fault.entry} of '{fault.tensor:.100}'"
        tensor = network.tensors.get(fault.tensor, -1)
        held = [k for k, group in enumerate(groups.get(tensor, [])) if fault.entry in group]
        if not held or fault.entry in values.get(tensor, {}):
            raise QuestionError(f"{name} may not be faulty, or is named twice")
        if fault.bits or fault.value is None or not model.lower <= fault.value <= model.upper:
            raise QuestionError(f"{name} needs a value of the range, and no bits")
        values.setdefault(tensor, {})[fault.entry] = _float(fault.value, name)
        struck.add((tensor, held[0]))
    if len(struck) > model.k:
        raise QuestionError(f"it has {len(struck)} faults, of at most {model.k}")
    if sum(groups[tensor][group].size for tensor, group in struck) > len(listed):
        raise QuestionError("it does not name every entry of a faulty channel")
    nodes: list[Node] = []
    place: list[int] = []
    for number, node in enumerate(network.nodes):
        found = moved(node, place.__getitem__)
        if number in values:
            nodes.append(dataclasses.replace(found, name=f"{RESERVED}{found.name}/intact"))
            kept, offset = np.ones(network.sizes[number]), np.zeros(network.sizes[number])
            entries = list(values[number])
            kept[entries], offset[entries] = 0.0, list(values[number].values())
            term = Term(len(nodes) - 1, Scale(Enclosure(kept)))
            found = Linear(found.name, found.shape, (term,), Enclosure(offset))
        place.append(len(nodes))
        nodes.append(found)
    return Network(tuple(nodes), tuple(place[tensor] for tensor in network.outputs))


def _float(value: Fraction, name: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        raise QuestionError(f"{name} lies outside its interval") from None
    if Fraction(number) != value:
        raise QuestionError(f"the value of {name} is no number of 64 bits")
    return number


def _moved(faults: WordFaults, fault: WordFault) -> float:
    name = f"entry {fault.entry} of '{fault.tensor}'"
    if fault.bits or fault.value is None:
        raise QuestionError(f"{name} needs a value, and no bits")
    number = _float(fault.value, name)
    if not faults.chosen(fault.tensor)[fault.entry]:
        raise QuestionError(f"{name} may not be faulty")
    if isinstance(faults.model, Pruning):
        if number != 0:
            raise QuestionError(f"{name} is pruned: its value must be 0")
        return 0.0
    centre, model = Fraction(float(faults.values(fault.tensor)[fault.entry])), faults.box
    if abs(fault.value - centre) > model.absolute + model.relative * abs(centre):
        raise QuestionError(f"{name} lies outside its interval")
    return number


def _flipped(cells: Cells, fault: WordFault) -> float:
    name = f"entry {fault.entry} of '{fault.tensor}'"
    if fault.value is not None or not fault.bits:
        raise QuestionError(f"{name} needs bits, and no value")
    first, last = fault.bits[0], fault.bits[-1]
    if list(fault.bits) != sorted(set(fault.bits)) or first < 0 or last >= LONGEST_WORD:
        raise QuestionError(f"the bits of {name} are not ascending, or no bits of a word")
    mask = sum(1 << bit for bit in fault.bits)
    if mask & ~int(cells.changeable(fault.tensor)[fault.entry]):
        raise QuestionError(f"not all of the bits of {name} may be faulty")
    stored = cells.memory.stored[fault.tensor]
    word = stored.words[fault.entry : fault.entry + 1] ^ np.uint32(mask)
    value, number = stored.decode(np.array([fault.entry]), word)
    if not number[0]:
        raise QuestionError(f"{name} is Inf or NaN then, which is a class of its own")
    return float(value[0])
