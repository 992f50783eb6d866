"""Question files that are not answered by a proof or a witness, and who reports on them.

A table of the question file says what is claimed.  The module that ``REPORTS`` names for it has
``audit_claim``, ``lines_of``, ``claim_shown`` and ``claim_certificate``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from specs.document import read_document

REPORTS = {
    "claim": "proofs.watermarks.report",
    "probability": "proofs.partitions.report",
    "lipschitz": "proofs.partitions.report",
}


def report_of(paths: Sequence[str | Path]) -> Any:
    """The module for a question; ``None`` where it is answered by a proof or a witness.

    Raises:
        InputError: a question file cannot be read.
    """
    if len(paths) != 1 or Path(paths[0]).suffix != ".toml":
        return None
    tables = read_document(Path(paths[0])).tables
    named = next((REPORTS[table] for table in REPORTS if table in tables), None)
    return None if named is None else importlib.import_module(named)
