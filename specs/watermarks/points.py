"""Secret inputs of black-box marks: read from a file, or drawn from a key, always exact."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.enclosure import FloatArray
from specs.errors import QuestionError
from specs.watermarks.key import Key
from specs.watermarks.reading import Keys

MOST_POINTS = 1 << 16
MOST_ENTRIES = 1 << 26
LEVELS = 256
"""Drawn inputs take so many values, evenly spaced."""


def read_points(table: Keys, key: str) -> FloatArray:
    """Inputs ``(n, size)`` of a ``.npy`` file that a key names, flat, none of them rounded.

    Raises:
        QuestionError: there is no such file, it holds no finite numbers ``(n, ...)``, or float64
            does not hold one of them.
    """
    path: Path = table.document.folder / table.need(key)
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise table.error(key, f"{path.name}: no .npy file that can be read ({error})") from None
    if not isinstance(found, np.ndarray) or found.ndim < 2 or found.dtype.kind not in "fiu":
        raise table.error(key, f"{path.name}: wanted: an array of numbers, (n, ...)")
    if not 0 < found.size <= MOST_ENTRIES or len(found) > MOST_POINTS:
        raise table.error(key, f"{path.name}: an array of shape {found.shape}: empty, or too large")
    return _flat(table, key, np.array(found))


def _flat(table: Keys, key: str, values: npt.NDArray[Any]) -> FloatArray:
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    exact = flat.astype(np.float64)
    if not np.all(np.isfinite(exact)):
        raise table.error(key, "a number is not finite")
    if np.any(exact.astype(values.dtype) != flat) or np.any(np.abs(exact) >= 2.0**63):
        raise table.error(key, "it holds numbers that float64 does not, or larger than 2**63")
    return exact


def drawn_points(key: Key, label: str, count: int, size: int) -> FloatArray:
    """Abstract images ``(count, size)``: multiples of 1/256 in [0, 1), each as likely."""
    drawn = np.frombuffer(key.stream(label, count * size), dtype=np.uint8)
    return drawn.reshape(count, size).astype(np.float64) / LEVELS


def drawn_classes(key: Key, label: str, count: int, classes: int) -> npt.NDArray[np.int64]:
    """Classes ``(count,)``, each exactly as likely as the others, independently.

    Words of 16 bits, of which those are left out that would make a remainder more likely.

    Raises:
        QuestionError: fewer than two classes, or more than 2**16.
    """
    if not 2 <= classes <= 1 << 16:
        raise QuestionError(f"{classes} classes; wanted: from 2 to {1 << 16}")
    fair = (1 << 16) - (1 << 16) % classes
    length = count + 16
    while True:  # longer streams begin with the shorter ones
        words = np.frombuffer(key.stream(label, 2 * length), dtype="<u2").astype(np.int64)
        kept = words[words < fair]
        if kept.size >= count:
            return kept[:count] % classes
        length *= 2


def digest_of(points: FloatArray) -> str:
    """SHA-256 (hexadecimal) of inputs and their shape."""
    content = repr(points.shape).encode() + b"\n" + points.astype("<f8").tobytes()
    return hashlib.sha256(content).hexdigest()
