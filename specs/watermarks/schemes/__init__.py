"""Schemes of watermarks, one module each.

A module reads its keys of the table ``[watermark]`` and returns a mark.  Adding a scheme is
one module and a line in ``SCHEMES``.
"""

from __future__ import annotations

import importlib
from typing import Any

SCHEMES = ("neuralmark", "uchida", "triggers", "blackmarks")


def scheme(name: str) -> Any:
    """The module of a scheme; its ``read`` takes a document and returns a mark."""
    return importlib.import_module(f"{__name__}.{name}")
