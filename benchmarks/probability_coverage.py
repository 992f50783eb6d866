"""How often intervals hold the truth, on a classifier whose probabilities are known exactly.

A linear classifier of three inputs under uniform noise: the probability of the right class is the
volume of a cube below a plane, a rational.  Each repetition samples anew, through the same
code that ``farkas certify`` runs (model file, onnxruntime, generator).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.sections import write
from benchmarks.tables import table
from proofs.format import replacing
from verifier.certify.section import above, below
from verifier.statistics.blackbox import BlackBox, read_black_box
from verifier.statistics.intervals import clopper_pearson, mean_interval
from verifier.statistics.noise import Around
from verifier.statistics.robustness import Counts, Measurement, Plan
from verifier.statistics.sequential import confidence_sequence

WEIGHTS = (1.0, -0.5, 0.25)
RADIUS = Fraction(1, 2)
MARGINS = (0.0625, 0.5, 0.75, 0.8125)
"""Of the points; a margin of 0.875 cannot be overcome."""
REPEATED = 2000
SAMPLES = 200
LOOKS = tuple(128 * k for k in range(1, 17))
CONFIDENCE = Fraction(95, 100)


def section(out: Path) -> tuple[str, Any]:
    """Coverage of single intervals, of means, and of sequences."""
    box = _linear(out / "models" / "linear.onnx")
    single = [_single(box, margin) for margin in MARGINS]
    means = [_means(box)]
    sequences = [_sequences(box, margin) for margin in MARGINS]
    text = (
        f"A linear classifier of three inputs, uniform noise of radius {float(RADIUS)}; the "
        f"probabilities are exact rationals. Confidence {float(CONFIDENCE)}, {REPEATED} "
        "repetitions; every observed coverage with its own 99 % interval.\n\n"
        f"Intervals of {SAMPLES} samples; 'expected' sums over all counts:\n\n{table(single)}\n"
        f"Intervals of the mean of {len(MARGINS)} unlike probabilities, one input each:\n\n"
        f"{table(means)}\n"
        f"Looked at {len(LOOKS)} times, after {LOOKS[0]} to {LOOKS[-1]} samples: the share of "
        "repetitions in which the interval held the truth every time:\n\n"
        f"{table(sequences)}"
    )
    return text, {"single": single, "means": means, "sequences": sequences}


def _linear(path: Path) -> BlackBox:
    weights = np.array([WEIGHTS, [0.0] * len(WEIGHTS)], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, len(WEIGHTS)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
    model.ir_version = 8
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        stream.write(model.SerializeToString())
    return read_black_box(path)


def truth(margin: float) -> Fraction:
    """The probability that the margin stays positive, by inclusion and exclusion over corners."""
    sizes = [2 * RADIUS * abs(Fraction(w)) for w in WEIGHTS]
    below_plane = sum(sizes) / 2 - Fraction(margin)
    volume = Fraction(0)
    for corner in product((0, 1), repeat=len(sizes)):
        rest = below_plane - sum(size for size, one in zip(sizes, corner, strict=True) if one)
        volume += (-1) ** sum(corner) * max(Fraction(0), rest) ** len(sizes)
    return 1 - volume / (math.factorial(len(sizes)) * math.prod(sizes))


def _counts(box: BlackBox, margin: float, samples: int, first: int = 0) -> Counts:
    """Repetitions: the same input so often, each with a stream of its own."""
    points = np.zeros((REPEATED, len(WEIGHTS)))
    points[:, 0] = margin
    labels, numbers = np.zeros(REPEATED, np.int64), first + np.arange(REPEATED)
    plan = Plan(samples, ())
    return Measurement(box, points, labels, numbers, Around("uniform", RADIUS), plan).run()


def _single(box: BlackBox, margin: float) -> dict[str, object]:
    exact, counts = truth(margin), _counts(box, margin, SAMPLES)
    ends = [clopper_pearson(k, SAMPLES, CONFIDENCE) for k in range(SAMPLES + 1)]
    holds = [low <= exact <= high for low, high in ends]
    expected = sum(
        math.comb(SAMPLES, k) * exact**k * (1 - exact) ** (SAMPLES - k)
        for k, ok in enumerate(holds)
        if ok
    )
    seen = sum(holds[k] for k in counts.hits)
    return {
        "probability": f"{float(exact):.5f}",
        "mean of counts": f"{counts.hits.mean() / SAMPLES:.5f}",
        "expected coverage": f"{float(expected):.4f}",
        "observed": f"{seen / REPEATED:.4f}",
        "interval": _shown(clopper_pearson(seen, REPEATED, Fraction(99, 100))),
    }


def _means(box: BlackBox) -> dict[str, object]:
    exact = sum(map(truth, MARGINS)) / len(MARGINS)
    hits = sum(
        _counts(box, margin, SAMPLES, REPEATED * (1 + place)).hits
        for place, margin in enumerate(MARGINS)
    )
    level = (1 - CONFIDENCE) / 2
    trials = SAMPLES * len(MARGINS)
    ends = {int(k): mean_interval(int(k), trials, level) for k in set(hits)}
    seen = sum(ends[int(k)][0] <= exact <= ends[int(k)][1] for k in hits)
    return {
        "mean": f"{float(exact):.5f}",
        "observed": f"{seen / REPEATED:.4f}",
        "interval": _shown(clopper_pearson(seen, REPEATED, Fraction(99, 100))),
    }


def _sequences(box: BlackBox, margin: float) -> dict[str, object]:
    exact = truth(margin)
    always, fixed = np.ones(REPEATED, bool), np.ones(REPEATED, bool)
    for samples in LOOKS:  # the same samples each time, and more
        hits = _counts(box, margin, samples, 10 * REPEATED).hits.tolist()
        for place, k in enumerate(hits):
            low, high = confidence_sequence(k, samples, 1 - CONFIDENCE)
            always[place] &= low <= exact <= high
            low, high = clopper_pearson(k, samples, CONFIDENCE)
            fixed[place] &= low <= exact <= high
    return {
        "probability": f"{float(exact):.5f}",
        "confidence sequence": f"{always.mean():.4f}",
        "interval": _shown(clopper_pearson(int(always.sum()), REPEATED, Fraction(99, 100))),
        "Clopper-Pearson, which allows one look": f"{fixed.mean():.4f}",
    }


def _shown(ends: Sequence[float]) -> str:
    return f"{below(ends[0], 4)} to {above(ends[1], 4)}"


def main() -> None:
    """Print the section."""
    out = Path("runs/probability")
    text, _ = section(out)
    write(out / "coverage.md", text)
    print(text)


if __name__ == "__main__":
    main()
