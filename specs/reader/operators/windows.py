"""Operators that slide a window over spatial axes: convolutions and pooling."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError
from specs.linear import Conv
from specs.reader import rounding
from specs.reader.builder import Builder, Operand, require_real
from specs.reader.calls import Call, operator, same_kind
from specs.reader.operators.rewrites import maximum
from specs.reader.tensors import Constant, real


@dataclass(frozen=True)
class Window:
    """The geometry of a sliding window; one entry per spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    extents: tuple[int, ...]

    def positions(self, axis: int) -> npt.NDArray[np.int64]:
        """Image coordinates ``(extent, kernel)`` that the windows read along an axis."""
        starts = np.arange(self.extents[axis]) * self.strides[axis] - self.before[axis]
        offsets = np.arange(self.kernel[axis]) * self.dilations[axis]
        return np.asarray(starts[:, None] + offsets[None, :], dtype=np.int64)


@operator("Conv")
def conv(call: Call) -> Operand:
    x, weight, bias = call.operand(0), call.constant(1), call.optional_constant(2)
    same_kind(x, weight, *([] if bias is None else [bias]))
    spatial = _spatial(x)
    if len(weight.shape) != len(x.shape):
        raise ModelError(f"a weight of shape {weight.shape} for an image of shape {x.shape}")
    kernel = weight.shape[2:]
    _check_kernel(call, kernel)
    window = _window(call, spatial, kernel)
    mapped = Conv(
        weight=weight.enclosure,
        in_shape=x.shape,
        out_shape=(x.shape[0], weight.shape[0], *window.extents),
        strides=window.strides,
        pads=window.before,
        dilations=window.dilations,
        groups=call.int("group", 1),
    )
    return _with_bias(call.builder, call.builder.apply(mapped, x, mapped.out_shape), bias)


@operator("ConvTranspose")
def conv_transpose(call: Call) -> Operand:
    x, weight, bias = call.operand(0), call.constant(1), call.optional_constant(2)
    same_kind(x, weight, *([] if bias is None else [bias]))
    spatial, groups = _spatial(x), call.int("group", 1)
    if len(weight.shape) != len(x.shape):
        raise ModelError(f"a weight of shape {weight.shape} for an image of shape {x.shape}")
    kernel = weight.shape[2:]
    _check_kernel(call, kernel)
    count = len(spatial)
    strides = _listed(call, "strides", count, 1)
    dilations = _listed(call, "dilations", count, 1)
    extra = _listed(call, "output_padding", count, 0)
    wanted = call.ints("output_shape")
    full = [
        s * (n - 1) + e + d * (k - 1) + 1
        for s, n, e, d, k in zip(strides, spatial, extra, dilations, kernel, strict=True)
    ]
    auto = call.text("auto_pad", "NOTSET")
    pads = call.ints("pads") or (0,) * (2 * count)
    if len(pads) != 2 * count or min(pads, default=0) < 0:
        raise ModelError(f"pads {pads} do not fit {count} spatial axes")
    before, after = list(pads[:count]), list(pads[count:])
    if wanted is not None or auto in ("SAME_UPPER", "SAME_LOWER"):
        goal = wanted or tuple(n * s for n, s in zip(spatial, strides, strict=True))
        if len(goal) != count:
            raise ModelError(f"output_shape {goal} does not fit {count} spatial axes")
        total = [f - g for f, g in zip(full, goal, strict=True)]
        if min(total) < 0:
            raise UnsupportedOperatorError("an output_shape larger than the full result")
        small = [t // 2 for t in total]
        large = [t - s for t, s in zip(total, small, strict=True)]
        before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
    elif auto == "VALID":
        before, after = [0] * count, [0] * count
    elif auto != "NOTSET":
        raise ModelError(f"auto_pad '{auto}' is unknown")
    extents = tuple(f - b - a for f, b, a in zip(full, before, after, strict=True))
    mapped = Conv(
        weight=weight.enclosure,
        in_shape=call.builder.claim((x.shape[0], weight.shape[1] * groups, *extents)),
        out_shape=x.shape,
        strides=strides,
        pads=tuple(before),
        dilations=dilations,
        groups=groups,
        transposed=True,
    )
    return _with_bias(call.builder, call.builder.apply(mapped, x, mapped.in_shape), bias)


@operator("AveragePool")
def average_pool(call: Call) -> Operand:
    x = call.operand(0)
    window = _window(call, _spatial(x), _pool_kernel(call))
    return _average(call.builder, x, window, bool(call.int("count_include_pad", 0)))


@operator("GlobalAveragePool")
def global_average_pool(call: Call) -> Operand:
    x = call.operand(0)
    return _average(call.builder, x, _whole(_spatial(x)), include_pads=False)


@operator("MaxPool")
def max_pool(call: Call) -> Operand:
    x = call.operand(0)
    call.ignore("storage_order")
    return _largest(call.builder, x, _window(call, _spatial(x), _pool_kernel(call)))


@operator("GlobalMaxPool")
def global_max_pool(call: Call) -> Operand:
    x = call.operand(0)
    return _largest(call.builder, x, _whole(_spatial(x)))


def _average(builder: Builder, x: Operand, window: Window, include_pads: bool) -> Operand:
    spatial = _spatial(x)
    counts = np.ones(())
    for axis, extent in enumerate(spatial):
        reads = window.positions(axis)
        low = -window.before[axis] if include_pads else 0
        high = extent + (window.after[axis] if include_pads else 0)
        inside = np.count_nonzero((reads >= low) & (reads < high), axis=1)
        counts = counts[..., None] * inside
    if counts.size and counts.min() < 1:
        raise ModelError("an average over no entries")
    # Channels are averaged apart from each other, so they may stand as a batch.
    images = x.shape[0] * x.shape[1]
    uniform = counts.size > 0 and counts.min() == counts.max()
    factor = rounding.reciprocal(Enclosure(counts))
    share = Enclosure(np.ones(window.kernel))
    if uniform:
        only = factor.value.flat[0]
        radius = None if factor.radius is None else np.full(window.kernel, factor.radius.flat[0])
        share = Enclosure(np.full(window.kernel, only), radius)
    shaped_radius = None if share.radius is None else share.radius[None, None]
    summed = builder.apply(
        Conv(
            weight=Enclosure(share.value[None, None], shaped_radius),
            in_shape=(images, 1, *spatial),
            out_shape=(images, 1, *window.extents),
            strides=window.strides,
            pads=window.before,
            dilations=window.dilations,
        ),
        x,
        (*x.shape[:2], *window.extents),
    )
    return summed if uniform else builder.scale(summed, real(factor, x.kind))


def _largest(builder: Builder, x: Operand, window: Window) -> Operand:
    """The largest entry of each window; what lies outside the image never wins."""
    require_real(x)
    spatial = _spatial(x)
    shape = builder.claim((*x.shape[:2], *window.extents))
    taps = math.prod(window.kernel)
    builder.claim((taps, *shape))
    flat = np.zeros((*window.extents, *window.kernel), dtype=np.int64)
    valid = np.ones(flat.shape, dtype=bool)
    count = len(spatial)
    for axis, extent in enumerate(spatial):
        reads = window.positions(axis)
        around = [1] * (2 * count)
        around[axis], around[count + axis] = reads.shape
        reads = reads.reshape(around)
        flat = flat * extent + np.clip(reads, 0, extent - 1)
        valid &= (reads >= 0) & (reads < extent)
    flat, valid = flat.reshape(-1, taps), valid.reshape(-1, taps)
    if not valid.any(axis=1).all():
        raise ModelError("a window lies entirely in the padding")
    # A place outside repeats a place inside, which leaves the largest entry as it is.
    first = flat[np.arange(len(flat)), valid.argmax(axis=1)]
    places = np.where(valid, flat, first[:, None])
    candidates: list[Operand] = []
    for tap in range(taps):
        chosen = places[:, tap]

        def pick(array: npt.NDArray[Any], _: int, chosen: Any = chosen) -> npt.NDArray[Any]:
            return array.reshape(*array.shape[:2], -1)[:, :, chosen].reshape(shape)

        candidates.append(builder.view(x, pick))
    while len(candidates) > 1:
        pairs = itertools.zip_longest(candidates[::2], candidates[1::2])
        candidates = [a if b is None else maximum(builder, a, b) for a, b in pairs]
    return candidates[0]


def _window(call: Call, spatial: tuple[int, ...], kernel: tuple[int, ...]) -> Window:
    count = len(spatial)
    if len(kernel) != count or min(kernel, default=0) < 1:
        raise ModelError(f"a kernel of shape {kernel} for {count} spatial axes")
    strides = _listed(call, "strides", count, 1)
    dilations = _listed(call, "dilations", count, 1)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    auto, pads = call.text("auto_pad", "NOTSET"), call.ints("pads") or (0,) * (2 * count)
    if len(pads) != 2 * count or min(pads, default=0) < 0:
        raise ModelError(f"pads {pads} do not fit {count} spatial axes")
    before, after = list(pads[:count]), list(pads[count:])
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        ends = [-(-n // s) for n, s in zip(spatial, strides, strict=True)]
        total = [
            max(0, (e - 1) * s + r - n)
            for e, s, r, n in zip(ends, strides, reach, spatial, strict=True)
        ]
        small = [t // 2 for t in total]
        large = [t - s for t, s in zip(total, small, strict=True)]
        before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
    elif auto == "VALID":
        before, after = [0] * count, [0] * count
    elif auto != "NOTSET":
        raise ModelError(f"auto_pad '{auto}' is unknown")
    ceil = "ceil_mode" in call.attributes and bool(call.int("ceil_mode", 0))
    extents = []
    for n, b, a, r, s in zip(spatial, before, after, reach, strides, strict=True):
        room = n + b + a - r
        if room < 0:
            raise ModelError(f"a window of {r} does not fit an axis of {n + b + a}")
        extent = (-(-room // s) if ceil else room // s) + 1
        if ceil and (extent - 1) * s >= n + b:  # it would start in the padding behind
            extent -= 1
        extents.append(extent)
    return Window(tuple(kernel), strides, dilations, tuple(before), tuple(after), tuple(extents))


def _whole(spatial: tuple[int, ...]) -> Window:
    one, zero = (1,) * len(spatial), (0,) * len(spatial)
    return Window(spatial, one, one, zero, zero, one)


def _pool_kernel(call: Call) -> tuple[int, ...]:
    kernel = call.ints("kernel_shape")
    if kernel is None:
        raise ModelError("it has no kernel_shape")
    return kernel


def _check_kernel(call: Call, kernel: tuple[int, ...]) -> None:
    stated = call.ints("kernel_shape")
    if stated is not None and stated != kernel:
        raise ModelError(f"kernel_shape {stated} differs from its weight's {kernel}")


def _spatial(x: Operand) -> tuple[int, ...]:
    require_real(x)
    if len(x.shape) < 3:
        raise ModelError(f"an image of shape {x.shape} has no spatial axes")
    return x.shape[2:]


def _listed(call: Call, name: str, count: int, default: int) -> tuple[int, ...]:
    found = call.ints(name) or (default,) * count
    if len(found) != count or min(found) < (1 if default else 0):
        raise ModelError(f"{name} {found} do not fit {count} spatial axes")
    return found


def _with_bias(builder: Builder, result: Operand, bias: Constant | None) -> Operand:
    if bias is None:
        return result
    if bias.shape != (result.shape[1],):
        raise ModelError(f"a bias of shape {bias.shape} for {result.shape[1]} channels")
    radius = None if bias.radius is None else bias.radius
    along = (bias.shape[0],) + (1,) * (len(result.shape) - 2)
    shaped = Constant(
        bias.value.reshape(along), bias.kind, None if radius is None else radius.reshape(along)
    )
    return builder.add(result, shaped)
