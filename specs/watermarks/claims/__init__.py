"""What can be claimed of marks, one module for each kind.

A module reads the table ``[claim]`` and returns a claim; ``proofs.watermarks.claims`` has a
module of the same name, which decides it.  Adding a kind is these two modules and a line in
``CLAIMS``.
"""

from __future__ import annotations

import importlib
from typing import Any

CLAIMS = (
    "answers",
    "apart",
    "extraction",
    "false_claim",
    "overwriting",
    "persistence",
    "removal",
    "symmetry",
)


def claim(kind: str) -> Any:
    """The module of a kind; its ``read`` takes a document, models and a mark."""
    return importlib.import_module(f"{__name__}.{kind}")
