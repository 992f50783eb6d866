"""Convolutions and pooling."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from specs.convolution import Conv
from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader import rounding
from specs.reader.builder import Builder
from specs.reader.calls import Call, operator, same_kind
from specs.reader.operands import Operand, Variable
from specs.reader.operators.reduce import powers
from specs.reader.operators.rewrites import PART_COST, larger, tree
from specs.reader.operators.univariate import apply
from specs.reader.tensors import Constant


@dataclass(frozen=True)
class Windows:
    """How a kernel moves over an image, one entry per spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    counts: tuple[int, ...]


@operator("Conv")
def convolution(call: Call) -> Operand:
    x, weight = call.operand(0), call.constant(1)
    same_kind(x, weight)
    return _biased(call, convolved(call, x, weight))


def convolved(call: Call, x: Operand, weight: Constant) -> Operand:
    """The convolution that a call's attributes describe."""
    spatial = _spatial(x, weight)
    groups = call.int("group", 1)
    windows = _windows(call, spatial, weight.shape[2:], ceil=False)
    shape = (x.shape[0], weight.shape[0], *windows.counts)
    mover = Conv(
        weight=weight.enclosure,
        in_shape=x.shape,
        out_shape=shape,
        strides=windows.strides,
        pads=windows.before,
        dilations=windows.dilations,
        groups=groups,
    )
    return call.builder.apply(mover, x, shape)


@operator("ConvTranspose")
def transposed_convolution(call: Call) -> Operand:
    x, weight = call.operand(0), call.constant(1)
    same_kind(x, weight)
    spatial = _spatial(x, weight)
    rank, groups = len(spatial), call.int("group", 1)
    kernel, strides, dilations = _steps(call, rank, weight.shape[2:])
    extra = _per_axis(call, "output_padding", rank, 0)
    if any(not 0 <= e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise ModelError(f"output_padding {extra} is not smaller than stride or dilation")
    reach = [
        s * (size - 1) + e + (k - 1) * d + 1
        for size, s, e, k, d in zip(spatial, strides, extra, kernel, dilations, strict=True)
    ]
    mode, pads, wanted = _auto_pad(call), call.ints("pads"), call.ints("output_shape")
    if mode.startswith("SAME") and wanted is None:
        wanted = tuple(size * stride for size, stride in zip(spatial, strides, strict=True))
    if wanted is not None:
        if len(wanted) != rank:
            raise ModelError(f"output_shape {wanted} does not fit {rank} spatial axes")
        total = [full - size for full, size in zip(reach, wanted, strict=True)]
        if min(total) < 0:
            raise UnsupportedOperatorError(f"output_shape {wanted} exceeds {tuple(reach)}")
        if call.opset < 11 and any(t % 2 for t in total):
            raise UnsupportedOperatorError(
                "uneven automatic padding, where opset 10 and runtimes differ; state pads"
            )
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
    else:
        both = _pads(mode, pads, rank)
        before, after = list(both[:rank]), list(both[rank:])
    sizes = [full - b - a for full, b, a in zip(reach, before, after, strict=True)]
    if min(sizes) < 1:
        raise ModelError(f"its result has the spatial shape {tuple(sizes)}")
    shape = (x.shape[0], weight.shape[1] * groups, *sizes)
    mover = Conv(
        weight=weight.enclosure,
        in_shape=shape,
        out_shape=x.shape,
        strides=strides,
        pads=tuple(before),
        dilations=dilations,
        groups=groups,
        transposed=True,
    )
    return _biased(call, call.builder.apply(mover, x, shape))


@operator("AveragePool")
def average_pool(call: Call) -> Operand:
    builder, x = call.builder, call.operand(0)
    spatial = _spatial(x)
    windows = _windows(call, spatial, None, ceil=True)
    padded = bool(call.int("count_include_pad", 0))
    sizes = np.ones((), dtype=np.int64)
    for axis, extent in enumerate(spatial):
        low = -windows.before[axis] if padded else 0
        high = extent + (windows.after[axis] if padded else 0)
        taps = _positions(windows, axis)
        sizes = np.multiply.outer(sizes, np.sum((taps >= low) & (taps < high), axis=1))
    if sizes.min() < 1:
        raise ModelError("a window lies in the padding altogether")
    uniform = sizes.min() == sizes.max()
    share = rounding.enclose([Fraction(1, int(sizes.max())) if uniform else Fraction(1)])
    summed = _summed(builder, x, windows, share)
    if uniform:
        return summed
    summed = builder.rounded(summed)
    distinct, which = np.unique(sizes, return_inverse=True)
    shares = rounding.enclose([Fraction(1, count) for count in distinct.tolist()])
    which = which.reshape(sizes.shape)
    radius = None if shares.radius is None else shares.radius[which]
    return builder.scale(summed, Constant(shares.value[which], x.kind, radius))


@operator("LpPool")
def norm_pool(call: Call) -> Operand:
    builder, x, p = call.builder, call.operand(0), call.int("p", 2)
    windows = _windows(call, _spatial(x), None, ceil=True)
    one = Enclosure(np.ones(1))
    total = _summed(builder, powers(builder, x, p), windows, one)
    return apply(builder, total, "sqrt") if p == 2 else total


@operator("MaxPool", integers=True)
def max_pool(call: Call) -> Operand:
    builder, x = call.builder, call.operand(0)
    call.ignore("storage_order")
    spatial = _spatial(x)
    windows = _windows(call, spatial, None, ceil=True)
    # A padded tap repeats the window's nearest entry: it cannot win, as -inf could not.
    taps = []
    for axis, extent in enumerate(spatial):
        positions = _positions(windows, axis)
        inside = (positions >= 0) & (positions < extent)
        if not np.all(inside.any(axis=1)):
            raise ModelError("a window lies in the padding altogether")
        first = positions[np.arange(len(positions)), np.argmax(inside, axis=1)]
        taps.append(np.where(inside, positions, first[:, None]))
    # The maximum of Relus is the Relu of the maximum, whose bounds are tighter.
    below = builder.before_relu(x)
    if isinstance(x, Variable):
        x = builder.finished(x)
    whole = x if below is None else below

    def tap(offsets: tuple[int, ...]) -> Operand:
        places = np.ix_(*(taps[axis][:, offset] for axis, offset in enumerate(offsets)))
        picked: tuple[Any, ...] = (slice(None), slice(None), *places)
        return builder.view(whole, lambda array, _: array[picked])

    offsets = itertools.product(*map(range, windows.kernel))
    builder.claim((math.prod(windows.kernel), PART_COST))
    builder.claim((*x.shape[:2], *windows.counts, math.prod(windows.kernel)))
    largest = tree(functools.partial(larger, builder), [tap(offset) for offset in offsets])
    return largest if below is None else builder.relu(largest)


def _summed(builder: Builder, x: Operand, windows: Windows, share: Enclosure) -> Operand:
    """The sums over windows of every channel, times one number."""
    planes = x.shape[0] * x.shape[1]
    kernel = (1, 1, *windows.kernel)
    width = None if share.radius is None else np.full(kernel, share.radius[0])
    mover = Conv(
        weight=Enclosure(np.full(kernel, share.value[0]), width),
        in_shape=(planes, 1, *x.shape[2:]),
        out_shape=(planes, 1, *windows.counts),
        strides=windows.strides,
        pads=windows.before,
        dilations=windows.dilations,
    )
    return builder.apply(mover, x, (*x.shape[:2], *windows.counts))


def _biased(call: Call, result: Operand) -> Operand:
    bias = call.optional(2)
    if bias is None:
        return result
    same_kind(result, bias)
    if bias.shape != result.shape[1:2]:
        raise ModelError(f"bias of shape {bias.shape} for {result.shape[1]} channels")
    along = (*bias.shape, *(1 for _ in result.shape[2:]))
    return call.builder.add(result, call.builder.reshape(bias, along))


def _spatial(x: Operand, weight: Constant | None = None) -> tuple[int, ...]:
    """The spatial extents of an operand ``(batch, channels, *spatial)``."""
    if not 3 <= len(x.shape) <= 5:
        raise UnsupportedOperatorError(f"an operand of shape {x.shape} has no rule")
    if weight is not None and len(weight.shape) != len(x.shape):
        raise ModelError(f"weight of shape {weight.shape} does not fit {x.shape}")
    if 0 in x.shape or (weight is not None and 0 in weight.shape):
        raise ModelError("an operand is empty")
    return x.shape[2:]


def _steps(
    call: Call, rank: int, kernel: tuple[int, ...] | None
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Kernel, strides and dilations; the kernel of a convolution is its weight's."""
    stated = call.ints("kernel_shape")
    if kernel is None:
        if stated is None:
            raise ModelError("it has no kernel_shape")
        kernel = stated
    elif stated is not None and stated != kernel:
        raise ModelError(f"kernel_shape {stated} differs from the weight's {kernel}")
    strides, dilations = (_per_axis(call, name, rank, 1) for name in ("strides", "dilations"))
    if len(kernel) != rank or min(kernel + strides + dilations) < 1:
        raise ModelError(f"kernel {kernel}, strides {strides} or dilations {dilations} are invalid")
    return kernel, strides, dilations


def _windows(
    call: Call, spatial: tuple[int, ...], kernel: tuple[int, ...] | None, ceil: bool
) -> Windows:
    rank = len(spatial)
    kernel, strides, dilations = _steps(call, rank, kernel)
    up = bool(call.int("ceil_mode", 0)) if ceil else False
    mode, stated = _auto_pad(call), call.ints("pads")
    before, after, counts = [], [], []
    both = _pads(mode, stated, rank)
    for axis, size in enumerate(spatial):
        width = (kernel[axis] - 1) * dilations[axis] + 1
        stride = strides[axis]
        if mode.startswith("SAME"):
            count = -(-size // stride)
            total = (count - 1) * stride + width - size
            # Runtimes differ: some crop, and pools forget their dilations.
            if total < -1 or (ceil and dilations[axis] > 1):
                raise UnsupportedOperatorError(
                    f"auto_pad '{mode}' with strides {strides} and dilations {dilations} "
                    "is read in several ways; state pads"
                )
            total = max(0, total)
            low = total // 2 if mode == "SAME_UPPER" else total - total // 2
            high = total - low
        else:
            low, high = both[axis], both[rank + axis]
            room = size + low + high - width
            count = (-(-room // stride) if up else room // stride) + 1
            # A window that would start in the padding behind the image is left out.
            if up and (count - 1) * stride >= size + low:
                count -= 1
        if count < 1 or (not mode.startswith("SAME") and room < 0):
            raise ModelError(f"a kernel of {width} entries does not fit axis {axis} of {size}")
        before.append(low)
        after.append(high)
        counts.append(count)
    return Windows(kernel, strides, dilations, tuple(before), tuple(after), tuple(counts))


def _positions(windows: Windows, axis: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """``(windows, taps)``: where along an axis each tap of each window reads."""
    starts = np.arange(windows.counts[axis]) * windows.strides[axis] - windows.before[axis]
    taps = np.arange(windows.kernel[axis]) * windows.dilations[axis]
    return np.add.outer(starts, taps)


def _auto_pad(call: Call) -> str:
    mode = call.text("auto_pad", "NOTSET")
    if mode not in ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"):
        raise ModelError(f"auto_pad '{mode}'")
    return mode


def _pads(mode: str, pads: tuple[int, ...] | None, rank: int) -> tuple[int, ...]:
    if pads is None:
        return (0,) * (2 * rank)
    if len(pads) != 2 * rank or min(pads) < 0:
        raise ModelError(f"pads {pads} do not fit {rank} spatial axes")
    if mode != "NOTSET" and any(pads):
        raise ModelError(f"pads {pads} beside auto_pad '{mode}'")
    return pads


def _per_axis(call: Call, name: str, rank: int, default: int) -> tuple[int, ...]:
    found = call.ints(name)
    if found is None:
        return (default,) * rank
    if len(found) != rank:
        raise ModelError(f"{name} {found} do not fit {rank} spatial axes")
    return found
