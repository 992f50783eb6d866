"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before numpy and torch are imported: threads must not wait for each other where tests
# share the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def vnncomp() -> Path:
    """The folder of benchmark queries that FARKAS_VNNCOMP names; skips without it."""
    named = os.environ.get("FARKAS_VNNCOMP")
    if not named:
        pytest.skip("FARKAS_VNNCOMP names no folder of benchmark queries")
    folder = Path(named)
    if not (folder / "instances.csv").is_file():
        pytest.skip(f"FARKAS_VNNCOMP={named} has no instances.csv")
    return folder


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder of the bundled example."""
    return Path(__file__).resolve().parent.parent / "examples"
