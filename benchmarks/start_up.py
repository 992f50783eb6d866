"""Many small queries in one ``farkas bench``, beside a fresh process for some of them.

    python -m benchmarks.start_up [--queries 100] [--alone 5] [--keep FOLDER]

Networks of the size of ACAS Xu (5 inputs, 6 layers of 50) are asked for robustness in
boxes, whose radii are multiples, 0.8 to 2, of the one up to which the kernel needs no
search.  Printed are the CPU seconds of each query as ``bench`` accounts for them, those of
the whole run over the number of queries, and those of ``farkas verify`` in a process of its
own for queries spread over the list.
"""

from __future__ import annotations

import argparse
import csv
import math
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.generated import Model, dense
from proofs.check import check_proof
from specs.builders import robustness
from verifier.attack_forward import NumpyEvaluator
from verifier.bench import read_results
from verifier.bench_table import Row

SIZES = (5, *[50] * 6, 2)
MODELS = 5
FACTORS = (0.8, 2.0)
"""Least and largest radius, over the one up to which no search is needed."""
LIMIT = 20.0
"""Seconds for one query."""


@dataclass(frozen=True, eq=False)
class Ball:
    """All inputs within ``radius`` of ``centre`` should have ``label``."""

    centre: np.ndarray
    radius: float
    label: int

    def vnnlib(self) -> str:
        """The property as VNN-LIB 1.0 states it: what must not happen."""
        names = [f"X_{i}" for i in range(len(self.centre))]
        lines = [f"(declare-const {name} Real)" for name in (*names, "Y_0", "Y_1")]
        for name, value in zip(names, self.centre, strict=True):
            lines.append(f"(assert (>= {name} {value - self.radius:.9f}))")
            lines.append(f"(assert (<= {name} {value + self.radius:.9f}))")
        lines.append(f"(assert (>= Y_{1 - self.label} Y_{self.label}))")
        return "\n".join(lines) + "\n"


def easy_radius(model: Model, centre: np.ndarray, label: int) -> float:
    """The radius, nearly, up to which the kernel alone proves robustness."""
    low, high = math.log(1e-4), 0.0
    for _ in range(8):
        middle = (low + high) / 2
        query = robustness(model, centre.tolist(), label, math.exp(middle))
        if check_proof(query, None).verdict == "valid unsat":
            low = middle
        else:
            high = middle
    return math.exp(low)


def write_queries(folder: Path, count: int) -> list[Ball]:
    """Models, properties and their list; the balls in the list's order."""
    random = np.random.default_rng(0)
    models = [dense(SIZES, seed) for seed in range(min(MODELS, count))]
    for number, (_, file) in enumerate(models):
        (folder / f"{number}.onnx").write_bytes(file.content)
    balls = []
    with open(folder / "instances.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        for number, factor in enumerate(np.linspace(*FACTORS, count)):
            model = models[number % len(models)]
            centre = random.uniform(-0.5, 0.5, SIZES[0])
            label = int(NumpyEvaluator(model[0]).evaluate(centre[None])[0].argmax())
            balls.append(Ball(centre, factor * easy_radius(model, centre, label), label))
            (folder / f"{number}.vnnlib").write_text(balls[-1].vnnlib())
            writer.writerow([f"{number % len(models)}.onnx", f"{number}.vnnlib", LIMIT])
    return balls


def cpu_seconds(command: Sequence[str]) -> float:
    """CPU seconds of ``farkas`` with these arguments, its own processes included."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    subprocess.run([sys.executable, "-m", "farkas", *command], capture_output=True, check=False)
    return spent() - before


def alone(folder: Path, row: Row) -> float:
    """CPU seconds of a row's query in a process of its own."""
    _, onnx, vnnlib = row.key.split()
    return cpu_seconds(
        ["verify", str(folder / onnx), str(folder / vnnlib), "--timeout", str(LIMIT)]
    )


def report(rows: Sequence[Row], whole: float, fresh: Sequence[tuple[Row, float]]) -> str:
    """The figures in words and a table."""
    answers = Counter(row.answer for row in rows)
    cpu = [row.cpu for row in rows]
    searched = [row.cpu for row in rows if row.searched]
    lines = [
        f"{len(rows)} queries: " + ", ".join(f"{n} {answer}" for answer, n in answers.items()),
        f"searched: {len(searched) / len(rows):.0%}; "
        f"torch needed: {sum(row.torch for row in rows) / len(rows):.0%}",
        f"CPU seconds of a query in the run: median {median(cpu):.3f}, sum {sum(cpu):.1f}; "
        f"of those searched: median {median(searched or [0.0]):.3f}, sum {sum(searched):.1f}",
        f"CPU seconds of the whole run over its queries: {whole / len(rows):.3f}; "
        f"outside of queries {whole - sum(cpu):.1f} in all",
        "",
        "| query | answer | torch | CPU s in the run | in a process of its own | difference |",
        "|---|---|---|---|---|---|",
    ]
    for row, seconds in fresh:
        lines.append(
            f"| {row.key.split()[2]} | {row.answer} | {'yes' if row.torch else 'no'} "
            f"| {row.cpu:.3f} | {seconds:.2f} | {seconds - row.cpu:.2f} |"
        )
    if fresh:
        lines += ["", f"median difference {median(s - row.cpu for row, s in fresh):.2f}"]
    return "\n".join(lines)


def measure(folder: Path, count: int, some: int) -> str:
    """Write the queries into a folder, run them, and report."""
    write_queries(folder, count)
    whole = cpu_seconds(["bench", str(folder), "--out", str(folder / "run")])
    rows = read_results(folder / "run" / "results.csv")
    chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, some).round().astype(int)]
    return report(rows, whole, [(row, alone(folder, row)) for row in chosen])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--alone", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="an empty folder for queries and results")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        print(measure(options.keep, options.queries, options.alone))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(measure(Path(folder), options.queries, options.alone))


if __name__ == "__main__":
    main()
