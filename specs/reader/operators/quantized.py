"""Quantised operators: rounding half to even and saturation, with exact steps.

A quantised tensor stands for ``(q - zero) * scale``.  The integers ``q`` are kept as the real
numbers that they are; products with a scale are exact, and no integer arithmetic overflows
where the sizes rule it out.  Where they do not, the operator is refused.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from onnx import TensorProto

from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader import rounding
from specs.reader.builder import Builder
from specs.reader.calls import Call, operator, resolved_axis, same_kind
from specs.reader.operands import Operand, Variable, rearranged, require_real
from specs.reader.operators.dense import product
from specs.reader.operators.products import quotient
from specs.reader.operators.rewrites import larger, smaller
from specs.reader.operators.univariate import apply
from specs.reader.operators.windows import convolved
from specs.reader.tensors import FLOATS, KINDS, SHORT, Constant, kind_name, real

BYTES = (TensorProto.INT8, TensorProto.UINT8)
LARGEST_SUM = 2**31 - 1
LARGEST_PRODUCT = 255 * 255


@operator("QuantizeLinear")
def quantize_linear(call: Call) -> Operand:
    x, scale, zero = call.operand(0), call.constant(1), call.optional_constant(2)
    call.ignore("saturate", "precision")
    stated = call.int("output_dtype", 0)
    kind = stated or (TensorProto.UINT8 if zero is None else zero.kind)
    if zero is not None and zero.kind != kind:
        raise ModelError(f"its zero point is {kind_name(zero.kind)}, its result {kind_name(kind)}")
    scale, zero = _spread(call, x, scale, zero)
    return quantized(call.builder, x, scale, zero, kind)


@operator("DequantizeLinear", integers=True)
def dequantize_linear(call: Call) -> Operand:
    x, scale, zero = call.operand(0), call.constant(1), call.optional_constant(2)
    stated = call.int("output_dtype", 0)
    if stated not in (0, scale.kind):
        raise UnsupportedOperatorError(f"a result of type {kind_name(stated)} has no rule")
    scale, zero = _spread(call, x, scale, zero)
    return dequantized(call.builder, x, scale, zero)


@operator("QLinearMatMul", integers=True)
def quantized_matrix_product(call: Call) -> Operand:
    builder = call.builder
    left = dequantized(builder, call.operand(0), *_of_rows(call, 0, -2, 1))
    right = dequantized(builder, call.operand(3), *_of_rows(call, 3, -1, 4))
    scale, zero = _single(call, 6), _single(call, 7)
    return quantized(builder, product(builder, left, right), scale, zero, zero.kind)


@operator("QLinearConv", integers=True)
def quantized_convolution(call: Call) -> Operand:
    builder, weight = call.builder, call.constant(3)
    x = dequantized(builder, call.operand(0), _single(call, 1), _single(call, 2))
    scale, zero = _of_channels(weight, call.constant(4)), _of_channels(weight, call.constant(5))
    whole = dequantized(builder, weight, scale, zero)
    result = convolved(call, x, _constant(whole))
    bias = call.optional_constant(8)
    if bias is not None:
        if bias.kind != TensorProto.INT32 or bias.shape != result.shape[1:2]:
            raise ModelError(f"a bias of {kind_name(bias.kind)} of shape {bias.shape}")
        step = rounding.multiply(_single(call, 1).enclosure, call.constant(4).enclosure)
        added = dequantized(builder, bias, real(step, x.kind), None)
        along = (*bias.shape, *(1 for _ in result.shape[2:]))
        result = builder.add(result, builder.reshape(added, along))
    zero = _single(call, 7)
    return quantized(builder, result, _single(call, 6), zero, zero.kind)


@operator("MatMulInteger", integers=True)
def integer_matrix_product(call: Call) -> Operand:
    left = _centred(call.builder, call.operand(0), _row_zero(call, 0, 2, -2))
    right = _centred(call.builder, call.operand(1), _row_zero(call, 1, 3, -1))
    _refuse_overflow(call, left.shape[-1] if left.shape else 1)
    return _whole(product(call.builder, left, right))


@operator("ConvInteger", integers=True)
def integer_convolution(call: Call) -> Operand:
    builder, weight, zero = call.builder, call.constant(1), call.optional_constant(3)
    x_zero = None if call.optional(2) is None else _single(call, 2)
    x = _centred(builder, call.operand(0), x_zero)
    _refuse_overflow(call, math.prod(weight.shape[1:]))
    centred = _centred(builder, weight, None if zero is None else _of_channels(weight, zero))
    return _whole(convolved(call, x, _constant(centred)))


@operator("DynamicQuantizeLinear", integers=True)
def dynamic_quantize_linear(call: Call) -> Operand:
    raise UnsupportedOperatorError(
        "its step depends on the input, which has no rule; quantise with fixed steps"
    )


def quantized(
    builder: Builder, x: Operand, scale: Constant, zero: Constant | None, kind: int
) -> Operand:
    """``saturate(round(x / scale) + zero)``, rounded half to even, as integers of a type.

    Values are cut to the type's range before they are rounded, which comes to the same:
    the range's ends are integers.
    """
    require_real(x)
    if kind not in SHORT:
        raise UnsupportedOperatorError(f"quantisation to {kind_name(kind)} has no rule")
    limits, offset = np.iinfo(KINDS[kind]), _integers(zero)
    low = Constant(float(limits.min) - offset, x.kind)
    high = Constant(float(limits.max) - offset, x.kind)
    steps = quotient(builder, x, dataclasses.replace(scale, kind=x.kind))
    rounded = apply(builder, smaller(builder, larger(builder, steps, low), high), "round")
    result = builder.add(rounded, Constant(offset, x.kind))
    if isinstance(result, Constant):
        return Constant(result.value.astype(np.int64), kind)
    return dataclasses.replace(result, kind=kind)


def dequantized(builder: Builder, x: Operand, scale: Constant, zero: Constant | None) -> Operand:
    """``(x - zero) * scale``."""
    if x.kind not in (*SHORT, TensorProto.INT32) or scale.kind not in FLOATS:
        raise UnsupportedOperatorError(
            f"{kind_name(x.kind)} integers in steps of {kind_name(scale.kind)} have no rule"
        )
    if x.kind == TensorProto.INT32 and zero is not None and np.any(zero.value):
        raise ModelError("a zero point of int32 values other than 0")
    made = builder.scale(_centred(builder, x, zero), scale)
    return dataclasses.replace(made, kind=scale.kind)


def _centred(builder: Builder, x: Operand, zero: Constant | None) -> Operand:
    """``x - zero`` as real numbers."""
    if zero is not None:
        same_kind(x, zero)
    if isinstance(x, Constant):
        builder.claim(x.shape)
        x = Constant(x.value.astype(np.float64), TensorProto.DOUBLE)
    else:
        x = dataclasses.replace(x, kind=TensorProto.DOUBLE)
    return builder.add(x, Constant(-_integers(zero), TensorProto.DOUBLE))


def _integers(zero: Constant | None) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    if zero is None:
        return np.zeros(())
    if zero.kind in FLOATS:
        raise ModelError(f"a zero point of type {kind_name(zero.kind)}")
    return zero.value.astype(np.float64)


def _spread(
    call: Call, x: Operand, scale: Constant, zero: Constant | None
) -> tuple[Constant, Constant | None]:
    """Steps and zero points in a shape that broadcasts to ``x``: one, by axis, or by block."""
    axis, block = call.int("axis", 1), call.int("block_size", 0)
    if zero is not None and zero.shape != scale.shape:
        raise ModelError(f"a zero point of shape {zero.shape} for steps of shape {scale.shape}")
    if scale.value.size == 1 and not block:
        return _scalar(scale), None if zero is None else _scalar(zero)
    at = resolved_axis(axis, len(x.shape))
    if block:
        return _blocks(call, x, scale, at, block), (
            None if zero is None else _blocks(call, x, zero, at, block)
        )
    if scale.shape != (x.shape[at],):
        raise ModelError(f"steps of shape {scale.shape} do not fit axis {at} of {x.shape}")
    along = (x.shape[at],) + (1,) * (len(x.shape) - at - 1)
    return _reshaped(scale, along), None if zero is None else _reshaped(zero, along)


def _blocks(call: Call, x: Operand, constant: Constant, axis: int, block: int) -> Constant:
    shape = list(x.shape)
    shape[axis] = -(-x.shape[axis] // block) if block > 0 else -1
    if constant.shape != tuple(shape):
        raise ModelError(f"blocks of {block} of shape {constant.shape} do not fit {x.shape}")
    call.builder.claim(x.shape)
    places = np.arange(x.shape[axis]) // block
    return rearranged(constant, lambda array, _: np.take(array, places, axis=axis))


def _of_rows(call: Call, matrix: int, axis: int, scale: int) -> tuple[Constant, Constant]:
    """Step and zero point of a matrix, one or one per row or column."""
    rank = len(call.operand(matrix).shape)
    steps, zero = call.constant(scale), call.constant(scale + 1)
    return _along(steps, rank, axis), _along(zero, rank, axis)


def _row_zero(call: Call, matrix: int, zero: int, axis: int) -> Constant | None:
    found = call.optional_constant(zero)
    return None if found is None else _along(found, len(call.operand(matrix).shape), axis)


def _along(constant: Constant, rank: int, axis: int) -> Constant:
    if constant.value.size == 1:
        return _scalar(constant)
    if len(constant.shape) == 1 and rank == 2:
        return _reshaped(constant, (-1, 1) if axis == -2 else (1, -1))
    if len(constant.shape) != rank or constant.shape[-3 - axis] != 1:
        raise ModelError(f"parameters of shape {constant.shape} for a matrix of rank {rank}")
    return constant


def _of_channels(weight: Constant, constant: Constant) -> Constant:
    """One for the whole weight, or one for each of its channels."""
    if constant.value.size == 1:
        return _scalar(constant)
    if constant.shape != weight.shape[:1]:
        raise ModelError(f"parameters of shape {constant.shape} for weights of {weight.shape}")
    return _reshaped(constant, (*constant.shape, *(1 for _ in weight.shape[1:])))


def _single(call: Call, position: int) -> Constant:
    found = call.constant(position)
    if found.value.size != 1:
        raise UnsupportedOperatorError(
            f"input '{call.node.input[position]}' of shape {found.shape} is not a single number"
        )
    return _scalar(found)


def _scalar(constant: Constant) -> Constant:
    return _reshaped(constant, ())


def _reshaped(constant: Constant, shape: tuple[int, ...]) -> Constant:
    return rearranged(constant, lambda array, _: array.reshape(shape))


def _constant(operand: Operand) -> Constant:
    if isinstance(operand, Variable):
        raise ModelError("a variable tensor was taken for a constant one")
    return operand


def _whole(operand: Operand) -> Operand:
    """Real numbers that are known to be integers of 32 bits."""
    if isinstance(operand, Constant):
        return Constant(operand.value.astype(np.int64), TensorProto.INT32)
    return dataclasses.replace(operand, kind=TensorProto.INT32)


def _refuse_overflow(call: Call, count: int) -> None:
    kinds = {call.operand(position).kind for position in (0, 1)}
    if not kinds <= set(BYTES):
        raise ModelError(f"factors of type {' and '.join(map(kind_name, sorted(kinds)))}")
    if count * LARGEST_PRODUCT > LARGEST_SUM:
        raise UnsupportedOperatorError(f"sums of {count} products, which may overflow")
