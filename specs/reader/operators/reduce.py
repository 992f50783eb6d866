"""Sums, means, products, norms, maxima and minima over axes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from specs.convolution import Conv
from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError
from specs.linear import MatMul, Scatter
from specs.reader import rounding
from specs.reader.builder import Builder
from specs.reader.calls import Call, operator, resolved_axes
from specs.reader.operands import Operand, Variable
from specs.reader.operators.elementwise import INTEGER_COST, integer_constant
from specs.reader.operators.products import times
from specs.reader.operators.quadratic import definite_form
from specs.reader.operators.rewrites import PART_COST, bent, larger, smaller, tree
from specs.reader.operators.univariate import apply
from specs.reader.tensors import INTEGERS, Constant


@operator("ReduceSum")
def reduce_sum(call: Call) -> Operand:
    x, axes, shape = reduction(call, call.axes(1, since=13))
    if isinstance(x, Constant) and x.kind in INTEGERS:
        return _on_integers(call, x, np.sum, axes, shape)
    return summed(call.builder, x, axes, shape)


@operator("ReduceSumSquare", "ReduceL2", "ReduceL1")
def reduce_norm(call: Call) -> Operand:
    builder, name = call.builder, call.node.op_type
    x, axes, shape = reduction(call, call.axes(1, since=18))
    if isinstance(x, Constant) and x.kind in INTEGERS:
        raise UnsupportedOperatorError("a norm of integers has no rule")
    parts = powers(builder, x, 1 if name == "ReduceL1" else 2)
    total = summed(builder, parts, axes, shape)
    return apply(builder, total, "sqrt") if name == "ReduceL2" else total


@operator("GlobalLpPool")
def global_norm_pool(call: Call) -> Operand:
    x, p = call.operand(0), call.int("p", 2)
    if len(x.shape) < 3:
        raise ModelError(f"a tensor of shape {x.shape} has no spatial axes")
    axes = tuple(range(2, len(x.shape)))
    shape = (*x.shape[:2], *(1 for _ in axes))
    total = summed(call.builder, powers(call.builder, x, p), axes, shape)
    return apply(call.builder, total, "sqrt") if p == 2 else total


@operator("ReduceMean")
def reduce_mean(call: Call) -> Operand:
    x, axes, shape = reduction(call, call.axes(1, since=18))
    return mean_over(call.builder, x, axes, shape)


@operator("GlobalAveragePool")
def global_average_pool(call: Call) -> Operand:
    x = call.operand(0)
    if len(x.shape) < 3:
        raise ModelError(f"a tensor of shape {x.shape} has no spatial axes")
    axes = tuple(range(2, len(x.shape)))
    return mean_over(call.builder, x, axes, (*x.shape[:2], *(1 for _ in axes)))


@operator("ReduceMax", "ReduceMin", "GlobalMaxPool", integers=True)
def reduce_extreme(call: Call) -> Operand:
    if call.node.op_type == "GlobalMaxPool":
        x = call.operand(0)
        axes = tuple(range(2, len(x.shape)))
        shape = (*x.shape[:2], *(1 for _ in axes))
        if not axes:
            raise ModelError(f"a tensor of shape {x.shape} has no spatial axes")
    else:
        x, axes, shape = reduction(call, call.axes(1, since=18))
    lowest = call.node.op_type == "ReduceMin"
    if math.prod(x.shape[axis] for axis in axes) == 0:
        raise ModelError("an extreme of no entries")
    if isinstance(x, Constant) and x.kind in INTEGERS:
        return _on_integers(call, x, np.min if lowest else np.max, axes, shape)
    if not axes:
        return call.builder.reshape(x, shape)
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    parts = _parts(call.builder, x, (*axes, *kept), len(axes))
    best = tree(functools.partial(smaller if lowest else larger, call.builder), parts)
    return call.builder.reshape(best, shape)


@operator("ReduceProd")
def reduce_product(call: Call) -> Operand:
    x, axes, shape = reduction(call, call.axes(1, since=18))
    if isinstance(x, Constant) and x.kind in INTEGERS:
        return _on_integers(call, x, np.prod, axes, shape)
    if math.prod(x.shape[axis] for axis in axes) == 0:
        raise ModelError("a product of no entries")
    if not axes:
        return call.builder.reshape(x, shape)
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    parts = _parts(call.builder, x, (*axes, *kept), len(axes))
    whole = tree(functools.partial(times, call.builder), parts)
    return call.builder.reshape(whole, shape)


def powers(builder: Builder, x: Operand, p: int) -> Operand:
    """``|x|^p`` for p of 1 or 2."""
    if p not in (1, 2):
        raise UnsupportedOperatorError(f"norms of order {p} have no rule")
    return times(builder, x, x) if p == 2 else bent(builder, x, Constant(np.array(-1.0), x.kind))


def summed(builder: Builder, x: Operand, axes: tuple[int, ...], shape: tuple[int, ...]) -> Operand:
    """The sum over axes."""
    if not axes:
        return builder.reshape(x, shape)
    if math.prod(shape) == 1 and (form := definite_form(builder, x)) is not None:
        return builder.reshape(form, shape)
    return builder.apply(_summing(builder, x.shape, axes), x, shape)


def mean_over(
    builder: Builder, x: Operand, axes: tuple[int, ...], shape: tuple[int, ...]
) -> Operand:
    """The mean over axes; one node where the axes are neighbours."""
    count = math.prod(x.shape[axis] for axis in axes)
    if count == 0:
        raise ModelError("a mean of no entries")
    share = rounding.enclose([Fraction(1, count)])
    factor = Constant(share.value, x.kind, share.radius)
    if count == 1:
        return builder.reshape(x, shape)
    if tuple(range(min(axes), max(axes) + 1)) != tuple(sorted(axes)):
        return builder.scale(builder.rounded(summed(builder, x, axes, shape)), factor)
    outer = math.prod(x.shape[: min(axes)])
    inner = math.prod(x.shape[max(axes) + 1 :])
    radius = None if share.radius is None else np.full((count, 1), share.radius[0])
    column = Enclosure(np.full((count, 1), share.value[0]), radius)
    if inner == 1:
        return builder.apply(MatMul(column, outer), x, shape)
    row = Enclosure(
        column.value.reshape(1, count, 1), None if radius is None else radius.reshape(1, count, 1)
    )
    mixer = Conv(row, (outer, count, inner), (outer, 1, inner), (1,), (0,), (1,))
    return builder.apply(mixer, x, shape)


def _summing(builder: Builder, shape: tuple[int, ...], axes: tuple[int, ...]) -> Scatter:
    builder.claim(shape)
    kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    targets = np.broadcast_to(np.arange(math.prod(kept)).reshape(kept), shape)
    return Scatter(targets.reshape(-1), math.prod(kept))


def reduction(
    call: Call, axes: tuple[int, ...] | None
) -> tuple[Operand, tuple[int, ...], tuple[int, ...]]:
    """The operand, the axes that go, and the result's shape."""
    x, keep = call.operand(0), call.int("keepdims", 1)
    no_op = call.int("noop_with_empty_axes", 0)
    rank = len(x.shape)
    if not axes:
        if axes is not None and call.opset < 13:
            raise UnsupportedOperatorError("an empty list of axes has no rule")
        axes = () if no_op else tuple(range(rank))
    chosen = resolved_axes(axes, rank)
    shape = tuple(
        1 if axis in chosen else extent
        for axis, extent in enumerate(x.shape)
        if keep or axis not in chosen
    )
    return x, chosen, shape


def _parts(builder: Builder, x: Operand, order: tuple[int, ...], count: int) -> list[Operand]:
    """Slices of ``x`` that fix the first ``count`` axes of ``order``."""
    shape = [x.shape[axis] for axis in order]
    size = math.prod(shape[:count])
    if isinstance(x, Variable):
        x = builder.finished(x)
    builder.claim((size, PART_COST))
    builder.claim(x.shape)

    def part(number: int) -> Operand:
        return builder.view(
            x, lambda array, _: array.transpose(order).reshape(size, *shape[count:])[number]
        )

    return [part(number) for number in range(size)]


def _on_integers(
    call: Call,
    x: Constant,
    function: Callable[..., Any],
    axes: tuple[int, ...],
    shape: tuple[int, ...],
) -> Constant:
    call.builder.claim((INTEGER_COST, *x.shape))
    reduced = function(x.value.astype(object), axis=axes) if axes else x.value
    return integer_constant(np.asarray(reduced, dtype=object).reshape(shape), x.kind)
