"""ONNX models that state questions: stored values as they are, and two models side by side."""

from __future__ import annotations

import copy

import numpy as np
import onnx
from onnx import helper, numpy_helper

from specs.errors import ModelError, QuestionError
from specs.faults.formats import IndexArray, IntegerFormat
from specs.faults.memory import Memory, Stored
from specs.query import ModelFile

BYTE = 8
"""Bits of the widest integers that are written."""
AXES = 13
"""The opset from which on DequantizeLinear has an axis."""
OTHER = "other/"
"""What the tensors of the second model are prefixed with."""


def stored_model(memory: Memory) -> bytes:
    """The model file with the stored values of its parameters, exactly.

    A parameter whose values its own type holds is rewritten; integers of at most 8 bits become
    an initializer of integers behind DequantizeLinear.

    Raises:
        QuestionError: some parameter can be written in neither way.
    """
    model = onnx.ModelProto.FromString(memory.placed.model.content)
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    made: list[onnx.NodeProto] = []
    for name, stored in memory.stored.items():
        tensor = tensors[name]
        dtype = np.dtype(numpy_helper.to_array(tensor).dtype)
        shape = tuple(tensor.dims)
        if np.array_equal(stored.values, numpy_helper.to_array(tensor).reshape(-1)):
            continue
        with np.errstate(over="ignore"):
            values = stored.values.astype(dtype)
        if np.array_equal(values.astype(np.float64), stored.values):
            tensor.CopyFrom(numpy_helper.from_array(values.reshape(shape), name))
            continue
        written = _integers(stored)
        opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        if written is None or dtype != np.float32 or max(opsets, default=0) < AXES:
            raise QuestionError(
                f"parameter '{name}': {dtype} holds not all values of {stored.format.text}, and "
                f"only integers of at most {BYTE} bits, of float32 parameters and from opset "
                f"{AXES} on, are written otherwise: questions over boxes cannot be stated"
            )
        graph.initializer.remove(tensor)
        format, words = written
        graph.initializer.extend(_quantised(name, format, words.reshape(shape)))
        for entry in [entry for entry in graph.input if entry.name == name]:
            graph.input.remove(entry)
        names = [f"{name}/{part}" for part in ("words", "scale", "zero")]
        node = helper.make_node("DequantizeLinear", names, [name])
        if len(format.scale) > 1:
            node.attribute.append(helper.make_attribute("axis", format.axis))
        made.append(node)
    nodes = [*made, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    content: bytes = model.SerializeToString()
    return content


def _integers(stored: Stored) -> tuple[IntegerFormat, IndexArray] | None:
    """The format and the integers that words stand for; ``None``: they are none, or too wide."""
    format = stored.format
    if not isinstance(format, IntegerFormat) or format.bits > BYTE:
        return None
    words = stored.words.astype(np.int64)
    if format.signed:
        words = np.where(words >= 1 << (format.bits - 1), words - (1 << format.bits), words)
    return format, np.asarray(words)


def _quantised(name: str, format: IntegerFormat, words: IndexArray) -> list[onnx.TensorProto]:
    kind = np.int8 if format.signed else np.uint8
    scale, zero = np.array(format.scale, np.float32), np.array(format.zero, kind)
    if len(format.scale) == 1:
        scale, zero = scale.reshape(()), zero.reshape(())
    return [
        numpy_helper.from_array(words.astype(kind), f"{name}/words"),
        numpy_helper.from_array(scale, f"{name}/scale"),
        numpy_helper.from_array(zero, f"{name}/zero"),
    ]


def side_by_side(first: ModelFile, second: ModelFile) -> bytes:
    """One model that computes both on the same inputs: first its outputs, then the other's.

    Raises:
        ModelError: their inputs, opsets or external data do not allow it.
    """
    one, two = (onnx.ModelProto.FromString(file.content) for file in (first, second))
    for model in (one, two):
        if any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
            raise ModelError("a model with external data cannot be set beside another")
    opsets = [{(e.domain or "ai.onnx"): e.version for e in m.opset_import} for m in (one, two)]
    if any(opsets[1].get(domain, v) != v for domain, v in opsets[0].items()):
        raise ModelError(
            f"the models use different opsets, {opsets[0]} and {opsets[1]}: convert one of them"
        )
    if one.functions or two.functions:
        raise ModelError("a model with functions of its own cannot be set beside another")
    inputs = [_inputs(model) for model in (one, two)]
    shapes = [[_shape(entry) for entry in own] for own in inputs]
    if shapes[0] != shapes[1]:
        raise ModelError(f"the models' inputs differ: {shapes[0]} and {shapes[1]}")
    renamed = onnx.compose.add_prefix(copy.deepcopy(two), OTHER)
    names = {OTHER + b.name: a.name for a, b in zip(inputs[0], inputs[1], strict=True)}
    graph = renamed.graph
    for node in graph.node:
        if any(attribute.type in (5, 10) for attribute in node.attribute):
            raise ModelError("a model with subgraphs cannot be set beside another")
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
    joined = onnx.ModelProto()
    joined.CopyFrom(one)
    taken = {name for node in one.graph.node for name in (*node.output, node.name)} - {""}
    if any(name.startswith(OTHER) for name in taken):
        raise ModelError(f"the first model has tensors whose names begin with '{OTHER}'")
    joined.graph.node.extend(graph.node)
    joined.graph.initializer.extend(graph.initializer)
    joined.graph.output.extend(graph.output)
    joined.ir_version = max(one.ir_version, two.ir_version)
    content: bytes = joined.SerializeToString(deterministic=True)
    return content


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in model.graph.initializer}
    return [entry for entry in model.graph.input if entry.name not in stored]


def _shape(entry: onnx.ValueInfoProto) -> tuple[int, tuple[int | str, ...]]:
    tensor = entry.type.tensor_type
    extents = tuple(d.dim_value or d.dim_param for d in tensor.shape.dim)
    return tensor.elem_type, extents
