"""All arrays of a proof as one: their entries one after the other, in planes.

``FORMAT.md`` specifies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.packing import INTEGERS, fitted, types_of
from specs.errors import EvidenceError

Array = npt.NDArray[Any]

DTYPES = (*INTEGERS, "float32", "float64")
"""Types of arrays, which digits from 1 stand for."""

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
"""Names of arrays, in the order of types in a manifest.  New ones go to the end."""


def in_planes(arrays: Mapping[str, Array]) -> tuple[list[Any], npt.NDArray[np.uint8]]:
    """What the manifest says about arrays, and all of them as one.

    Args:
        arrays: in the types that they are to be stored in; empty ones are left out.
    """
    held = [arrays[name] for name in NUMBERED if name in arrays and arrays[name].size]
    digits = (
        str(1 + DTYPES.index(arrays[name].dtype.name))
        if name in arrays and arrays[name].size
        else "0"
        for name in NUMBERED
    )
    table = ["".join(digits).rstrip("0"), *(array.size for array in held)]
    planes = [np.zeros(0, dtype=np.uint8), *map(_split, held)]
    return table, np.concatenate(planes)


def from_planes(table: object, content: npt.NDArray[np.uint8]) -> dict[str, Array]:
    """The arrays of which a manifest says that they are held as one.

    Raises:
        EvidenceError: the manifest's list is none, or does not fit.
    """
    if not isinstance(table, list) or not table or not isinstance(table[0], str):
        raise EvidenceError("the manifest's planes are not a text of digits and numbers")
    digits, sizes = table[0], table[1:]
    if len(digits) > len(NUMBERED) or not set(digits) <= set("012345678"):
        raise EvidenceError(f"planes have types {digits!r:.80}, which do not exist")
    held = [(name, int(d)) for name, d in zip(NUMBERED, digits, strict=False) if d != "0"]
    if len(sizes) != len(held) or not all(type(n) is int and n >= 0 for n in sizes):
        raise EvidenceError(f"planes of {len(held)} arrays do not have as many sizes")
    kinds = [np.dtype(DTYPES[number - 1]).newbyteorder("<") for _, number in held]
    lengths = [n * kind.itemsize for n, kind in zip(sizes, kinds, strict=True)]
    if sum(lengths) != content.size:
        raise EvidenceError(f"planes hold {content.size} bytes, not those of their arrays")
    arrays, start = {}, 0
    for (name, number), kind, length in zip(held, kinds, lengths, strict=True):
        dtype = DTYPES[number - 1]
        if dtype not in types_of(name):
            raise EvidenceError(f"'{name}' is of type {dtype} in planes, which it does not have")
        part = content[start : start + length].reshape(kind.itemsize, length // kind.itemsize)
        joined = np.ascontiguousarray(part.T).reshape(-1).view(kind)
        arrays[name] = fitted(name, joined.astype(dtype))
        start += length
    return arrays


def _split(array: Array) -> npt.NDArray[np.uint8]:
    """The lowest bytes of all entries, then the next ones."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(-1, array.dtype.itemsize).T.reshape(-1)
