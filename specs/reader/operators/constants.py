"""Constants, shapes and casts."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader.calls import Call, operator
from specs.reader.operands import Array, Operand, Variable
from specs.reader.operators.elementwise import INTEGER_COST, integer_constant
from specs.reader.operators.logic import unequal_to_0
from specs.reader.tensors import (
    FLOATS,
    INTEGERS,
    KINDS,
    WIDENINGS,
    Constant,
    kind_name,
    read_tensor,
)

EXACT_IN = {
    (kind, target)
    for kind in (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16)
    for target in (TensorProto.FLOAT, TensorProto.DOUBLE)
} | {(TensorProto.INT32, TensorProto.DOUBLE)}
"""Casts of integers to types that hold all of them."""


@operator("Constant")
def constant(call: Call) -> Operand:
    if len(call.attributes) != 1:
        raise ModelError(f"it has {len(call.attributes)} values instead of one")
    if (stored := call.stored("value")) is not None:
        call.builder.claim(stored.dims)
        return read_tensor(stored, call.external)
    if "value_float" in call.attributes:
        return _floats(np.array(call.float("value_float", 0.0)))
    if "value_int" in call.attributes:
        return Constant(np.array(call.int("value_int", 0), dtype=np.int64), TensorProto.INT64)
    if (numbers := call.floats("value_floats")) is not None:
        return _floats(np.array(numbers, dtype=np.float64))
    if (whole := call.ints("value_ints")) is not None:
        return Constant(np.array(whole, dtype=np.int64), TensorProto.INT64)
    raise UnsupportedOperatorError(f"attribute '{next(iter(call.attributes))}' has no rule")


def _floats(values: Array) -> Constant:
    if not np.all(np.isfinite(values) | np.isneginf(values)):
        raise ModelError("it holds values that are not finite")
    return Constant(values, TensorProto.FLOAT)


@operator("ConstantOfShape")
def constant_of_shape(call: Call) -> Operand:
    shape = call.builder.claim(call.integers(0))
    stored = call.stored("value")
    if stored is None:
        return Constant(np.zeros(shape), TensorProto.FLOAT)
    if math.prod(stored.dims) != 1:
        raise ModelError("its value is not a single number")
    fill = read_tensor(stored, call.external)
    return Constant(np.full(shape, fill.value.reshape(())), fill.kind)


@operator("Shape", integers=True)
def shape_of(call: Call) -> Operand:
    shape = call.operand(0).shape
    rank = len(shape)
    edges = []
    for edge in (call.int("start", 0), call.int("end", rank)):
        edges.append(min(max(edge + rank if edge < 0 else edge, 0), rank))
    return Constant(np.array(shape[edges[0] : edges[1]], dtype=np.int64), TensorProto.INT64)


@operator("Size", integers=True)
def size_of(call: Call) -> Operand:
    size = math.prod(call.operand(0).shape)
    return Constant(np.array(size, dtype=np.int64), TensorProto.INT64)


@operator("Range")
def arange(call: Call) -> Operand:
    edges = [call.constant(position) for position in range(3)]
    kind = edges[0].kind
    if kind not in INTEGERS:
        raise UnsupportedOperatorError(f"a range of {kind_name(kind)} has no rule")
    if any(edge.value.size != 1 or edge.kind != kind for edge in edges):
        raise ModelError("its limits are not single integers of one type")
    start, limit, delta = (int(edge.value.reshape(())) for edge in edges)
    if delta == 0:
        raise ModelError("its step is 0")
    count = max(0, -((start - limit) // delta))
    call.builder.claim((INTEGER_COST, count))
    steps = list(range(start, limit, delta))
    return integer_constant(np.array(steps, dtype=object), kind)


@operator("Cast", integers=True)
def cast(call: Call) -> Operand:
    x, target = call.operand(0), call.int("to", 0)
    call.ignore("saturate", "round_mode")  # of eight-bit floats, which have no rule
    if target not in KINDS:
        raise UnsupportedOperatorError(f"a cast to element type {target} has no rule")
    if target == x.kind:
        return x
    name = f"a cast from {kind_name(x.kind)} to {kind_name(target)}"
    widens = (x.kind, target) in WIDENINGS
    if isinstance(x, Variable):
        if target == TensorProto.BOOL:
            return unequal_to_0(call.builder, x)
        if not widens and x.kind != TensorProto.BOOL and (x.kind, target) not in EXACT_IN:
            raise UnsupportedOperatorError(f"{name} rounds a variable tensor, which has no rule")
        return Variable(x.shape, target, x.affine)
    if widens:
        return Constant(x.value, target, x.radius)
    if x.radius is not None:
        raise UnsupportedOperatorError(f"{name} of a constant known by an enclosure only")
    if target == TensorProto.BOOL:
        return Constant(x.value != 0, target)
    if target in INTEGERS:
        call.builder.claim((INTEGER_COST, *x.shape))
        whole = np.trunc(x.value) if x.kind in FLOATS else x.value
        exact = np.array([int(entry) for entry in whole.reshape(-1)], dtype=object)
        return integer_constant(exact.reshape(x.shape), target)
    return Constant(_rounded(x.value, target), target)


def _rounded(values: Array, target: int) -> Array:
    """Values rounded to nearest in a floating type, as a cast defines it."""
    exact = values.astype(np.float64)
    if values.dtype == np.int64 and values.size and np.abs(exact).max() > 2.0**53:
        raise UnsupportedOperatorError("a cast of integers beyond 2**53 to real numbers")
    if target == TensorProto.BFLOAT16:
        bits = exact.astype(np.float32)
        # Round once only: values with more than bfloat16's eight bits are refused.
        if np.any(bits.astype(np.float64) != exact) or np.any(bits.view(np.uint32) & 0xFFFF):
            raise UnsupportedOperatorError("a cast that rounds constants to bfloat16")
        return exact
    with np.errstate(over="ignore"):
        rounded = exact.astype(FLOATS[target]).astype(np.float64)
    if not np.all(np.isfinite(rounded)):
        raise ModelError(f"constants leave the range of {FLOATS[target]}")
    return rounded
