"""Operators that make, describe or convert constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader.builder import Operand, Variable
from specs.reader.calls import Call, operator
from specs.reader.tensors import (
    FLOATS,
    INTEGERS,
    KINDS,
    WIDENINGS,
    Constant,
    kind_name,
    read_tensor,
)

Array = npt.NDArray[Any]


@operator("Constant")
def constant(call: Call) -> Operand:
    names = sorted(call.attributes)
    if len(names) != 1:
        raise ModelError(f"it has the attributes {names} instead of one")
    name = names[0]
    if name == "value":
        stored = call.stored("value")
        if stored is None:
            raise ModelError("its attribute 'value' is empty")
        return read_tensor(stored, call.external)
    if name in ("value_float", "value_floats"):
        floats = call.floats(name) if name.endswith("s") else call.float(name, 0.0)
        return Constant(_finite(np.array(floats, dtype=np.float64)), TensorProto.FLOAT)
    if name in ("value_int", "value_ints"):
        whole = call.ints(name) if name.endswith("s") else call.int(name, 0)
        return Constant(np.array(whole, dtype=np.int64), TensorProto.INT64)
    raise UnsupportedOperatorError(f"its attribute '{name}' has no rule")


@operator("ConstantOfShape")
def constant_of_shape(call: Call) -> Operand:
    shape = call.builder.claim(call.integers(0))
    stored = call.stored("value")
    if stored is None:
        return Constant(np.zeros(shape), TensorProto.FLOAT)
    fill = read_tensor(stored, call.external)
    if fill.value.size != 1:
        raise ModelError(f"its value has {fill.value.size} entries instead of one")
    return Constant(np.broadcast_to(fill.value.reshape(()), shape), fill.kind)


@operator("Shape")
def shape(call: Call) -> Operand:
    extents = call.operand(0).shape
    rank = len(extents)
    start, end = call.int("start", 0), call.int("end", rank)
    chosen = extents[slice(start, end)]
    return Constant(np.array(chosen, dtype=np.int64), TensorProto.INT64)


@operator("Size")
def size(call: Call) -> Operand:
    return Constant(np.array(int(np.prod(call.operand(0).shape))), TensorProto.INT64)


@operator("Range")
def arange(call: Call) -> Operand:
    numbers = [call.constant(position) for position in range(3)]
    if any(n.kind not in INTEGERS or n.value.size != 1 for n in numbers):
        raise UnsupportedOperatorError("a range of anything but integers has no rule")
    start, limit, delta = (int(n.value.reshape(())) for n in numbers)
    if delta == 0:
        raise ModelError("a range with step 0")
    found = range(start, limit, delta)
    call.builder.claim((len(found),))
    return Constant(np.array(found, dtype=np.int64), numbers[0].kind)


@operator("Cast")
def cast(call: Call) -> Operand:
    x, kind = call.operand(0), call.int("to", 0)
    call.ignore("saturate")
    if kind not in KINDS:
        raise UnsupportedOperatorError(f"a cast to {kind_name(kind)} has no rule")
    if kind == x.kind:
        return x
    if isinstance(x, Variable):
        if (x.kind, kind) not in WIDENINGS:
            names = f"{kind_name(x.kind)} to {kind_name(kind)}"
            raise UnsupportedOperatorError(f"a cast of a variable tensor from {names} rounds")
        return Variable(x.shape, kind, x.affine)
    return _converted(x, kind)


def _converted(x: Constant, kind: int) -> Constant:
    """A constant in another type, rounded as the cast rounds."""
    if x.radius is not None:
        if (x.kind, kind) in WIDENINGS:
            return Constant(x.value, kind, x.radius)
        raise UnsupportedOperatorError("a cast of a constant known by an enclosure only")
    if kind in FLOATS:
        if KINDS[kind] == "bfloat16":
            raise UnsupportedOperatorError("a cast to bfloat16 has no rule")
        return Constant(_finite(x.value.astype(KINDS[kind]).astype(np.float64)), kind)
    if kind in INTEGERS:
        limits = np.iinfo(KINDS[kind])
        whole = np.trunc(x.value) if x.kind in FLOATS else x.value.astype(np.int64)
        low, high = max(limits.min, -(2**63)), min(limits.max, 2**63 - 1)
        if whole.size and not (whole.min() >= low and whole.max() <= high):
            raise ModelError(f"values that {KINDS[kind]} cannot hold are cast to it")
        return Constant(whole.astype(np.int64), kind)
    return Constant(x.value != 0, kind)


def _finite(values: Array) -> Array:
    if not np.all(np.isfinite(values)):
        raise ModelError("it holds values that are not finite")
    return values
