"""The section ``[faults]``: a fault model, and what is asked of it.

Beside the keys of the fault model (``specs/faults/schema.py``), ``net`` names one of the models,
and tables below it ask: see ``ANSWERS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from specs.faults.schema import read_faults
from verifier.certify.faults.common import Faults
from verifier.certify.section import Answer, Setting
from verifier.certify.table import Table

ANSWERS = {
    name: f"verifier.certify.faults.{module}"
    for name, module in {
        "map": "bitmap",
        "several": "several",
        "certificate": "certificate",
        "ranges": "ranges",
        "probability": "probability",
        "precision": "precision",
        "agreement": "agreement",
        "campaign": "injection",
    }.items()
}
"""By the name of a table below ``[faults]`` the module whose ``read`` reads it."""


def read(setting: Setting) -> Sequence[Answer]:
    """The answers that ``[faults]`` asks for.

    Raises:
        InputError: it is malformed; the message says where.
    """
    table = Table.of(setting.document, "faults")
    name = setting.named(table, "net")
    asked = {key: table.tables(key) for key in ANSWERS}
    document = table.without("net", *ANSWERS)
    stated = document.table("faults")
    model = read_faults(document) if stated else None
    faults = Faults(setting, table, setting.models[name], model, stated)
    found: list[Answer] = []
    for key, tables in asked.items():
        if not tables:
            continue
        reader: Any = importlib.import_module(ANSWERS[key])
        for each in tables:
            found.append(reader.read(faults, each))
            each.done()
    if not found:
        raise table.error("", f"[faults] asks nothing: add one of {_headers()}")
    return found


def _headers() -> str:
    return ", ".join(f"[faults.{name}]" for name in ANSWERS)
