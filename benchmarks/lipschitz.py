"""Lipschitz constants on boxes: proved, against products of layer norms and the largest gradient.

    python -m benchmarks.lipschitz --out runs/lipschitz [--seconds 60] [--only TEXT]

*Proved* is the constant of a partition that the kernel accepted; *without splits* the kernel's
bound on the whole box; *after 5 s*, *20 s* what the search had reached by then.  Seconds are of CPU
time.  The product of the layers' operator norms is a bound everywhere, not on the
box only; it is computed in floats.  The largest gradient is what random search finds: no constant
lies below it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import digits
from benchmarks.tables import table
from proofs.partitions.check import check_partition
from specs.lipschitz import LipschitzQuestion, load_lipschitz_question
from specs.network import Linear, Network, Univariate
from verifier.attack_forward import NumpyEvaluator
from verifier.probability.lipschitz import bound
from verifier.toml import document

ACASXU = (
    *((net, box, "linf") for net in ("1_1", "2_5", "4_8") for box in (1, 3, 4)),
    ("1_1", 3, "l2"),
)
MARKS = (5.0, 20.0)
RADII = (0.01, 0.05)
NORMS = ("linf", "l2")
IMAGE = 0


def section(out: Path, seconds: float = 60.0, only: str = "") -> tuple[str, dict[str, Any]]:
    """The section's text and data; files go below ``out``.

    Args:
        seconds: of CPU time for each question, at most.
        only: questions whose names contain this.
    """
    out.mkdir(parents=True, exist_ok=True)
    asked = [each for each in (*_digits(out), *_acasxu(out)) if only in each[0]]
    rows = [_row(name, question, seconds) for name, question in asked]
    text = (
        "The function is a margin of a digits classifier (the label's output less the "
        f"runner-up's, on a box around test image {IMAGE}) or output 0 of an acasxu network on the "
        f"box of a property. {seconds:g} CPU s of search on one core, or until within 1 % of the "
        "largest gradient found. Loose: what is proved over that gradient. Factor: the product of "
        "norms over what is proved.\n\n" + table([_shown(row) for row in rows])
    )
    return text, {"seconds": seconds, "rows": rows}


def _digits(out: Path) -> list[tuple[str, LipschitzQuestion]]:
    models = digits.networks(out / "models")
    _, _, images, labels = digits.data()
    image, label = images[IMAGE], int(labels[IMAGE])
    made = []
    for kind, radius, norm in itertools.product(("dense", "convolutional"), RADII, NORMS):
        low, high = np.maximum(image - radius, 0.0), np.minimum(image + radius, 1.0)
        region = {"lower": _fractions(low), "upper": _fractions(high)}
        first = _question(out, models[kind], region, {"norm": norm, "output": label})
        scores = NumpyEvaluator(first.network).evaluate(image[None])[0][0].copy()
        scores[label] = -np.inf
        functions = {"norm": norm, "label": label, "target": int(scores.argmax())}
        name = f"digits, {kind}, radius {radius:g}, {norm}"
        made.append((name, _question(out, models[kind], region, functions)))
    return made


def _acasxu(out: Path) -> list[tuple[str, LipschitzQuestion]]:
    named = os.environ.get("FARKAS_VNNCOMP")
    if not named:
        return []
    folder = Path(named).resolve() / "acasxu"
    made = []
    for net, number, norm in ACASXU:
        model = folder / f"onnx/ACASXU_run2a_{net}_batch_2000.onnx"
        region = {"file": str(folder / f"vnnlib/prop_{number}.vnnlib")}
        functions = {"norm": norm, "output": 0}
        made.append(
            (f"acasxu N{net}, box {number}, {norm}", _question(out, model, region, functions))
        )
    return made


def _question(
    out: Path, model: Path, region: dict[str, Any], functions: dict[str, Any]
) -> LipschitzQuestion:
    path = out / "question.toml"
    models, claim = {"net": str(model.absolute())}, {**functions, "at_most": 0}
    path.write_text(document({"models": models, "region": region, "lipschitz": claim}))
    return load_lipschitz_question(path)


def _fractions(values: np.ndarray) -> list[Fraction]:
    return [Fraction(float(value)) for value in values]


def product_of_norms(network: Network, row: np.ndarray, norm: str) -> float:
    """The product of operator norms of a chain of linear maps and Relus, times that of a row.

    Raises:
        ValueError: the network is no such chain.
    """
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    matrices = []
    for number, node in enumerate(network.nodes):
        if node.sources not in ((), (number - 1,)):
            raise ValueError(f"'{node.name}': the network is no chain")
        if isinstance(node, Linear):
            (term,) = node.terms
            weight = None if term.map.weight is None else term.map.weight.value
            matrices.append(term.map.forward(np.eye(term.map.source_size), weight, np.matmul).T)
        elif isinstance(node, Univariate) and node.function != "relu":
            raise ValueError(f"'{node.name}' is no Relu")
    last = row[None] @ matrices.pop()
    return float(np.prod([np.linalg.norm(m, order) for m in (last, *matrices)]))


def _row(name: str, asked: LipschitzQuestion, seconds: float) -> dict[str, Any]:
    curve: list[tuple[float, float, int]] = []
    begun = time.process_time()
    found = bound(
        asked,
        seconds,
        progress=lambda value, leaves: curve.append((time.process_time() - begun, value, leaves)),
        clock=time.process_time,
    )
    checked = check_partition(found.question, found.evidence).checked
    if found.constant is None or checked.verdict != "valid unsat":
        raise ValueError(f"{name}: {checked.reason}")
    row = {
        "question": name,
        "proved": float(found.constant),
        "without splits": found.first,
        "marks": [_reached(curve, found.first, mark) for mark in MARKS],
        "curve": curve,
        "gradient": found.found,
        "product": product_of_norms(asked.network, asked.rows[0], asked.norm),
        "leaves": found.leaves,
        "seconds": found.seconds,
        "check_seconds": checked.cpu_seconds,
    }
    if not row["gradient"] <= row["proved"]:
        raise ValueError(f"{name}: a gradient of {row['gradient']} is above {row['proved']}")
    print(json.dumps({key: value for key, value in row.items() if key != "curve"}), flush=True)
    return row


def _reached(curve: list[tuple[float, float, int]], first: float, seconds: float) -> float:
    """The bound that a search had by then."""
    return min([first, *(value for spent, value, _ in curve if spent <= seconds)])


def _shown(row: dict[str, Any]) -> dict[str, object]:
    return {
        "question": row["question"],
        "without splits": f"{row['without splits']:.5g}",
        **{
            f"after {mark:g} s": f"{value:.5g}"
            for mark, value in zip(MARKS, row["marks"], strict=True)
        },
        "proved": f"{row['proved']:.5g}",
        "largest gradient found": f"{row['gradient']:.5g}",
        "loose": f"{row['proved'] / row['gradient']:.2f}",
        "product of norms": f"{row['product']:.5g}",
        "factor": f"{row['product'] / row['proved']:.4g}",
        "leaves": row["leaves"],
        "CPU s": f"{row['seconds']:.1f}",
        "check, CPU s": f"{row['check_seconds']:.1f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0, help="of CPU time, each question")
    parser.add_argument("--only", default="", help="questions whose names contain this")
    args = parser.parse_args()
    text, data = section(args.out, args.seconds, args.only)
    (args.out / "lipschitz.md").write_text(text)
    (args.out / "lipschitz.json").write_text(json.dumps(data, indent=1))
    print(text)


if __name__ == "__main__":
    main()
