"""Data sets: samples and their labels, from ``.npz`` and ``.npy`` files and folders of images."""

from __future__ import annotations

import hashlib
import math
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from specs.enclosure import FloatArray
from specs.errors import InputError, MissingExtraError, QuestionError
from specs.linear import IndexArray
from verifier.certify.folders import (
    MODES,
    files_of,
    labels_by_folder,
    labels_by_list,
    read_files,
)
from verifier.certify.table import Table
from verifier.samples import flat_floats

LAYOUTS = ("CHW", "HWC")
"""Where channels are: before the rows, or behind the columns."""

MOST = 1 << 30
"""Bytes of the largest array that is read."""


@dataclass(frozen=True)
class Pixels:
    """What samples were before ``mean`` and ``std``: a sample is ``(pixel - mean) / std``.

    Attributes:
        mean, std: one for each channel, or one for all.
        shape: of a sample.
        axis: of its channels.
    """

    mean: tuple[Fraction, ...]
    std: tuple[Fraction, ...]
    shape: tuple[int, ...]
    axis: int

    @cached_property
    def stds(self) -> tuple[Fraction, ...]:
        """``(size,)`` how far a pixel moves where its sample moves by 1."""
        return self._each(self.std)

    def at(self, pixel: Fraction) -> tuple[Fraction, ...]:
        """``(size,)`` the samples of such pixels, rounded as samples are: so order is kept."""
        pairs = zip(self._each(self.mean), self.stds, strict=True)
        return tuple(Fraction((float(pixel) - float(m)) / float(s)) for m, s in pairs)

    def of(self, sample: FloatArray) -> FloatArray:
        """``(size,)`` the pixels of a sample, in floats: to look at."""
        means, stds = (np.array([float(x) for x in own]) for own in (self.means, self.stds))
        return np.asarray(sample * stds + means)

    @cached_property
    def means(self) -> tuple[Fraction, ...]:
        """``(size,)`` what was subtracted of each pixel."""
        return self._each(self.mean)

    def _each(self, listed: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
        if len(listed) == 1:
            return listed * math.prod(self.shape)
        extents = [-1 if k == self.axis else 1 for k in range(len(self.shape))]
        places = np.broadcast_to(np.arange(len(listed)).reshape(extents), self.shape)
        return tuple(listed[place] for place in places.reshape(-1).tolist())


@dataclass(frozen=True, eq=False)
class Data:
    """Samples.

    Attributes:
        points: ``(n, size)``, each flat, exactly as stored.
        labels: ``(n,)`` the true labels; ``None``: there are none.
        numbers: ``(n,)`` their places in the file.
        shape: of one sample, as stored.
        pixels: what they were before ``mean`` and ``std``; ``None``: neither is stated.
    """

    points: FloatArray
    labels: IndexArray | None
    numbers: IndexArray
    shape: tuple[int, ...] = ()
    pixels: Pixels | None = None

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
        points, numbers = self.points[start:stop], self.numbers[start:stop]
        return Data(points, labels, numbers, self.shape, self.pixels)


def read_data(table: Table) -> Data | None:
    """What ``[data]`` names; ``None``: there is no such table.

    Keys: ``file`` (an ``.npz``; then ``points`` and ``labels`` are names of its arrays, otherwise
    ``.npy`` files), ``points``, ``labels``, or ``folder`` (of ``.npy`` files or images; then
    ``labels`` is a table of comma-separated values); ``mode`` and ``layout`` of images; ``scale``,
    ``mean`` and ``std`` (a sample ``x`` becomes ``(x / scale - mean) / std``, in float64);
    ``shape`` of a sample, where it is stored flat; ``start`` and ``first``.

    Raises:
        QuestionError: it is malformed, or a file or an array is not there or does not fit.
    """
    file, folder = table.text("file"), table.text("folder")
    points, labels = table.text("points"), table.text("labels")
    mode = table.text("mode", None, tuple(MODES))
    layout = table.text("layout", "CHW", LAYOUTS) or LAYOUTS[0]
    start, first = table.integer("start", 0), table.integer("first", None, 1)
    preparation = _Preparation.of(table, layout)
    shape = tuple(table.numbers("shape"))
    table.done()
    if not table.values:
        return None
    chosen = slice(start or 0, None if first is None else (start or 0) + first)
    if folder is not None:
        if file is not None or points is not None:
            raise table.error("folder", "'folder' stands for itself: no file and no points")
        where = table.document.folder / folder
        values, known, count = _in_folder(table, where, labels, chosen, mode, layout)
        numbers = np.arange(count)[chosen]
        source = folder
    else:
        if mode is not None:
            raise table.error("mode", "'mode' is of images in a folder")
        if points is None:
            raise table.error(
                "", "[data] needs a folder, or points, an array of the .npz file or an .npy file"
            )
        whole = _array(table, file, "points", points)
        count, source = len(whole) if whole.ndim else 0, points
        if whole.ndim < 2:
            wanted = "wanted: numbers, (n, ...)"
            raise table.error("points", f"'{points}' is {_words(whole)}; {wanted}")
        every = None if labels is None else _labels(table, file, labels, count)
        values, known = whole[chosen], None if every is None else every[chosen]
        numbers = np.arange(count)[chosen]
    if not values.size:
        raise table.error("first", f"no sample is left of {count}")
    if shape:
        if any(x.denominator != 1 or x < 1 for x in shape) or math.prod(shape) != values[0].size:
            raise table.error(
                "shape", f"'shape' holds the extents of a sample, {values[0].size} in all"
            )
        values = values.reshape(len(values), *map(int, shape))
    key = "points" if folder is None else "folder"
    try:
        flat = flat_floats(values)
    except InputError as error:
        raise table.error(key, f"'{source}': {error}") from None
    prepared = preparation.applied(table, flat.reshape(values.shape))
    pixels = preparation.pixels(values.shape[1:])
    return Data(prepared.reshape(flat.shape), known, numbers, values.shape[1:], pixels)


@dataclass(frozen=True, eq=False)
class _Preparation:
    """What is done to samples.

    Attributes:
        scale: what they are divided by first.
        mean, std: what is subtracted then, and divided by; one, or one for each channel.
        layout: where the channels are.
    """

    scale: Fraction | None
    mean: tuple[Fraction, ...]
    std: tuple[Fraction, ...]
    layout: str

    @classmethod
    def of(cls, table: Table, layout: str) -> _Preparation:
        scale = table.number("scale")
        if scale is not None and scale <= 0:
            raise table.error("scale", "'scale' must be positive")
        listed = []
        for key in ("mean", "std"):
            one = isinstance(table.values.get(key), list)
            found = table.numbers(key) if one else (table.number(key),)
            listed.append(tuple(x for x in found if x is not None))
        if any(x <= 0 for x in listed[1]):
            raise table.error("std", "'std' must be positive")
        return cls(scale, listed[0], listed[1], layout)

    def applied(self, table: Table, values: FloatArray) -> FloatArray:
        """To samples ``(n, ...)``."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            if self.scale is not None:
                values = values / float(self.scale)
            if self.mean:
                values = values - self._along(table, "mean", self.mean, values.shape)
            if self.std:
                values = values / self._along(table, "std", self.std, values.shape)
        if not np.all(np.isfinite(values)):
            key = next(key for key in ("scale", "std", "mean") if key in table.values)
            raise table.error(key, f"'{key}' makes numbers that are not finite")
        return values

    def pixels(self, shape: tuple[int, ...]) -> Pixels | None:
        """What samples of a shape were before ``mean`` and ``std``, if one is stated."""
        if not self.mean and not self.std:
            return None
        axis = 0 if self.layout == "CHW" else len(shape) - 1
        return Pixels(self.mean or (Fraction(0),), self.std or (Fraction(1),), shape, axis)

    def _along(
        self, table: Table, key: str, listed: tuple[Fraction, ...], shape: tuple[int, ...]
    ) -> FloatArray:
        found = np.array([float(x) for x in listed])
        if len(listed) == 1:
            return found
        axis = 1 if self.layout == "CHW" else len(shape) - 1
        if len(shape) < 3 or shape[axis] != len(listed):
            raise table.error(
                key, f"'{key}' holds {len(listed)} numbers for samples of shape {shape[1:]}"
            )
        return found.reshape([-1 if k == axis else 1 for k in range(len(shape))])


def _in_folder(
    table: Table, folder: Path, labels: str | None, chosen: slice, mode: str | None, layout: str
) -> tuple[npt.NDArray[np.generic], IndexArray | None, int]:
    """Samples and labels of the files that are chosen, and how many there are."""
    try:
        files = files_of(folder)
        if labels is None:
            every = labels_by_folder(folder, files)
            known = None if every is None else every[chosen]
        else:
            known = labels_by_list(table.document.folder / labels, folder, files[chosen])
        if not files[chosen]:
            raise InputError(f"no sample is left of {len(files)}")
        if mode is not None and files[0].suffix == ".npy":
            raise table.error("mode", "'mode' is of images; these are .npy files")
        values = read_files(files[chosen], mode or "rgb", MOST)
    except (QuestionError, MissingExtraError):
        raise
    except InputError as error:
        key = (
            "labels"
            if labels is not None and str(error).startswith(str(table.document.folder / labels))
            else "folder"
        )
        raise table.error(key, str(error)) from None
    if files[0].suffix != ".npy" and layout == "CHW":
        values = np.moveaxis(values, -1, 1)
    return values, known, len(files)


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
