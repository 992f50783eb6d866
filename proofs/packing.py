"""The packed form of a proof's arrays: short ones in the manifest, pointers as counts.

``FORMAT.md`` specifies it.  What is unpacked is what was packed; nothing else changes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.proof import ARRAYS
from specs.errors import EvidenceError

Array = npt.NDArray[Any]

LONGEST = 4096
"""Entries of an array in the manifest."""

LARGEST = 1 << 53
"""Absolute value of a whole number there; they count as floats, too."""

OF_MEMBER = 160
"""Bytes that a member of an archive takes beside its content, more or less."""

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32")


def count_name(pointer: str) -> str:
    """The name under which a pointer array is stored as counts."""
    return pointer.removesuffix("_ptr") + "_count"


POINTERS = {count_name(name): name for name in ARRAYS if name.endswith("_ptr")}
"""Pointer arrays by the names of their counts."""

NAMES = {*ARRAYS, *POINTERS}


def types_of(name: str) -> tuple[str, ...]:
    """In which types an array, or counts, may be stored, the type that it is read as first."""
    canonical = ARRAYS[POINTERS.get(name, name)]
    return (*canonical, *(other for other in INTEGERS if _whole(name) and other not in canonical))


def packed(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, list[Any]]]:
    """Arrays that are members of the archive, and lists that the manifest takes.

    An array goes where it is shorter; what is empty goes nowhere.
    """
    members: dict[str, Array] = {}
    lists: dict[str, list[Any]] = {}
    for name, array in arrays.items():
        if name in POINTERS.values():
            name, array = count_name(name), np.diff(array)
        if not array.size:
            continue
        narrow = _narrowed(array)
        listed = narrow.tolist()
        text = len(zlib.compress(json.dumps(listed, separators=(",", ":")).encode(), 9))
        if array.size <= LONGEST and text <= len(zlib.compress(narrow.tobytes(), 9)) + OF_MEMBER:
            lists[name] = listed
        else:
            members[name] = narrow
    return members, lists


def listed(name: str, values: object) -> Array:
    """An array that the manifest lists.

    Raises:
        EvidenceError: it is none, or holds something else than numbers of its type.
    """
    if name not in NAMES:
        raise EvidenceError(f"the manifest lists an unknown array {name!r:.60}")
    if not isinstance(values, list) or len(values) > LONGEST:
        raise EvidenceError(f"'{name}' in the manifest is not a list of at most {LONGEST} numbers")
    if all(type(x) is int and abs(x) <= LARGEST for x in values):
        return fitted(name, np.array(values, dtype=np.int64))
    if _whole(name) or not all(type(x) in (int, float) for x in values):
        raise EvidenceError(f"'{name}' in the manifest holds something else than its numbers")
    return fitted(name, np.array(values, dtype=np.float64))


def fitted(name: str, stored: Array) -> Array:
    """A stored array in the first of its own types that holds all its numbers exactly.

    Raises:
        EvidenceError: there is none.
    """
    allowed = ARRAYS[POINTERS.get(name, name)]
    if stored.dtype.name in allowed:
        return stored
    for kind in map(np.dtype, allowed):
        with np.errstate(all="ignore"):
            if kind.kind == "f":
                found = stored.astype(kind)
                if np.array_equal(found.astype(np.float64), stored, equal_nan=True):
                    return found
            elif stored.dtype.kind in "iu" and _within(stored, kind):
                return stored.astype(kind)
    raise EvidenceError(f"array '{name}' has an entry that its types do not hold")


def _within(values: Array, kind: np.dtype[Any]) -> bool:
    info = np.iinfo(kind)
    return not values.size or bool(values.min() >= info.min and values.max() <= info.max)


def unpacked(stored: Mapping[str, Array]) -> dict[str, Array]:
    """All arrays, with pointers in place of counts, and empty ones where none is stored.

    Raises:
        EvidenceError: an array is there twice, or counts are too large.
    """
    arrays = {name: np.zeros(0, dtype=dtypes[0]) for name, dtypes in ARRAYS.items()}
    for name in POINTERS.values():
        arrays[name] = np.zeros(1, dtype=arrays[name].dtype)
    for name, array in stored.items():
        pointer = POINTERS.get(name)
        if pointer is None:
            arrays[name] = array
            continue
        if pointer in stored:
            raise EvidenceError(f"'{pointer}' is stored as counts as well")
        ends = np.cumsum(array.astype(np.int64))
        if ends.size and (ends[-1] >= 1 << 32 or array.min() < 0):
            raise EvidenceError(f"the counts '{name}' are too large or negative")
        arrays[pointer] = np.concatenate([[0], ends]).astype(arrays[pointer].dtype)
    return arrays


def _whole(name: str) -> bool:
    return all(np.dtype(kind).kind in "iu" for kind in ARRAYS[POINTERS.get(name, name)])


def _narrowed(array: Array) -> Array:
    """In the shortest type that holds it."""
    if array.dtype.kind not in "iu":
        return array
    return next((array.astype(k) for k in map(np.dtype, INTEGERS) if _within(array, k)), array)
