"""Sums and means over axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from specs.enclosure import Enclosure
from specs.errors import UnsupportedOperatorError
from specs.linear import Scatter
from specs.reader import rounding
from specs.reader.builder import Operand, Variable, require_real
from specs.reader.calls import Call, operator, resolved_axes
from specs.reader.tensors import INTEGERS, Constant, real


@operator("ReduceSum")
def reduce_sum(call: Call) -> Operand:
    return _sum(call, _axes(call, since=13))


@operator("ReduceMean")
def reduce_mean(call: Call) -> Operand:
    axes = _axes(call, since=18)
    total = _sum(call, axes)
    x = call.operand(0)
    count = math.prod(x.shape[axis] for axis in axes)
    share = rounding.reciprocal(Enclosure(np.array(float(count))))
    return call.builder.scale(total, real(share, x.kind))


@operator("ReduceProd", "ReduceMax", "ReduceMin")
def reduce_constant(call: Call) -> Operand:
    x = call.operand(0)
    if isinstance(x, Variable) or x.kind not in INTEGERS:
        raise UnsupportedOperatorError("there is a rule for constant integers only")
    axes = _axes(call, since=18)
    function: Any = {"ReduceProd": np.prod, "ReduceMax": np.max, "ReduceMin": np.min}[
        call.node.op_type
    ]
    keep = bool(call.int("keepdims", 1))
    return Constant(np.asarray(function(x.value, axis=axes, keepdims=keep)), x.kind)


def _axes(call: Call, since: int) -> tuple[int, ...]:
    """The axes reduced: given, or all, or none where the node says so."""
    rank = len(call.operand(0).shape)
    given = call.axes(1, since)
    keep_all = bool(call.int("noop_with_empty_axes", 0))
    if given is None or not given:
        return () if keep_all else tuple(range(rank))
    return resolved_axes(given, rank)


def _sum(call: Call, axes: tuple[int, ...]) -> Operand:
    x, keep = call.operand(0), bool(call.int("keepdims", 1))
    kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape))
    shape = kept if keep else tuple(e for axis, e in enumerate(x.shape) if axis not in axes)
    if isinstance(x, Constant) and x.kind in INTEGERS:
        return Constant(np.asarray(x.value.sum(axis=axes, keepdims=keep)), x.kind)
    require_real(x)
    if not axes:
        return x
    size = math.prod(kept)
    index = np.broadcast_to(np.arange(size).reshape(kept), x.shape).reshape(-1)
    return call.builder.apply(Scatter(index, size), x, shape)
