"""Operators that read or write entries at constant places."""

from __future__ import annotations

import math

import numpy as np

from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError
from specs.linear import MatMul, Scatter
from specs.reader.calls import Call, operator, resolved_axis, same_kind
from specs.reader.operands import Array, Operand
from specs.reader.tensors import FLOATS, INTEGERS, Constant, kind_name


@operator("GatherND", integers=True)
def gather_nd(call: Call) -> Operand:
    x, index, batch = call.operand(0), call.constant(1), call.int("batch_dims", 0)
    if not 0 <= batch < min(len(x.shape), len(index.shape)):
        raise ModelError(f"{batch} batch axes of shapes {x.shape} and {index.shape}")
    depth = index.shape[-1]
    if x.shape[:batch] != index.shape[:batch] or not 1 <= depth <= len(x.shape) - batch:
        raise ModelError(f"indices of shape {index.shape} do not fit {x.shape}")
    places = _checked(index, x.shape[batch : batch + depth])
    shape = (*index.shape[:-1], *x.shape[batch + depth :])
    call.builder.claim(shape)
    count = math.prod(x.shape[:batch])
    rows = np.arange(count).reshape(count, 1)
    columns = [places[..., axis].reshape(count, -1) for axis in range(depth)]

    def picked(array: Array, _: int) -> Array:
        whole: Array = array.reshape(count, *x.shape[batch:])[(rows, *columns)]
        return whole.reshape(shape)

    return call.builder.view(x, picked)


@operator("ScatterND", integers=True)
def scatter_nd(call: Call) -> Operand:
    x, index, updates = call.operand(0), call.constant(1), call.operand(2)
    depth = index.shape[-1] if index.shape else 0
    if not 1 <= depth <= len(x.shape):
        raise ModelError(f"indices of shape {index.shape} do not fit {x.shape}")
    if updates.shape != (*index.shape[:-1], *x.shape[depth:]):
        raise ModelError(f"updates of shape {updates.shape} do not fit {index.shape}")
    places = _checked(index, x.shape[:depth])
    call.builder.claim(x.shape)
    numbers = np.arange(math.prod(x.shape)).reshape(x.shape)
    return _scattered(call, x, updates, numbers[tuple(np.moveaxis(places, -1, 0))])


@operator("ScatterElements", "Scatter", integers=True)
def scatter_elements(call: Call) -> Operand:
    x, index, updates = call.operand(0), call.constant(1), call.operand(2)
    axis = resolved_axis(call.int("axis", 0), len(x.shape))
    if index.shape != updates.shape or len(index.shape) != len(x.shape):
        raise ModelError(f"updates of shape {updates.shape} do not fit {index.shape}")
    extents = zip(index.shape, x.shape, strict=True)
    if any(new > old for at, (new, old) in enumerate(extents) if at != axis):
        raise ModelError(f"indices of shape {index.shape} do not fit {x.shape}")
    places = _checked(index, (x.shape[axis],) * (index.shape[-1] if index.shape else 0))
    call.builder.claim(x.shape)
    numbers = np.arange(math.prod(x.shape)).reshape(x.shape)
    corner = tuple(
        slice(None) if at == axis else slice(extent) for at, extent in enumerate(index.shape)
    )
    return _scattered(call, x, updates, np.take_along_axis(numbers[corner], places, axis))


@operator("Trilu", integers=True)
def triangle(call: Call) -> Operand:
    x, upper, given = call.operand(0), call.int("upper", 1), call.optional_constant(1)
    if len(x.shape) < 2:
        raise ModelError(f"a triangle of a tensor of shape {x.shape}")
    if given is not None and (given.kind not in INTEGERS or given.value.size != 1):
        raise ModelError("its diagonal is not a single integer")
    diagonal = 0 if given is None else int(given.value.reshape(()))
    rows, columns = x.shape[-2:]
    step = np.arange(columns) - np.arange(rows)[:, None]
    mask = step >= diagonal if upper else step <= diagonal
    return call.builder.view(x, lambda array, fill: np.where(mask, array, fill))


@operator("CumSum")
def cumulative_sum(call: Call) -> Operand:
    builder, x, given = call.builder, call.operand(0), call.constant(1)
    exclusive, backward = call.int("exclusive", 0), call.int("reverse", 0)
    if given.kind not in INTEGERS or given.value.size != 1:
        raise ModelError("its axis is not a single integer")
    if x.kind not in FLOATS:
        raise UnsupportedOperatorError(f"sums of {kind_name(x.kind)} values have no rule")
    axis = resolved_axis(int(given.value.reshape(())), len(x.shape))
    size = x.shape[axis]
    if 0 in x.shape:
        raise ModelError(f"a sum over a tensor of shape {x.shape}")
    builder.claim((size, size))
    counted = np.triu(np.ones((size, size)), 1 if exclusive else 0)
    rows = math.prod(x.shape) // size
    turned = builder.view(x, lambda array, _: np.moveaxis(array, axis, -1))
    summing = MatMul(Enclosure(counted.T.copy() if backward else counted), rows)
    summed = builder.apply(summing, turned, turned.shape)
    return builder.view(summed, lambda array, _: np.moveaxis(array, -1, axis))


@operator("ArgMax", "ArgMin", integers=True)
def position_of_extreme(call: Call) -> Operand:
    x, axis = call.operand(0), call.int("axis", 0)
    keep, last = call.int("keepdims", 1), call.int("select_last_index", 0)
    largest = call.node.op_type == "ArgMax"
    if not isinstance(x, Constant):
        raise UnsupportedOperatorError(
            f"the position of an extreme has no rule; end the model at '{call.node.input[0]}' and "
            "state the property on these values: an entry is the "
            f"{'largest' if largest else 'smallest'} where no other is beyond it"
        )
    at = resolved_axis(axis, len(x.shape))
    if x.radius is not None or last or x.shape[at] == 0:
        raise UnsupportedOperatorError("the position of an extreme of these constants has no rule")
    found = (np.argmax if largest else np.argmin)(x.value, axis=at)
    kept = np.expand_dims(found, at) if keep else np.asarray(found)
    return Constant(kept.astype(np.int64), _INT64)


_INT64 = next(kind for kind, name in INTEGERS.items() if name == "int64")


def _checked(index: Constant, extents: tuple[int, ...]) -> Array:
    """Indices counted from the front, those along the last axis for extents of their own."""
    if index.kind not in INTEGERS:
        raise ModelError("its indices are not integers")
    limits = np.array(extents, dtype=np.int64)
    if index.value.size and np.any((index.value < -limits) | (index.value >= limits)):
        raise ModelError(f"an index lies outside axes of {extents} entries")
    return np.where(index.value < 0, index.value + limits, index.value)


def _scattered(call: Call, x: Operand, updates: Operand, places: Array) -> Operand:
    """``x`` with entries at flat places replaced, or added to."""
    builder, reduction = call.builder, call.text("reduction", "none")
    same_kind(x, updates)
    flat = places.reshape(-1)
    if not flat.size:
        return x
    if reduction == "add" and x.kind in FLOATS:
        added = builder.apply(Scatter(flat, math.prod(x.shape)), updates, x.shape)
        return builder.add(x, added)
    if reduction != "none":
        raise UnsupportedOperatorError(
            f"reduction '{reduction}' of {kind_name(x.kind)} values has no rule"
        )
    if np.unique(flat).size != flat.size:
        raise ModelError("two updates of one entry, of which none comes last")
    source = np.full(math.prod(x.shape), -1)
    source[flat] = np.arange(flat.size)
    replaced = (source >= 0).reshape(x.shape)
    if isinstance(x, Constant) and isinstance(updates, Constant):
        values = np.where(replaced, updates.value.reshape(-1)[source].reshape(x.shape), x.value)
        if x.radius is None and updates.radius is None:
            return Constant(values, x.kind)
    if x.kind not in FLOATS:
        raise UnsupportedOperatorError(
            f"it has no rule for a variable tensor of type {kind_name(x.kind)}"
        )
    kept = builder.view(x, lambda array, fill: np.where(replaced, fill, array))
    new = builder.view(
        updates,
        lambda array, fill: np.where(replaced, array.reshape(-1)[source].reshape(x.shape), fill),
    )
    return builder.add(kept, new)
