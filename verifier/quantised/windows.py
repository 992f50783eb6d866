"""Which entries a window of a convolution or a pool sees."""

from __future__ import annotations

import itertools

import numpy as np

from specs.errors import UnsupportedOperatorError
from verifier.quantised.calls import Array, Call

OUTSIDE = -1
"""Stands for an entry of the padding."""


def windows(call: Call, keys: Array, kernel: tuple[int, ...]) -> Array:
    """Entries ``(batch, channels, *places, *kernel)`` that each window sees.

    Reads the node's strides, pads and dilations.
    """
    axes = len(kernel)
    if keys.ndim != axes + 2:
        raise UnsupportedOperatorError(f"a window of {axes} axes on a tensor of shape {keys.shape}")
    call.only("auto_pad", "NOTSET")
    strides = tuple(call.attribute("strides", [1] * axes))
    dilations = tuple(call.attribute("dilations", [1] * axes))
    pads = tuple(call.attribute("pads", [0] * (2 * axes)))
    if len(strides) != axes or len(dilations) != axes or len(pads) != 2 * axes or min(pads) < 0:
        raise UnsupportedOperatorError("strides, dilations or pads do not fit the window")
    around = [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)]
    padded = np.pad(keys, around, constant_values=OUTSIDE)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    counts = [(n - r) // s + 1 for n, r, s in zip(padded.shape[2:], reach, strides, strict=True)]
    if min(counts, default=0) < 1:
        raise UnsupportedOperatorError(f"a window {kernel} does not fit into {keys.shape}")
    seen = np.empty((*keys.shape[:2], *counts, *kernel), dtype=keys.dtype)
    for place in itertools.product(*map(range, counts)):
        part = tuple(
            slice(p * s, p * s + r, d)
            for p, s, r, d in zip(place, strides, reach, dilations, strict=True)
        )
        seen[(slice(None), slice(None), *place)] = padded[(slice(None), slice(None), *part)]
    return seen
