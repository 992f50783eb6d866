"""Packages that only some members of the portfolio need."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from specs.errors import InputError, MissingExtraError
from verifier import threads

PROGRAMS = ("highspy",)
"""What linear programs are solved with."""
SOLVERS = ("z3", *PROGRAMS)
"""What Boolean reasoning is done with."""


def _missing(packages: Sequence[str]) -> list[str]:
    return [name for name in packages if importlib.util.find_spec(name) is None]


def need(packages: Sequence[str], what: str) -> None:
    """Packages, by the names they are imported by, are there for what is asked.

    Raises:
        MissingExtraError: one is not.
    """
    missing = _missing(packages)
    if missing:
        raise MissingExtraError(
            f"{what} needs {' and '.join(missing)}, which is not installed: "
            'pip install ".[verifier]"'
        )


def have(packages: Sequence[str]) -> bool:
    """Whether all of these packages are installed."""
    return not _missing(packages)


def need_torch(device: str) -> None:
    """Torch is there, settled for what follows, and has the device.

    Raises:
        MissingExtraError: torch is not installed.
        InputError: there is no such device.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError(
            "the kernel alone and sampling did not decide this question, and the search "
            'needs torch, which is not installed: pip install ".[verifier]"'
        )
    need_device(device, "--device cpu")


def need_device(device: str, other: str) -> None:
    """Torch has the device, and is settled for what follows.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        other: what to say instead, in the words of whoever asked.

    Raises:
        MissingExtraError: torch is not installed.
        InputError: there is no such device.
    """
    need(("torch",), f"device {device}")
    threads.settle()
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError(f"device cuda: torch finds no CUDA device here; use {other}")
