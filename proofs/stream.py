"""The short form of a proof's file: all of it in one compressed stream.

``FORMAT.md`` specifies it.  A reader allocates no more than it is allowed to.
"""

from __future__ import annotations

import itertools
import json
import lzma
import re
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.packing import INTEGERS, fitted, types_of
from specs.errors import EvidenceError

Array = npt.NDArray[Any]

MAGIC = b"FRK\x02"
SMALLEST, LARGEST = 12, 24
"""Exponents of the size of the dictionary."""

DTYPES = (*INTEGERS, "float32", "float64")
"""Types of arrays, by number."""

NUMBERED = (
    "case_number",
    "case_prelude_ptr",
    "prelude_kind",
    "prelude_arg",
    "tree_case",
    "tree_disjunct",
    "tree_ptr",
    "tree_literal_ptr",
    "literal_form",
    "literal_side",
    "node_kind",
    "node_arg",
    "form_ptr",
    "form_point",
    "entry_tensor",
    "entry_index",
    "entry_weight",
    "set_ptr",
    "set_index",
    "block_tensor",
    "block_side",
    "block_set",
    "block_rows",
    "block_exponent",
    "block_ptr",
    "slope",
    "sub_block_ptr",
    "sub_block",
    "sub_multiplier_ptr",
    "multiplier_kind",
    "multiplier_index",
    "multiplier_value",
    "sub_weight_ptr",
    "weight_value",
    "sub_stop",
    "sub_keep",
    "step_target",
    "step_set",
    "step_sides",
    "step_sub",
    "step_scale_ptr",
    "step_scale",
    "fault_word",
    "fault_children",
    "square_tensor",
    "square_scale",
    "case_prelude_count",
    "tree_count",
    "tree_literal_count",
    "form_count",
    "set_count",
    "block_count",
    "sub_block_count",
    "sub_multiplier_count",
    "sub_weight_count",
    "step_scale_count",
    "node_word",
    "word_count",
    "word_kind",
    "word_arg",
)
"""Names of arrays, by number.  New ones go to the end: numbers stand in files."""

_HEAD = struct.Struct("<4sBI32s")


def streamed(
    question: str, manifest: Mapping[str, Any], arrays: Mapping[str, Array]
) -> tuple[bytes, int]:
    """A file, its head and everything else compressed, and how many bytes it unpacks to.

    Args:
        question: the digest, 64 hexadecimal digits.
        manifest: what else is to be said.
        arrays: in the types that they are to be stored in; empty ones are left out.
    """
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    held = {NUMBERED.index(name): array for name, array in arrays.items() if array.size}
    stored = [(number, held[number]) for number in sorted(held)]
    kinds = [DTYPES.index(array.dtype.name) for _, array in stored]
    sizes = np.array([array.size for _, array in stored], dtype="<u4")
    content = b"".join(
        (
            struct.pack("<IB", len(text), len(stored)),
            text,
            bytes(number for number, _ in stored),
            bytes(kinds),
            _in_planes(sizes),
            *(_in_planes(array) for _, array in stored),
        )
    )
    return sealed(question, content), len(content)


def sealed(question: str, content: bytes) -> bytes:
    """A file with a content, whatever that is."""
    exponent = min(max(SMALLEST, len(content).bit_length()), LARGEST)
    packed = lzma.compress(content, lzma.FORMAT_RAW, filters=_filters(exponent))
    return _HEAD.pack(MAGIC, exponent, zlib.crc32(content), bytes.fromhex(question)) + packed


def can_be_streamed(question: str, arrays: Mapping[str, Array]) -> bool:
    """Whether a file can say it: a digest, and arrays of less than 4 GiB entries."""
    digest = re.fullmatch(r"[0-9a-f]{64}", question) is not None
    return digest and all(array.size < 1 << 32 for array in arrays.values())


def opened(data: bytes, most: int) -> tuple[str, bytes]:
    """Question and content of a file that unpacks to no more bytes than allowed.

    Raises:
        EvidenceError, LZMAError, struct.error: the file is damaged, or unpacks to more.
    """
    magic, exponent, checksum, digest = _HEAD.unpack_from(data)
    if magic != MAGIC or not SMALLEST <= exponent <= LARGEST:
        raise EvidenceError(f"its head is wrong, or it needs a dictionary of 2^{exponent} bytes")
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(exponent))
    content = unpacker.decompress(data[_HEAD.size :], max_length=most + 1)
    if len(content) > most:
        raise EvidenceError(f"it unpacks to more than {most} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise EvidenceError("its compressed part ends too early, or more follows")
    if zlib.crc32(content) != checksum:
        raise EvidenceError("it is damaged: its sum is another one")
    return digest.hex(), content


def unpacked_stream(
    data: bytes, most: int, most_text: int
) -> tuple[str, dict[str, Any], dict[str, Array]]:
    """Question, manifest and stored arrays of a file.

    Args:
        data: the file.
        most: bytes that it may unpack to; ``most_text``: of these, the manifest.

    Raises:
        EvidenceError: the file is damaged, or unpacks to more.
        LZMAError, ValueError, struct.error: it is damaged.
    """
    question, content = opened(data, most)
    length, count = struct.unpack_from("<IB", content)
    if length > most_text:
        raise EvidenceError(f"its manifest has more than {most_text} bytes")
    start = 5 + length
    manifest = _object(_taken(content, 5, length))
    numbers, kinds = _taken(content, start, count), _taken(content, start + count, count)
    sizes = _from_planes(_taken(content, start + 2 * count, 4 * count), np.dtype("<u4"))
    if any(a >= b for a, b in itertools.pairwise(numbers)):
        raise EvidenceError("its arrays are not in ascending order")
    arrays, start = {}, start + 6 * count
    for number, kind, size in zip(numbers, kinds, sizes.tolist(), strict=True):
        name = NUMBERED[number] if number < len(NUMBERED) else f"number {number}"
        if number >= len(NUMBERED) or kind >= len(DTYPES) or DTYPES[kind] not in types_of(name):
            raise EvidenceError(f"array '{name}' is unknown, or of a type that it does not have")
        dtype = np.dtype(DTYPES[kind]).newbyteorder("<")
        held = _from_planes(_taken(content, start, size * dtype.itemsize), dtype)
        arrays[name] = fitted(name, held.astype(DTYPES[kind]))
        start += size * dtype.itemsize
    if start != len(content):
        raise EvidenceError("more follows its arrays")
    return question, manifest, arrays


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise EvidenceError(f"its manifest is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise EvidenceError("its manifest is no object")
    return found


def _filters(exponent: int) -> list[dict[str, int]]:
    """Without context: bytes of one array say little about the next one's."""
    plain = {"lc": 0, "lp": 0, "pb": 0}
    return [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << exponent, **plain}]


def _in_planes(array: Array) -> bytes:
    """The lowest bytes of all entries, then the next ones."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(-1, array.dtype.itemsize).T.tobytes()


def _from_planes(data: bytes, dtype: np.dtype[Any]) -> Array:
    planes = np.frombuffer(data, dtype=np.uint8).reshape(dtype.itemsize, -1)
    return np.ascontiguousarray(planes.T).view(dtype).reshape(-1)


def _taken(content: bytes, start: int, length: int) -> bytes:
    if start + length > len(content):
        raise EvidenceError("its parts are longer than what it holds")
    return content[start : start + length]
