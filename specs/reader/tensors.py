"""Stored constants: TensorProto to exact arrays, external data included."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from specs.enclosure import Enclosure, FloatArray
from specs.errors import ModelError, UnsupportedOperatorError

Array = npt.NDArray[Any]

FLOATS: dict[int, str] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
}
INTEGERS: dict[int, str] = {
    TensorProto.INT8: "int8",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
    TensorProto.UINT16: "uint16",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
}
SHORT = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16)
"""Integers that quantised numbers are stored as."""
KINDS: dict[int, str] = {**FLOATS, **INTEGERS, TensorProto.BOOL: "bool"}
WIDENINGS = {
    (TensorProto.FLOAT16, TensorProto.FLOAT),
    (TensorProto.FLOAT16, TensorProto.DOUBLE),
    (TensorProto.BFLOAT16, TensorProto.FLOAT),
    (TensorProto.BFLOAT16, TensorProto.DOUBLE),
    (TensorProto.FLOAT, TensorProto.DOUBLE),
}

_TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_FIELD_OF_KIND: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}
_STORED = {"bfloat16": "<u2", "bool": "u1"}
_BITS_IN_INT32 = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_OTHER_FIELDS = ("string_data",)
_ENTRIES = {"location", "offset", "length", "checksum", "basepath"}


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that does not depend on the network's inputs.

    Attributes:
        value: float64 for every floating kind, int64 for integers, or bool.  Floats are
            finite, or minus infinity, which masks an entry and is no number to compute with.
        kind: ONNX element type.
        radius: how far the real constants may lie from a floating ``value``.
    """

    value: Array
    kind: int
    radius: FloatArray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def enclosure(self) -> Enclosure:
        """The constants as an enclosure of the same shape.

        Raises:
            ModelError: they are not of a floating type.
        """
        if self.kind not in FLOATS:
            raise ModelError(f"{kind_name(self.kind)} constants where real numbers are expected")
        return Enclosure(self.value, self.radius)


def real(enclosure: Enclosure, kind: int) -> Constant:
    """A floating constant of an ONNX type."""
    return Constant(enclosure.value, kind, enclosure.radius)


def kind_name(kind: int) -> str:
    """The name of an ONNX element type."""
    return KINDS.get(kind) or f"type {kind}"


@dataclass(frozen=True)
class ExternalData:
    """Reads external data from below a folder, and hashes what it reads."""

    folder: Path | None
    hashes: list[bytes] = field(default_factory=list)

    def read(self, tensor: TensorProto, size: int) -> bytes:
        """The ``size`` bytes that ``tensor`` keeps outside the model file."""
        entries: dict[str, str] = {}
        for entry in tensor.external_data:
            if entry.key in entries:
                raise ModelError(f"external data give '{entry.key}' twice")
            entries[entry.key] = entry.value
        if unknown := sorted(set(entries) - _ENTRIES):
            raise ModelError(f"external data with the unknown entry '{unknown[0]}'")
        path = self._path(entries.get("location", ""))
        offset = _count(entries.get("offset", "0"), "offset")
        length = _count(entries.get("length", str(size)), "length")
        if length != size:
            raise ModelError(f"external data of {length} bytes, but its shape needs {size}")
        try:
            if not path.is_file() or path.stat().st_size < offset + size:
                raise ModelError(f"external data file '{path.name}' is missing or too short")
            with path.open("rb") as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise ModelError(f"external data file '{path.name}': {error.strerror}") from error
        if len(content) != size:
            raise ModelError(f"external data file '{path.name}' is too short")
        self.hashes.append(hashlib.sha256(content).digest())
        return content

    def _path(self, location: str) -> Path:
        if self.folder is None:
            raise ModelError("external data, but the model was not read from a folder")
        parts = PurePosixPath(location).parts
        absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
        if not location or absolute or ".." in parts or "\\" in location or "\0" in location:
            raise ModelError(
                f"external data at '{location}': only files below the model's folder are read"
            )
        try:
            folder = self.folder.resolve(strict=True)
            path = (folder / location).resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise ModelError(f"external data file '{location}' cannot be found") from error
        if not path.is_relative_to(folder):
            raise ModelError(f"external data at '{location}' lead out of the model's folder")
        return path


def read_tensor(tensor: TensorProto, external: ExternalData) -> Constant:
    """The exact constants that a ``TensorProto`` stores.

    Raises:
        ModelError: sizes that do not fit, several kinds of data at once, values that are
            not finite or lie outside their type.
        UnsupportedOperatorError: an element type that has no rule.
    """
    kind = tensor.data_type
    if kind not in KINDS:
        raise UnsupportedOperatorError(f"element type {kind} has no rule")
    if tensor.HasField("segment"):
        raise ModelError("it is stored in segments, which no runtime reads")
    shape = tuple(tensor.dims)
    if any(extent < 0 for extent in shape):
        raise ModelError(f"its shape {shape} is negative")
    size = math.prod(shape)
    stored = np.dtype(_STORED.get(KINDS[kind], KINDS[kind])).newbyteorder("<")
    filled = [name for name in (*_TYPED_FIELDS, *_OTHER_FIELDS) if len(getattr(tensor, name))]
    outside = tensor.data_location == TensorProto.EXTERNAL
    if len(filled) + tensor.HasField("raw_data") + outside > 1 and (filled or len(tensor.raw_data)):
        raise ModelError("it stores several kinds of data at once (raw, typed or external)")
    if len(tensor.external_data) and not outside:
        raise ModelError("it names external data, but its data_location says there are none")
    if outside or tensor.HasField("raw_data"):
        content = external.read(tensor, size * stored.itemsize) if outside else tensor.raw_data
        if len(content) != size * stored.itemsize:
            raise ModelError(
                f"{len(content)} bytes of raw data, but its shape {shape} of "
                f"{KINDS[kind]} needs {size * stored.itemsize}"
            )
        array = np.frombuffer(content, dtype=stored)
    else:
        array = _typed(tensor, kind, size, filled, stored)
    try:
        return Constant(_decoded(array, kind).reshape(shape), kind)
    except ValueError as error:
        raise ModelError(f"its shape {shape} is no array's ({error})") from error


def _typed(
    tensor: TensorProto, kind: int, size: int, filled: list[str], stored: np.dtype[Any]
) -> Array:
    name = _FIELD_OF_KIND.get(kind, "int32_data")
    count = len(getattr(tensor, name))
    if filled not in ([], [name]):
        raise ModelError(f"{KINDS[kind]} values in the field '{filled[0]}' instead of '{name}'")
    if count != size:
        raise ModelError(f"{count} values, but its shape {tuple(tensor.dims)} needs {size}")
    values = np.array(getattr(tensor, name))
    if stored.kind == "f" and kind not in _BITS_IN_INT32:
        return values.astype(stored)
    target = np.dtype("<u2") if kind in _BITS_IN_INT32 else stored
    limits = np.iinfo(target)
    if size and (int(values.min()) < limits.min or int(values.max()) > limits.max):
        raise ModelError(f"values outside the range of {KINDS[kind]}")
    return values.astype(target).view(stored)


def _decoded(array: Array, kind: int) -> Array:
    if kind == TensorProto.BFLOAT16:
        array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if kind in FLOATS:
        finite = np.isfinite(array)
        if not np.all(finite) and not np.all(np.isneginf(array[~finite])):
            raise ModelError("it holds values that are not finite")
        decoded = array.astype(np.float64)
    elif kind == TensorProto.BOOL:
        if array.size and array.max() > 1:
            raise ModelError("it holds Boolean values other than 0 and 1")
        decoded = array.astype(np.bool_)
    else:
        if kind == TensorProto.UINT64 and array.size and array.max() > np.iinfo(np.int64).max:
            raise ModelError("it holds integers of 2**63 or more")
        decoded = array.astype(np.int64)
    decoded.flags.writeable = False
    return decoded


def _count(text: str, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ModelError(f"external data with {what} '{text}'")
    return int(text)
