"""What the evidence of a model saves where a changed one is certified.

    python -m benchmarks.certify_again [--samples 40] [--radii 0.02,0.04,0.06] [--runs 3]

``farkas certify`` asks about robustness of the bundled network of digits at test images, then of
the changed networks of :mod:`benchmarks.reuse`: in a folder that holds the first network's
evidence and hints, and in an empty one, in turns.  One process; torch is loaded before.  The
table gives the medians of processor and wall seconds over the runs, and of the last run how many
questions the old proofs answered, as they were or mended.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import reuse
from verifier import verify as portfolio
from verifier.certify.config import load_config
from verifier.certify.run import certify
from verifier.certify.store import Store

TEXT = """[models]
net = "{model}.onnx"
[data]
file = "data.npz"
points = "x"
labels = "y"
[limits]
timeout = 60
[[robustness]]
radii = [{radii}]
clip = [0, 1]
"""


def models(folder: Path, rate: float) -> list[str]:
    """Write the network and its changes; their names, the network's first."""
    x, _, labels, _ = reuse.images()
    weights = reuse.weights_of(reuse.DIGITS)
    made = {
        "digits": weights,
        "tuned": reuse.tuned(weights, x, labels, rate),
        "int8": reuse._matrices(reuse.int8)(weights),
        "pruned": reuse._matrices(reuse.pruned)(weights),
    }
    for name, changed in made.items():
        reuse.with_weights(reuse.DIGITS, changed, folder / f"{name}.onnx")
    return list(made)


def certified(config: Path, out: Path) -> tuple[float, float, Counter[str]]:
    """Processor seconds, wall seconds, and questions by where their evidence is from."""
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = certify(load_config(config), Store(out))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    parts = [part for each in outcome.parts.values() for part in each]
    return cpu, wall, Counter(asked.origin for part in parts for asked in part.asked)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.certify_again")
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--radii", default="0.02,0.04,0.06")
    parser.add_argument("--rate", type=float, default=0.01, help="of the epoch of tuning")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    uniform = reuse.asked(reuse.DIGITS, np.full(64, 0.5), 0, Fraction(1))
    portfolio.verify(uniform)  # torch is imported
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, points, _, labels = reuse.images()
        chosen = slice(options.samples)
        np.savez(folder / "data.npz", x=points[chosen].astype(np.float32), y=labels[chosen])
        first, *changed = models(folder, options.rate)
        for model in (first, *changed):
            text = TEXT.format(model=model, radii=options.radii)
            (folder / f"{model}.toml").write_text(text)
        certified(folder / f"{first}.toml", folder / "old")
        print("| change | questions | reused | mended | cpu s with | without | s with | without |")
        print("|---|---|---|---|---|---|---|---|")
        for model in changed:
            seconds: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            origins: Counter[str] = Counter()
            for _ in range(options.runs):
                for old in (False, True):
                    out = folder / "out"
                    shutil.rmtree(out, ignore_errors=True)
                    if old:
                        shutil.copytree(folder / "old", out)
                    cpu, wall, origins = certified(folder / f"{model}.toml", out)
                    seconds[old].append((cpu, wall))
            figures = [median(run[k] for run in seconds[old]) for k in (0, 1) for old in (1, 0)]
            counts = [sum(origins.values()), origins["reused"], origins["mended"]]
            cells = [model, *map(str, counts), *(f"{figure:.2f}" for figure in figures)]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
