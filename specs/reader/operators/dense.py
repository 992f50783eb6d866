"""Matrix products, and batch normalisation."""

from __future__ import annotations

import math

import numpy as np

from specs.convolution import Conv
from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError
from specs.linear import MatMul, Sparse
from specs.reader import rounding
from specs.reader.builder import Builder
from specs.reader.calls import Call, operator, same_kind
from specs.reader.operands import Operand, Variable, common_shape, rearranged, variable
from specs.reader.operators.products import matrix_product
from specs.reader.tensors import Constant, real

SPARSE_SIZE = 1 << 12
"""Matrices of fewer entries stay dense: there is nothing to gain."""


@operator("MatMul")
def matmul(call: Call) -> Operand:
    left, right = call.operand(0), call.operand(1)
    same_kind(left, right)
    return product(call.builder, left, right)


@operator("Gemm")
def gemm(call: Call) -> Operand:
    builder = call.builder
    left, right, bias = call.operand(0), call.operand(1), call.optional(2)
    alpha, beta = call.float("alpha", 1.0), call.float("beta", 1.0)
    same_kind(left, right, *([] if bias is None else [bias]))
    if len(left.shape) != 2 or len(right.shape) != 2:
        raise ModelError(f"operands of shapes {left.shape} and {right.shape} are not matrices")
    if call.int("transA", 0):
        left = builder.view(left, lambda array, _: array.T)
    if call.int("transB", 0):
        right = builder.view(right, lambda array, _: array.T)
    factor = Constant(np.array(alpha), left.kind)
    if isinstance(right, Constant):
        right = builder.scale(right, factor)
    else:
        left = builder.scale(left, factor)
    result = product(builder, left, right)
    if bias is None:
        return result
    if common_shape(result.shape, bias.shape) != result.shape:
        raise ModelError(f"C of shape {bias.shape} does not fit the result {result.shape}")
    return builder.add(result, builder.scale(bias, Constant(np.array(beta), left.kind)))


def product(builder: Builder, left: Operand, right: Operand) -> Operand:
    """The matrix product of two operands, as numpy defines it."""
    if not left.shape or not right.shape:
        raise ModelError("a matrix product with a scalar")
    rows: tuple[int, ...] = left.shape[-2:-1]
    columns: tuple[int, ...] = right.shape[-1:] if len(right.shape) > 1 else ()
    if len(left.shape) == 1:
        left = builder.reshape(left, (1, *left.shape))
    if len(right.shape) == 1:
        right = builder.reshape(right, (*right.shape, 1))
    if left.shape[-1] != right.shape[-2]:
        raise ModelError(f"matrices of shapes {left.shape} and {right.shape} do not fit")
    batch = common_shape(left.shape[:-2], right.shape[:-2])
    shape = (*batch, *rows, *columns)
    several = math.prod(right.shape[:-2]) != 1
    if isinstance(right, Constant) and not (several and isinstance(left, Constant)):
        return _times_constant(builder, left, right, batch, shape)
    if isinstance(left, Constant):
        return _constant_times(builder, left, right, batch, shape)
    return builder.reshape(matrix_product(builder, variable(left), variable(right), batch), shape)


def _times_constant(
    builder: Builder,
    left: Operand,
    right: Constant,
    batch: tuple[int, ...],
    shape: tuple[int, ...],
) -> Operand:
    inner, columns = right.shape[-2:]
    if math.prod(right.shape[:-2]) == 1:
        weight = _real_matrix(builder, right, (inner, columns))
        rows = math.prod(left.shape[:-1])
        filled = np.count_nonzero(weight.value)
        if rows == 1 and weight.value.size >= SPARSE_SIZE and filled * 16 <= weight.value.size:
            return builder.apply(_sparse(weight), left, shape)
        return builder.apply(MatMul(weight, rows), left, shape)
    flipped = product(
        builder,
        rearranged(right, lambda array, _: array.swapaxes(-1, -2)),
        builder.view(left, lambda array, _: array.swapaxes(-1, -2)),
    )
    return builder.reshape(builder.view(flipped, lambda array, _: array.swapaxes(-1, -2)), shape)


def _sparse(weight: Enclosure) -> Sparse:
    """A matrix with few entries that are not 0, as those entries."""
    used = (
        weight.value != 0 if weight.radius is None else (weight.value != 0) | (weight.radius != 0)
    )
    source, target = np.nonzero(used)
    radius = None if weight.radius is None else weight.radius[used]
    return Sparse(Enclosure(weight.value[used], radius), source, target, *weight.shape)


def _constant_times(
    builder: Builder,
    left: Constant,
    right: Operand,
    batch: tuple[int, ...],
    shape: tuple[int, ...],
) -> Operand:
    rows, inner = left.shape[-2:]
    columns = right.shape[-1]
    count = math.prod(batch)
    shared = math.prod(left.shape[:-2]) == 1
    if columns == 1 and shared:
        turned = rearranged(left, lambda array, _: array.swapaxes(-1, -2))
        weight = _real_matrix(builder, turned, (inner, rows))
        return builder.apply(MatMul(weight, math.prod(right.shape[:-2])), right, shape)
    right = builder.broadcast(right, (*batch, inner, columns))
    groups = 1 if shared else count
    wide = left if shared else builder.broadcast(left, (*batch, rows, inner))
    if not isinstance(wide, Constant):
        raise ModelError("a constant matrix was taken for a variable one")
    mixer = Conv(
        weight=_real_matrix(builder, wide, (groups * rows, inner, 1)),
        in_shape=(count // groups if groups else 0, groups * inner, columns),
        out_shape=(count // groups if groups else 0, groups * rows, columns),
        strides=(1,),
        pads=(0,),
        dilations=(1,),
        groups=groups,
    )
    return builder.apply(mixer, right, shape)


def _real_matrix(builder: Builder, constant: Constant, shape: tuple[int, ...]) -> Enclosure:
    shaped = builder.reshape(constant, shape)
    if isinstance(shaped, Variable):
        raise ModelError("a constant matrix was taken for a variable one")
    return shaped.enclosure


@operator("BatchNormalization")
def batch_normalization(call: Call) -> Operand:
    builder, x = call.builder, call.operand(0)
    epsilon, (gamma, beta, mean, variance) = normalisation(call, x.shape)
    root = rounding.square_root(rounding.add(variance, Enclosure(np.array(epsilon))))
    factor = rounding.divide(gamma, root)
    shift = rounding.subtract(beta, rounding.multiply(mean, factor))
    along = (*gamma.shape, *(1 for _ in x.shape[2:]))
    scaled = builder.scale(x, _shaped(factor, along, x.kind))
    return builder.add(scaled, _shaped(shift, along, x.kind))


def normalisation(call: Call, shape: tuple[int, ...]) -> tuple[float, list[Enclosure]]:
    """The epsilon of a batch normalisation, and gamma, beta, mean, variance by channel."""
    call.ignore("momentum")
    if call.int("training_mode", 0) or not call.int("spatial", 1):
        raise UnsupportedOperatorError("only inference over channels has a rule")
    channels = shape[1] if len(shape) > 1 else 1
    stored = [call.constant(position) for position in range(1, 5)]
    if any(constant.shape != (channels,) for constant in stored):
        raise ModelError(f"its parameters do not fit {channels} channels")
    epsilon = call.float("epsilon", float(np.float32(1e-5)))
    return epsilon, [constant.enclosure for constant in stored]


def _shaped(enclosure: Enclosure, shape: tuple[int, ...], kind: int) -> Constant:
    return rearranged(real(enclosure, kind), lambda array, _: array.reshape(shape))
