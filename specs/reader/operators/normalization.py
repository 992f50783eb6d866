"""Normalisations over axes, written with means, squares, roots and reciprocals.

A deviation is centred first and squared then, so that the variance is a mean of squares,
which is never negative.  What is divided by, the epsilon aside, may still be 0 where the
file leaves it so; nothing here says that it is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from specs.convolution import Conv
from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader import rounding
from specs.reader.builder import Builder
from specs.reader.calls import Call, operator, resolved_axes, resolved_axis, same_kind
from specs.reader.operands import Operand, common_shape, require_real
from specs.reader.operators.products import quotient, times
from specs.reader.operators.reduce import mean_over, powers, summed
from specs.reader.operators.rewrites import shareable
from specs.reader.operators.univariate import apply, raised
from specs.reader.tensors import Constant, real

EPSILON = float(np.float32(1e-5))


@operator("LayerNormalization")
def layer_normalization(call: Call) -> list[Operand]:
    x, epsilon, axes = _over_trailing(call)
    standard, mean, inverse = standardised(call.builder, x, axes, epsilon)
    result = times(call.builder, standard, _parameter(call, x, 1))
    if call.optional(2) is not None:
        result = call.builder.add(result, _parameter(call, x, 2))
    return [result, mean, inverse]


@operator("RMSNormalization")
def rms_normalization(call: Call) -> Operand:
    builder = call.builder
    x, epsilon, axes = _over_trailing(call)
    x = shareable(builder, x)
    square = mean_over(builder, times(builder, x, x), axes, _kept(x, axes))
    standard = times(builder, x, _inverse_root(builder, square, epsilon))
    return times(builder, standard, _parameter(call, x, 1))


@operator("InstanceNormalization")
def instance_normalization(call: Call) -> Operand:
    x = call.operand(0)
    if len(x.shape) < 3:
        raise ModelError(f"a tensor of shape {x.shape} has no spatial axes")
    axes = tuple(range(2, len(x.shape)))
    standard, _, _ = standardised(call.builder, x, axes, call.float("epsilon", EPSILON))
    return _by_channel(call, standard, x.shape[1])


@operator("GroupNormalization")
def group_normalization(call: Call) -> Operand:
    builder, x, groups = call.builder, call.operand(0), call.int("num_groups", 0)
    call.ignore("stash_type")
    if len(x.shape) < 2 or groups < 1 or x.shape[1] % groups:
        raise ModelError(f"{groups} groups of the channels of shape {x.shape}")
    shape = (x.shape[0], groups, math.prod(x.shape[1:]) // groups)
    epsilon = call.float("epsilon", EPSILON)
    standard, _, _ = standardised(builder, builder.reshape(x, shape), (2,), epsilon)
    return _by_channel(call, builder.reshape(standard, x.shape), x.shape[1])


@operator("MeanVarianceNormalization")
def mean_variance_normalization(call: Call) -> Operand:
    builder, x = call.builder, call.operand(0)
    axes = resolved_axes(call.ints("axes") or (0, 2, 3), len(x.shape))
    centred, variance, _ = _moments(builder, x, axes)
    deviation = apply(builder, variance, "sqrt")
    epsilon = Constant(np.array(float(np.float32(1e-9))), x.kind)
    return quotient(builder, centred, builder.add(deviation, epsilon))


@operator("LpNormalization")
def lp_normalization(call: Call) -> Operand:
    builder, x, p = call.builder, call.operand(0), call.int("p", 2)
    axes = (resolved_axis(call.int("axis", -1), len(x.shape)),)
    if p not in (1, 2):
        raise ModelError(f"a norm of order {p}")
    require_real(x)
    x = shareable(builder, x)
    total = summed(builder, powers(builder, x, p), axes, _kept(x, axes))
    return quotient(builder, x, apply(builder, total, "sqrt") if p == 2 else total)


@operator("LRN")
def local_response_normalization(call: Call) -> Operand:
    builder, x, size = call.builder, call.operand(0), call.int("size", 0)
    alpha, beta = call.float("alpha", float(np.float32(1e-4))), call.float("beta", 0.75)
    bias = call.float("bias", 1.0)
    require_real(x)
    if len(x.shape) < 3 or size < 1 or not all(map(math.isfinite, (alpha, beta, bias))):
        raise ModelError(f"windows of {size} channels of shape {x.shape}")
    if size % 2 == 0:
        raise UnsupportedOperatorError(f"windows of {size} channels, an even number, have no rule")
    x = shareable(builder, x)
    batch, channels, inner = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    reach = min(size // 2, channels - 1)
    window = Conv(
        weight=Enclosure(np.ones((1, 1, 2 * reach + 1, 1))),
        in_shape=(batch, 1, channels, inner),
        out_shape=(batch, 1, channels, inner),
        strides=(1, 1),
        pads=(reach, 0),
        dilations=(1, 1),
    )
    total = builder.apply(window, times(builder, x, x), x.shape)
    share = rounding.divide(Enclosure(np.array(alpha)), Enclosure(np.array(float(size))))
    base = builder.add(builder.scale(total, real(share, x.kind)), _number(x, bias))
    return times(builder, x, raised(builder, base, -beta))


def standardised(
    builder: Builder, x: Operand, axes: Sequence[int], epsilon: float
) -> tuple[Operand, Operand, Operand]:
    """``(x - mean) / sqrt(variance + epsilon)`` over axes; the mean, and that reciprocal root."""
    centred, variance, mean = _moments(builder, x, axes)
    inverse = _inverse_root(builder, variance, epsilon)
    return times(builder, centred, inverse), mean, inverse


def _moments(builder: Builder, x: Operand, axes: Sequence[int]) -> tuple[Operand, Operand, Operand]:
    """Deviations from the mean over axes, the mean of their squares, and the mean."""
    require_real(x)
    x = shareable(builder, x)
    mean = shareable(builder, mean_over(builder, x, tuple(axes), _kept(x, axes)))
    centred = shareable(builder, builder.subtract(x, mean))
    squares = times(builder, centred, centred)
    return centred, mean_over(builder, squares, tuple(axes), _kept(x, axes)), mean


def _inverse_root(builder: Builder, square: Operand, epsilon: float) -> Operand:
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ModelError(f"epsilon {epsilon}")
    shifted = builder.add(square, Constant(np.array(epsilon), square.kind))
    return apply(builder, apply(builder, shifted, "sqrt"), "reciprocal")


def _over_trailing(call: Call) -> tuple[Operand, float, tuple[int, ...]]:
    """The operand, its epsilon, and the axes from ``axis`` on."""
    x = call.operand(0)
    call.ignore("stash_type")
    axis = resolved_axis(call.int("axis", -1), len(x.shape))
    return x, call.float("epsilon", EPSILON), tuple(range(axis, len(x.shape)))


def _parameter(call: Call, x: Operand, position: int) -> Operand:
    """A scale or bias that broadcasts to ``x``."""
    found = call.operand(position)
    same_kind(x, found)
    if common_shape(x.shape, found.shape) != x.shape:
        raise ModelError(f"a parameter of shape {found.shape} does not fit {x.shape}")
    return found


def _by_channel(call: Call, standard: Operand, channels: int) -> Operand:
    """Times the scale, plus the bias, of each channel."""
    along = (channels,) + (1,) * (len(standard.shape) - 2)
    scale, bias = call.operand(1), call.operand(2)
    same_kind(standard, scale, bias)
    if scale.shape != (channels,) or bias.shape != (channels,):
        raise ModelError(f"its parameters do not fit {channels} channels")
    builder = call.builder
    scaled = times(builder, standard, builder.reshape(scale, along))
    return builder.add(scaled, builder.reshape(bias, along))


def _kept(x: Operand, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape))


def _number(x: Operand, number: float) -> Constant:
    return Constant(np.array(number), x.kind)
