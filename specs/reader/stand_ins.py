"""Variables in place of what an operator without a rule computes.

They serve only to find further operators without a rule behind it, so that a refusal names
all of them: the network that they stand in is never handed out.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import onnx
from onnx import NodeProto, TensorProto, TypeProto, helper, numpy_helper
from onnx.shape_inference import infer_node_outputs

from specs.errors import ModelError
from specs.network import RESERVED
from specs.reader.builder import Builder
from specs.reader.operands import Value, common_shape
from specs.reader.tensors import KINDS, Constant

SMALL = 2**10
"""Entries of a constant up to which its values may decide a shape."""

Form = tuple[tuple[int, ...], int]
"""Shape and element type."""


def stand_ins(
    node: NodeProto, values: Mapping[str, Value | None], opset: int, builder: Builder
) -> list[Value | None]:
    """A variable for each output whose shape can be told, ``None`` for the others."""
    operands = {name: values.get(name) for name in node.input if name}
    known = {name: operand for name, operand in operands.items() if operand is not None}
    forms: dict[str, Form] = {}
    if len(known) == len(operands):
        forms = _inferred(node, known, opset) or _guessed(node, known)
    made: list[Value | None] = []
    for name in node.output:
        try:
            shape, kind = forms[name]
            made.append(builder.input(f"{RESERVED}{name}", shape, kind))
        except (ModelError, LookupError):
            made.append(None)
    return made


def _inferred(node: NodeProto, operands: Mapping[str, Value], opset: int) -> dict[str, Form]:
    """What the operator's schema says of its outputs."""
    if node.domain not in ("", "ai.onnx"):
        return {}
    types = {
        name: helper.make_tensor_type_proto(operand.kind, operand.shape)
        for name, operand in operands.items()
    }
    data = {
        name: _stored(operand)
        for name, operand in operands.items()
        if isinstance(operand, Constant) and operand.value.size <= SMALL
    }
    imports = [helper.make_opsetid("", opset)]
    try:
        schema = onnx.defs.get_schema(node.op_type, max_inclusive_version=opset, domain="")
        found = infer_node_outputs(schema, node, types, data, opset_imports=imports)
    except Exception:  # of whatever kind: a guess takes its place
        return {}
    return {name: form for name, kind in found.items() if (form := _form(kind)) is not None}


def _stored(constant: Constant) -> TensorProto:
    """The constant as a file would keep it; bfloat16 as float32, which decides no shape."""
    name = KINDS[constant.kind]
    return numpy_helper.from_array(constant.value.astype("float32" if name == "bfloat16" else name))


def _form(kind: TypeProto) -> Form | None:
    tensor = kind.tensor_type
    shape = tuple(d.dim_value for d in tensor.shape.dim)
    if not tensor.HasField("shape") or min(shape, default=1) < 1 or tensor.elem_type not in KINDS:
        return None
    return shape, tensor.elem_type


def _guessed(node: NodeProto, operands: Mapping[str, Value]) -> dict[str, Form]:
    """The operands broadcast, or the first of them, for an operator that nobody knows."""
    if not operands:
        return {}
    first = next(iter(operands.values()))
    try:
        shape = functools.reduce(common_shape, (operand.shape for operand in operands.values()))
    except ModelError:
        shape = first.shape
    return {name: (shape, first.kind) for name in node.output if name}
