"""The rules of the operators, one small function each, registered by name.

To add one, write a function from a ``Call`` to its result under ``@operator("Name")``.
"""

from __future__ import annotations

from importlib import import_module

MODULES = (
    "attention",
    "constants",
    "dense",
    "einsum",
    "elementwise",
    "indexing",
    "layout",
    "logic",
    "normalization",
    "products",
    "quantized",
    "recurrent",
    "reduce",
    "resize",
    "rewrites",
    "softmax",
    "univariate",
    "windows",
)


def load() -> None:
    """Register every rule."""
    for name in MODULES:
        import_module(f"{__name__}.{name}")
