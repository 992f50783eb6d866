"""A suspect with a symmetry undone: its parameters where, and as large as, the owner's are.

The model has the owner's graph and names, so that a mark is read from it as from the owner's
model; every parameter of its layers is the suspect's.  What is taken from the owner is where each
unit goes and one factor for each unit, signs of normalised units included.  Where factors are no
powers of two, parameters are rounded once.
"""

from __future__ import annotations

import numpy as np

from specs.enclosure import FloatArray
from specs.linear import IndexArray
from specs.watermarks.chain import Chain, Layer
from verifier.watermarks.folded_chain import gains
from verifier.watermarks.matching import Matched, neat
from verifier.watermarks.rewriting import Parts, rewritten


def undone(owner: Chain, suspect: Chain, matched: Matched) -> bytes:
    """The suspect's model file, with the symmetry undone.

    Raises:
        ModelError: the owner's graph cannot hold the suspect's parameters.
    """
    layers = []
    before = np.arange(owner.layers[0].weight.shape[1])
    scale = np.ones(before.size)
    for place, (own, other) in enumerate(zip(owner.layers, suspect.layers, strict=True)):
        order, factor = np.arange(own.units), np.ones(own.units)
        if place < len(matched.orders):
            order, factor = matched.orders[place], matched.factors[place]
        if place:
            scale = np.repeat(scale, own.spread)
            before = (before[:, None] * own.spread + np.arange(own.spread)).reshape(-1)
        held = other.weight * scale.reshape(1, -1, *(1,) * (own.weight.ndim - 2))
        ours = own.weight[order][:, before]
        layers.append(_placed(_layer(own, other, held, ours, factor), order, before))
        before, scale = order, factor
    return rewritten(owner, layers)


def _layer(
    own: Layer, other: Layer, held: FloatArray, ours: FloatArray, factor: FloatArray
) -> Parts:
    """A layer's parameters on the owner's scale, in the suspect's order.

    Args:
        own, other: the owner's layer and the suspect's.
        held: the suspect's weights, with the factors of the layer before undone.
        ours: the owner's weights in the suspect's order.
        factor: of each unit.
    """
    one = np.ones(other.units)
    scale, offset, mean, spread, eps = one, other.bias, other.bias, one, 0.0
    if other.norm is not None:
        norm = other.norm
        scale, offset, mean, spread = norm.scale, norm.offset, norm.mean, norm.variance
        eps = float(norm.epsilon)
    if own.norm is None:
        gain = gains(other)
        bias = offset + gain * (other.bias - mean)
        return Parts(held * _along(gain / factor, held), bias / factor)
    inner = 1.0 / _raw(held, ours)
    epsilon = float(own.norm.epsilon)
    variance = spread
    if eps != epsilon or np.any(np.abs(inner) != 1.0):
        variance = np.maximum((spread + eps) * inner**2 - epsilon, 0.0)
    gain = scale / np.sqrt(spread + eps) / (inner * factor)
    scales = np.where(
        variance > 0.0, scale * np.sign(inner) / factor, gain * np.sqrt(variance + epsilon)
    )
    bias, means = other.bias * inner, mean * inner
    if own.bias_name is None:
        bias, means = np.zeros(other.units), means - bias
    return Parts(held * _along(inner, held), bias, (scales, offset / factor, means, variance))


def _raw(held: FloatArray, ours: FloatArray) -> FloatArray:
    """``(units,)``: how much larger a unit's weights are than the owner's, sign included."""
    rows, own = held.reshape(len(held), -1), ours.reshape(len(ours), -1)
    inner, size = np.einsum("ij,ij->i", rows, own), np.einsum("ij,ij->i", own, own)
    usable = (inner != 0) & (size > 0)
    ratio = np.where(usable, inner, 1.0) / np.where(usable, size, 1.0)
    found: FloatArray = np.sign(ratio) * neat(np.abs(ratio))
    return found


def _along(numbers: FloatArray, weight: FloatArray) -> FloatArray:
    """Along the first axis of weights."""
    return numbers.reshape(-1, *(1,) * (weight.ndim - 1))


def _placed(parts: Parts, order: IndexArray, before: IndexArray) -> Parts:
    """From the suspect's places to the owner's."""
    weight = np.empty_like(parts.weight)
    weight[np.ix_(order, before)] = parts.weight

    def row(values: FloatArray) -> FloatArray:
        found = np.empty_like(values)
        found[order] = values
        return found

    norm = parts.norm
    moved = None if norm is None else (row(norm[0]), row(norm[1]), row(norm[2]), row(norm[3]))
    return Parts(weight, row(parts.bias), moved)
