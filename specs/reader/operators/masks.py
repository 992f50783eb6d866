"""Minus infinities on their way to a Softmax, which gives their entries no weight at all.

A stored minus infinity is no real number, so every rule refuses it but these: it may be added
to a tensor or chosen instead of its entries, as exporters do to mask attention.
"""

from __future__ import annotations

import numpy as np

from specs.reader.builder import Builder
from specs.reader.operands import Array, Masked, Operand, Value, common_shape
from specs.reader.tensors import FLOATS, Constant


def is_masked(value: Value) -> bool:
    """Whether some entry is minus infinity."""
    if isinstance(value, Masked):
        return True
    if not isinstance(value, Constant) or value.kind not in FLOATS:
        return False
    return bool(np.min(value.value, initial=0.0) == -np.inf)


def split(value: Value) -> tuple[Operand, Array]:
    """Real numbers, 0 in place of minus infinity, and where they count."""
    if isinstance(value, Masked):
        return value.variable, value.allowed
    if not isinstance(value, Constant) or value.kind not in FLOATS:
        return value, np.ones(value.shape, dtype=np.bool_)
    allowed = ~np.isneginf(value.value)
    return Constant(np.where(allowed, value.value, 0.0), value.kind, value.radius), allowed


def joined(operand: Operand, allowed: Array) -> Value:
    """Real numbers, with minus infinity where they do not count."""
    if isinstance(operand, Constant):
        values = np.where(allowed, operand.value, -np.inf)
        return Constant(values, operand.kind, operand.radius)
    return Masked(operand, allowed)


def masked_sum(builder: Builder, left: Value, right: Value) -> Value:
    """``left + right``, broadcast, where either may hold minus infinities."""
    shape = builder.claim(common_shape(left.shape, right.shape))
    (first, some), (second, others) = split(left), split(right)
    allowed = np.broadcast_to(some, shape) & np.broadcast_to(others, shape)
    return joined(builder.add(first, second), allowed)
