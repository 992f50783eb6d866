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
from specs.reader.calls import Call, operator, same_kind
from specs.reader.operands import Operand, Value, Variable, common_shape
from specs.reader.operators.masks import is_masked, masked_sum
from specs.reader.tensors import INTEGERS, KINDS, Constant, real

Array = npt.NDArray[Any]

INTEGER_COST = 16
"""What an integer computed exactly costs of the budget, in tensor entries."""


@operator("Add")
def add(call: Call) -> Value:
    if is_masked(call.maskable(0)) or is_masked(call.maskable(1)):
        same_kind(call.maskable(0), call.maskable(1))
        return masked_sum(call.builder, call.maskable(0), call.maskable(1))
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


@operator("Mod")
def remainder(call: Call) -> Operand:
    left, right = call.constant(0), call.constant(1)
    function = _truncated_remainder if call.int("fmod", 0) else np.mod
    if left.kind in INTEGERS and np.any(right.value == 0):
        raise ModelError("an integer is divided by 0")
    whole = on_integers(call, left, right, function)
    if whole is None:
        raise UnsupportedOperatorError("a remainder of real numbers has no rule")
    return whole


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


def _truncated_remainder(left: Array, right: Array) -> Array:
    """The remainder with the sign of the dividend."""
    remainder: Array = np.sign(left) * (np.abs(left) % np.abs(right))
    return remainder
