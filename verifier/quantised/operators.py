"""Quantising and dequantising, elementwise float32 operators, and what only moves entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import TensorProto

from specs.errors import UnsupportedOperatorError
from verifier.quantised.calls import (
    RANGES,
    Array,
    Call,
    Fixed,
    Integers,
    Tensor,
    operator,
    shape_of,
)
from verifier.quantised.reals import Reals, quantised
from verifier.quantised.windows import OUTSIDE, windows

FLOAT = TensorProto.FLOAT


def _spread(call: Call, parameter: Array, shape: tuple[int, ...]) -> Array:
    """A step or zero point as the tensor it belongs to broadcasts with it."""
    if parameter.size == 1:
        call.attribute("axis", 1)
        return parameter.reshape(())
    axis = call.attribute("axis", 1)
    if not -len(shape) <= axis < len(shape) or parameter.shape != (shape[axis],):
        raise UnsupportedOperatorError(f"steps of shape {parameter.shape} for a tensor of {shape}")
    return parameter.reshape(-1, *(1,) * (len(shape) - axis % len(shape) - 1))


def _ignored(call: Call) -> None:
    call.only("block_size", 0)
    call.only("precision", 0, FLOAT)
    call.attribute("saturate", 1)  # of 8-bit floats


@operator("QuantizeLinear")
def quantize_linear(call: Call) -> Tensor:
    """``saturate(round(float32(x / step)) + zero)``."""
    _ignored(call)
    x = call.reals(0)
    stated = call.attribute("output_dtype", 0)
    zero = None if call.optional(2) is None else call.fixed(2)
    kind = stated or (TensorProto.UINT8 if zero is None else zero.kind)
    if kind not in RANGES or (zero is not None and zero.kind != kind):
        raise UnsupportedOperatorError("the type that it quantises to has no rule")
    offset = np.zeros((), dtype=np.int64) if zero is None else zero.value
    steps, zeros = (_spread(call, p, x.shape) for p in (call.float32(1), offset))
    return Integers(quantised(call.builder, x, steps, zeros, *RANGES[kind]), kind)


@operator("DequantizeLinear")
def dequantize_linear(call: Call) -> Tensor:
    """``float32((q - zero) * step)``."""
    _ignored(call)
    call.only("output_dtype", 0, FLOAT)
    q, step = call.operand(0), call.float32(1)
    if isinstance(q, Reals) or q.kind not in (*RANGES, TensorProto.INT32):
        raise UnsupportedOperatorError("what it dequantises is not of 8, 16 or 32 bits")
    zero = np.zeros((), dtype=np.int64)
    if call.optional(2) is not None:
        zero = call.fixed(2, (q.kind,)).value
    step, zero = (_spread(call, p, shape_of(q)) for p in (step, zero))
    if isinstance(q, Fixed):
        whole = q.value - zero
        steps = np.broadcast_to(step, whole.shape)
        return Fixed(whole.astype(np.float32) * steps, FLOAT, whole, steps)
    zeros = np.broadcast_to(zero, q.keys.shape)
    return Reals(q.keys, zeros).then("multiply", step)


@operator("Cast")
def cast(call: Call) -> Tensor:
    """Integers to float32, rounded to nearest."""
    call.attribute("saturate", 1)
    call.attribute("round_mode", "up")
    if call.attribute("to", 0) != FLOAT:
        raise UnsupportedOperatorError("a cast to anything but float32 has no rule")
    x = call.operand(0)
    if isinstance(x, Fixed):
        return Fixed(x.value.astype(np.float32), FLOAT)
    return x if isinstance(x, Reals) else Reals(x.keys, np.zeros_like(x.keys))


@operator("Relu")
def relu(call: Call) -> Tensor:
    """In float32."""
    return call.reals(0).then("maximum", np.zeros((), dtype=np.float32))


@operator("Clip")
def clip(call: Call) -> Tensor:
    """In float32."""
    x = call.reals(0)
    for position, name, operation in ((1, "min", "maximum"), (2, "max", "minimum")):
        if call.opset < 11:
            end = call.attribute(name, None)
        else:
            end = None if call.optional(position) is None else call.single(position)
        if end is not None:
            x = x.then(operation, np.asarray(end, dtype=np.float32))
    return x


def _pair(call: Call) -> tuple[Reals, Array, bool]:
    """The variable operand, the constant one, and whether that stands first."""
    first = isinstance(call.operand(0), Fixed)
    return call.reals(int(first)), call.float32(int(not first)), first


@operator("Add", "Mul", "Sub", "Div")
def elementwise(call: Call) -> Tensor:
    """With a constant, in float32."""
    x, constant, first = _pair(call)
    name = call.node.op_type
    if name == "Sub" and first:
        return x.then("multiply", np.float32(-1).reshape(())).then("add", constant)
    if name == "Div" and (first or np.any(constant == 0)):
        raise UnsupportedOperatorError("a quotient by what varies or is 0 has no rule")
    if name == "Sub":
        return x.then("add", -constant)
    return x.then({"Add": "add", "Mul": "multiply", "Div": "divide"}[name], constant)


@operator("MaxPool")
def max_pool(call: Call) -> Tensor:
    """Of integers, or of float32 entries that are one rising function of their keys."""
    x = call.operand(0)
    if isinstance(x, Fixed) or len(call.node.output) > 1:
        raise UnsupportedOperatorError("a pool of constants or with indices has no rule")
    if isinstance(x, Reals):
        parts = [x.zero, *(step.constant for step in x.chain)]
        if any(np.unique(part).size > 1 for part in parts) or np.any(x.sign < 0) or not x.exact:
            raise UnsupportedOperatorError("a pool of entries with different steps has no rule")
    call.only("ceil_mode", 0)
    call.only("storage_order", 0)
    kernel = tuple(call.attribute("kernel_shape", ()))
    seen = windows(call, x.keys, kernel)
    keys = np.empty(seen.shape[: x.keys.ndim], dtype=np.int64)
    for place in np.ndindex(keys.shape):
        inside = seen[place].reshape(-1)
        keys[place] = call.builder.largest([k for k in inside.tolist() if k != OUTSIDE])
    if isinstance(x, Integers):
        return replace(x, keys=keys)
    same = x.arranged(lambda array: np.broadcast_to(array.reshape(-1)[:1], keys.shape))
    return replace(same, keys=keys)


def _moved(call: Call, by: Callable[[Array], Array]) -> Tensor:
    try:
        return call.operand(0).arranged(by)
    except ValueError as error:
        raise UnsupportedOperatorError(f"it does not fit its input: {error}") from None


@operator("Identity")
def identity(call: Call) -> Tensor:
    """As it is."""
    return call.operand(0)


@operator("Reshape")
def reshape(call: Call) -> Tensor:
    """To a constant shape."""
    call.only("allowzero", 0)
    old = shape_of(call.operand(0))
    wanted = call.fixed(1, (TensorProto.INT64,)).value.tolist()
    if any(extent == 0 and at >= len(old) for at, extent in enumerate(wanted)):
        raise UnsupportedOperatorError(f"shape {wanted} for a tensor of {old}")
    shape = [old[at] if extent == 0 else extent for at, extent in enumerate(wanted)]
    return _moved(call, lambda array: array.reshape(shape))


@operator("Flatten")
def flatten(call: Call) -> Tensor:
    """To a matrix."""
    shape = shape_of(call.operand(0))
    axis = call.attribute("axis", 1)
    rows = int(np.prod(shape[: axis % len(shape) if axis < 0 else axis], dtype=np.int64))
    return _moved(call, lambda array: array.reshape(rows, -1))


@operator("Transpose")
def transpose(call: Call) -> Tensor:
    """Axes in another order."""
    order = call.attribute("perm", None)
    return _moved(call, lambda array: array.transpose(order))


@operator("Squeeze", "Unsqueeze")
def squeeze(call: Call) -> Tensor:
    """Axes of length 1 taken away or put in."""
    if call.opset < 13:
        axes = call.attribute("axes", None)
    else:
        given = call.optional(1)
        axes = None if given is None else call.fixed(1, (TensorProto.INT64,)).value.tolist()
    chosen = None if axes is None else tuple(axes)
    if call.node.op_type == "Squeeze":
        return _moved(call, lambda array: array.squeeze(chosen))
    if chosen is None:
        raise UnsupportedOperatorError("its axes are missing")
    return _moved(call, lambda array: np.expand_dims(array, chosen))
