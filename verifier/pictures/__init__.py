"""Pictures of explanations and of proofs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from specs.errors import InputError, MissingExtraError

FORMATS = (".png", ".svg", ".pdf")


def require_matplotlib(path: Path) -> None:
    """Refuse to draw to a file where that cannot be done.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: the file's name ends otherwise than ``FORMATS``.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: pictures are drawn as {', '.join(FORMATS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError('pictures need matplotlib: pip install "farkas[pictures]"')
