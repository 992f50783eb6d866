"""Networks: graphs of linear and univariate nodes over flat tensors.

Node ``i`` defines tensor ``i``.  Nodes stand in topological order, so every source of a
node has a smaller number.  Tensors are flat (row-major); the shape of the ONNX tensor is
kept for display only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from specs.enclosure import Enclosure
from specs.errors import ModelError
from specs.linear import LinearMap


@dataclass(frozen=True, eq=False)
class Input:
    """A network input."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Term:
    """``map`` applied to tensor ``source``."""

    source: int
    map: LinearMap


@dataclass(frozen=True, eq=False)
class Linear:
    """The sum of ``terms`` plus ``offset``."""

    name: str
    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    offset: Enclosure


@dataclass(frozen=True, eq=False)
class Univariate:
    """``function`` applied to every entry of tensor ``source``."""

    name: str
    shape: tuple[int, ...]
    source: int
    function: str


Node = Input | Linear | Univariate


@dataclass(frozen=True, eq=False)
class Network:
    """A network in normal form.

    Attributes:
        nodes: in topological order; node ``i`` defines tensor ``i``.
        outputs: the output tensors.  Inputs and outputs of a property are numbered
            through all input (output) tensors in order.
        aliases: further ONNX names of tensors (a Reshape, say, makes no node).

    Raises:
        ModelError: sources out of order, sizes that do not fit, names used twice.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    aliases: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "aliases", MappingProxyType(dict(self.aliases)))
        sizes: list[int] = []
        for number, node in enumerate(self.nodes):
            sizes.append(math.prod(node.shape))
            _check_node(node, number, sizes)
        if not self.outputs or not all(0 <= o < len(self.nodes) for o in self.outputs):
            raise ModelError("the network's outputs are not among its tensors")
        if not self.inputs:
            raise ModelError("the network has no input")
        names = [node.name for node in self.nodes] + list(self.aliases)
        if len(set(names)) != len(names):
            raise ModelError("two tensors of the network have the same name")

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of every tensor."""
        return tuple(math.prod(node.shape) for node in self.nodes)

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """The input tensors, in order."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node, Input))

    @cached_property
    def univariates(self) -> tuple[int, ...]:
        """The tensors that univariate nodes define, in order."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node, Univariate))

    @cached_property
    def input_size(self) -> int:
        return sum(self.sizes[i] for i in self.inputs)

    @cached_property
    def output_size(self) -> int:
        return sum(self.sizes[i] for i in self.outputs)

    @cached_property
    def tensors(self) -> Mapping[str, int]:
        """Every tensor name, aliases included, with its number."""
        named = {node.name: i for i, node in enumerate(self.nodes)}
        return MappingProxyType({**self.aliases, **named})

    @cached_property
    def neurons(self) -> int:
        """Number of neurons, that is of entries of univariate nodes."""
        return sum(self.sizes[i] for i in self.univariates)


def _check_node(node: Node, number: int, sizes: list[int]) -> None:
    size = sizes[number]
    if isinstance(node, Linear):
        if node.offset.shape != (size,):
            raise ModelError(f"node '{node.name}': offset of {node.offset.shape}, not ({size},)")
        for term in node.terms:
            if not 0 <= term.source < number:
                raise ModelError(f"node '{node.name}' reads a tensor that is not defined yet")
            if (term.map.source_size, term.map.target_size) != (sizes[term.source], size):
                raise ModelError(f"node '{node.name}': a term's map does not fit its tensors")
    elif isinstance(node, Univariate) and (
        not 0 <= node.source < number or sizes[node.source] != size
    ):
        raise ModelError(f"node '{node.name}' does not fit its source")
