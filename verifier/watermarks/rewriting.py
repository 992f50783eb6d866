"""Writing other parameters into the model file of a chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from specs.enclosure import FloatArray
from specs.errors import ModelError
from specs.watermarks.chain import Chain, Layer


@dataclass(frozen=True, eq=False)
class Parts:
    """The parameters of a layer.

    Attributes:
        weight: ``(units, inputs, *kernel)``.
        bias: ``(units,)``.
        norm: scale, offset, mean and variance, each ``(units,)``; ``None``: there is none.
    """

    weight: FloatArray
    bias: FloatArray
    norm: tuple[FloatArray, FloatArray, FloatArray, FloatArray] | None = None


def parts_of(layer: Layer) -> Parts:
    """The parameters that a layer has."""
    norm = layer.norm
    held = None if norm is None else (norm.scale, norm.offset, norm.mean, norm.variance)
    return Parts(layer.weight, layer.bias, held)


def rewritten(chain: Chain, layers: Sequence[Parts]) -> bytes:
    """The model file of a chain with other parameters, rounded to the types that it stores.

    Raises:
        ModelError: an initialiser belongs to two layers or lies in another file, a layer has no
            bias to hold one that is not 0, or a number does not fit its type.
    """
    model = onnx.ModelProto.FromString(chain.model.content)
    wanted: dict[str, FloatArray] = {}

    def put(name: str, values: FloatArray) -> None:
        if name in wanted:
            raise ModelError(f"initialiser '{name}' belongs to two layers")
        wanted[name] = values

    for layer, parts in zip(chain.layers, layers, strict=True):
        put(layer.weight_name, parts.weight.T if layer.transposed else parts.weight)
        if layer.bias_name is not None:
            put(layer.bias_name, parts.bias)
        elif np.any(parts.bias != 0):
            raise ModelError(f"the layer of '{layer.weight_name}' has no bias to be written")
        if (layer.norm is None) != (parts.norm is None):
            raise ModelError(f"the layer of '{layer.weight_name}': a normalisation, and none")
        if layer.norm is not None and parts.norm is not None:
            for name, values in zip(layer.norm.names, parts.norm, strict=True):
                put(name, values)
    for tensor in model.graph.initializer:
        if tensor.name in wanted:
            _write(tensor, wanted.pop(tensor.name))
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _write(tensor: onnx.TensorProto, values: FloatArray) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelError(f"initialiser '{tensor.name}' lies in another file; save it as one file")
    before = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore", under="ignore"):
        made = values.reshape(before.shape).astype(before.dtype)
    if not np.all(np.isfinite(made.astype(np.float64))):
        raise ModelError(f"initialiser '{tensor.name}': a number does not fit {before.dtype}")
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(made), tensor.name))
