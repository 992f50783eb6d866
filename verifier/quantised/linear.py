"""Sums of products: the integer operators, and products of dequantised numbers."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from specs.errors import UnsupportedOperatorError
from verifier.quantised.calls import RANGES, Array, Call, Fixed, Integers, Tensor, operator
from verifier.quantised.program import IntArray, ProgramBuilder
from verifier.quantised.reals import Reals, product, quantised
from verifier.quantised.windows import OUTSIDE, windows

BYTES = (TensorProto.INT8, TensorProto.UINT8)
WORD = 2**31


def _sums(
    builder: ProgramBuilder, keys: IntArray, weights: IntArray, zero: int, bias: IntArray
) -> IntArray:
    """Nodes of ``sum((keys - zero) * weights) + bias`` over the last axis, which both share."""
    keys, weights = np.broadcast_arrays(keys, weights)
    found = np.empty(keys.shape[:-1], dtype=np.int64)
    for place in np.ndindex(found.shape):
        inside = keys[place] != OUTSIDE
        factors = weights[place][inside].tolist()
        constant = int(bias[place]) - zero * sum(factors)
        found[place] = builder.sum(keys[place][inside].tolist(), factors, constant)
        low, high = builder.low[found[place]], builder.high[found[place]]
        if low < -WORD or high >= WORD:
            raise UnsupportedOperatorError("a sum of products may overflow int32")
    return found


def _columns(call: Call, shape: tuple[int, ...], weight: Array) -> None:
    if weight.ndim != 2 or not shape or shape[-1] != weight.shape[0]:
        raise UnsupportedOperatorError(
            f"a product of shapes {shape} and {weight.shape}: a constant matrix on the right "
            "is what has a rule"
        )


def _matrix(builder: ProgramBuilder, keys: IntArray, weight: IntArray, zero: int) -> IntArray:
    none = np.zeros((*keys.shape[:-1], weight.shape[1]), dtype=np.int64)
    return _sums(builder, keys[..., None, :], weight.T, zero, none)


def _convolution(call: Call, keys: IntArray, weight: IntArray, zero: int, bias: Array) -> IntArray:
    """Nodes ``(batch, channels, *places)``; ``bias`` has one entry for each channel."""
    groups = call.attribute("group", 1)
    kernel = tuple(call.attribute("kernel_shape", weight.shape[2:]))
    channels, per_group = weight.shape[0], weight.shape[1]
    if kernel != weight.shape[2:] or groups < 1 or channels % groups:
        raise UnsupportedOperatorError("kernel_shape or group does not fit the weight")
    if keys.ndim < 3 or keys.shape[1] != per_group * groups:
        raise UnsupportedOperatorError(f"a weight of {weight.shape} on a tensor of {keys.shape}")
    seen = np.moveaxis(windows(call, keys, kernel), 1, keys.ndim - 1)
    seen = seen.reshape(*seen.shape[: keys.ndim - 1], groups, -1)
    flat = weight.reshape(groups, channels // groups, -1)
    batch, places = seen.shape[0], seen.shape[1 : keys.ndim - 1]
    shape = (batch, *places, groups, channels // groups)
    spread = np.broadcast_to(bias.reshape(groups, -1), shape)
    found = _sums(call.builder, seen[..., None, :], flat, zero, spread)
    return np.moveaxis(found.reshape(batch, *places, channels), -1, 1)


def _whole_number(call: Call, position: int, kind: int) -> int:
    """A zero point that is one number, of the type of what it belongs to; 0 if left out."""
    if call.optional(position) is None:
        return 0
    return int(call.single(position, (kind,)))


def _zeros(call: Call, position: int, weight: Fixed, axis: int) -> IntArray:
    """The zero point of a constant weight, one or one along an axis, to be subtracted."""
    if call.optional(position) is None:
        return np.zeros((), dtype=np.int64)
    return _along(call.fixed(position, (weight.kind,)).value, weight, axis)


def _along(found: Array, weight: Fixed, axis: int) -> Array:
    if found.size == 1:
        return found.reshape(())
    if found.shape != (weight.value.shape[axis],):
        raise UnsupportedOperatorError(
            f"parameters of shape {found.shape} for a weight of shape {weight.value.shape}"
        )
    return found.reshape(tuple(-1 if a == axis else 1 for a in range(weight.value.ndim)))


@operator("MatMulInteger")
def matrix_integers(call: Call) -> Tensor:
    """Exact, in int32."""
    x, weight = call.integers(0, BYTES), call.fixed(1, BYTES)
    _columns(call, x.keys.shape, weight.value)
    centred = weight.value - _zeros(call, 3, weight, 1)
    keys = _matrix(call.builder, x.keys, centred, _whole_number(call, 2, x.kind))
    return Integers(keys, TensorProto.INT32)


@operator("ConvInteger")
def convolution_integers(call: Call) -> Tensor:
    """Exact, in int32; the padding counts as the zero point."""
    x, weight = call.integers(0, BYTES), call.fixed(1, BYTES)
    centred = weight.value - _zeros(call, 3, weight, 0)
    none = np.zeros(len(weight.value), dtype=np.int64)
    zero = _whole_number(call, 2, x.kind)
    return Integers(_convolution(call, x.keys, centred, zero, none), TensorProto.INT32)


def _requantised(call: Call, keys: IntArray, multiplier: Array, zero: int, kind: int) -> Integers:
    """``saturate(round(float32(sum) * multiplier) + zero)``, the product in float32."""
    if np.any(multiplier <= 0):
        raise UnsupportedOperatorError("a quantisation step that is not positive has no rule")
    sums = Reals(keys, np.zeros(keys.shape, dtype=np.int64)).then("multiply", multiplier)
    one, offset = np.ones((), dtype=np.float32), np.array(zero)
    return Integers(quantised(call.builder, sums, one, offset, *RANGES[kind]), kind)


@operator("QLinearMatMul")
def matrix_quantised(call: Call) -> Tensor:
    """The sums in int32, scaled by ``float32(float32(a * b) / y)`` of the three steps."""
    x, weight, result = call.integers(0, BYTES), call.fixed(3, BYTES), call.fixed(7, BYTES)
    _columns(call, x.keys.shape, weight.value)
    centred = weight.value - _zeros(call, 5, weight, 1)
    keys = _matrix(call.builder, x.keys, centred, _whole_number(call, 2, x.kind))
    steps = _along(call.float32(4), weight, 1).reshape(-1)
    multiplier = (call.single(1) * steps) / call.single(6)
    return _requantised(call, keys, multiplier, _whole_number(call, 7, result.kind), result.kind)


@operator("QLinearConv")
def convolution_quantised(call: Call) -> Tensor:
    """As QLinearMatMul; the bias is in int32."""
    x, weight, result = call.integers(0, BYTES), call.fixed(3, BYTES), call.fixed(7, BYTES)
    centred = weight.value - _zeros(call, 5, weight, 0)
    bias = np.zeros(len(weight.value), dtype=np.int64)
    if call.optional(8) is not None:
        bias = call.fixed(8, (TensorProto.INT32,)).value
        if bias.shape != (len(weight.value),):
            raise UnsupportedOperatorError(f"a bias of shape {bias.shape}")
    keys = _convolution(call, x.keys, centred, _whole_number(call, 2, x.kind), bias)
    steps = _along(call.float32(4), weight, 0).reshape(-1)
    multiplier = ((call.single(1) * steps) / call.single(6)).reshape(-1, *(1,) * (keys.ndim - 2))
    return _requantised(call, keys, multiplier, _whole_number(call, 7, result.kind), result.kind)


@operator("MatMul")
def matrix_dequantised(call: Call) -> Tensor:
    """A float32 product of dequantised numbers, summed in whatever order."""
    x, step, zero = _dequantised(call)
    weight, whole, steps = _weight(call, call.fixed(1), 1)
    _columns(call, x.shape, weight)
    return _sum_of_products(call, x, zero, step, whole.T, steps, None)


@operator("Gemm")
def gemm(call: Call) -> Tensor:
    """As MatMul, with a bias."""
    call.only("alpha", 1.0)
    call.only("beta", 1.0)
    call.only("transA", 0)
    x, step, zero = _dequantised(call)
    stored = call.fixed(1)
    if call.attribute("transB", 0):
        stored = stored.arranged(lambda array: array.T)
    weight, whole, steps = _weight(call, stored, 1)
    _columns(call, x.shape, weight)
    bias = None if call.optional(2) is None else call.float32(2)
    if bias is not None and (bias.ndim > 2 or bias.shape[:-1] not in ((), (1,))):
        raise UnsupportedOperatorError(f"a bias of shape {bias.shape}")
    return _sum_of_products(call, x, zero, step, whole.T, steps, bias)


@operator("Conv")
def convolution_dequantised(call: Call) -> Tensor:
    """A float32 convolution of dequantised numbers, summed in whatever order."""
    x, step, zero = _dequantised(call)
    weight, whole, steps = _weight(call, call.fixed(1), 0)
    bias = None if call.optional(2) is None else call.float32(2)
    if bias is not None and bias.shape != (len(weight),):
        raise UnsupportedOperatorError(f"a bias of shape {bias.shape}")
    none = np.zeros(len(weight), dtype=np.int64)
    keys = _convolution(call, x.keys, whole, zero, none)
    span = _span(call.builder, x.keys, zero)
    sizes = np.abs(whole).reshape(len(whole), -1).sum(axis=1) * (span * step * steps)
    along = (-1, *(1,) * (keys.ndim - 2))
    offset = np.zeros(len(whole)) if bias is None else bias.astype(np.float64)
    return product(
        keys,
        (step * steps).reshape(along),
        offset.reshape(along),
        (sizes + np.abs(offset)).reshape(along),
        whole[0].size + (bias is not None),
    )


def _dequantised(call: Call) -> tuple[Reals, float, int]:
    """The left factor, its one step and its one zero point."""
    x = call.reals(0)
    plain = len(x.chain) == 1 and x.chain[0].name == "multiply" and not x.places
    if plain and np.unique(x.chain[0].constant).size == 1 and np.unique(x.zero).size == 1:
        step = float(x.chain[0].constant.flat[0])
        if step > 0:
            return x, step, int(x.zero.flat[0])
    raise UnsupportedOperatorError(
        f"input '{call.node.input[0]}' is not the result of DequantizeLinear with one positive "
        "step; float arithmetic between has no rule under integer semantics"
    )


def _weight(call: Call, stored: Fixed, axis: int) -> tuple[Array, IntArray, Array]:
    """A weight, its integers, and the float64 step of each channel along ``axis``."""
    if stored.whole is None or stored.step is None:
        raise UnsupportedOperatorError(
            f"input '{call.node.input[1]}' is not the result of DequantizeLinear of a constant"
        )
    steps = np.moveaxis(stored.step, axis, 0).reshape(stored.step.shape[axis], -1)
    if np.any(steps != steps[:, :1]) or np.any(steps <= 0):
        raise UnsupportedOperatorError("a weight with several steps for one output has no rule")
    return stored.value, stored.whole, steps[:, 0].astype(np.float64)


def _span(builder: ProgramBuilder, keys: IntArray, zero: int) -> float:
    low = min(builder.low[key] for key in keys.flat) - zero
    high = max(builder.high[key] for key in keys.flat) - zero
    return float(max(abs(low), abs(high)))


def _sum_of_products(
    call: Call,
    x: Reals,
    zero: int,
    step: float,
    rows: IntArray,
    steps: Array,
    bias: Array | None,
) -> Tensor:
    keys = _matrix(call.builder, x.keys, rows.T, zero)
    sizes = np.abs(rows).sum(axis=1) * (_span(call.builder, x.keys, zero) * step * steps)
    offset = np.zeros(()) if bias is None else bias.astype(np.float64).reshape(-1)
    terms = rows.shape[1] + (bias is not None)
    return product(keys, step * steps, offset, sizes + np.abs(offset), terms)
