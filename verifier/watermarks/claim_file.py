"""Writing question files about marks: the claim file of an owner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proofs.format import replacing
from specs.errors import InputError
from specs.watermarks.mark import Mark
from specs.watermarks.schemes.blackmarks import BlackMarks
from specs.watermarks.schemes.neuralmark import NeuralMark
from specs.watermarks.schemes.triggers import Triggers
from specs.watermarks.schemes.uchida import Uchida
from verifier.toml import document


def mark_keys(mark: Mark, points: str | None = None, time: str | None = None) -> dict[str, Any]:
    """What the table ``[watermark]`` says of a mark; the seed is in it.

    Args:
        mark: of a scheme known here.
        points: the name of the ``.npy`` file with its inputs, where the seed does not give them.
        time: when the commitment was published, as the owner states it.

    Raises:
        InputError: another scheme, or the file is lacking.
    """
    match mark:
        case Uchida():
            own: dict[str, Any] = {"tensor": mark.tensor, "bits": mark.count, "axis": mark.axis}
        case NeuralMark():
            sizes = {"bits": mark.count, "length": mark.length, "rounds": mark.rounds}
            own = {"tensor": mark.tensor, **sizes}
        case Triggers():
            count, size = mark.points.shape
            drawn = {"count": count, "size": size}
            own = {"classes": mark.classes, **({"points": points} if points else drawn)}
        case BlackMarks() if points is not None:
            own = {"points": points, "clusters": mark.clusters, "hits": mark.hits}
            own |= {"models": mark.models, "doubt": mark.doubt}
        case _:
            raise InputError(f"no claim file is written for a mark of '{mark.scheme}'")
    first = {"scheme": mark.scheme, "seed": mark.key.seed.hex()}
    commitment = {"commitment": mark.commitment.hash, **({"time": time} if time else {})}
    return first | own | commitment


def write_claim(
    path: Path, models: Mapping[str, str], mark: Mapping[str, Any], claim: Mapping[str, Any]
) -> None:
    """Write a question file about parameters.

    Args:
        path: of the file; what it names is relative to its folder.
        models: files by name.
        mark, claim: tables ``[watermark]`` and ``[claim]``.

    Raises:
        QuestionError: a number is no decimal.
    """
    text = document({"models": models, "watermark": mark, "claim": claim})
    with replacing(path) as stream:
        stream.write(text.encode())
