"""Comparisons, truth values and choices.

A truth value that depends on the inputs is a variable tensor of 0 and 1: a comparison is the
positive part of a sign, so that it is exact where both sides are equal, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader.builder import Builder
from specs.reader.calls import Call, operator, same_kind
from specs.reader.operands import Array, Operand, Value, Variable, common_shape
from specs.reader.operators.masks import is_masked, joined, split
from specs.reader.operators.products import times
from specs.reader.tensors import FLOATS, Constant, kind_name

BOOL = TensorProto.BOOL
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "Equal": np.equal,
    "Less": np.less,
    "Greater": np.greater,
    "LessOrEqual": np.less_equal,
    "GreaterOrEqual": np.greater_equal,
}
CONNECTIVES: dict[str, Callable[[Any, Any], Any]] = {
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}


@operator(*COMPARISONS, integers=True)
def compare(call: Call) -> Operand:
    builder, name = call.builder, call.node.op_type
    left, right = call.operand(0), call.operand(1)
    same_kind(left, right)
    if isinstance(left, Constant) and isinstance(right, Constant):
        return _folded(call, left, right, COMPARISONS[name])
    left, right = _real(left), _real(right)
    if name == "Equal":
        return _negated(builder, _unequal(builder, builder.subtract(left, right)))
    if name in ("Less", "GreaterOrEqual"):
        left, right = right, left
    greater = _positive(builder, builder.subtract(left, right))
    return greater if name in ("Less", "Greater") else _negated(builder, greater)


@operator(*CONNECTIVES, integers=True)
def connect(call: Call) -> Operand:
    builder, name = call.builder, call.node.op_type
    left, right = call.operand(0), call.operand(1)
    if left.kind != BOOL or right.kind != BOOL:
        raise ModelError("a connective of values that are not Boolean")
    if isinstance(left, Constant) and isinstance(right, Constant):
        return _folded(call, left, right, CONNECTIVES[name])
    left, right = _real(left), _real(right)
    if name == "And":
        return _truth(times(builder, left, right))
    if name == "Or":
        neither = times(builder, _opposite(builder, left), _opposite(builder, right))
        return _negated(builder, neither)
    return _truth(_unequal(builder, builder.subtract(left, right)))


@operator("Not", integers=True)
def invert(call: Call) -> Operand:
    x = call.operand(0)
    if x.kind != BOOL:
        raise ModelError("the negation of values that are not Boolean")
    if isinstance(x, Constant):
        return Constant(np.logical_not(x.value), x.kind)
    return _negated(call.builder, _real(x))


@operator("Where", integers=True)
def where(call: Call) -> Value:
    condition, left, right = call.operand(0), call.maskable(1), call.maskable(2)
    same_kind(left, right)
    if condition.kind != BOOL:
        raise ModelError("its condition is not Boolean")
    builder = call.builder
    if isinstance(condition, Variable):
        return _chosen(builder, condition, call.operand(1), call.operand(2))
    shape = common_shape(common_shape(condition.shape, left.shape), right.shape)
    mask = np.broadcast_to(condition.value, builder.claim(shape))
    (first, some), (second, others) = split(left), split(right)
    made = _picked(builder, mask, first, second)
    if is_masked(left) or is_masked(right):
        return joined(made, np.where(mask, some, others))
    return made


@operator("IsNaN", "IsInf")
def is_no_number(call: Call) -> Operand:
    """Truth values that do not depend on the inputs: no real number is any of these."""
    x = call.operand(0)
    call.ignore("detect_positive")
    found = np.zeros(call.builder.claim(x.shape), dtype=np.bool_)
    if isinstance(x, Constant) and call.node.op_type == "IsInf" and call.int("detect_negative", 1):
        found = np.isneginf(x.value)
    call.ignore("detect_negative")
    return Constant(found, BOOL)


def unequal_to_0(builder: Builder, x: Variable) -> Operand:
    """Where ``x`` is not 0, as truth values."""
    return x if x.kind == BOOL else _truth(_unequal(builder, _real(x)))


def _picked(builder: Builder, mask: Array, left: Operand, right: Operand) -> Operand:
    """``left`` where a constant mask holds, ``right`` elsewhere."""
    if isinstance(left, Constant) and isinstance(right, Constant) and left.kind not in FLOATS:
        return Constant(np.where(mask, left.value, right.value), left.kind)
    if left.kind not in FLOATS:
        raise UnsupportedOperatorError(
            f"it has no rule for a variable tensor of type {kind_name(left.kind)}"
        )
    first = builder.view(
        builder.broadcast(left, mask.shape), lambda array, fill: np.where(mask, array, fill)
    )
    second = builder.view(
        builder.broadcast(right, mask.shape), lambda array, fill: np.where(mask, fill, array)
    )
    return builder.add(first, second)


def _chosen(builder: Builder, condition: Variable, left: Operand, right: Operand) -> Operand:
    """``c left + (1 - c) right`` for a condition ``c`` that is 0 or 1."""
    if left.kind not in FLOATS:
        raise UnsupportedOperatorError(
            f"a variable condition has no rule for {kind_name(left.kind)} values"
        )
    chosen = dataclasses.replace(builder.finished(condition), kind=left.kind)
    rest = _opposite(builder, chosen)
    return builder.add(times(builder, chosen, left), times(builder, rest, right))


def _folded(
    call: Call, left: Constant, right: Constant, function: Callable[[Any, Any], Any]
) -> Constant:
    call.builder.claim(common_shape(left.shape, right.shape))
    if left.radius is not None or right.radius is not None:
        raise UnsupportedOperatorError("a comparison of constants known by an enclosure only")
    return Constant(np.asarray(function(left.value, right.value)), BOOL)


def _positive(builder: Builder, gap: Operand) -> Operand:
    """1 where ``gap`` is positive, 0 elsewhere."""
    return _truth(builder.relu(_sign(builder, gap)))


def _unequal(builder: Builder, gap: Operand) -> Operand:
    """1 where ``gap`` is not 0, 0 elsewhere."""
    sign = _sign(builder, gap)
    return times(builder, sign, sign)


def _sign(builder: Builder, gap: Operand) -> Variable:
    if isinstance(gap, Constant):
        raise ModelError("a constant was taken for a variable tensor")
    return builder.univariate(gap, "sign")


def _negated(builder: Builder, truth: Operand) -> Operand:
    return _truth(_opposite(builder, truth))


def _opposite(builder: Builder, truth: Operand) -> Operand:
    """``1 - truth`` as real numbers."""
    truth = _real(truth)
    return builder.subtract(Constant(np.ones(()), truth.kind), truth)


def _truth(operand: Operand) -> Operand:
    return dataclasses.replace(operand, kind=BOOL)


def _real(operand: Operand) -> Operand:
    """Integers and truth values as the real numbers that they are."""
    if operand.kind in FLOATS:
        return operand
    if isinstance(operand, Constant):
        return Constant(operand.value.astype(np.float64), TensorProto.DOUBLE)
    return dataclasses.replace(operand, kind=TensorProto.DOUBLE)
