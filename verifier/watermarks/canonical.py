"""A canonical form of chains of layers: equal for networks that a symmetry makes one.

Batch normalisation is folded in, which undoes signs and scales inside of it.  Then, layer by
layer, every unit that may be multiplied by positive factors is scaled so that its weights and
bias have the norm 1, and units are put in an order that their weights decide.  Forms are equal up
to rounding; where two units have nearly the same key, rounding may exchange them, and
``verifier.watermarks.matching`` finds what the form then misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specs.enclosure import FloatArray
from specs.watermarks.chain import POSITIVE, SIGNED, Chain
from verifier.watermarks.folded_chain import fold

SEED = 20
"""Of the directions that units are ordered along."""


@dataclass(frozen=True, eq=False)
class Canonical:
    """The canonical form.

    Attributes:
        weights: for each layer ``(units, units before, rest)``.
        biases: for each layer ``(units,)``.
    """

    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]


def canonical(chain: Chain) -> Canonical:
    """The canonical form of a chain."""
    layers = fold(chain)
    weights, biases = [], []
    order = np.arange(layers[0].weight.shape[1])
    factors = np.ones(order.size)
    for place, layer in enumerate(layers):
        weight = layer.weight[:, order] / factors[None, :, None]
        bias = layer.bias
        order, factors = np.arange(layer.units), np.ones(layer.units)
        if place < len(layers) - 1:
            rows = np.concatenate([weight.reshape(layer.units, -1), bias[:, None]], axis=1)
            if layer.layer.factors == POSITIVE:
                size = np.linalg.norm(rows, axis=1)
                factors = 1.0 / np.where(size > 0, size, 1.0)
            elif layer.layer.factors == SIGNED:
                factors = np.where(rows @ _direction(rows.shape[1], place, 1) < 0, -1.0, 1.0)
            keys = (rows * factors[:, None]) @ _direction(rows.shape[1], place, 0)
            order = np.argsort(keys, kind="stable")
            factors = factors[order]
        weights.append(weight[order] * factors[:, None, None])
        biases.append(bias[order] * factors)
    return Canonical(tuple(weights), tuple(biases))


def distance(one: Canonical, other: Canonical) -> float:
    """The largest difference of two entries; infinite where the shapes differ."""
    pairs = [*zip(one.weights, other.weights, strict=False)]
    pairs += [*zip(one.biases, other.biases, strict=False)]
    if len(one.weights) != len(other.weights) or any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    return max(float(np.abs(a - b).max(initial=0.0)) for a, b in pairs)


def _direction(size: int, *stream: int) -> FloatArray:
    found: FloatArray = np.random.default_rng((SEED, *stream)).normal(size=size)
    return found


def sizes(form: Canonical) -> Sequence[tuple[int, ...]]:
    """The shapes of its weights."""
    return [weight.shape for weight in form.weights]
