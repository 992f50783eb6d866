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
    whole = on_integers(call, left, right, np.add)
    return call.builder.add(left, right) if whole is None else whole


@operator("Sub")
def subtract(call: Call) -> Operand:
    left, right = call.operand(0), call.operand(1)
    whole = on_integers(call, left, right, np.subtract)
    return call.builder.subtract(left, right) if whole is None else whole


@operator("Neg")
def negate(call: Call) -> Operand:
    x = call.operand(0)
    if isinstance(x, Constant) and x.kind in INTEGERS:
        return integer_constant(np.negative(objects(call, x)), x.kind)
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
    summed = call.builder.rounded(reduce(call.builder.add, operands))
    return call.builder.scale(summed, real(share, summed.kind))


@operator("Identity", integers=True)
def identity(call: Call) -> Operand:
    return call.operand(0)


@operator("Dropout")
def dropout(call: Call) -> Operand:
    call.ignore("ratio", "seed")
    training = call.optional_constant(2)
    if training is not None and np.any(training.value):
        raise UnsupportedOperatorError("dropout in training mode has no rule")
    return call.operand(0)


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


def on_integers(
    call: Call, left: Operand, right: Operand, function: Callable[[Any, Any], Any]
) -> Constant | None:
    """The result for integer constants; ``None`` when the operands are real."""
    same_kind(left, right)
    if left.kind not in INTEGERS:
        return None
    if isinstance(left, Variable) or isinstance(right, Variable):
        raise ModelError("a variable tensor of integers")
    call.builder.claim((INTEGER_COST, *common_shape(left.shape, right.shape)))
    return integer_constant(function(objects(call, left), objects(call, right)), left.kind)


def objects(call: Call, constant: Constant) -> Array:
    call.builder.claim((INTEGER_COST, *constant.shape))
    return constant.value.astype(object)


def _kind(name: str) -> int:
    return next(kind for kind, text in KINDS.items() if text == name)
