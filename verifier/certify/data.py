"""Data sets: arrays of samples and their labels, from ``.npz`` or ``.npy`` files."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.linear import IndexArray
from verifier.certify.table import Table
from verifier.samples import flat_floats

MOST = 1 << 30
"""Bytes of the largest array that is read."""


@dataclass(frozen=True, eq=False)
class Data:
    """Samples.

    Attributes:
        points: ``(n, size)``, each flat, exactly as stored.
        labels: ``(n,)`` the true labels; ``None``: there are none.
        numbers: ``(n,)`` their places in the file.
        shape: of one sample, as stored.
    """

    points: FloatArray
    labels: IndexArray | None
    numbers: IndexArray
    shape: tuple[int, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Of samples and labels."""
        found = hashlib.sha256(repr(self.points.shape).encode() + self.points.tobytes())
        found.update(b"" if self.labels is None else self.labels.tobytes())
        return found.hexdigest()

    def first(self, count: int | None) -> Data:
        """The first samples, or all."""
        return self.part(0, len(self.points) if count is None else count)

    def part(self, start: int, stop: int) -> Data:
        """The samples from one place to another."""
        labels = None if self.labels is None else self.labels[start:stop]
        return Data(self.points[start:stop], labels, self.numbers[start:stop], self.shape)


def read_data(table: Table) -> Data | None:
    """What ``[data]`` names; ``None``: there is no such table.

    Keys: ``file`` (an ``.npz``; then ``points`` and ``labels`` are names of its arrays, otherwise
    ``.npy`` files), ``points``, ``labels``, ``scale`` (what points are divided by, as float64),
    ``start`` and ``first``.

    Raises:
        QuestionError: it is malformed, or a file or an array is not there or does not fit.
    """
    file, points, labels = (table.text(key) for key in ("file", "points", "labels"))
    start, first = table.integer("start", 0), table.integer("first", None, 1)
    scale = table.number("scale")
    table.done()
    if not table.values:
        return None
    if points is None:
        raise table.error("", "[data] needs points, an array of the .npz file or an .npy file")
    values = _array(table, file, "points", points)
    if values.ndim < 2:
        raise table.error("points", f"'{points}' is {_words(values)}; wanted: numbers, (n, ...)")
    try:
        flat = flat_floats(values)
    except InputError as error:
        raise table.error("points", f"'{points}': {error}") from None
    if scale is not None:
        if scale <= 0:
            raise table.error("scale", "'scale' must be positive")
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            flat = flat / float(scale)
        if not np.all(np.isfinite(flat)):
            raise table.error("scale", "'scale' makes numbers that are not finite")
    numbers = np.arange(len(flat))
    known = None if labels is None else _labels(table, file, labels, len(flat))
    chosen = slice(start or 0, None if first is None else (start or 0) + first)
    if not flat[chosen].size:
        raise table.error("first", f"no sample is left of {len(flat)}")
    own = None if known is None else known[chosen]
    return Data(flat[chosen], own, numbers[chosen], values.shape[1:])


def _labels(table: Table, file: str | None, name: str, count: int) -> IndexArray:
    found = _array(table, file, "labels", name)
    labels = found.astype(np.int64) if found.dtype.kind in "iu" else np.full(1, -1)
    if found.shape != (count,) or np.any(labels < 0):
        raise table.error(
            "labels", f"'{name}' is {_words(found)}; wanted: {count} integers from 0 on"
        )
    return labels


def _array(table: Table, file: str | None, key: str, name: str) -> npt.NDArray[np.generic]:
    """An array of a file, read without pickle."""
    path = table.document.folder / (name if file is None else file)
    place = key if file is None else "file"
    try:
        if file is None:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            return _limited(table, key, found)
        return _limited(table, key, _member(table, path, key, name))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise table.error(place, f"{path}: cannot be read ({error})") from None


def _member(table: Table, path: Path, key: str, name: str) -> npt.NDArray[np.generic]:
    with np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise table.error("file", f"{path} is no .npz file; name .npy files by points, labels")
        if name not in archive.files:
            known = ", ".join(archive.files)
            raise table.error(key, f"{path} has no array '{name}'; it has {known}")
        return np.asarray(archive[name])


def _limited(table: Table, key: str, found: object) -> npt.NDArray[np.generic]:
    if not isinstance(found, np.ndarray) or found.nbytes > MOST:
        raise table.error(key, f"no array, or one of more than {MOST} bytes")
    return np.asarray(found)


def _words(values: npt.NDArray[np.generic]) -> str:
    return f"{values.dtype} of shape {values.shape}"
