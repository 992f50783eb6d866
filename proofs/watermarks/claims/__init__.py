"""The rules, one module for each kind of claim, each with a function ``decide``."""

from __future__ import annotations

import importlib
from typing import Any


def rule(kind: str) -> Any:
    """The module of a kind of claim."""
    return importlib.import_module(f"{__name__}.{kind}")
