"""Piecewise linear operators, rewritten to Relu and linear nodes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from specs.enclosure import Enclosure
from specs.errors import ModelError
from specs.reader import rounding
from specs.reader.builder import Builder
from specs.reader.calls import Call, operator, same_kind
from specs.reader.operands import Operand, Variable, common_shape, require_real
from specs.reader.operators.elementwise import integer_constant
from specs.reader.tensors import FLOATS, INTEGERS, Constant, real

PART_COST = 2048
"""What an operand of a maximum costs of the budget beside its entries."""
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}


@operator("Relu")
def relu(call: Call) -> Operand:
    x = call.operand(0)
    require_real(x)
    return call.builder.relu(x)


@operator("LeakyRelu")
def leaky_relu(call: Call) -> Operand:
    x = call.operand(0)
    alpha = np.array(call.float("alpha", float(np.float32(0.01))))
    return bent(call.builder, x, Constant(alpha, x.kind))


@operator("PRelu")
def prelu(call: Call) -> Operand:
    x, slope = call.operand(0), call.constant(1)
    same_kind(x, slope)
    if common_shape(x.shape, slope.shape) != x.shape:
        raise ModelError(f"slopes of shape {slope.shape} do not fit {x.shape}")
    return bent(call.builder, x, slope)


@operator("Abs")
def absolute(call: Call) -> Operand:
    x = call.operand(0)
    if isinstance(x, Constant) and x.kind in INTEGERS:
        return integer_constant(np.abs(x.value.astype(object)), x.kind)
    return bent(call.builder, x, Constant(np.array(-1.0), x.kind))


@operator("Max", integers=True)
def maximum(call: Call) -> Operand:
    return _extreme(call, larger)


@operator("Min", integers=True)
def minimum(call: Call) -> Operand:
    return _extreme(call, smaller)


@operator("Clip")
def clip(call: Call) -> Operand:
    x = call.operand(0)
    if call.opset < 11:
        bounds = [
            Constant(np.array(call.float(name, 0.0)), x.kind) if name in call.attributes else None
            for name in ("min", "max")
        ]
    else:
        bounds = [call.optional_constant(1), call.optional_constant(2)]
    same_kind(x, *(bound for bound in bounds if bound is not None))
    if any(bound is not None and bound.value.size != 1 for bound in bounds):
        raise ModelError("a bound is not a single number")
    if isinstance(x, Constant) and x.kind in INTEGERS:
        low, high = (None if bound is None else int(bound.value.reshape(())) for bound in bounds)
        if low is not None and high is not None and low > high:
            raise ModelError(f"its lower bound {low} exceeds its upper bound {high}")
        return integer_constant(np.clip(x.value, low, high), x.kind)
    require_real(x)
    return clipped(call.builder, x, _bound(bounds[0], -1), _bound(bounds[1], 1))


@operator("HardSigmoid")
def hard_sigmoid(call: Call) -> Operand:
    x = call.operand(0)
    slope = call.float("alpha", float(np.float32(0.2)))
    shift = call.float("beta", 0.5)
    return hard_sigmoid_of(call.builder, x, slope, shift)


def hard_sigmoid_of(builder: Builder, x: Operand, slope: float, shift: float) -> Operand:
    """``min(max(slope * x + shift, 0), 1)``."""
    require_real(x)
    line = builder.scale(x, Constant(np.array(slope), x.kind))
    line = builder.add(line, Constant(np.array(shift), x.kind))
    line = builder.rounded(line, factors=3)  # of the product, and of both numbers
    ends = [Constant(np.array(end), x.kind) for end in (0.0, 1.0)]
    return clipped(builder, line, *ends)


def bent(builder: Builder, x: Operand, slope: Constant) -> Operand:
    """``x`` above 0, ``slope * x`` below: ``slope x + (1 - slope) relu(x)``."""
    require_real(x)
    if isinstance(x, Variable):
        x = builder.finished(x)
    rest = real(rounding.subtract(Enclosure(np.ones(())), slope.enclosure), slope.kind)
    return builder.add(builder.scale(x, slope), builder.scale(builder.relu(x), rest))


def larger(builder: Builder, left: Operand, right: Operand) -> Operand:
    """``max(a, b) = b + relu(a - b)``."""
    if isinstance(left, Constant) and isinstance(right, Constant):
        if left.kind not in FLOATS:
            return integer_constant(np.maximum(left.value, right.value), left.kind)
        return real(rounding.maximum(left.enclosure, right.enclosure), left.kind)
    if isinstance(left, Constant):
        left, right = right, left
    right = shareable(builder, right)
    return builder.add(right, builder.relu(builder.subtract(left, right)))


def smaller(builder: Builder, left: Operand, right: Operand) -> Operand:
    """``min(a, b) = b - relu(b - a)``."""
    if isinstance(left, Constant) and isinstance(right, Constant) and left.kind not in FLOATS:
        return integer_constant(np.minimum(left.value, right.value), left.kind)
    if isinstance(left, Constant) and isinstance(right, Constant):
        opposite = larger(builder, builder.negate(left), builder.negate(right))
        return builder.negate(opposite)
    if isinstance(left, Constant):
        left, right = right, left
    right = shareable(builder, right)
    return builder.subtract(right, builder.relu(builder.subtract(right, left)))


def clipped(builder: Builder, x: Operand, low: Constant | None, high: Constant | None) -> Operand:
    """``min(max(x, low), high)``, with bounds in their order.

    Raises:
        ModelError: ``low`` may exceed ``high``.
    """
    if low is not None and high is not None:
        gap = rounding.subtract(high.enclosure, low.enclosure)
        if np.any(gap.value < (0.0 if gap.radius is None else gap.radius)):
            raise ModelError(
                f"its lower bound {float(low.value.reshape(()))} exceeds its upper bound "
                f"{float(high.value.reshape(()))}"
            )
    if low is not None:
        x = larger(builder, x, real(_scalar(low), low.kind))
    if high is not None:
        x = smaller(builder, x, real(_scalar(high), high.kind))
    return x


def tree(combine: Callable[[Operand, Operand], Operand], operands: Sequence[Operand]) -> Operand:
    """The operands combined in pairs, so that depth grows with the logarithm."""
    level = list(operands)
    while len(level) > 1:
        pairs = [combine(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def _extreme(call: Call, combine: Callable[[Builder, Operand, Operand], Operand]) -> Operand:
    operands = call.operands()
    same_kind(*operands)
    shape = functools.reduce(common_shape, (operand.shape for operand in operands))
    # Constants first: they fold into one.
    operands.sort(key=lambda operand: isinstance(operand, Variable))
    wide = [call.builder.broadcast(operand, shape) for operand in operands]
    return tree(functools.partial(combine, call.builder), wide)


def shareable(builder: Builder, operand: Operand) -> Operand:
    """An operand that is used twice: a node, unless it only moves entries."""
    if isinstance(operand, Variable) and not operand.affine.is_view:
        return builder.finished(operand)
    return operand


def _bound(bound: Constant | None, sign: int) -> Constant | None:
    """A bound, unless it is the largest number of its type or infinity: there is none."""
    if bound is None or bound.radius is not None:
        return bound
    name = FLOATS[bound.kind]
    largest = LARGEST.get(name) or float(np.finfo(name).max)
    none = np.isin(bound.value, (sign * largest, sign * np.inf))
    return None if np.all(none) else bound


def _scalar(constant: Constant) -> Enclosure:
    enclosure = constant.enclosure
    radius = None if enclosure.radius is None else enclosure.radius.reshape(())
    return Enclosure(enclosure.value.reshape(()), radius)
