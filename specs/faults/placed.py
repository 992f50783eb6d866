"""A model whose stored parameters are known by name and place in the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, numpy_helper

from specs.enclosure import Enclosure, FloatArray
from specs.errors import ModelError, QuestionError
from specs.linear import IndexArray, WeightedMap
from specs.network import Linear, Network, Node, Term
from specs.onnx_reader import read_model, read_tracked
from specs.query import ModelFile
from specs.reader import rounding
from specs.reader.parameters import LINEAR, Place
from specs.reader.tensors import KINDS, SHORT

BoolArray = npt.NDArray[np.bool_]

USES = 1 << 22
"""Products of coefficients that are listed at a time."""


@dataclass(frozen=True, eq=False)
class Parameter:
    """An initialiser that may be faulty.

    Attributes:
        name: the ONNX name.
        shape: as stored.
        kind: the name of its ONNX element type.
        values: ``(size,)`` flat and exact; of an integer type the integers themselves.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    values: FloatArray

    @property
    def size(self) -> int:
        """How many entries it has."""
        return int(self.values.size)


@dataclass(frozen=True, eq=False)
class Placed:
    """A network, the parameters that were followed, and where each of them stands.

    Attributes:
        network: in normal form; every operator that reads a parameter is a linear node of its
            own, or several, each of whose constants depends on one entry of a parameter.
        parameters: by name.
        places: in the order of the graph.
        model: the file.
        activations: tensors that were kept apart, in the order of the graph.
    """

    network: Network
    parameters: Mapping[str, Parameter]
    places: tuple[Place, ...]
    model: ModelFile
    activations: tuple[str, ...] = ()

    @cached_property
    def of(self) -> Mapping[str, tuple[Place, ...]]:
        """The places of each parameter; none: no output depends on it."""
        return {
            name: tuple(place for place in self.places if place.tensor == name)
            for name in self.parameters
        }

    def channels(self, name: str) -> IndexArray:
        """``(size,)``: the channel of an operator's result in which each entry stands.

        Along axis 1 of convolutions and batch normalisations, along the last axis of other
        results; -1: in several, or in none.
        """
        found = np.full(self.parameters[name].size, -1, dtype=np.int64)
        several = np.zeros(found.shape, dtype=np.bool_)
        for place in self.of[name]:
            entry, number = _channels(self.network, place)
            np.maximum.at(found, entry, number)
            several[entry[found[entry] != number]] = True
        return np.where(several, -1, found)

    def with_values(self, changed: Mapping[str, FloatArray]) -> Network:
        """The network with other values of some parameters, each of the parameter's size.

        Raises:
            QuestionError: a name or a size is wrong.
            ModelError: there is no real number where one of the values stands.
        """
        for name, values in changed.items():
            if name not in self.parameters or values.size != self.parameters[name].size:
                raise QuestionError(f"parameter '{name}': {values.size} values do not fit")
        whole = {n: (np.arange(v.size), v.reshape(-1)) for n, v in changed.items()}
        return with_nodes(self.network, self.struck(self.network, whole))

    def struck(
        self, network: Network, changed: Mapping[str, tuple[IndexArray, FloatArray]]
    ) -> dict[int, Linear]:
        """The nodes of a network of these places that change with some entries.

        Args:
            network: this one, or one ``with_values``.
            changed: by parameter, entries in ascending order, and the values they have now.

        Raises:
            ModelError: there is no real number where one of the values stands.
        """
        nodes: dict[int, Linear] = {}
        for name, (entries, values) in changed.items():
            for place in self.of[name]:
                node = nodes.get(place.node, linear(network.nodes[place.node]))
                nodes[place.node] = _with_entries(node, place, entries, values)
        return nodes


def with_nodes(network: Network, nodes: Mapping[int, Linear]) -> Network:
    """A network with other nodes in some places."""
    made = [nodes.get(number, node) for number, node in enumerate(network.nodes)]
    return Network(tuple(made), network.outputs, network.aliases, network.semantics)


def read_placed(
    path: Path | str,
    tensors: tuple[str, ...] | None = None,
    activations: tuple[str, ...] | None = (),
) -> Placed:
    """Read a model, follow initialisers and keep activations apart.

    Args:
        path: of the model.
        tensors, activations: as for ``specs.onnx_reader.read_tracked``.

    Raises:
        ModelError: the model cannot be read, or has no such initialiser.
        UnsupportedOperatorError: an operator without a rule, or without one for faults of a
            parameter that it reads; the message names operator, tensor and position.
    """
    _, file = read_model(path)
    return place_model(file, tensors, activations)


def place_model(
    file: ModelFile,
    tensors: tuple[str, ...] | None = None,
    activations: tuple[str, ...] | None = (),
) -> Placed:
    """As :func:`read_placed`, for a model that was read; one in memory has no external data.

    Raises:
        ModelError, UnsupportedOperatorError: as there.
    """
    folder = None if file.path is None else file.path.parent
    name = "model" if file.path is None else str(file.path)
    network, tracker = read_tracked(file.content, folder, name, tensors, activations)
    parameters = {}
    for tensor, constant in tracker.stored.items():
        values = constant.value.reshape(-1).astype(np.float64)
        values.flags.writeable = False
        kind = KINDS[constant.kind]
        parameters[tensor] = Parameter(tensor, constant.shape, kind, values)
    return Placed(network, parameters, tuple(tracker.places), file, tuple(tracker.kept))


def rewritten(file: ModelFile, changed: Mapping[str, FloatArray]) -> bytes:
    """The model file with other values of some initialisers, each rounded to its own type.

    Raises:
        ModelError: there is no such initialiser, or its type cannot be rewritten.
    """
    model = ModelProto.FromString(file.content)
    left = set(changed)
    for tensor in model.graph.initializer:
        if tensor.name not in left:
            continue
        left.discard(tensor.name)
        dtype = np.dtype(numpy_helper.to_array(tensor).dtype)
        if dtype.kind not in "fiu":
            raise ModelError(f"initialiser '{tensor.name}' of type {dtype} cannot be rewritten")
        with np.errstate(over="ignore"):
            values = changed[tensor.name].reshape(tuple(tensor.dims)).astype(dtype)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    if left:
        raise ModelError(f"there is no initialiser '{min(left)}'")
    content: bytes = model.SerializeToString()
    return content


def linear(node: Node) -> Linear:
    """A node that is known to be linear."""
    if not isinstance(node, Linear):
        raise ModelError(f"tensor '{node.name}' of the network is no sum")
    return node


def weighted(term: Term) -> WeightedMap:
    """The map of a term that is known to have coefficients."""
    if term.map.weight is None:
        raise ModelError("a map without coefficients was taken for one with some")
    found: WeightedMap = term.map  # type: ignore[assignment]
    return found


def weight_of(term: Term) -> Enclosure:
    """The coefficients of a term that is known to have some."""
    return weighted(term).weight


def image(place: Place, values: FloatArray) -> tuple[Enclosure, BoolArray]:
    """``f`` of values at a place, and where it is a real number; 0 where it is not."""
    if place.function == LINEAR:
        return Enclosure(values), np.ones(values.shape, dtype=np.bool_)
    shifted = rounding.add(Enclosure(values), Enclosure(np.array(place.shift)))
    width = np.zeros(shifted.shape) if shifted.radius is None else shifted.radius
    defined = np.asarray(shifted.value > width, dtype=np.bool_)
    held = Enclosure(np.where(defined, shifted.value, 1.0), np.where(defined, width, 0.0))
    found = rounding.reciprocal(rounding.square_root(held))
    radius = None if found.radius is None else np.where(defined, found.radius, 0.0)
    return Enclosure(np.where(defined, found.value, 0.0), radius), defined


def at_place(
    place: Place, positions: IndexArray, values: FloatArray
) -> tuple[Enclosure, BoolArray]:
    """The constants at positions of a place when the entries there have other values.

    Args:
        positions: ``(m,)``, at which an entry stands.
        values: ``(..., m)``.

    Returns:
        ``(..., m)`` constants, and where they are real numbers.
    """
    found, defined = image(place, values)
    made = rounding.multiply(found, _at(place.factor, positions))
    if place.rest is not None:
        made = rounding.add(made, _at(place.rest, positions))
    return made, defined


def constants_at(node: Linear, place: Place) -> Enclosure:
    """What stands at a place of a node, flat."""
    found = node.offset if place.term is None else weight_of(node.terms[place.term])
    radius = None if found.radius is None else found.radius.reshape(-1)
    return Enclosure(found.value.reshape(-1), radius)


def _with_entries(node: Linear, place: Place, entries: IndexArray, values: FloatArray) -> Linear:
    """A node in which some entries of a parameter, ascending, have other values."""
    if not entries.size:
        return node
    known = constants_at(node, place)
    rank = np.minimum(np.searchsorted(entries, place.entries), entries.size - 1)
    held = np.flatnonzero(entries[rank] == place.entries)
    made, defined = at_place(place, held, values[rank[held]])
    if not np.all(defined):
        entry = int(place.entries[held][~defined][0])
        raise ModelError(f"{place.operator}: entry {entry} of '{place.tensor}' has no root")
    value, radius = known.value.copy(), None
    value[held] = made.value
    if not (known.exact and made.exact):
        radius = np.zeros(value.shape) if known.radius is None else known.radius.copy()
        radius[held] = 0.0 if made.radius is None else made.radius
    return _replaced(node, place, Enclosure(value, radius))


def _replaced(node: Linear, place: Place, constants: Enclosure) -> Linear:
    """A node with other constants at a place."""
    if place.term is None:
        return dataclasses.replace(node, offset=constants)
    term = node.terms[place.term]
    shape = weight_of(term).shape
    radius = None if constants.radius is None else constants.radius.reshape(shape)
    weight = Enclosure(constants.value.reshape(shape), radius)
    made = dataclasses.replace(term.map, weight=weight)  # type: ignore[type-var]
    terms = list(node.terms)
    terms[place.term] = Term(term.source, made)
    return dataclasses.replace(node, terms=tuple(terms))


def is_integer(parameter: Parameter) -> bool:
    """Whether the model file stores integers there."""
    return parameter.kind in {KINDS[kind] for kind in SHORT}


def _at(constants: Enclosure, positions: IndexArray) -> Enclosure:
    radius = None if constants.radius is None else constants.radius[positions]
    return Enclosure(constants.value[positions], radius)


def _channels(network: Network, place: Place) -> tuple[IndexArray, IndexArray]:
    """Entries that stand at a place, and the channel of each; one of many uses is enough."""
    node = linear(network.nodes[place.node])
    held = np.flatnonzero(place.entries >= 0)
    which, target = np.arange(held.size), held
    if place.term is not None:
        term = weighted(node.terms[place.term])
        step = max(1, USES // max(1, term.target_size))
        firsts = [
            _first_use(term, held[start : start + step]) for start in range(0, held.size, step)
        ]
        sizes = np.arange(0, held.size, step)
        which = np.concatenate([part + at for (part, _), at in zip(firsts, sizes, strict=True)])
        target = np.concatenate([part for _, part in firsts])
    axis = place.axis if len(node.shape) > 1 else 0
    number = np.unravel_index(target, node.shape)[axis] if node.shape else target * 0
    return place.entries[held[which]], np.asarray(number, dtype=np.int64)


def _first_use(term: WeightedMap, positions: IndexArray) -> tuple[IndexArray, IndexArray]:
    which, target, _ = term.uses(positions)
    found, first = np.unique(which, return_index=True)
    return found, target[first]
