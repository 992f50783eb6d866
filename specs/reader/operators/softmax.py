"""Softmax and its logarithms.

A probability is written ``1 / (1 + sum over j != i of exp(x_j - x_i))``: the term j = i is
exactly 1, so neither the sum nor its reciprocal leaves what they are defined for, and no
exponential of an input alone, which might overflow, is taken.

Masks of attention are minus infinity, or a huge negative number.  Entries without the former
take no part.  For an entry sunk by the latter the sum would overflow; its probability is
``exp(x_i - x_r)`` times that of an entry r of its row that is not sunk: the same number.
"""

from __future__ import annotations

import math

import numpy as np

from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError
from specs.linear import Scatter, Sparse
from specs.network import Linear
from specs.reader.builder import Builder
from specs.reader.calls import Call, operator, resolved_axis
from specs.reader.errors import gap_error
from specs.reader.operands import Array, Operand, Variable, require_real, variable
from specs.reader.operators.masks import is_masked, split
from specs.reader.operators.products import times
from specs.reader.operators.reduce import reduction, summed
from specs.reader.operators.univariate import apply
from specs.reader.tensors import Constant

DEEP = 2.0**12
"""By how much less than another's an entry's constant part makes it sunk."""


@operator("Softmax", "LogSoftmax")
def softmax(call: Call) -> Operand:
    builder, (x, allowed) = call.builder, split(call.maskable(0))
    require_real(x)
    if is_masked(call.maskable(0)) and call.node.op_type == "LogSoftmax":
        raise UnsupportedOperatorError("the logarithm of a masked entry's probability")
    rank, level = len(x.shape), _constant_parts(builder, x)
    since_13 = call.opset >= 13
    axis = call.int("axis", -1 if since_13 else 1)
    if axis == rank and not since_13:
        groups = (math.prod(x.shape), 1)  # an empty trailing part: every entry by itself
    else:
        at = resolved_axis(axis, rank)
        groups = (math.prod(x.shape[:at]), math.prod(x.shape[at:]))
    if since_13:
        order = (*(a for a in range(rank) if a != at), at)
        back = tuple(np.argsort(order))
        turned = builder.view(x, lambda array, _: array.transpose(order))
        parts = allowed.transpose(order), level.transpose(order)
        made = _normalised(builder, turned, *parts, call.node.op_type)
        return builder.view(made, lambda array, _: array.transpose(back))
    parts = allowed.reshape(groups), level.reshape(groups)
    made = _normalised(builder, builder.reshape(x, groups), *parts, call.node.op_type)
    return builder.reshape(made, x.shape)


@operator("ReduceLogSumExp")
def log_sum_exp(call: Call) -> Operand:
    builder = call.builder
    x, axes, shape = reduction(call, call.axes(1, since=18))
    require_real(x)
    if not axes:
        return builder.reshape(x, shape)
    order = (*(a for a in range(len(x.shape)) if a not in axes), *axes)
    turned = builder.view(x, lambda array, _: array.transpose(order))
    count = math.prod(x.shape[axis] for axis in axes)
    if count == 0:
        raise ModelError("a sum of no entries")
    rows = builder.reshape(turned, (math.prod(turned.shape) // count, count))
    first = builder.view(rows, lambda array, _: array[:, :1])
    if count == 1:
        return builder.reshape(first, shape)
    others = builder.view(rows, lambda array, _: array[:, 1:])
    gaps = builder.subtract(others, first)
    if count == 2:
        rest = apply(builder, gaps, "softplus")
    else:
        rest = _log_of_one_plus(
            builder, summed(builder, apply(builder, gaps, "exp"), (1,), first.shape)
        )
    return builder.reshape(builder.add(first, rest), shape)


@operator("ReduceLogSum")
def log_sum(call: Call) -> Operand:
    x, axes, shape = reduction(call, call.axes(1, since=18))
    require_real(x)
    return apply(call.builder, summed(call.builder, x, axes, shape), "log")


def probabilities(builder: Builder, x: Operand, allowed: Array) -> Operand:
    """The softmax over the last axis.

    Args:
        allowed: of the shape of ``x``, where an entry takes part; the others are 0.

    Raises:
        ModelError: a row in which no entry takes part.
    """
    return _normalised(builder, x, allowed, _constant_parts(builder, x), "Softmax")


def _constant_parts(builder: Builder, x: Operand) -> Array:
    """What is added to the entries; only hints at which formula is the better one."""
    offset = None
    if isinstance(x, Variable) and builder.format is None:
        number = x.affine.tensor
        node = None if number is None else builder.nodes[number]
        offset = node.offset if isinstance(node, Linear) else x.affine.offset
    builder.claim(x.shape)
    return np.zeros(x.shape) if offset is None else offset.value.reshape(x.shape)


def _uneven(builder: Builder, x: Operand, allowed: Array, sunk: Array) -> Operand:
    """The softmax over rows of which not all entries take part, or some are sunk."""
    if builder.format is not None:
        raise UnsupportedOperatorError(f"of masked entries has no rule in {builder.format.name}")
    size, count = math.prod(x.shape), x.shape[-1]
    builder.claim((2, size, count))
    floating = (allowed & ~sunk).reshape(-1)
    own, other = _pairs(size, count)
    counted = floating[own] & allowed.reshape(-1)[other]
    own, other = own[counted], other[counted]
    places, low = np.flatnonzero(floating), np.flatnonzero((allowed & sunk).reshape(-1))
    order = np.cumsum(floating) - 1
    total: Operand = Constant(np.zeros(places.size), x.kind)
    if own.size:
        exponentials = apply(builder, _differences(builder, x, own, other), "exp")
        gather = Scatter(order[own], places.size)
        total = builder.apply(gather, exponentials, (places.size,))
    one = Constant(np.ones(()), x.kind)
    found = apply(builder, builder.add(total, one), "reciprocal")
    if low.size:
        first = places[np.searchsorted(places, low - low % count)]  # of the row
        keys = own * size + other
        sorted_keys = np.argsort(keys)
        pair = sorted_keys[np.searchsorted(keys, first * size + low, sorter=sorted_keys)]
        grown = times(
            builder,
            builder.view(exponentials, lambda array, _: array[pair]),
            builder.view(found, lambda array, _: array[order[first]]),
        )
        found = builder.concat([found, grown], 0)
    position = np.full(size, -1)
    position[places] = np.arange(places.size)
    position[low] = places.size + np.arange(low.size)
    return builder.view(
        found, lambda array, fill: np.where(position >= 0, array[position], fill).reshape(x.shape)
    )


def _normalised(builder: Builder, x: Operand, allowed: Array, level: Array, name: str) -> Operand:
    """Softmax or its logarithm over the last axis."""
    logarithmic, count = name == "LogSoftmax", x.shape[-1]
    if count == 0 or not np.all(np.any(allowed, axis=-1)):
        raise ModelError("a softmax over no entries")
    highest = np.max(np.where(allowed, level, -np.inf), axis=-1, keepdims=True)
    sunk = level < highest - DEEP
    if not np.all(allowed) or (np.any(sunk) and count > 2 and not logarithmic):
        return _uneven(builder, x, allowed, sunk)
    if count == 1:
        builder.claim(x.shape)
        return Constant(np.full(x.shape, 0.0 if logarithmic else 1.0), x.kind)
    gaps = _gaps(builder, x, count)
    if builder.format is not None:
        gaps = builder.perturbed(variable(gaps), gap_error(builder.format))
    if count == 2:
        if logarithmic:
            made = builder.negate(apply(builder, gaps, "softplus"))
        else:
            made = apply(builder, builder.negate(gaps), "sigmoid")
        return builder.reshape(made, x.shape)
    size = math.prod(x.shape)
    gather = Scatter(np.repeat(np.arange(size), count - 1), size)
    builder.claim((size, count - 1))
    total = builder.apply(gather, apply(builder, gaps, "exp"), x.shape)
    if logarithmic:
        return builder.negate(_log_of_one_plus(builder, total))
    one = Constant(np.array(1.0), x.kind)
    return apply(builder, builder.add(total, one), "reciprocal")


def _log_of_one_plus(builder: Builder, total: Operand) -> Operand:
    one = Constant(np.array(1.0), total.kind)
    return apply(builder, builder.add(total, one), "log")


def _gaps(builder: Builder, x: Operand, count: int) -> Operand:
    """``x_j - x_i`` for all j != i of a row, by i."""
    size = math.prod(x.shape)
    builder.claim((size, count - 1))
    own, other = _pairs(size, count)
    gaps = _differences(builder, x, own, other)
    return builder.reshape(gaps, (size, count - 1))


def _differences(builder: Builder, x: Operand, own: Array, other: Array) -> Operand:
    """``x_j - x_i`` for pairs of an entry i of its own and another j."""
    builder.claim((6, own.size))
    places = np.arange(own.size)
    ones = np.ones(own.size)
    differences = Sparse(
        Enclosure(np.concatenate([ones, -ones])),
        np.concatenate([other, own]),
        np.concatenate([places, places]),
        math.prod(x.shape),
        own.size,
    )
    return builder.apply(differences, x, (own.size,))


def _pairs(size: int, count: int) -> tuple[Array, Array]:
    """Entries i, and the others j of their rows."""
    own = np.repeat(np.arange(size), count - 1)
    step = np.tile(np.arange(1, count), size)
    start = own - own % count
    return own, start + (own - start + step) % count
