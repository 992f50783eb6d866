"""How CPU seconds grow when depth, width or the number of inputs is doubled.

    python -m benchmarks.growth [--series depth,width,inputs] [--seeds 3] [--plot growth.svg]

Random dense networks; each series doubles one size and leaves the others at the base.
Medians over the seeds, on one thread, of

- *sweep*: default bounds of all neurons over a box;
- *slopes*: the same, then slopes optimised for the unstable neurons and for the unsafe
  constraint: a search without splits, of a question that this just decides;
- *check*: the kernel's check of that search's proof;
- *verify*: the whole of a question that needs splits, with the leaves of its proof.

So that sizes are comparable, the box's radius is found by bisection: with the least value
of output 0 as gradient descent finds it, the bound by default slopes is LOOSE times as far
below it as the value at the centre is above.  *Slopes* asks for a minimum a little below
the bound by optimised slopes, *verify* for one that is ASKED of the way from that bound to
the least value.  More inputs vary than the search would split, so it is always neurons.

The exponent is the slope of a least-squares line through the logarithms.  Where small sizes
are all overhead it is too small, so the exponent of the last doubling stands beside it.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from benchmarks.check_cost import median
from benchmarks.difficulty import UNSPLIT, find_radius, least_value, root, unsplit_bound
from benchmarks.generated import Model, above, dense
from proofs.check import check_proof
from specs.query import Query
from verifier.bab import Search
from verifier.bounds_compile import compile_network
from verifier.options import Options
from verifier.verify import verify

LOOSE, ASKED = 2.0, 0.7
LIMIT = 60.0
"""Seconds for one question."""
COSTS = ("sweep", "slopes", "check", "verify")


@dataclass(frozen=True)
class Size:
    """Hidden layers, neurons in each, and inputs."""

    depth: int = 4
    width: int = 32
    inputs: int = 32

    def model(self, seed: int) -> Model:
        return dense((self.inputs, *[self.width] * self.depth, 2), seed)


SERIES = {
    "depth": [Size(depth=n) for n in (2, 4, 8, 16)],
    "width": [Size(width=n) for n in (16, 32, 64, 128, 256)],
    "inputs": [Size(inputs=n) for n in (128, 256, 512, 1024, 2048)],
}


@dataclass(frozen=True)
class Measured:
    """CPU seconds by cost, leaves of the proof with splits, and both questions' answers."""

    seconds: dict[str, float]
    leaves: int
    answers: tuple[str, str]


@cache
def measure(size: Size, seed: int) -> Measured:
    """All costs of one network."""
    model = size.model(seed)
    net = compile_network(model[0])
    radius = find_radius(net, LOOSE)
    middle = [0.0] * size.inputs
    least = least_value(net, radius)
    bound = unsplit_bound(model, radius, least)

    def question(share: float) -> Query:
        asked = bound + share * (least - bound)
        return above(model, middle, radius, asked)

    easy = question(-0.01)
    begun = time.process_time()
    search = Search(easy, deadline=math.inf, settings=UNSPLIT)
    search.run()
    proof = search.proof()
    slopes = time.process_time() - begun
    begun = time.process_time()
    verdict = verify(question(ASKED), Options(timeout=LIMIT))
    whole = time.process_time() - begun
    seconds = {
        "sweep": median(lambda: root(net, middle, radius), 5),
        "slopes": slopes,
        "check": median(lambda: check_proof(easy, proof), 3),
        "verify": whole,
    }
    return Measured(seconds, verdict.leaves, (check_proof(easy, proof).verdict, verdict.answer))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The least-squares slope of the logarithms of costs against those of sizes."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def typical(size: Size, seeds: int, cost: str) -> float:
    """The median of a cost over the seeds."""
    return statistics.median(measure(size, seed).seconds[cost] for seed in range(seeds))


def report(name: str, seeds: int) -> None:
    """Print one series and its exponents."""
    print(f"| {name} | " + " | ".join(f"{cost} s" for cost in COSTS) + " | leaves | answers |")
    print("|---" * (len(COSTS) + 3) + "|")
    for size in SERIES[name]:
        found = [measure(size, seed) for seed in range(seeds)]
        answers = Counter(" and ".join(one.answers) for one in found)
        cells = [
            str(getattr(size, name)),
            *(f"{typical(size, seeds, cost):.4f}" for cost in COSTS),
            ", ".join(str(one.leaves) for one in found),
            ", ".join(f"{count} {words}" for words, count in answers.items()),
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
    values = [getattr(size, name) for size in SERIES[name]]
    for title, last in (("exponent", len(values)), ("last doubling", 2)):
        fitted = [
            exponent(values[-last:], [typical(s, seeds, cost) for s in SERIES[name][-last:]])
            for cost in COSTS
        ]
        print(f"| {title} | " + " | ".join(f"{value:.2f}" for value in fitted) + " | | |")
    print()


def plot(names: Sequence[str], seeds: int, target: Path) -> None:
    """Costs against sizes, a panel for each series, on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(names), 3.5), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        values = [getattr(size, name) for size in SERIES[name]]
        for cost in COSTS:
            costs = [typical(size, seeds, cost) for size in SERIES[name]]
            axes.plot(values, costs, "o-", label=f"{cost}, {exponent(values, costs):.2f}")
        axes.set(xlabel=name, xscale="log", yscale="log", xticks=values, xticklabels=values)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(title="cost, exponent", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    panels[0].set_ylabel("CPU seconds")
    figure.savefig(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", default=",".join(SERIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.series.split(",")
    measure(SERIES[names[0]][0], options.seeds)  # imports and first calls, not counted
    for name in names:
        report(name, options.seeds)
    if options.plot:
        plot(names, options.seeds, options.plot)


if __name__ == "__main__":
    main()
