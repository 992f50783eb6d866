"""Inputs with labels, stored in a file."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from specs.enclosure import FloatArray
from specs.errors import QuestionError
from specs.linear import IndexArray

POINTS, LABELS = "points", "labels"


@dataclass(frozen=True, eq=False)
class Labelled:
    """Inputs and the class of each.

    Attributes:
        points: ``(n, inputs)``, finite; what they are exactly.
        labels: ``(n,)``, not negative.
    """

    points: FloatArray
    labels: IndexArray

    @property
    def text(self) -> str:
        """What a digest covers: how many, and the SHA-256 of points and labels."""
        content = self.points.astype("<f8").tobytes() + self.labels.astype("<i8").tobytes()
        return f"{self.points.shape} sha256 {hashlib.sha256(content).hexdigest()}"


def read_samples(path: Path) -> Labelled:
    """An ``.npz`` file with ``points``, floats ``(n, ...)``, and ``labels``, whole, ``(n,)``.

    Raises:
        QuestionError: it is missing, damaged, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            points, labels = np.asarray(archive[POINTS]), np.asarray(archive[LABELS])
    except FileNotFoundError:
        raise QuestionError(f"{path}: there is no such file") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        wanted = f"arrays '{POINTS}' and '{LABELS}', not pickled"
        raise QuestionError(f"{path}: it must be an .npz file with {wanted} ({error})") from error
    return labelled(points, labels, str(path))


def write_samples(path: Path, points: Any, labels: Any) -> None:
    """Write such a file; ``points`` ``(n, ...)`` and ``labels`` ``(n,)``."""
    checked = labelled(np.asarray(points), np.asarray(labels), str(path))
    np.savez_compressed(path, points=checked.points, labels=checked.labels)


def labelled(points: Any, labels: Any, name: str) -> Labelled:
    """Points ``(n, ...)`` and labels ``(n,)`` as they are wanted; ``name`` is for messages.

    Raises:
        QuestionError: they are of other types or sizes, or not finite.
    """
    if points.dtype.kind not in "fiu" or points.dtype.itemsize > 8 or points.ndim < 2:
        raise QuestionError(f"{name}: '{POINTS}' must be numbers, one row for each sample")
    if labels.dtype.kind not in "iu" or labels.shape != points.shape[:1] or not len(points):
        raise QuestionError(f"{name}: '{LABELS}' must be whole numbers, one for each sample")
    flat = points.reshape(len(points), -1)
    exact = flat.astype(np.float64)
    whole = flat.dtype.kind == "f" or bool(np.all(np.abs(exact) < 2.0**53))
    if not np.all(np.isfinite(exact)) or not whole:
        raise QuestionError(f"{name}: '{POINTS}' holds numbers that are not finite, or too large")
    if np.any(labels < 0) or np.any(labels > np.iinfo(np.int32).max):
        raise QuestionError(f"{name}: '{LABELS}' holds what is no class")
    return Labelled(exact, labels.astype(np.int64))
