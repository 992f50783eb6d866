"""The command ``minimize`` with the search's help."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from proofs.minimise_cli import main as minimise
from specs.errors import MissingExtraError
from verifier import threads


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code.

    Raises:
        MissingExtraError: torch is not installed.
        InputError: usage, question or proof is at fault.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError(
            '--reoptimise needs torch, which is not installed: pip install ".[verifier]"'
        )
    threads.settle()
    from verifier.reoptimise import Reoptimiser

    return minimise(argv, Reoptimiser())
