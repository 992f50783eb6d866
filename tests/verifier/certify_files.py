"""Configurations with small models and data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faulty_models import dense_model
from verifier.certify.config import load_config
from verifier.certify.run import Outcome, certify
from verifier.certify.section import Part
from verifier.certify.store import Store
from verifier.certify.table import Table

HEAD = """[models]
net = "net.onnx"
[data]
file = "data.npz"
points = "x"
labels = "y"
"""


def folder_with(tmp_path: Path, text: str, *, sizes=(4, 3, 3), count=3, seed=0) -> Path:
    """A model, samples, and a configuration; returns its path."""
    (tmp_path / "net.onnx").write_bytes(dense_model(sizes, seed=seed))
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, sizes[0])).astype(np.float32)
    labels = rng.integers(0, sizes[-1], size=count)
    np.savez(tmp_path / "data.npz", x=points, y=labels)
    path = tmp_path / "c.toml"
    path.write_text(text if "[models]" in text else HEAD + text)
    return path


def run(path: Path) -> Outcome:
    return certify(load_config(path), Store(path.parent / "out"))


def part(outcome: Outcome, number: int = 0) -> Part:
    (parts,) = outcome.parts.values()
    return parts[number]


def plain(facts: Any) -> Any:
    """Facts as a reader of the JSON gets them."""
    return json.loads(json.dumps(facts))


def write_property(folder: Path, least: str) -> str:
    """A box of four inputs as ``p.vnnlib``, where output 0 is to stay below ``least``."""
    names = "".join(f"(declare-const X_{k} Real)" for k in range(4))
    names += "".join(f"(declare-const Y_{k} Real)" for k in range(3))
    box = "".join(f"(assert (>= X_{k} 0))(assert (<= X_{k} 0.1))" for k in range(4))
    text = f"{names}{box}(assert (>= Y_0 {least}))"
    (folder / "p.vnnlib").write_text(text)
    return text


def keys_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """By its name the keys that each table of a configuration is asked for."""
    known: dict[str, set[str]] = {}
    done = Table.done

    def noted(self: Table) -> None:
        known.setdefault(self.name, set()).update(self.known)
        done(self)

    with monkeypatch.context() as patch:
        patch.setattr(Table, "done", noted)
        load_config(path)
    return known
