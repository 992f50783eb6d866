"""The stored parameters of a model file as arrays, and the file with others in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, numpy_helper

from specs.errors import ModelError

Parameters = dict[str, npt.NDArray[np.float32]]
"""By initialiser, each in its own shape."""


def parameters(content: bytes) -> Parameters:
    """The float32 initialisers of a model, in the file's order; statistics of norms included.

    Args:
        content: the decompressed bytes of an ONNX file.

    Raises:
        ModelError: it is no model, data lie outside the file, or a number is not finite.
    """
    found: Parameters = {}
    for tensor in _floats(model_of(content)):
        values = numpy_helper.to_array(tensor).astype(np.float32)
        if not np.all(np.isfinite(values)):
            raise ModelError(f"the initialiser '{tensor.name}' holds numbers that are not finite")
        found[tensor.name] = values
    return found


def replaced(content: bytes, values: Mapping[str, npt.NDArray[np.floating]]) -> bytes:
    """The same model with some float32 initialisers replaced, and nothing else.

    Args:
        content: the decompressed bytes of an ONNX file.
        values: by initialiser, in its shape; rounded to float32.

    Raises:
        ModelError: as for ``parameters``, there is no such initialiser, its shape is another,
            or a number is not finite as float32.
    """
    model = model_of(content)
    known = {tensor.name: tensor for tensor in _floats(model)}
    for name, given in values.items():
        if name not in known:
            raise ModelError(f"no float32 initialiser is called '{name}'")
        tensor = known[name]
        if given.shape != tuple(tensor.dims):
            raise ModelError(f"'{name}' has shape {tuple(tensor.dims)}, not {given.shape}")
        with np.errstate(over="ignore"):
            stored = given.astype(np.float32)
        if not np.all(np.isfinite(stored)):
            raise ModelError(f"'{name}' would hold numbers that are not finite")
        tensor.CopyFrom(numpy_helper.from_array(stored, name))
    return bytes(model.SerializeToString())


def model_of(content: bytes) -> ModelProto:
    """The model that an ONNX file's bytes hold.

    Raises:
        ModelError: they hold none.
    """
    try:
        model = ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelError("not an ONNX model, or a damaged one") from error
    if not model.HasField("graph"):
        raise ModelError("the file holds no graph; is it an ONNX model?")
    return model


def _floats(model: ModelProto) -> Iterator[TensorProto]:
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ModelError(f"'{tensor.name}' lies outside the file; save the model as one file")
        if tensor.data_type == TensorProto.FLOAT:
            yield tensor
