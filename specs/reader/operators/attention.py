"""Scaled dot product attention, and rotary embeddings."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader import rounding
from specs.reader.builder import Builder
from specs.reader.calls import Call, operator, same_kind
from specs.reader.operands import Array, Operand, Rearrangement, common_shape, require_real
from specs.reader.operators.dense import product
from specs.reader.operators.masks import split
from specs.reader.operators.products import times
from specs.reader.operators.rewrites import shareable
from specs.reader.operators.softmax import probabilities
from specs.reader.operators.univariate import apply
from specs.reader.tensors import Constant, real


@operator("Attention")
def attention(call: Call) -> list[Operand]:
    builder = call.builder
    call.ignore("softmax_precision", "qk_matmul_output_mode")
    flat = len(call.operand(0).shape) == 3
    query, key, value = _heads(call)
    for name in ("left_window_size", "right_window_size"):
        if call.int(name, -1) != -1:
            raise UnsupportedOperatorError(f"attribute '{name}' has no rule")
    if call.optional(6) is not None:
        raise UnsupportedOperatorError("nonpad_kv_seqlen has no rule")
    past = (call.optional(4), call.optional(5))
    if past[0] is not None and past[1] is not None:
        key = _appended(builder, past[0], key)
        value = _appended(builder, past[1], value)
    elif past != (None, None):
        raise ModelError("only one of past_key and past_value is given")
    scores = _scores(call, query, _repeated(builder, key, query))
    scores, allowed = _masked(call, scores, past[0] is not None)
    weights = probabilities(builder, scores, allowed)
    made = product(builder, weights, _repeated(builder, value, query))
    if flat:
        batch, heads, length, size = made.shape
        made = builder.view(made, lambda array, _: array.transpose(0, 2, 1, 3))
        made = builder.reshape(made, (batch, length, heads * size))
    return [made, key, value]


@operator("RotaryEmbedding")
def rotary_embedding(call: Call) -> Operand:
    builder, given = call.builder, call.operand(0)
    cosine, sine, position = call.operand(1), call.operand(2), call.optional_constant(3)
    heads, turned = call.int("num_heads", 0), call.int("rotary_embedding_dim", 0)
    interleaved = call.int("interleaved", 0)
    require_real(given)
    same_kind(given, cosine, sine)
    x = given
    if len(given.shape) == 3:
        x = _split_heads(builder, given, heads, "num_heads")
    elif len(given.shape) != 4:
        raise ModelError(f"an operand of shape {given.shape}")
    batch, _, length, size = x.shape
    turned = turned or size
    if turned % 2 or not 0 < turned <= size:
        raise ModelError(f"a rotation of {turned} of {size} entries")
    factors = []
    for cache in (cosine, sine):
        if position is not None:
            cache = _at_positions(builder, cache, position)
        wanted = (batch, length, turned // 2)
        if cache.shape != wanted:
            raise ModelError(f"angles of shape {cache.shape} instead of {wanted}")
        factors.append(builder.reshape(cache, (batch, 1, *wanted[1:])))
    order = np.arange(turned).reshape((-1, 2) if interleaved else (2, -1))
    halves = order.T if interleaved else order
    first, second = (shareable(builder, builder.view(x, _last(part))) for part in halves)
    cos, sin = factors
    real_part = builder.subtract(times(builder, first, cos), times(builder, second, sin))
    imaginary = builder.add(times(builder, first, sin), times(builder, second, cos))
    rest = builder.view(x, lambda array, _: array[..., turned:])
    back = np.argsort(np.concatenate([*halves, np.arange(turned, size)]))
    parts = [real_part, imaginary, *([rest] if turned < size else [])]
    joined = builder.view(builder.concat(parts, 3), lambda array, _: array[..., back])
    if len(given.shape) == 4:
        return joined
    swapped = builder.view(joined, lambda array, _: array.transpose(0, 2, 1, 3))
    return builder.reshape(swapped, given.shape)


def _heads(call: Call) -> tuple[Operand, Operand, Operand]:
    """Query, key and value of shapes ``(batch, heads, length, size)``."""
    parts = [call.operand(position) for position in range(3)]
    same_kind(*parts)
    counts = call.int("q_num_heads", 0), call.int("kv_num_heads", 0)
    for part in parts:
        require_real(part)
    ranks = {len(part.shape) for part in parts}
    if ranks == {3}:
        names = ("q_num_heads", "kv_num_heads", "kv_num_heads")
        numbers = (counts[0], counts[1], counts[1])
        parts = [
            _split_heads(call.builder, part, number, name)
            for part, number, name in zip(parts, numbers, names, strict=True)
        ]
    elif ranks != {4}:
        raise ModelError(f"operands of ranks {sorted(ranks)}")
    query, key, value = parts
    fits = query.shape[0] == key.shape[0] == value.shape[0] and key.shape[1] == value.shape[1]
    fits = fits and query.shape[3] == key.shape[3] and key.shape[2] == value.shape[2]
    if not fits or not key.shape[1] or query.shape[1] % key.shape[1]:
        shapes = ", ".join(str(part.shape) for part in parts)
        raise ModelError(f"query, key and value of shapes {shapes} do not fit")
    return query, key, value


def _split_heads(builder: Builder, x: Operand, heads: int, name: str) -> Operand:
    if heads < 1 or x.shape[2] % heads:
        raise ModelError(f"{name} {heads} does not fit shape {x.shape}")
    shape = (*x.shape[:2], heads, x.shape[2] // heads)
    return builder.view(builder.reshape(x, shape), lambda array, _: array.transpose(0, 2, 1, 3))


def _appended(builder: Builder, past: Operand, new: Operand) -> Operand:
    same_kind(past, new)
    if len(past.shape) != 4 or past.shape[:2] + past.shape[3:] != new.shape[:2] + new.shape[3:]:
        raise ModelError(f"a past state of shape {past.shape} does not fit {new.shape}")
    return builder.concat([past, new], 2)


def _repeated(builder: Builder, part: Operand, query: Operand) -> Operand:
    """Keys or values once for every head of the query that reads them."""
    times_each = query.shape[1] // part.shape[1]
    if times_each == 1:
        return part
    return builder.view(part, lambda array, _: np.repeat(array, times_each, axis=1))


def _scores(call: Call, query: Operand, key: Operand) -> Operand:
    """Scaled products of queries and keys, softly capped if the model says so."""
    builder = call.builder
    size = Enclosure(np.array(float(query.shape[3])))
    if "scale" in call.attributes:
        factor = Enclosure(np.array(_finite(call, "scale")))
    else:
        factor = rounding.reciprocal(rounding.square_root(size))
    turned = builder.view(key, lambda array, _: array.swapaxes(-1, -2))
    scores = builder.scale(product(builder, query, turned), real(factor, query.kind))
    cap = _finite(call, "softcap")
    if cap < 0:
        raise ModelError(f"softcap {cap}")
    if cap == 0:
        return scores
    limit = Constant(np.array(cap), query.kind)
    inner = builder.scale(scores, real(rounding.reciprocal(limit.enclosure), query.kind))
    return builder.scale(apply(builder, inner, "tanh"), limit)


def _masked(call: Call, scores: Operand, past: bool) -> tuple[Operand, Array]:
    """Scores with a mask of numbers added, and where a mask lets them pass."""
    builder, mask = call.builder, call.optional(3)
    allowed: Array = np.ones(builder.claim(scores.shape), dtype=np.bool_)
    if call.int("is_causal", 0):
        rows, columns = scores.shape[-2:]
        if rows != columns or past:
            raise UnsupportedOperatorError(
                "a causal mask where queries and keys differ in number is read in several ways"
            )
        allowed = allowed & np.tri(rows, dtype=np.bool_)
    if mask is None:
        return scores, allowed
    if common_shape(mask.shape, scores.shape) != scores.shape:
        raise ModelError(f"a mask of shape {mask.shape} does not fit {scores.shape}")
    if mask.shape[-1:] != scores.shape[-1:]:
        raise UnsupportedOperatorError("a mask of fewer keys is read in several ways")
    if mask.kind == TensorProto.BOOL and isinstance(mask, Constant):
        return scores, mask.value & allowed
    same_kind(scores, mask)
    finite, passing = split(mask)
    return builder.add(scores, finite), passing & allowed


def _at_positions(builder: Builder, cache: Operand, position: Constant) -> Operand:
    if len(cache.shape) != 2 or len(position.shape) != 2 or not position.value.size:
        raise ModelError(f"angles of shape {cache.shape} at positions of {position.shape}")
    if position.value.min() < 0 or position.value.max() >= cache.shape[0]:
        raise ModelError("a position lies outside the angles")
    builder.claim((*position.shape, cache.shape[1]))
    return builder.view(cache, lambda array, _: array[position.value])


def _last(entries: Array) -> Rearrangement:
    """Entries of the last axis."""
    return lambda array, _: array[..., entries]


def _finite(call: Call, name: str) -> float:
    number = call.float(name, 0.0)
    if not math.isfinite(number):
        raise ModelError(f"{name} {number}")
    return number
