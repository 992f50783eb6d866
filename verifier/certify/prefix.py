"""Models whose inputs are what may change: a few plain ONNX operators in front of a network.

A region that is no box, or a change that is no addition, becomes a box of such inputs, so that
the kernel proves a statement about an ordinary model file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from specs.errors import ModelError
from specs.query import ModelFile

OWN = "prefix/"
"""What the names of tensors in front begin with."""
PARAMETERS = f"{OWN}parameters"
"""The new input."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Operators in front of a network.

    Attributes:
        nodes: in order; the last one's output is the network's old input.
        constants: by name.
    """

    nodes: Sequence[onnx.NodeProto]
    constants: Sequence[onnx.TensorProto]


def prefixed(
    file: ModelFile, size: int, make: Callable[[str, tuple[int, ...], type], Piece]
) -> bytes:
    """A model with ``size`` inputs, from which operators in front make those of another.

    Args:
        file: the other model.
        make: from the name, the shape and the type of its input, the operators.

    Raises:
        ModelError: it has several inputs, an input of a type or shape that cannot be made, or
            names that begin as those in front do.
    """
    model = onnx.ModelProto.FromString(file.content)
    graph = model.graph
    stored = {tensor.name for tensor in (*graph.initializer, *graph.sparse_initializer)}
    inputs = [entry for entry in graph.input if entry.name not in stored]
    if len(inputs) != 1:
        raise ModelError(f"a model with {len(inputs)} inputs has no operators put in front")
    if any(t.data_location == TensorProto.EXTERNAL for t in graph.initializer):
        raise ModelError("a model with external data has no operators put in front")
    names = {name for node in graph.node for name in (*node.output, node.name)} | stored
    names |= {entry.name for entry in inputs}
    if any(name.startswith(OWN) for name in names):
        raise ModelError(f"the model has tensors whose names begin with '{OWN}'")
    tensor = inputs[0].type.tensor_type
    kinds = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64}
    if tensor.elem_type not in kinds:
        raise ModelError("the model's input is neither float32 nor float64")
    shape = tuple(d.dim_value if d.HasField("dim_value") else 1 for d in tensor.shape.dim)
    piece = make(inputs[0].name, shape, kinds[tensor.elem_type])
    if piece.nodes[-1].output[0] != inputs[0].name:
        raise ValueError("the operators in front do not end in the model's input")
    kept = [entry for entry in graph.input if entry.name in stored]
    made = helper.make_tensor_value_info(PARAMETERS, tensor.elem_type, [size])
    nodes = [*piece.nodes, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.extend([made, *kept])
    graph.initializer.extend(piece.constants)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


class Builder:
    """Names nodes and constants of a piece as they are made."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: object, kind: type | None = None) -> str:
        """A stored tensor; its name.

        Raises:
            ModelError: the type does not hold a number exactly.
        """
        wanted = np.asarray(values)
        held: npt.NDArray[Any] = wanted.astype(self.kind if kind is None else kind)
        if not np.array_equal(held.astype(wanted.dtype), wanted):
            raise ModelError(f"{held.dtype} does not hold a number of the operators in front")
        name = f"{OWN}c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(held, name))
        return name

    def node(self, operator: str, *inputs: str, output: str | None = None, **given: Any) -> str:
        """An operator; the name of its output."""
        name = f"{OWN}t{len(self.nodes)}" if output is None else output
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **given))
        return name

    def shaped(self, name: str, shape: Sequence[int], output: str | None = None) -> str:
        """A tensor in another shape."""
        extents = self.constant(np.array(shape, np.int64), np.int64)
        return self.node("Reshape", name, extents, output=output)

    def part(self, name: str, indices: Sequence[int]) -> str:
        """Entries of a flat tensor."""
        return self.node("Gather", name, self.constant(np.array(indices, np.int64), np.int64))

    @property
    def piece(self) -> Piece:
        """What was made."""
        return Piece(self.nodes, self.constants)


def differences(file: ModelFile) -> bytes:
    """The model of ``w - v``: its inputs are those of the network, twice."""

    def make(name: str, shape: tuple[int, ...], kind: type) -> Piece:
        size, build = math.prod(shape), Builder(kind)
        parts = (build.part(PARAMETERS, range(k * size, (k + 1) * size)) for k in (0, 1))
        build.shaped(build.node("Sub", *parts), shape, name)
        return build.piece

    return prefixed(file, 2 * input_size(file), make)


def input_size(file: ModelFile) -> int:
    """How many numbers the one input of a model has."""
    graph = onnx.ModelProto.FromString(file.content).graph
    stored = {tensor.name for tensor in graph.initializer}
    entry = next(entry for entry in graph.input if entry.name not in stored)
    return math.prod(d.dim_value or 1 for d in entry.type.tensor_type.shape.dim)
