"""A chain of layers with batch normalisation folded in, as floats: what a search compares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specs.enclosure import FloatArray
from specs.watermarks.chain import Chain, Layer
from specs.watermarks.key import BoolArray


@dataclass(frozen=True, eq=False)
class Folded:
    """A layer's folded form.

    Attributes:
        weight: ``(units, units before, rest)``; ``rest`` are kernel entries, or the places of a
            flattened image.
        bias: ``(units,)``.
        layer: it is of.
    """

    weight: FloatArray
    bias: FloatArray
    layer: Layer

    @property
    def units(self) -> int:
        """How many there are."""
        return int(self.weight.shape[0])

    @property
    def heard(self) -> BoolArray:
        """``(units,)``: something leads to it, a bias or a weight."""
        found: BoolArray = self.weight.reshape(self.units, -1).any(axis=1) | (self.bias != 0)
        return found


def gains(layer: Layer) -> FloatArray:
    """``(units,)``: what its normalisation multiplies by; ones where there is none."""
    if layer.norm is None:
        return np.ones(layer.units)
    return layer.norm.scale / np.sqrt(layer.norm.variance + float(layer.norm.epsilon))


def fold(chain: Chain) -> list[Folded]:
    """The folded forms of all layers."""
    found = []
    for layer in chain.layers:
        gain, offset = gains(layer), layer.bias
        if layer.norm is not None:
            offset = layer.norm.offset + gain * (layer.bias - layer.norm.mean)
        before = layer.weight.shape[1] // layer.spread
        weight = layer.weight.reshape(layer.units, before, -1) * gain[:, None, None]
        found.append(Folded(weight, offset, layer))
    return found
