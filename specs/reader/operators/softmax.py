"""Softmax and its logarithms.

A probability is written ``1 / (1 + sum over j != i of exp(x_j - x_i))``: the term j = i is
exactly 1, so neither the sum nor its reciprocal leaves what they are defined for, and no
exponential of an input alone, which might overflow, is taken.
"""

from __future__ import annotations

import math

import numpy as np

from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError
from specs.linear import Scatter, Sparse
from specs.reader.builder import Array, Builder, Operand, require_real, variable
from specs.reader.calls import Call, operator, resolved_axis
from specs.reader.errors import gap_error
from specs.reader.operators.masks import is_masked, split
from specs.reader.operators.reduce import reduction, summed
from specs.reader.operators.univariate import apply
from specs.reader.tensors import Constant


@operator("Softmax", "LogSoftmax")
def softmax(call: Call) -> Operand:
    builder, (x, allowed) = call.builder, split(call.maskable(0))
    require_real(x)
    if is_masked(call.maskable(0)) and call.node.op_type == "LogSoftmax":
        raise UnsupportedOperatorError("the logarithm of a masked entry's probability")
    rank = len(x.shape)
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
        made = _normalised(builder, turned, allowed.transpose(order), call.node.op_type)
        return builder.view(made, lambda array, _: array.transpose(back))
    made = _normalised(
        builder, builder.reshape(x, groups), allowed.reshape(groups), call.node.op_type
    )
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
    return _normalised(builder, x, allowed, "Softmax")


def _masked(builder: Builder, x: Operand, allowed: Array) -> Operand:
    """The softmax over rows of which not all entries take part."""
    if not np.all(np.any(allowed, axis=-1)):
        raise ModelError("a softmax over no entries")
    size, count = math.prod(x.shape), x.shape[-1]
    builder.claim((2, size, count))
    own, other = _pairs(size, count)
    flat = allowed.reshape(-1)
    kept = flat[own] & flat[other]
    own, other = own[kept], other[kept]
    places = np.flatnonzero(flat)
    order = np.cumsum(flat) - 1
    if own.size:
        exponentials = apply(builder, _differences(builder, x, own, other), "exp")
        gather = Scatter(order[own], places.size)
        total = builder.apply(gather, exponentials, (places.size,))
    else:
        total = Constant(np.zeros(places.size), x.kind)
    one = Constant(np.ones(()), x.kind)
    found = apply(builder, builder.add(total, one), "reciprocal")
    return builder.view(
        found, lambda array, fill: np.where(flat, array[order], fill).reshape(x.shape)
    )


def _normalised(builder: Builder, x: Operand, allowed: Array, name: str) -> Operand:
    """Softmax or its logarithm over the last axis."""
    logarithmic, count = name == "LogSoftmax", x.shape[-1]
    if count == 0:
        raise ModelError("a softmax over no entries")
    if not np.all(allowed):
        return _masked(builder, x, allowed)
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
