"""Reachable sets as files: numpy's ``.npz``, laid out as ``docs/reach.md`` says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from specs.errors import InputError
from specs.query import Query
from verifier.stars.corners import FloatArray
from verifier.stars.planes import Projection
from verifier.stars.reach import Part
from verifier.stars.sets import Why
from verifier.stars.walk import OUTPUT

VERSION = 1


@dataclass(frozen=True, eq=False)
class Stored:
    """One star of a file: ``y = centre + a basis``, ``rows a <= limits``, ``lower <= a <= upper``.

    Attributes:
        case: the number of its case.
        exact: whether nothing was relaxed on the way.
        centre, basis: ``(q,)`` and ``(p, q)``.
        rows, limits: ``(m, p)`` and ``(m,)``.
        lower, upper: ``(p,)``.
        inputs: ``(p,)`` the input that a predicate stands for, from -1 at the case's lower
            end to 1 at its upper one; -1: none.
        corners: ``(k, d)`` of the projection, if there is one.
    """

    case: int
    exact: bool
    centre: FloatArray
    basis: FloatArray
    rows: FloatArray
    limits: FloatArray
    lower: FloatArray
    upper: FloatArray
    inputs: FloatArray
    corners: FloatArray | None


def write_stars(
    stream: BinaryIO,
    query: Query,
    parts: Sequence[Part],
    ranges: FloatArray,
    axes: tuple[int, ...] = (),
    projections: Sequence[Projection] = (),
    about: dict[str, Any] | None = None,
) -> None:
    """Write a union of stars.

    Args:
        stream: where to.
        query: the question.
        parts: the stars.
        ranges: ``(q, 2)`` the ends of every output.
        axes: the outputs projected to.
        projections: by star; none without ``axes``.
        about: what else is to be said, as JSON.
    """
    size = query.network.output_size
    images = [part.star.image(OUTPUT) for part in parts]
    sets = [part.star.predicates for part in parts]
    boxes = [case.box() for case in query.property.cases]
    none = np.zeros((0, query.network.input_size))
    arrays: dict[str, Any] = {
        "version": np.array(VERSION),
        "about": np.array(json.dumps({"question": query.digest, **(about or {})})),
        "ranges": ranges,
        "case_lower": np.array([low for low, _ in boxes]) if boxes else none,
        "case_upper": np.array([high for _, high in boxes]) if boxes else none,
        "case": np.array([part.case for part in parts], dtype=np.int64),
        "exact": np.array([part.star.exact for part in parts], dtype=bool),
        "centre": np.array([image[0] for image in images]).reshape(-1, size),
        "predicates": _counts([p.size for p in sets]),
        "basis": _joined([image[1:] for image in images], (0, size)),
        "lower": _joined([p.lower for p in sets], (0,)),
        "upper": _joined([p.upper for p in sets], (0,)),
        "inputs": np.array(
            [c.entry if c.why is Why.REGION else -1 for p in sets for c in p.columns],
            dtype=np.int64,
        ),
        "constraints": _counts([p.limits.size for p in sets]),
        "limits": _joined([p.limits for p in sets], (0,)),
        "coefficients": _joined([p.rows.reshape(-1) for p in sets], (0,)),
        "axes": np.array(axes, dtype=np.int64),
    }
    if axes:
        corners = [projection.corners for projection in projections]
        rows = [projection.rows for projection in projections]
        arrays |= {
            "corners": _joined(corners, (0, len(axes))),
            "corner_count": _counts([len(points) for points in corners]),
            "half_spaces": _joined(rows, (0, len(axes) + 1)),
            "half_space_count": _counts([len(row) for row in rows]),
        }
    np.savez_compressed(stream, **arrays)


def read_stars(path: str | Path) -> list[Stored]:
    """The stars of a file.

    Raises:
        InputError: the file is missing or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            given = {name: archive[name] for name in archive.files}
        if int(given["version"]) != VERSION:
            raise InputError(f"{path}: stars of version {int(given['version'])}, not {VERSION}")
        return list(_stored(given))
    except (OSError, ValueError, KeyError, IndexError, EOFError, AttributeError) as error:
        raise InputError(f"{path}: not a file of stars ({error})") from error


def _stored(given: dict[str, Any]) -> Any:
    p_ends = np.cumsum(given["predicates"])
    m_ends = np.cumsum(given["constraints"])
    w_ends = np.cumsum(given["predicates"] * given["constraints"])
    corner_ends = np.cumsum(given["corner_count"]) if given["axes"].size else None
    for k, (p, m, w) in enumerate(zip(p_ends, m_ends, w_ends, strict=True)):
        columns, rows = int(given["predicates"][k]), int(given["constraints"][k])
        own, limits = slice(p - columns, p), slice(m - rows, m)
        corners = None
        if corner_ends is not None:
            last = int(corner_ends[k])
            corners = given["corners"][last - int(given["corner_count"][k]) : last]
        yield Stored(
            int(given["case"][k]),
            bool(given["exact"][k]),
            given["centre"][k],
            given["basis"][own],
            given["coefficients"][w - columns * rows : w].reshape(rows, columns),
            given["limits"][limits],
            given["lower"][own],
            given["upper"][own],
            given["inputs"][own],
            corners,
        )


def _counts(numbers: Sequence[int]) -> FloatArray:
    return np.array(numbers, dtype=np.int64)


def _joined(arrays: Sequence[FloatArray], empty: tuple[int, ...]) -> FloatArray:
    return np.concatenate(arrays) if arrays else np.zeros(empty)
