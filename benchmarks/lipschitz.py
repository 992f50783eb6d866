"""Lipschitz constants on boxes: proved, against products of layer norms and the largest gradient.

    python -m benchmarks.lipschitz --out runs/lipschitz [--seconds 20]

*Proved* is the constant of a partition that the kernel accepted; *without splits* the kernel's
bound on the whole box.  The product of the layers' operator norms is a bound everywhere, not on the
box only; it is computed in floats.  The largest gradient is what random search finds: no constant
lies below it.
"""

from __future__ import annotations

import argparse
import json
import os
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
from verifier.toml import toml

ACASXU = (("1_1", 3, "linf"), ("1_1", 3, "l2"), ("1_9", 4, "linf"))
RADII = (0.01, 0.05)
NORMS = ("linf", "l2")
IMAGE = 0


def section(out: Path, seconds: float = 20.0) -> tuple[str, dict[str, Any]]:
    """The section's text and data; files go below ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    asked = [*_digits(out), *_acasxu(out)]
    rows = [_row(name, question, seconds) for name, question in asked]
    text = (
        "The function is a margin of the digits classifier (the label's output less the "
        f"runner-up's, on a box around test image {IMAGE}) or output 0 of an acasxu network on the "
        f"box of a property. {seconds:g} s of search on one core, or until within 1 % of the "
        "largest gradient. Factor: the product of norms over what is proved.\n\n"
        + table([_shown(row) for row in rows])
    )
    return text, {"seconds": seconds, "rows": rows}


def _digits(out: Path) -> list[tuple[str, LipschitzQuestion]]:
    model = digits.networks(out / "models")["dense"]
    _, _, images, labels = digits.data()
    image, label = images[IMAGE], int(labels[IMAGE])
    made = []
    for radius in RADII:
        low, high = np.maximum(image - radius, 0.0), np.minimum(image + radius, 1.0)
        region = {"lower": _fractions(low), "upper": _fractions(high)}
        for norm in NORMS:
            target = (label + 1) % 10
            first = _question(out, model, region, {"norm": norm, "output": label})
            scores = NumpyEvaluator(first.network).evaluate(image[None])[0][0].copy()
            scores[label] = -np.inf
            target = int(scores.argmax())
            functions = {"norm": norm, "label": label, "target": target}
            name = f"digits, radius {radius:g}, {norm}"
            made.append((name, _question(out, model, region, functions)))
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
    lines = ["[models]", f"net = {toml(str(model.absolute()))}"]
    for title, values in (("region", region), ("lipschitz", {**functions, "at_most": 0})):
        lines += [f"[{title}]", *(f"{key} = {toml(value)}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n")
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
    found = bound(asked, seconds)
    checked = check_partition(found.question, found.evidence).checked
    if checked.verdict != "valid unsat":
        raise ValueError(f"{name}: {checked.reason}")
    row = {
        "question": name,
        "proved": float(found.constant),
        "without splits": found.first,
        "gradient": found.found,
        "product": product_of_norms(asked.network, asked.rows[0], asked.norm),
        "leaves": found.leaves,
        "seconds": found.seconds,
        "check_seconds": checked.cpu_seconds,
    }
    if not row["gradient"] <= row["proved"]:
        raise ValueError(f"{name}: a gradient of {row['gradient']} is above {row['proved']}")
    print(json.dumps(row), flush=True)
    return row


def _shown(row: dict[str, Any]) -> dict[str, object]:
    return {
        "question": row["question"],
        "proved": f"{row['proved']:.5g}",
        "without splits": f"{row['without splits']:.5g}",
        "largest gradient found": f"{row['gradient']:.5g}",
        "product of norms": f"{row['product']:.5g}",
        "factor": f"{row['product'] / row['proved']:.1f}",
        "leaves": row["leaves"],
        "s": f"{row['seconds']:.1f}",
        "check, CPU s": f"{row['check_seconds']:.1f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    text, data = section(args.out, args.seconds)
    (args.out / "lipschitz.md").write_text(text)
    (args.out / "lipschitz.json").write_text(json.dumps(data, indent=1))
    print(text)


if __name__ == "__main__":
    main()
