"""A table shaped like PRBench's for three digits models, every figure with its interval.

Made by ``farkas certify`` (``[probabilistic]``), so it resumes.  Beside it: what PRBench's 100
samples an input would say, without an interval, and what stopping early saves.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.probability_models import EPS, SIGMA, models, test_data
from benchmarks.sections import write
from benchmarks.tables import table
from verifier.certify.config import load_config
from verifier.certify.run import certify
from verifier.certify.section import above, below
from verifier.certify.store import Store
from verifier.progress import Progress
from verifier.statistics.blackbox import read_black_box
from verifier.statistics.noise import Around
from verifier.statistics.robustness import Measurement, Plan

RADII = ("0.03", "0.08", "0.10", "0.12", "0.20")
NOISES = ("uniform", "normal", "laplace")
RHO = Fraction(1, 100)
CONFIDENCE = Fraction(999, 1000)
FEW = 100
"""PRBench's samples for an input."""
MOST = 20_000
"""Samples for an input where sampling stops early."""

CONFIG = """title = "Probabilistic robustness of digits models"
[models]
{models}
[data]
file = "{data}"
points = "x"
labels = "y"
[probabilistic]
radii = [{radii}]
noise = [{noises}]
valid = [0, 1]
rho = [{rho}]
confidence = {confidence}
population = true
"""


def section(out: Path) -> tuple[str, Any]:
    """Tables, and the facts that they show."""
    folder = out / "models"
    files, samples = models(folder), test_data(folder)
    config = folder / "robustness.toml"
    text = CONFIG.format(
        models="\n".join(f'{name} = "{path.name}"' for name, path in files.items()),
        data=samples.name,
        radii=", ".join(RADII),
        noises=", ".join(f'"{noise}"' for noise in NOISES),
        rho=float(RHO),
        confidence=float(CONFIDENCE),
    )
    write(config, text)
    start = time.monotonic()
    outcome = certify(load_config(config), Store(out / "robustness"), Progress())
    seconds = time.monotonic() - start
    facts: Any = outcome.parts["probabilistic"][0].facts
    pages = [
        f"{len(files)} models, trained on digits: as they are, on attacks within {EPS} in every "
        f"input, with normal noise of {SIGMA}. {facts['cells'][0]['inputs']} test images. "
        f"{facts['statements']} statements hold together with confidence {float(CONFIDENCE)}; "
        f"{facts['cells'][0]['each']['trials'][0]} samples for an image, "
        f"{sum(cell['samples'] for cell in facts['cells']):,} in all, in {seconds:.0f} s "
        "(0 s: kept from before). Accuracy is counted; everything else is sampled.\n"
    ]
    for noise in NOISES:
        own = [cell for cell in facts["cells"] if cell["noise"] == noise]
        pages.append(f"\n{noise.capitalize()} noise:\n\n{table([*_rows(own)])}")
    uniform = [cell for cell in facts["cells"] if cell["noise"] == "uniform"]
    pages.append(
        "\nIn the population that the images were drawn from, if they were drawn independently "
        f"(uniform noise; PR and ProbAcc among correctly classified images):\n\n"
        f"{table([*_population(uniform)])}"
    )
    few = _few(files, samples)
    early = _early(files, samples, facts)
    pages.append(
        f"\n{FEW} samples for an image, as in PRBench, and what they would say without an interval "
        f"(uniform noise; {FEW} of {FEW} support PR >= 0.933 at 99.9 %, no more); "
        f"{_outside(few, early)} of {len(early)} figures for ProbAcc lie outside of "
        "the intervals of the next table:\n\n"
        f"{table([{k: v for k, v in row.items() if k != 'counted'} for row in few])}"
    )
    pages.append(
        f"\nStopping early (uniform noise, at most {MOST:,} samples for an image, same level):\n\n"
        f"{table([{k: v for k, v in row.items() if k[:3] != 'at '} for row in early])}"
    )
    return "".join(pages), {"facts": facts, "few": few, "early": early}


def _rows(cells: Sequence[Any]):
    for net in dict.fromkeys(cell["net"] for cell in cells):
        own = [cell for cell in cells if cell["net"] == net]
        row = {"model": net, "accuracy": f"{100 * own[0]['correct'] / own[0]['inputs']:.1f}"}
        for cell in own:
            row[f"PR({cell['radius']:g})"] = _percent(cell["pr"]["interval"])
        for cell in own:
            row[f"ProbAcc({cell['radius']:g})"] = _percent(cell["prob_acc"][0]["interval"])
        yield row


def _population(cells: Sequence[Any]):
    for net in dict.fromkeys(cell["net"] for cell in cells):
        own = [cell for cell in cells if cell["net"] == net]
        row = {"model": net, "accuracy": _percent(own[0]["population_accuracy"])}
        for cell in own:
            row[f"PR({cell['radius']:g})"] = _percent(cell["pr"]["population"])
        for cell in own:
            row[f"ProbAcc({cell['radius']:g})"] = _percent(cell["prob_acc"][0]["population"])
        yield row


def _outside(few: Sequence[Any], early: Sequence[Any]) -> int:
    """How many figures of few samples lie outside of the interval that stands beside them."""
    seen = {row["model"]: row for row in few}
    return sum(
        not row["at least"] <= seen[row["model"]]["counted"][row["radius"]] <= row["at most"]
        for row in early
    )


def _percent(ends: Sequence[float]) -> str:
    low, high = (Fraction(end) * 100 for end in ends)
    return f"{below(low, 4)}-{above(high, 4)}"


def _measured(path: Path, samples: Path, radius: str, plan: Plan):
    with np.load(samples) as archive:
        points, labels = archive["x"].astype(np.float64), archive["y"].astype(np.int64)
    around = Around("uniform", Fraction(radius), valid=(Fraction(0), Fraction(1)))
    numbers = np.arange(len(points))
    return Measurement(read_black_box(path), points, labels, numbers, around, plan).run()


def _few(files: dict[str, Path], samples: Path) -> list[dict[str, object]]:
    rows = []
    for name, path in files.items():
        row: dict[str, Any] = {"model": name, "counted": {}}
        for radius in RADII:
            counts = _measured(path, samples, radius, Plan(FEW, (1 - RHO,)))
            passed = np.mean(counts.hits > FEW * float(1 - RHO))
            row[f"PR({radius})"] = f"{100 * counts.hits.sum() / counts.trials.sum():.2f}"
            row[f"ProbAcc({radius})"] = f"{100 * passed:.2f}"
            row["counted"][radius] = int(passed * len(counts.hits) + 0.5)
        rows.append(row)
    return rows


def _early(files: dict[str, Path], samples: Path, facts: Any) -> list[dict[str, object]]:
    level = (1 - CONFIDENCE) / (2 * facts["statements"])
    rows = []
    for name, path in files.items():
        for radius in RADII:
            (cell,) = (
                c
                for c in facts["cells"]
                if (c["net"], c["noise"]) == (name, "uniform") and c["radius"] == float(radius)
            )
            plan = Plan(MOST, (1 - RHO,), level / cell["inputs"])
            counts = _measured(path, samples, radius, plan)
            low, high = counts.prob_acc(1 - RHO, level)
            fixed = cell["prob_acc"][0]
            rows.append(
                {
                    "model": name,
                    "radius": radius,
                    "samples, fixed": cell["samples"],
                    "open, fixed": fixed["at_most"] - fixed["at_least"],
                    "samples, early": int(counts.trials.sum()),
                    "open, early": high - low,
                    "ProbAcc, early": _percent([low / cell["correct"], high / cell["correct"]]),
                    "at least": low,
                    "at most": high,
                }
            )
    return rows
