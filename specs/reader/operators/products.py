"""Products and quotients of two tensors."""

from __future__ import annotations

import math

import numpy as np

from specs.errors import ModelError
from specs.linear import Scatter
from specs.reader import rounding
from specs.reader.builder import Builder
from specs.reader.calls import Call, operator
from specs.reader.errors import factor_error
from specs.reader.operands import Array, Operand, Variable, common_shape, variable
from specs.reader.operators.elementwise import on_integers
from specs.reader.operators.recognition import product_of, reciprocal_of
from specs.reader.tensors import Constant, real


@operator("Mul")
def multiply(call: Call) -> Operand:
    left, right = call.operand(0), call.operand(1)
    whole = on_integers(call, left, right, np.multiply)
    return times(call.builder, left, right) if whole is None else whole


@operator("Div")
def divide(call: Call) -> Operand:
    left, right = call.operand(0), call.operand(1)
    whole = on_integers(call, left, right, _truncated_quotient)
    return quotient(call.builder, left, right) if whole is None else whole


def times(builder: Builder, left: Operand, right: Operand) -> Operand:
    """``left * right`` for real tensors, broadcast."""
    if isinstance(right, Constant):
        return builder.scale(left, right)
    if isinstance(left, Constant):
        return builder.scale(right, left)
    if left.shape == right.shape and builder.format is None:  # compositions are rounded in between
        found = product_of(builder, left, right)
        if found is not None:
            return found
    return builder.multiply(left, right)


def quotient(builder: Builder, left: Operand, right: Operand) -> Operand:
    """``left / right`` for real tensors, broadcast; not defined where ``right`` is 0."""
    if isinstance(right, Variable):
        divisor = variable(builder.flushed(right))
        return times(builder, left, reciprocal_of(builder, divisor))
    if isinstance(left, Constant):
        builder.claim(common_shape(left.shape, right.shape))
        return real(rounding.divide(left.enclosure, right.enclosure), left.kind)
    return builder.scale(left, real(rounding.reciprocal(right.enclosure), right.kind))


def matrix_product(
    builder: Builder, left: Variable, right: Variable, batch: tuple[int, ...]
) -> Operand:
    """Products ``(*batch, m, k) x (*batch, k, n)``: every product of entries, and their sums."""
    rows, inner, columns = *left.shape[-2:], right.shape[-1]
    shape = builder.claim((*batch, rows, columns, inner))
    if inner == 0:
        raise ModelError("a matrix product of empty matrices")
    first = builder.view(left, lambda array, _: np.broadcast_to(array[..., None, :], shape))
    second = builder.view(
        right,
        lambda array, _: np.broadcast_to(_turned(array)[..., None, :, :], shape),
    )
    products = times(builder, first, second)
    if builder.format is not None:
        products = builder.perturbed(variable(products), factor_error(builder.format))
    builder.claim(shape)
    targets = np.repeat(np.arange(math.prod(shape[:-1])), inner)
    return builder.apply(Scatter(targets, math.prod(shape[:-1])), products, shape[:-1])


def _turned(array: Array) -> Array:
    return array.swapaxes(-1, -2)


def _truncated_quotient(left: Array, right: Array) -> Array:
    if np.any(right == 0):
        raise ModelError("an integer is divided by 0")
    sign = np.sign(left) * np.sign(right)
    whole: Array = sign * (np.abs(left) // np.abs(right))
    return whole
