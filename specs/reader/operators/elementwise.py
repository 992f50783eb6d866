"""Sums, differences and constant factors, and the same operators on constants."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader import rounding
from specs.reader.builder import Operand, Variable, common_shape
from specs.reader.calls import Call, operator, same_kind
from specs.reader.tensors import FLOATS, INTEGERS, KINDS, Constant, real

Array = npt.NDArray[Any]

INTEGER_COST = 16
"""What an integer computed exactly costs of the budget, in tensor entries."""


@operator("Add")
def add(call: Call) -> Operand:
    left, right = call.operand(0), call.operand(1)
    whole = _on_integers(call, left, right, np.add)
    return call.builder.add(left, right) if whole is None else whole


@operator("Sub")
def subtract(call: Call) -> Operand:
    left, right = call.operand(0), call.operand(1)
    whole = _on_integers(call, left, right, np.subtract)
    return call.builder.subtract(left, right) if whole is None else whole


@operator("Mul")
def multiply(call: Call) -> Operand:
    left, right = call.operand(0), call.operand(1)
    whole = _on_integers(call, left, right, np.multiply)
    if whole is not None:
        return whole
    if isinstance(right, Constant):
        return call.builder.scale(left, right)
    if isinstance(left, Constant):
        return call.builder.scale(right, left)
    raise UnsupportedOperatorError("a product of two variable tensors has no rule")


@operator("Div")
def divide(call: Call) -> Operand:
    left, right = call.operand(0), call.operand(1)
    whole = _on_integers(call, left, right, _truncated_quotient)
    if whole is not None:
        return whole
    if isinstance(right, Variable):
        raise UnsupportedOperatorError("a quotient by a variable tensor has no rule")
    if isinstance(left, Constant):
        call.builder.claim(common_shape(left.shape, right.shape))
        return real(rounding.divide(left.enclosure, right.enclosure), left.kind)
    return call.builder.scale(left, real(rounding.reciprocal(right.enclosure), right.kind))


@operator("Neg")
def negate(call: Call) -> Operand:
    x = call.operand(0)
    if isinstance(x, Constant) and x.kind in INTEGERS:
        return integer_constant(np.negative(_objects(call, x)), x.kind)
    return call.builder.negate(x)


@operator("Sum")
def total(call: Call) -> Operand:
    operands = call.operands()
    same_kind(*operands)
    return reduce(call.builder.add, operands)


@operator("Mean")
def mean(call: Call) -> Operand:
    operands = call.operands()
    same_kind(*operands)
    share = rounding.reciprocal(Enclosure(np.array(float(len(operands)))))
    summed = reduce(call.builder.add, operands)
    return call.builder.scale(summed, real(share, summed.kind))


@operator("Identity")
def identity(call: Call) -> Operand:
    return call.operand(0)


@operator("Dropout")
def dropout(call: Call) -> Operand:
    call.ignore("ratio", "seed")
    training = call.optional_constant(2)
    if training is not None and np.any(training.value):
        raise UnsupportedOperatorError("dropout in training mode has no rule")
    return call.operand(0)


@operator("Sqrt")
def square_root(call: Call) -> Operand:
    return real(rounding.square_root(call.constant(0).enclosure), call.operand(0).kind)


@operator("Reciprocal")
def reciprocal(call: Call) -> Operand:
    return real(rounding.reciprocal(call.constant(0).enclosure), call.operand(0).kind)


@operator("Pow")
def power(call: Call) -> Operand:
    base, exponent = call.constant(0), call.constant(1)
    if exponent.radius is not None or exponent.value.size != 1:
        raise UnsupportedOperatorError("only whole constant powers have a rule")
    number = float(exponent.value.reshape(()))
    if not number.is_integer() or not 1 <= number <= 64 or len(exponent.shape) > len(base.shape):
        raise UnsupportedOperatorError(f"a power of {number} has no rule")
    if base.kind in INTEGERS:
        return integer_constant(_objects(call, base) ** int(number), base.kind)
    return real(rounding.power(base.enclosure, int(number)), base.kind)


@operator("Floor", "Ceil", "Sign")
def step(call: Call) -> Operand:
    x = call.constant(0)
    if x.radius is not None:
        raise UnsupportedOperatorError("a step of a constant known by an enclosure only")
    function = {"Floor": np.floor, "Ceil": np.ceil, "Sign": np.sign}[call.node.op_type]
    return Constant(function(x.value).astype(x.value.dtype), x.kind)


@operator("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Xor")
def compare(call: Call) -> Operand:
    left, right = call.constant(0), call.constant(1)
    same_kind(left, right)
    call.builder.claim(common_shape(left.shape, right.shape))
    if left.radius is not None or right.radius is not None:
        raise UnsupportedOperatorError("a comparison of constants known by an enclosure only")
    function: Any = {
        "Equal": np.equal,
        "Less": np.less,
        "Greater": np.greater,
        "LessOrEqual": np.less_equal,
        "GreaterOrEqual": np.greater_equal,
        "And": np.logical_and,
        "Or": np.logical_or,
        "Xor": np.logical_xor,
    }[call.node.op_type]
    return Constant(np.asarray(function(left.value, right.value)), _kind("bool"))


@operator("Not")
def invert(call: Call) -> Operand:
    x = call.constant(0)
    if KINDS[x.kind] != "bool":
        raise ModelError("the negation of values that are not Boolean")
    return Constant(np.logical_not(x.value), x.kind)


@operator("Where")
def where(call: Call) -> Operand:
    condition, left, right = call.constant(0), call.operand(1), call.operand(2)
    same_kind(left, right)
    if KINDS[condition.kind] != "bool":
        raise ModelError("its condition is not Boolean")
    builder = call.builder
    shape = common_shape(common_shape(condition.shape, left.shape), right.shape)
    mask = np.broadcast_to(condition.value, builder.claim(shape))
    if left.kind not in FLOATS:
        chosen = np.where(mask, call.constant(1).value, call.constant(2).value)
        return Constant(chosen, left.kind)
    first = builder.view(
        builder.broadcast(left, shape), lambda array, fill: np.where(mask, array, fill)
    )
    second = builder.view(
        builder.broadcast(right, shape), lambda array, fill: np.where(mask, fill, array)
    )
    return builder.add(first, second)


def integer_constant(values: Any, kind: int) -> Constant:
    """A constant of an integer type from exact integers.

    Raises:
        ModelError: a value lies outside its type, where runtimes would wrap around.
    """
    array = np.asarray(values, dtype=object)
    limits = np.iinfo(KINDS[kind])
    upper = min(int(limits.max), 2**63 - 1)
    if array.size and not (limits.min <= array.min() and array.max() <= upper):
        raise ModelError(f"constants leave the range of {KINDS[kind]}")
    return Constant(array.astype(np.int64), kind)


def _on_integers(
    call: Call, left: Operand, right: Operand, function: Callable[[Any, Any], Any]
) -> Constant | None:
    """The result for integer constants; ``None`` when the operands are real."""
    same_kind(left, right)
    if left.kind not in INTEGERS:
        return None
    if isinstance(left, Variable) or isinstance(right, Variable):
        raise ModelError("a variable tensor of integers")
    call.builder.claim((INTEGER_COST, *common_shape(left.shape, right.shape)))
    return integer_constant(function(_objects(call, left), _objects(call, right)), left.kind)


def _objects(call: Call, constant: Constant) -> Array:
    call.builder.claim((INTEGER_COST, *constant.shape))
    return constant.value.astype(object)


def _truncated_quotient(left: Array, right: Array) -> Array:
    if np.any(right == 0):
        raise ModelError("an integer is divided by 0")
    sign = np.sign(left) * np.sign(right)
    quotient: Array = sign * (np.abs(left) // np.abs(right))
    return quotient


def _kind(name: str) -> int:
    return next(kind for kind, text in KINDS.items() if text == name)
