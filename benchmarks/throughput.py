"""Bound passes and sub-problems per second, and what share of the attainable that is.

    python -m benchmarks.throughput [--device cpu|cuda] [--networks dense,conv,resnet]
        [--batches 1,16,128,512] [--seconds 10] [--threads N]

A *pass* bounds one row with its gradient (``alpha.bounded``): backward through all maps,
forward again.  A *step* is a pass and what ``alpha.optimise`` does with the gradient.  A
*sub-problem* is a child of a split in branch and bound on neurons, with all the steps,
clips and trials that the default settings give one which does not close: the question is
one that nothing closes, and only rounds with a full batch count.

A pass multiplies and adds ``fan_in * target_size`` numbers per map, twice.  Achieved is
that over the seconds of a pass; attainable is the same for the bare maps, one call each
way with nothing between them, in the searching precision, on the same device and batch.
"Passes each" is how many passes would take as long as one sub-problem.  A product of large
square matrices is timed too, to show what the maps themselves leave unused.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from benchmarks.difficulty import problem, root
from benchmarks.generated import Model, above, convolutional, dense, residual
from specs.network import Linear, Network
from verifier.alpha import Effort, bounded, initial, optimise
from verifier.bab import Progress, Search, Settings
from verifier.bounds import LinearNode, TorchNetwork
from verifier.bounds_compile import compile_network

STEPS = 10
"""Of an optimisation that is timed."""
ROUNDS = 5
"""Full rounds of branch and bound that are timed."""
COLUMNS = (
    "network",
    "neurons",
    "M multiply-adds a pass",
    "batch",
    "passes/s",
    "steps/s",
    "achieved G/s",
    "attainable G/s",
    "achieved / attainable",
    "sub-problems/s",
    "passes each",
)
NETWORKS: dict[str, tuple[Callable[[], Model], float]] = {
    "dense": (lambda: dense((784, *[256] * 6, 10)), 0.003),
    "conv": (lambda: convolutional((3, 32, 32), (16, 32), 100, 10), 0.003),
    "resnet": (lambda: residual((3, 32, 32), 16, 2, 10), 0.0003),
}
"""Networks and radii of their boxes; a pass costs the same whatever the radius."""


@dataclass(frozen=True)
class Timer:
    """Wall-clock seconds of work on a device, the medians of several runs.

    Works that are compared take turns, so that other load meets them alike.

    Attributes:
        runs: how many are timed, after one that is not.
        least: seconds that a run lasts at least; short work is repeated.
    """

    device: str
    runs: int = 5
    least: float = 0.02

    def seconds(self, *works: Callable[[], object]) -> list[float]:
        """Seconds of one call of each of ``works``."""
        for work in works:
            self._run(work, 1)
        times = [math.ceil(self.least / max(self._run(work, 1), 1e-6)) for work in works]
        found = [
            [self._run(work, count) / count for work, count in zip(works, times, strict=True)]
            for _ in range(self.runs)
        ]
        return [statistics.median(column) for column in zip(*found, strict=True)]

    def _run(self, work: Callable[[], object], times: int) -> float:
        self._wait()
        begun = time.perf_counter()
        for _ in range(times):
            work()
        self._wait()
        return time.perf_counter() - begun

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def multiply_adds(network: Network) -> int:
    """Multiply-adds of a pass of one row, backward and forward; maps without weights are free."""
    return 2 * sum(
        term.map.fan_in * term.map.target_size
        for node in network.nodes
        if isinstance(node, Linear)
        for term in node.terms
        if term.map.weight is not None
    )


def bare_maps(net: TorchNetwork, rows: int) -> Callable[[], None]:
    """Work that applies every map of a network once backward and once forward."""
    nodes = [(i, node) for i, node in enumerate(net.nodes) if isinstance(node, LinearNode)]
    maps = [(linear, source, target) for target, node in nodes for source, linear in node.terms]
    given = {
        size: torch.rand(rows, size, device=net.device, dtype=net.dtype) for size in set(net.sizes)
    }

    def work() -> None:
        for linear, _, target in reversed(maps):
            linear.adjoint(given[net.sizes[target]])
        for linear, source, _ in maps:
            linear.forward(given[net.sizes[source]])

    return work


def centre(size: int) -> list[float]:
    """Of the boxes."""
    return np.linspace(0.0, 1.0, size).tolist()


def sub_problems(
    model: Model, radius: float, device: str, batch: int, seconds: float
) -> float | None:
    """Sub-problems per second in batches of about ``batch``; ``None`` if none got full.

    About: the two children of a split are bounded together.
    """
    splits = max(1, batch // 2)
    fixed = Settings(
        method="neurons",
        neuron_batch=splits,
        neuron_limit=splits,
        neuron_seconds=math.inf,
        root_share=0.0,
    )
    hopeless = above(model, centre(model[0].input_size), radius, 100.0)
    marks: list[tuple[float, int]] = []
    begun: list[float] = []

    def on_round(far: Progress) -> bool:
        now = time.perf_counter()
        begun.append(now)  # the root is bounded
        if far.open >= splits:
            marks.append((now, far.open + far.closed))
        return len(marks) > ROUNDS or (now - begun[0] > seconds and len(marks) != 1)

    Search(hopeless, deadline=math.inf, device=device, settings=fixed, on_round=on_round).run()
    if len(marks) < 2:
        return None
    (first, before), (last, after) = marks[0], marks[-1]
    return 2 * (after - before) / (last - first)


def measure(name: str, device: str, batches: Sequence[int], seconds: float) -> None:
    """Print the lines of one network."""
    timer = Timer(device)
    make, radius = NETWORKS[name]
    model = make()
    network = model[0]
    net = compile_network(network, device, torch.float32)
    work = multiply_adds(network)
    box = root(net, centre(net.input_size), radius)
    for batch in batches:
        asked = problem(net, box, batch)
        start, effort = initial(asked), Effort(steps=STEPS)
        found = timer.seconds(
            partial(bounded, asked, start, gradient=True),
            partial(optimise, asked, start, effort),
            bare_maps(net, batch),
        )
        one_pass, step, bare = found[0] / batch, found[1] / (STEPS + 1) / batch, found[2] / batch
        rate = sub_problems(model, radius, device, batch, seconds)
        cells = [
            name,
            str(network.neurons),
            f"{work / 1e6:.2f}",
            str(batch),
            f"{1 / one_pass:.0f}",
            f"{1 / step:.0f}",
            f"{work / one_pass / 1e9:.2f}",
            f"{work / bare / 1e9:.2f}",
            f"{bare / one_pass:.2f}",
            f"{rate:.1f}" if rate else "-",
            f"{1 / one_pass / rate:.0f}" if rate else "-",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


def square(device: str, size: int = 2048) -> float:
    """Multiply-adds per second of a product of square matrices in float32."""
    matrix = torch.rand(size, size, device=device)
    (seconds,) = Timer(device, runs=3).seconds(lambda: matrix @ matrix)
    return size**3 / seconds


def require(device: str) -> None:
    """Exit with a message where there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch finds no CUDA device here; use --device cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--batches", default="1,16,128,512")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    require(options.device)
    print(f"{options.device}, square product {square(options.device) / 1e9:.1f} G/s\n")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for name in options.networks.split(","):
        measure(name, options.device, [int(b) for b in options.batches.split(",")], options.seconds)


if __name__ == "__main__":
    main()
