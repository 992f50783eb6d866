"""Exact stars of generated networks with many unstable neurons, and of acasxu.

    python -m benchmarks.reach [--unstable 25] [--networks 4] [--acasxu FOLDER --timeout S]

For each generated network of two inputs the stars are compared with all activation patterns,
enumerated in exact arithmetic: their number, place, size and image.  Of acasxu, times are printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from specs.network import Network
from specs.query import Query
from specs.question import load_question
from tests.proofs.helpers import Net, box_case, query
from tests.verifier.starry import faults, true_cells
from verifier.stars.planes import projected
from verifier.stars.reach import ranges, reach
from verifier.stars.sets import Solver
from verifier.stars.walk import OUTPUT, Budget

SIDE = 1.0
NETWORKS = ("1_1", "2_3", "4_3")
PROPERTIES = ("prop_3", "prop_4")
"""Of acasxu, three networks and two regions of five inputs."""


def generated(unstable: int, seed: int) -> Network:
    """Two inputs, three layers that together have so many neurons, two outputs."""
    rng = np.random.default_rng(seed)
    sizes = [unstable - 2 * (unstable // 3), unstable // 3, unstable // 3]
    net, tensor = Net(2), 0
    for size in sizes:
        weight = rng.normal(size=(size, net.size(tensor))) / np.sqrt(net.size(tensor))
        tensor = net.relu(net.dense(tensor, weight, rng.normal(size=size) / 4))
    return net.done(net.dense(tensor, rng.normal(size=(2, sizes[-1]))))


def compare(unstable: int, seed: int) -> bool:
    """Compare a network's stars with its patterns; prints a line."""
    network = generated(unstable, seed)
    case = box_case([-SIDE] * 2, [SIDE] * 2)
    start = time.perf_counter()
    cells = true_cells(network, case)
    exact_seconds = time.perf_counter() - start
    if cells is None:
        print(f"network {seed}: a cell is too thin to be told; left out")
        return True
    start = time.perf_counter()
    found = reach(query(network, [case]), Budget())
    seconds = time.perf_counter() - start
    wrong = faults(network, case, [part.star for part in found.parts])
    print(
        f"network {seed}: {unstable} neurons, {len(cells)} patterns ({exact_seconds:.2f} s), "
        f"{len(found.parts)} stars ({seconds:.2f} s), {len(wrong)} differences"
    )
    for fault in wrong[:5]:
        print(f"    {fault}")
    return not wrong


def timed(stated: Query, timeout: float) -> None:
    """Reach a question's outputs exactly; prints a line."""
    start = time.monotonic()
    found = reach(stated, Budget(), deadline=start + timeout)
    seconds = time.monotonic() - start
    ends = ranges(found.parts, stated.network.output_size)
    solver = Solver()
    for part in found.parts:
        projected(part.star, OUTPUT, (0, 1), solver)
    after = time.monotonic() - start - seconds
    print(
        f"{stated.title}: {found.stopped or 'exact'}, {len(found.parts)} stars in {seconds:.1f} s "
        f"({1e3 * seconds / len(found.parts):.2f} ms a star), {found.programs} linear programs; "
        f"ranges and projections {after:.1f} s; output 0 in [{ends[0, 0]:.4g}, {ends[0, 1]:.4g}]"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns 1 if stars differ from the patterns."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reach", description=__doc__)
    parser.add_argument("--unstable", type=int, default=25)
    parser.add_argument("--networks", type=int, default=4)
    parser.add_argument("--acasxu", type=Path)
    parser.add_argument("--timeout", type=float, default=60.0)
    args = parser.parse_args(arguments)
    if args.unstable < 3:
        parser.error("--unstable must be at least 3")
    right = [compare(args.unstable, seed) for seed in range(args.networks)]
    if args.acasxu is not None:
        for network in NETWORKS:
            for name in PROPERTIES:
                model = args.acasxu / "onnx" / f"ACASXU_run2a_{network}_batch_2000.onnx.gz"
                stated = load_question(model, args.acasxu / "vnnlib" / f"{name}.vnnlib.gz")
                timed(stated, args.timeout)
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
