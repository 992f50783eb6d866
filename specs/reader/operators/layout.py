"""Operators that move entries: shapes, slices, transpositions, padding."""

from __future__ import annotations

import itertools
import math

import numpy as np

from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader.calls import Call, operator, resolved_axes, resolved_axis, same_kind
from specs.reader.operands import Array, Operand, common_shape
from specs.reader.tensors import FLOATS, INTEGERS, Constant


@operator("Reshape", integers=True)
def reshape(call: Call) -> Operand:
    x, wanted = call.operand(0), list(call.integers(1))
    if not call.int("allowzero", 0):
        for axis, extent in enumerate(wanted):
            if extent == 0:
                wanted[axis] = x.shape[resolved_axis(axis, len(x.shape))]
    if -1 in wanted:
        known = math.prod(extent for extent in wanted if extent != -1)
        size = math.prod(x.shape)
        if wanted.count(-1) > 1 or known == 0 or size % known:
            raise ModelError(f"shape {x.shape} cannot become {tuple(wanted)}")
        wanted[wanted.index(-1)] = size // known
    if any(extent < 0 for extent in wanted) or len(wanted) > 32:
        raise ModelError(f"shape {tuple(wanted)} of rank {len(wanted)} is not a shape")
    return call.builder.reshape(x, wanted)


@operator("Flatten", integers=True)
def flatten(call: Call) -> Operand:
    x, axis = call.operand(0), call.int("axis", 1)
    if not -len(x.shape) <= axis <= len(x.shape):
        raise ModelError(f"axis {axis} of a tensor of rank {len(x.shape)}")
    axis = axis + len(x.shape) if axis < 0 else axis
    return call.builder.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Squeeze", integers=True)
def squeeze(call: Call) -> Operand:
    x, axes = call.operand(0), call.axes(1, since=13)
    if axes is None:
        axes = tuple(axis for axis, extent in enumerate(x.shape) if extent == 1)
    dropped = resolved_axes(axes, len(x.shape))
    if any(x.shape[axis] != 1 for axis in dropped):
        raise ModelError(f"axes {dropped} of shape {x.shape} are not all 1")
    kept = [extent for axis, extent in enumerate(x.shape) if axis not in dropped]
    return call.builder.reshape(x, kept)


@operator("Unsqueeze", integers=True)
def unsqueeze(call: Call) -> Operand:
    x, axes = call.operand(0), call.axes(1, since=13)
    if axes is None:
        raise ModelError("it names no axes")
    rank = len(x.shape) + len(axes)
    new = resolved_axes(axes, rank)
    old = iter(x.shape)
    return call.builder.reshape(x, [1 if axis in new else next(old) for axis in range(rank)])


@operator("Transpose", integers=True)
def transpose(call: Call) -> Operand:
    x, order = call.operand(0), call.ints("perm")
    rank = len(x.shape)
    order = tuple(reversed(range(rank))) if order is None else order
    if sorted(order) != list(range(rank)):
        raise ModelError(f"perm {order} is no permutation of {rank} axes")
    return call.builder.view(x, lambda array, _: array.transpose(order))


@operator("Slice", integers=True)
def take_slice(call: Call) -> Operand:
    x = call.operand(0)
    if call.opset < 10:
        starts, ends, axes = call.ints("starts"), call.ints("ends"), call.ints("axes")
        steps = None
        if starts is None or ends is None:
            raise ModelError("it has no starts or no ends")
    else:
        starts, ends = call.integers(1), call.integers(2)
        axes = None if call.optional(3) is None else call.integers(3)
        steps = None if call.optional(4) is None else call.integers(4)
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ModelError("its starts, ends, axes and steps do not fit")
    picked: list[slice] = [slice(None)] * len(x.shape)
    for start, end, axis, step in zip(
        starts, ends, resolved_axes(axes, len(x.shape)), steps, strict=True
    ):
        picked[axis] = _bounded_slice(start, end, step, x.shape[axis])
    return call.builder.view(x, lambda array, _: array[tuple(picked)])


def _bounded_slice(start: int, end: int, step: int, extent: int) -> slice:
    """ONNX counts from the end once and then clamps, as Python does, save at -1."""
    start = start + extent if start < 0 else start
    end = end + extent if end < 0 else end
    if step > 0:
        return slice(min(max(start, 0), extent), min(max(end, 0), extent), step)
    start, end = min(max(start, 0), extent - 1), min(max(end, -1), extent - 1)
    return slice(start, None if end < 0 else end, step)


@operator("Gather", integers=True)
def gather(call: Call) -> Operand:
    x, index = call.operand(0), call.constant(1)
    axis = resolved_axis(call.int("axis", 0), len(x.shape))
    chosen = _index(index, x.shape[axis])
    call.builder.claim((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))
    return call.builder.view(x, lambda array, _: np.take(array, chosen, axis=axis))


@operator("GatherElements", integers=True)
def gather_elements(call: Call) -> Operand:
    x, index = call.operand(0), call.constant(1)
    axis = resolved_axis(call.int("axis", 0), len(x.shape))
    chosen = _index(index, x.shape[axis])
    if len(index.shape) != len(x.shape) or any(
        new > old
        for at, (new, old) in enumerate(zip(index.shape, x.shape, strict=True))
        if at != axis
    ):
        raise ModelError(f"indices of shape {index.shape} do not fit {x.shape}")
    corner = tuple(
        slice(None) if at == axis else slice(extent) for at, extent in enumerate(index.shape)
    )
    return call.builder.view(x, lambda array, _: np.take_along_axis(array[corner], chosen, axis))


def _index(index: Constant, extent: int) -> Array:
    values = index.value
    if index.kind not in INTEGERS:
        raise ModelError("its indices are not integers")
    if values.size and (values.min() < -extent or values.max() >= extent):
        raise ModelError(f"an index lies outside an axis of {extent} entries")
    return np.where(values < 0, values + extent, values)


@operator("Split", integers=True)
def split(call: Call) -> list[Operand]:
    x = call.operand(0)
    axis = resolved_axis(call.int("axis", 0), len(x.shape))
    extent, count = x.shape[axis], len(call.node.output)
    if call.opset < 13:
        sizes = call.ints("split")
    else:
        sizes = None if call.optional(1) is None else call.integers(1)
    stated = call.int("num_outputs", count)
    if stated != count or (sizes is not None and "num_outputs" in call.attributes):
        raise ModelError(f"num_outputs is {stated}, but it has {count} outputs")
    if sizes is None:
        share = -(-extent // count)
        sizes = tuple(max(0, min(share, extent - at * share)) for at in range(count))
        if extent % count and (call.opset < 18 or sizes[-1] == 0):
            raise ModelError(f"{extent} entries cannot be split into {count} parts")
    if len(sizes) != count or sum(sizes) != extent or min(sizes) < 0:
        raise ModelError(f"parts {sizes} do not fit {extent} entries and {count} outputs")
    edges = np.cumsum((0, *sizes)).tolist()
    before = (slice(None),) * axis

    def part(low: int, high: int) -> Operand:
        return call.builder.view(x, lambda array, _: array[(*before, slice(low, high))])

    return [part(low, high) for low, high in itertools.pairwise(edges)]


@operator("Concat", integers=True)
def concat(call: Call) -> Operand:
    operands = call.operands()
    same_kind(*operands)
    first = operands[0]
    if "axis" not in call.attributes:
        raise ModelError("it has no axis")
    axis = resolved_axis(call.int("axis", 0), len(first.shape))
    for operand in operands:
        if operand.shape[:axis] + operand.shape[axis + 1 :] != (
            first.shape[:axis] + first.shape[axis + 1 :]
        ) or len(operand.shape) != len(first.shape):
            raise ModelError(f"shapes {first.shape} and {operand.shape} do not fit")
    return call.builder.concat(operands, axis)


@operator("Pad", integers=True)
def pad(call: Call) -> Operand:
    builder, x, rank = call.builder, call.operand(0), len(call.operand(0).shape)
    mode = call.text("mode", "constant")
    axes: tuple[int, ...] = tuple(range(rank))
    if call.opset < 11:
        pads = call.ints("pads") or ()
        fill = Constant(np.array(call.float("value", 0.0)), x.kind)
    else:
        pads = call.integers(1)
        given = call.optional_constant(2)
        fill = Constant(np.zeros((), x_dtype(x)), x.kind) if given is None else given
        if call.optional(3) is not None:
            axes = resolved_axes(call.integers(3), rank)
    if len(pads) != 2 * len(axes) or fill.value.size != 1:
        raise ModelError(f"pads {pads} do not fit a tensor of rank {rank}")
    same_kind(x, fill)
    amounts = [(0, 0)] * rank
    for axis, low, high in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        amounts[axis] = (low, high)
    for extent, (low, high) in zip(x.shape, amounts, strict=True):
        if max(0, -low) + max(0, -high) > extent:
            raise ModelError(f"pads {pads} cut more than there is of shape {x.shape}")
        limit = {"reflect": extent - 1, "wrap": extent, "edge": extent * 2**62}.get(mode)
        if limit is not None and max(low, high) > max(limit, 0):
            raise ModelError(f"pads {pads} exceed shape {x.shape} in mode '{mode}'")
    cut = tuple(
        slice(max(0, -low), max(0, extent - max(0, -high)))
        for extent, (low, high) in zip(x.shape, amounts, strict=True)
    )
    if any(amount < 0 for pair in amounts for amount in pair) and mode != "constant":
        raise UnsupportedOperatorError(f"negative pads in mode '{mode}' have no rule")
    grown = [(max(0, low), max(0, high)) for low, high in amounts]
    extents = zip(x.shape, amounts, strict=True)
    shape = builder.claim([extent + low + high for extent, (low, high) in extents])
    if mode == "wrap" and call.opset < 19:
        raise ModelError(f"opset {call.opset} has no mode 'wrap'")
    if mode in ("edge", "reflect", "wrap"):
        return builder.view(x, lambda array, _: np.pad(array, grown, mode=mode))  # type: ignore[call-overload]
    if mode != "constant":
        raise UnsupportedOperatorError(f"mode '{mode}' has no rule")
    moved = builder.view(x, lambda array, zero: np.pad(array[cut], grown, constant_values=zero))
    if not np.any(fill.value) and fill.radius is None:
        return moved
    inside = np.pad(np.ones(x.shape, np.bool_)[cut], grown)
    if x.kind not in FLOATS:
        return Constant(np.where(inside, call.constant(0).value.sum() * 0, fill.value), x.kind)
    radius = None if fill.radius is None else np.where(inside, 0.0, fill.radius)
    return builder.add(
        moved, Constant(np.where(inside, 0.0, fill.value).reshape(shape), x.kind, radius)
    )


def x_dtype(x: Operand) -> type:
    """The numpy type in which values of an operand's kind are kept."""
    return np.float64 if x.kind in FLOATS else np.int64


@operator("Expand", integers=True)
def expand(call: Call) -> Operand:
    x = call.operand(0)
    wanted = call.integers(1)
    if any(extent < 0 for extent in wanted):
        raise ModelError(f"shape {wanted} is negative")
    return call.builder.broadcast(x, common_shape(x.shape, wanted))


@operator("Tile", integers=True)
def tile(call: Call) -> Operand:
    x, repeats = call.operand(0), call.integers(1)
    if len(repeats) != len(x.shape) or any(count < 0 for count in repeats):
        raise ModelError(f"repeats {repeats} do not fit shape {x.shape}")
    call.builder.claim([e * count for e, count in zip(x.shape, repeats, strict=True)])
    return call.builder.view(x, lambda array, _: np.tile(array, repeats))


@operator("DepthToSpace", integers=True)
def depth_to_space(call: Call) -> Operand:
    x, block, mode = call.operand(0), call.int("blocksize", 0), call.text("mode", "DCR")
    if len(x.shape) != 4 or block < 1 or x.shape[1] % block**2 or mode not in ("DCR", "CRD"):
        raise ModelError(f"blocks of {block} in mode '{mode}' do not fit shape {x.shape}")
    n, c, h, w = x.shape
    depth = c // block**2

    def moved(array: Array, _: int) -> Array:
        if mode == "DCR":
            parts = array.reshape(n, block, block, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            parts = array.reshape(n, depth, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
        return parts.reshape(n, depth, h * block, w * block)

    return call.builder.view(x, moved)


@operator("SpaceToDepth", integers=True)
def space_to_depth(call: Call) -> Operand:
    x, block = call.operand(0), call.int("blocksize", 0)
    if len(x.shape) != 4 or block < 1 or x.shape[2] % block or x.shape[3] % block:
        raise ModelError(f"blocks of {block} do not fit shape {x.shape}")
    n, c, h, w = x.shape
    parts = (n, c, h // block, block, w // block, block)
    shape = (n, c * block**2, h // block, w // block)
    return call.builder.view(
        x, lambda array, _: array.reshape(parts).transpose(0, 3, 5, 1, 2, 4).reshape(shape)
    )
