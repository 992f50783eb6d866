"""The command ``minimize`` with the search's help."""

from __future__ import annotations

from collections.abc import Sequence

from proofs.minimise_cli import main as minimise
from verifier import threads
from verifier.needs import need


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code.

    Raises:
        MissingExtraError: torch is not installed.
        InputError: usage, question or proof is at fault.
    """
    need(("torch",), "--reoptimise")
    threads.settle()
    from verifier.reoptimise import Reoptimiser

    return minimise(argv, Reoptimiser())
