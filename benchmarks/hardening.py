"""Certified range restrictions of the digits classifiers over [0, 1]^64, checked again.

Every row is one run of ``farkas harden`` and ``farkas harden --check``: bounds of all Relus'
results that no input of the domain brings the network beyond, the proofs, and both models on the
whole test set.  ``reached`` is what gradient ascent from corners brings an entry to: no bound can
be below it.  Section of ``benchmarks.faults``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.digits import data, networks
from benchmarks.tables import table
from proofs.format import replacing
from specs.onnx_reader import read_model
from verifier.attack_forward import NumpyEvaluator
from verifier.harden.config import read_config
from verifier.harden.files import check_hardened, contents, named
from verifier.harden.harden import harden
from verifier.harden.theorem import Probe, probe
from verifier.progress import Progress

WAYS = (
    ("layer", "clip", "real", 0),
    ("layer", "clip", "real", 60),
    ("neuron", "clip", "real", 0),
    ("neuron", "zero", "float32", 0),
)
"""Per what, action, semantics, and seconds of search for smaller bounds."""
CONFIG = """[domain]
lower = 0
upper = 1
[restrict]
bounds = "certified"
per = "{}"
action = "{}"
semantics = "{}"
seconds = {}
[data]
file = "train.npz"
[agreement]
file = "test.npz"
"""
STEPS = 60


def reached(read: Probe) -> np.ndarray:
    """``(n,)``: values that entries are brought to by gradient ascent over [0, 1]^64."""
    evaluate = NumpyEvaluator(read.network).evaluate
    rng, count = np.random.default_rng(0), read.network.output_size
    x = rng.integers(0, 2, size=(count, read.network.input_size)).astype(float)
    best, own = np.full(count, -np.inf), np.arange(count)
    for _ in range(STEPS):
        y, pull = evaluate(x)
        best = np.maximum(best, y[own, own])
        slope = pull(np.eye(count))
        x = np.where(slope > 0, 1.0, np.where(slope < 0, 0.0, x))
        dead = ~np.any(slope, axis=1)
        x[dead] = rng.integers(0, 2, size=(int(dead.sum()), x.shape[1]))
    return best


def one(kind: str, net: Path, way: tuple[str, str, str, int], out: Path) -> dict[str, Any]:
    """One run and its check."""
    per, action, semantics, seconds = way
    target = out / f"hardened-{kind}-{per}-{action}-{semantics}-{seconds}.onnx"
    config = target.with_suffix(".toml")
    config.write_text(CONFIG.format(*way))
    start = time.perf_counter()
    made = harden(read_model(net)[1], read_config(config), Progress())
    spent = time.perf_counter() - start
    files = contents(target, made)
    for path, content in files.items():
        with replacing(path) as stream:
            stream.write(content)
    start = time.perf_counter()
    checked = check_hardened(net, target, semantics)
    agreement = made.report["agreement"]
    read = probe(read_model(net)[1].content, [each.tensor for each in made.restrictions])
    ascent = [float(part.max()) for part in read.split(reached(read))]
    return {
        "network": kind,
        "per": per,
        "action": action,
        "semantics": semantics,
        "search seconds": seconds,
        "bounds": [float(each.upper.max()) for each in made.restrictions],
        "reached": ascent,
        "changed": agreement["real"]["changed"],
        "untouched": agreement["real"]["untouched"],
        "identical in onnxruntime": agreement["onnxruntime"]["identical"],
        "samples": agreement["real"]["samples"],
        "parts": len(made.theorem.parts) if made.theorem else 0,
        "proof bytes": sum(len(part) for path, part in files.items() if path.suffix == ".farkas"),
        "checked": checked.verdict,
        "seconds": spent,
        "check seconds": time.perf_counter() - start,
        "question": str(named(target, ".bounds.1.vnnlib").name),
    }


def section(out: Path) -> tuple[str, list[dict[str, Any]]]:
    """The table, and what it is made of."""
    x, y, test, labels = data()
    folder = out / "hardening"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "train.npz", inputs=x, labels=y)
    np.savez(folder / "test.npz", inputs=test, labels=labels)
    results = [
        one(kind, net, way, folder)
        for kind, net in networks(out / "networks").items()
        for way in WAYS
    ]
    return text(results), results


def text(results: list[dict[str, Any]]) -> str:
    """In Markdown."""
    rows = [
        {
            "network": r["network"],
            "per, action": f"{r['per']}, {r['action']}",
            "semantics": r["semantics"],
            "search s": r["search seconds"],
            "largest bounds": ", ".join(f"{bound:.2f}" for bound in r["bounds"]),
            "reached": ", ".join(f"{bound:.2f}" for bound in r["reached"]),
            "test samples": r["samples"],
            "changed": r["changed"],
            "bit for bit the same": r["identical in onnxruntime"],
            "questions": r["parts"],
            "proof bytes": r["proof bytes"],
            "check": r["checked"],
            "s": f"{r['seconds']:.1f}",
            "check s": f"{r['check seconds']:.1f}",
        }
        for r in results
    ]
    return __doc__.partition("\n\n")[2] + "\n" + table(rows)


if __name__ == "__main__":
    print(section(Path("runs/hardening"))[0])
