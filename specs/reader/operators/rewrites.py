"""Piecewise linear functions, rewritten to Relu."""

from __future__ import annotations

from functools import reduce

import numpy as np

from specs.enclosure import Enclosure
from specs.errors import ModelError
from specs.reader import rounding
from specs.reader.builder import Builder, Operand, common_shape, require_real
from specs.reader.calls import Call, operator, same_kind
from specs.reader.tensors import FLOATS, Constant, real

_LARGEST = float(np.finfo(np.float32).max)


@operator("Relu")
def relu(call: Call) -> Operand:
    require_real(call.operand(0))
    return call.builder.relu(call.operand(0))


@operator("LeakyRelu")
def leaky_relu(call: Call) -> Operand:
    x = call.operand(0)
    slope = Constant(np.array(call.float("alpha", float(np.float32(0.01)))), x.kind)
    return _leaky(call.builder, x, slope)


@operator("PRelu")
def prelu(call: Call) -> Operand:
    x, slope = call.operand(0), call.constant(1)
    same_kind(x, slope)
    if common_shape(x.shape, slope.shape) != x.shape:
        raise ModelError(f"slopes of shape {slope.shape} do not fit a tensor of shape {x.shape}")
    return _leaky(call.builder, x, slope)


@operator("Abs")
def absolute(call: Call) -> Operand:
    x = call.operand(0)
    if isinstance(x, Constant) and x.kind not in FLOATS:
        return Constant(np.abs(x.value), x.kind)
    builder = call.builder
    twice = builder.scale(builder.relu(x), Constant(np.array(2.0), x.kind))
    return builder.subtract(twice, x)


@operator("Max")
def largest(call: Call) -> Operand:
    operands = _real_operands(call)
    return reduce(lambda a, b: maximum(call.builder, a, b), operands)


@operator("Min")
def smallest(call: Call) -> Operand:
    operands = _real_operands(call)
    return reduce(lambda a, b: minimum(call.builder, a, b), operands)


@operator("Clip")
def clip(call: Call) -> Operand:
    x = call.operand(0)
    require_real(x)
    if call.opset < 11:
        limits = [call.float("min", -_LARGEST), call.float("max", _LARGEST)]
        low, high = (Constant(np.array(limit), x.kind) for limit in limits)
    else:
        given = [call.optional_constant(position) for position in (1, 2)]
        for limit in given:
            if limit is not None and (limit.value.size != 1 or limit.kind != x.kind):
                raise ModelError("its bounds are not single numbers of the tensor's type")
        low, high = (
            _scalar(limit, sign * _LARGEST, x.kind)
            for limit, sign in zip(given, (-1, 1), strict=True)
        )
    if low.radius is not None or high.radius is not None or float(low.value) > float(high.value):
        raise ModelError(f"it clips to [{float(low.value)}, {float(high.value)}], which is empty")
    if float(low.value) > -_LARGEST:
        x = maximum(call.builder, x, low)
    if float(high.value) < _LARGEST:
        x = minimum(call.builder, x, high)
    return x


@operator("HardSigmoid")
def hard_sigmoid(call: Call) -> Operand:
    x, builder = call.operand(0), call.builder
    require_real(x)
    alpha = call.float("alpha", float(np.float32(0.2)))
    beta = call.float("beta", 0.5)
    line = builder.add(
        builder.scale(x, Constant(np.array(alpha), x.kind)), Constant(np.array(beta), x.kind)
    )
    zero, one = (Constant(np.array(number), x.kind) for number in (0.0, 1.0))
    return minimum(builder, maximum(builder, line, zero), one)


def maximum(builder: Builder, a: Operand, b: Operand) -> Operand:
    """``max(a, b) = b + relu(a - b)``."""
    return builder.add(b, builder.relu(builder.subtract(a, b)))


def minimum(builder: Builder, a: Operand, b: Operand) -> Operand:
    """``min(a, b) = b - relu(b - a)``."""
    return builder.subtract(b, builder.relu(builder.subtract(b, a)))


def _leaky(builder: Builder, x: Operand, slope: Constant) -> Operand:
    """``slope * x + (1 - slope) * relu(x)``."""
    require_real(x)
    rest = real(rounding.subtract(Enclosure(np.array(1.0)), slope.enclosure), x.kind)
    return builder.add(builder.scale(x, slope), builder.scale(builder.relu(x), rest))


def _real_operands(call: Call) -> list[Operand]:
    operands = call.operands()
    same_kind(*operands)
    for operand in operands:
        require_real(operand)
    return operands


def _scalar(limit: Constant | None, missing: float, kind: int) -> Constant:
    if limit is None:
        return Constant(np.array(missing), kind)
    radius = None if limit.radius is None else limit.radius.reshape(())
    return Constant(limit.value.reshape(()), limit.kind, radius)
