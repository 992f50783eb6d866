"""Data sets that are folders: one file for each sample, ``.npy`` or an image.

The samples are in the order of their paths.  A sample's label is given by the sub-folder that it
lies in (an integer, or the place of its name among all sub-folders' names), or by a table of
comma-separated values with the columns ``file`` and ``label``.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.errors import InputError, MissingExtraError
from specs.linear import IndexArray

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
MODES = {"grey": "L", "rgb": "RGB"}
Array = npt.NDArray[Any]


def files_of(folder: Path) -> list[Path]:
    """The samples of a folder and of its sub-folders, one level deep; all of one kind.

    Raises:
        InputError: it is no folder, or holds none, or both arrays and images.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    found = [path for depth in ("*", "*/*") for path in folder.glob(depth) if path.is_file()]
    arrays = sorted(path for path in found if path.suffix == ".npy")
    images = sorted(path for path in found if path.suffix.lower() in IMAGES)
    if arrays and images:
        raise InputError(f"{folder} holds both .npy files and images: {arrays[0]}, {images[0]}")
    if not arrays and not images:
        raise InputError(f"{folder} holds no .npy file and no image ({', '.join(IMAGES)})")
    return arrays or images


def read_files(files: Sequence[Path], mode: str, most: int) -> Array:
    """The samples, ``(n, ...)``, as stored; of images ``(n, h, w, channels)``.

    Args:
        files: of one kind.
        mode: a key of ``MODES``; how images are read.
        most: bytes that they may take.

    Raises:
        InputError: one cannot be read, has another shape or type than the first, or they are
            too large.
        MissingExtraError: an image, and pillow is not installed.
    """
    found: list[Array] = []
    for path in files:
        try:
            sample = np.load(path, allow_pickle=False) if path.suffix == ".npy" else None
            if sample is None:
                sample = _image(path, MODES[mode])
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
        if not isinstance(sample, np.ndarray) or sample.ndim < 1:
            raise InputError(f"{path}: no array of one dimension or more")
        first = found[0] if found else sample
        if sample.shape != first.shape or sample.dtype != first.dtype:
            raise InputError(
                f"{path} is {sample.dtype} of shape {sample.shape}, {files[0]} is {first.dtype} "
                f"of shape {first.shape}"
            )
        if sample.nbytes * len(files) > most:
            raise InputError(f"{len(files)} samples of more than {most} bytes: take fewer (first)")
        found.append(sample)
    return np.stack(found)


def _image(path: Path, mode: str) -> Array:
    if importlib.util.find_spec("PIL") is None:
        raise MissingExtraError('images need pillow: pip install ".[images]"')
    from PIL import Image

    with Image.open(path) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise InputError(f"{path}: an image of several frames")
        if image.mode not in ("1", "L", "P", "RGB") or "transparency" in image.info:
            with_it = " with transparency" if "transparency" in image.info else ""
            raise InputError(
                f"{path}: an image of mode {image.mode}{with_it}; 8-bit grey, palette and RGB "
                "images without transparency are read"
            )
        pixels = np.asarray(image.convert(mode), dtype=np.uint8)
    return pixels.reshape(*pixels.shape[:2], -1)


def labels_by_folder(folder: Path, files: Sequence[Path]) -> IndexArray | None:
    """By the sub-folders; ``None``: a sample lies in none.

    Args:
        folder: that holds the files, all of them.

    Raises:
        InputError: a name's place is the label, and a sub-folder holds no sample: it would
            be counted here, or not, and labels would be others.
    """
    names = [path.parent.name if path.parent != folder else "" for path in files]
    if "" in names:
        return None
    known = sorted(set(names))
    if all(name.isascii() and name.isdigit() for name in known):
        return np.array([int(name) for name in names], np.int64)
    every = {path.name for path in folder.iterdir() if path.is_dir()}
    empty = sorted(name for name in every - set(known) if not name.startswith("."))
    if empty:
        raise InputError(
            f"{folder / empty[0]} holds no sample, so that the places of the other names are no "
            "labels: remove it, or name the sub-folders by numbers"
        )
    return np.array([known.index(name) for name in names], np.int64)


def labels_by_list(file: Path, folder: Path, files: Sequence[Path]) -> IndexArray:
    """By a table with the columns ``file`` (below the folder) and ``label``.

    Raises:
        InputError: it is malformed, or lacks a sample.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read ({error})") from None
    known: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        name, label = row.get("file"), row.get("label")
        if not name or not label or not (label.isascii() and label.isdigit()):
            raise InputError(f"{file}:{number}: wanted: the columns file and label, an integer")
        if known.setdefault(name, int(label)) != int(label):
            raise InputError(f"{file}:{number}: another label for {name}")
    names = [path.relative_to(folder).as_posix() for path in files]
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(f"{file} has no label for {missing[0]}")
    return np.array([known[name] for name in names], np.int64)
