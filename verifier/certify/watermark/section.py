"""The section ``[watermark]``: a mark, and what is asked of it.

Beside the keys of the mark (``specs/watermarks/schemes``), ``net`` names one of the models, and
tables below it ask: see ``ANSWERS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from specs.watermarks.schemes import SCHEMES, scheme
from verifier.certify.section import Answer, Setting
from verifier.certify.table import Table
from verifier.certify.watermark.common import Marked

ANSWERS = {
    name: f"verifier.certify.watermark.{name}"
    for name in (
        "extraction",
        "false_claim",
        "persistence",
        "survival",
        "removal",
        "sanity",
        "utility",
        "symmetry",
    )
}
"""By the name of a table below ``[watermark]`` the module whose ``read`` reads it."""


def read(setting: Setting) -> Sequence[Answer]:
    """The answers that ``[watermark]`` asks for.

    Raises:
        InputError: it is malformed; the message says where.
    """
    table = Table.of(setting.document, "watermark")
    name = setting.named(table, "net")
    asked = {key: table.tables(key) for key in ANSWERS}
    document = table.without("net", *ANSWERS)
    stated = document.table("watermark")
    mark = None
    if stated:
        kind = stated.get("scheme")
        if kind not in SCHEMES:
            known = ", ".join(f"'{each}'" for each in SCHEMES)
            words = (
                "'scheme' is missing; it is one" if kind is None else f"scheme {kind!r:.40} is none"
            )
            raise table.error("scheme", f"{words} of {known}")
        mark = scheme(kind).read(document)
    marked = Marked(setting, table, name, setting.models[name], mark, stated)
    found: list[Answer] = []
    for key, tables in asked.items():
        reader: Any = importlib.import_module(ANSWERS[key]) if tables else None
        for each in tables:
            found.append(reader.read(marked, each))
            each.done()
    if not found:
        headers = ", ".join(f"[watermark.{each}]" for each in ANSWERS)
        raise table.error("", f"[watermark] asks nothing: add one of {headers}")
    return found
