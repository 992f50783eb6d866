"""Radii of smoothing: against the closed form on a linear classifier, and for digits models.

Smoothed, a linear classifier is itself: at distance d from its plane the probability is
``Phi(d / sigma)``, and the true radius ``sigma Phi^-1(Phi(d / sigma)) = d``.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.probability_models import SIGMA, models, test_data
from benchmarks.sections import write
from benchmarks.tables import table
from proofs.format import replacing
from verifier.certify.config import load_config
from verifier.certify.run import certify
from verifier.certify.section import above, below
from verifier.certify.store import Store
from verifier.progress import Progress
from verifier.statistics.blackbox import BlackBox, read_black_box
from verifier.statistics.intervals import clopper_pearson
from verifier.statistics.smoothing import Setting, Smoothing, radius_of
from verifier.statistics.tails import tail_above

DIMENSIONS = 64
DISTANCES = (0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)
"""In units of sigma."""
REPEATED = 10
SAMPLES = 100_000
ALPHA = Fraction(1, 1000)
MANY, FEW, OFTEN = 3000, 1000, Fraction(1, 100)
"""Repetitions, samples and alpha with which it is counted how often radii are too large."""
FIRST = 100
SIGMAS = ("0.12", "0.25", "0.5")
RADII = ("0", "0.25", "0.5", "0.75", "1", "1.5")

CONFIG = """title = "Randomized smoothing of digits models"
[models]
net = "{net}"
[data]
file = "{data}"
points = "x"
labels = "y"
first = {first}
[smoothing]
sigma = [{sigmas}]
radii = [{radii}]
samples = {samples}
alpha = {alpha}
"""


def section(out: Path) -> tuple[str, Any]:
    """Both tables, and a picture."""
    linear, many = _linear(out / "models"), _many(out / "models")
    rows, facts = [], {}
    files, data = models(out / "models"), test_data(out / "models")
    for name, path in files.items():
        sigmas = SIGMAS if name == "noise" else (f"{SIGMA}",)
        text = CONFIG.format(
            net=path.name,
            data=data.name,
            first=FIRST,
            sigmas=", ".join(sigmas),
            radii=", ".join(RADII),
            samples=SAMPLES,
            alpha=float(ALPHA),
        )
        config = out / "models" / f"smoothing_{name}.toml"
        write(config, text)
        outcome = certify(load_config(config), Store(out / "smoothing"), Progress())
        facts[name] = outcome.parts["smoothing"][0].facts
        for fact in facts[name]["sigmas"]:
            row: dict[str, object] = {"model": name, "sigma": fact["sigma"]}
            row["cap"] = f"{fact['largest_radius']:.3f}"
            row["abstained"] = fact["abstained_together"]
            for each in fact["certified"]:
                row[f"> {each['radius']:g}"] = f"{each['together']} ({each['alone']})"
            rows.append(row)
    curves = [("noise", fact) for fact in facts["noise"]["sigmas"]]
    curves += [(name, facts[name]["sigmas"][0]) for name in ("plain", "pgd")]
    picture = _picture(out / "smoothing.png", curves)
    shown = f"\n![Certified radius curve]({picture})\n" if picture else ""
    over = sum(row["over"] for row in linear)
    text = (
        f"A linear classifier of {DIMENSIONS} inputs; n = {SAMPLES:,}, alpha = {float(ALPHA)}, "
        f"{REPEATED} repetitions a distance. Of {len(linear) * REPEATED} radii {over} exceed the "
        f"true one (each may with probability {float(ALPHA)}, so that "
        f"{float(ALPHA * len(linear) * REPEATED)} may be expected). Distances and radii in "
        f"units of sigma; the cap is {_cap():.4f}.\n\n"
        f"{table(linear)}\n"
        f"How often radii are too large: {MANY} repetitions with n = {FEW}, alpha = "
        f"{float(OFTEN)}, at a distance of sigma:\n\n{table([many])}\n"
        f"Digits: of the first {FIRST} test images those that are right and constant beyond a "
        "Euclidean radius, all radii of a model together (in brackets: each alone) with "
        f"confidence {float(1 - ALPHA)}; of the smoothed classifiers, sampled.\n\n{table(rows)}"
        f"{shown}"
    )
    return text, {"linear": linear, "many": many, "digits": facts}


def _linear(folder: Path) -> list[dict[str, Any]]:
    """Certified radii beside distances."""
    box, unit = _plane(folder, DIMENSIONS)
    sigma = Fraction(1, 4)
    points = np.array([d * float(sigma) * unit for d in DISTANCES for _ in range(REPEATED)])
    setting = Setting(sigma, samples=SAMPLES, alpha=ALPHA)
    numbers = np.arange(len(points))
    found = Smoothing(box, points, numbers, setting).run()
    rows = []
    for place, distance in enumerate(DISTANCES):
        own = found[place * REPEATED : (place + 1) * REPEATED]
        radii = [(one.radius(setting.scale, ALPHA) or 0.0) / float(sigma) for one in own]
        rows.append(
            {
                "distance": distance,
                "least radius": f"{min(radii):.4f}",
                "median": f"{np.median(radii):.4f}",
                "largest": f"{max(radii):.4f}",
                "median / distance": f"{np.median(radii) / distance:.4f}",
                "abstained": sum(one.radius(setting.scale, ALPHA) is None for one in own),
                "over": sum(radius > distance for radius in radii),
            }
        )
    return rows


def _cap() -> float:
    return Setting(Fraction(1), samples=SAMPLES, alpha=ALPHA).cap


def _many(folder: Path) -> dict[str, Any]:
    """How often the radius exceeds the distance, and how often it should, by a sum of counts."""
    box, unit = _plane(folder, 4)
    points = np.tile(0.25 * unit, (MANY, 1))
    setting = Setting(Fraction(1, 4), samples=FEW, alpha=OFTEN)
    found = Smoothing(box, points, np.arange(MANY), setting).run()
    radii = [radius_of(k, FEW, setting.scale, OFTEN) or 0.0 for k in range(FEW + 1)]
    over = sum(one.chosen == 0 and radii[one.hits] > 0.25 for one in found)
    least = next(k for k, radius in enumerate(radii) if radius > 0.25)
    expected = tail_above(FEW, least, NormalDist().cdf(1.0))
    low, high = clopper_pearson(over, MANY, Fraction(99, 100))
    return {
        "expected": f"{expected:.5f}",
        "observed": f"{over / MANY:.5f}",
        "99 % interval": f"{below(low, 3)} to {above(high, 3)}",
        "allowed": float(OFTEN),
    }


def _plane(folder: Path, size: int) -> tuple[BlackBox, np.ndarray]:
    """A linear classifier, and the unit vector that its plane is at right angles to."""
    normal = np.random.default_rng(0).normal(size=size).astype(np.float32)
    weights = np.array([normal, np.zeros(size)], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
    model.ir_version = 8
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"plane{size}.onnx"
    with replacing(path) as stream:
        stream.write(model.SerializeToString())
    return read_black_box(path), normal.astype(float) / np.linalg.norm(normal.astype(float))


def _picture(path: Path, curves: list[tuple[str, Any]]) -> str | None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.subplots()
    for name, fact in curves:
        radii = np.array([-1.0 if r is None else r for r in fact["radii"]])
        grid = np.linspace(0.0, max(each["largest_radius"] for _, each in curves), 400)
        shares = [float(np.mean(radii > r)) for r in grid]
        line = "-" if name == "noise" else "--"
        axes.step(grid, shares, line, where="post", label=f"{name}, sigma {fact['sigma']:g}")
    axes.set(xlabel="Euclidean radius", ylabel="certified accuracy, sampled", ylim=(0, 1.02))
    axes.legend()
    figure.savefig(path, dpi=110)
    return path.name
