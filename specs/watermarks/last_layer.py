"""The last layer of a classifier: the parameters that a claim lets move, and what it reads."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from specs.enclosure import FloatArray
from specs.errors import QuestionError
from specs.faults.placed import Placed, weighted
from specs.linear import Identity, IndexArray
from specs.network import Linear, Network
from specs.reader.parameters import LINEAR, Place


@dataclass(frozen=True, eq=False)
class LastLayer:
    """``logits = W @ hidden + offset``, where ``W`` is one initializer and nothing else.

    Attributes:
        placed: the model; its parameters were followed.
        weight: the ONNX name of the initializer.
        entries: ``(C, m)``: which flat entry of it multiplies hidden entry ``j`` for class ``c``.
        bias: that of the initializer that is added; ``None``: there is none.
        bias_entries: ``(C,)``, of that one; empty without.
        source: the tensor that the layer reads.
    """

    placed: Placed
    weight: str
    entries: IndexArray
    bias: str | None
    bias_entries: IndexArray
    source: int

    @property
    def classes(self) -> int:
        """How many logits there are."""
        return len(self.entries)

    @cached_property
    def hidden(self) -> Network:
        """The network up to what the layer reads."""
        return dataclasses.replace(self.placed.network, outputs=(self.source,))

    @property
    def weights(self) -> FloatArray:
        """``(C, m)``, exactly as stored."""
        return self.placed.parameters[self.weight].values[self.entries]

    @cached_property
    def offsets(self) -> FloatArray:
        """``(C,)``, exactly as stored; 0 without a bias."""
        if self.bias is None:
            return np.zeros(self.classes)
        return self.placed.parameters[self.bias].values[self.bias_entries]


def last_layer(placed: Placed) -> LastLayer:
    """The layer that makes a network's only output.

    Raises:
        QuestionError: that is no dense layer, or its parameters are not the stored numbers.
    """
    network = placed.network
    if len(network.outputs) != 1:
        raise QuestionError(f"the network has {len(network.outputs)} outputs; it must have one")
    number, offsets = network.outputs[0], []
    while True:
        node = network.nodes[number]
        if not isinstance(node, Linear) or len(node.terms) != 1:
            raise QuestionError(f"'{node.name}' is no dense layer; the last operator must be one")
        offsets += [p for p in placed.places if p.node == number and p.term is None]
        term = node.terms[0]
        if not isinstance(term.map, Identity):
            break
        if _adds(node) and not any(p.node == number for p in offsets):
            raise QuestionError(f"'{node.name}' adds what is no initializer that was followed")
        number = term.source
    places = [p for p in placed.places if p.node == number and p.term == 0]
    if len(places) != 1:
        raise QuestionError(f"'{node.name}': its weights are not one initializer; name it")
    if _adds(node) and not any(p.node == number for p in offsets):
        raise QuestionError(f"'{node.name}' adds what is no initializer that was followed")
    _plain(placed, places[0])
    entries = _matrix(network, number, places[0])
    if len(offsets) > 1:
        raise QuestionError(f"'{node.name}': more than one bias is added")
    bias, bias_entries = None, np.zeros(0, dtype=np.int64)
    if offsets:
        _plain(placed, offsets[0])
        bias, bias_entries = offsets[0].tensor, offsets[0].entries
        if np.unique(bias_entries).size != len(entries) or bias_entries.min() < 0:
            raise QuestionError(f"'{bias}' is not one bias for each class")
    return LastLayer(placed, places[0].tensor, entries, bias, bias_entries, term.source)


def _adds(node: Linear) -> bool:
    """Whether a node adds anything."""
    return bool(np.any(node.offset.value)) or not node.offset.exact


def _plain(placed: Placed, place: Place) -> None:
    """Constants at a place are the stored numbers, and stand nowhere else."""
    known = place.factor.radius is None or not np.any(place.factor.radius)
    rest = place.rest
    none = rest is None or not (np.any(rest.value) or np.any(0 if rest.exact else rest.radius))
    if place.function != LINEAR or not known or np.any(place.factor.value != 1.0) or not none:
        raise QuestionError(f"{place.operator}: '{place.tensor}' is scaled or shifted there")
    if len(placed.of[place.tensor]) != 1:
        raise QuestionError(f"'{place.tensor}' stands in several layers; it must be of the last")


def _matrix(network: Network, number: int, place: Place) -> IndexArray:
    """Which entry multiplies which source for which target, ``(C, m)``."""
    node = network.nodes[number]
    assert isinstance(node, Linear)
    classes, width = network.sizes[number], network.sizes[node.terms[0].source]
    which, target, source = weighted(node.terms[0]).uses(np.arange(place.entries.size))
    found = np.full((classes, width), -1, dtype=np.int64)
    found[target, source] = place.entries[which]
    if found.min(initial=0) < 0 or which.size != found.size or np.unique(found).size != found.size:
        raise QuestionError(
            f"'{node.name}' is no dense layer: {classes} logits of {width} hidden entries need "
            f"{found.size} weights of their own"
        )
    return found
