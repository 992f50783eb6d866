"""What checking a leaf costs, over one plain CROWN pass of the same leaf.

    python -m benchmarks.check_cost [VNNCOMP]

For each network the region of a question is cut into boxes by halving inputs in turn.  The
kernel checks a proof whose leaves are these boxes (a sweep and a CLOSE each, outward
arithmetic), and torch bounds the same boxes from the same parents' bounds by the same
sweeps in float64 without any account of rounding.  Both run on one thread; each figure is
the median of several runs, in CPU seconds per leaf.  Without the folder of benchmarks only
generated networks are measured.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.generated import above, dense
from proofs.check import check_proof
from proofs.proof import Proof, ProofBuilder
from specs.query import Query
from specs.question import load_question
from verifier.bab_input import evaluate_boxes, halves
from verifier.bounds import Domains, TorchNetwork
from verifier.bounds_compile import compile_network
from verifier.bounds_spec import Table, build_table
from verifier.bounds_sweep import fresh, sweep

REAL = (
    ("acasxu", "ACASXU_run2a_1_1_batch_2000", "prop_3"),
    ("rl_benchmarks", "lunarlander", "lunarlander_case_safe_57"),
    ("reach_prob_density", "robot", "robot_6"),
)


def proof_of(query: Query, order: list[int]) -> Proof:
    """Boxes by halving the inputs ``order``, one after the other; bounds at leaves only."""
    builder = ProofBuilder(query)
    builder.begin_case(0)
    builder.begin_tree()

    def below(depth: int) -> None:
        if depth == len(order):
            builder.sweep()
            builder.close()
            return
        builder.split_input(order[depth])
        below(depth + 1)
        below(depth + 1)

    below(0)
    return builder.finish()


def plain(net: TorchNetwork, table: Table, query: Query, order: list[int]) -> None:
    """The same sweeps and rows in torch."""
    low, high = (torch.tensor(side)[None] for side in query.property.cases[0].box())
    root = sweep(net, fresh(net, low, high)).domains
    boxes: Domains = root
    for entry in order:
        boxes = halves(boxes, torch.full((len(boxes),), entry))
    evaluate_boxes(net, table, boxes, torch.zeros(len(boxes), dtype=torch.long), 0.0)


def median(work: Callable[[], object], runs: int) -> float:
    """Median CPU seconds of several runs, after one that is not counted."""
    seconds = []
    for _ in range(runs + 1):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds[1:])


def measure(name: str, query: Query, depth: int, runs: int) -> None:
    """Print one line of the table."""
    low, high = query.property.cases[0].box()
    vary = [int(i) for i in np.argsort(low - high) if high[i] > low[i]]
    order = [vary[k % len(vary)] for k in range(depth)]
    proof = proof_of(query, order)
    net = compile_network(query.network, "cpu")
    table = build_table(query.property.cases, net, query.property.output_size)
    kernel = median(lambda: check_proof(query, proof), runs) / 2**depth
    crown = median(lambda: plain(net, table, query, order), runs) / 2**depth
    print(f"| {name} | {query.network.neurons} | {2**depth} | {kernel * 1e3:.3f} | "
          f"{crown * 1e3:.3f} | {kernel / crown:.2f} |")  # fmt: skip


def main() -> None:
    """Measure generated networks, and real ones where the folder is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | neurons | leaves | kernel ms/leaf | plain ms/leaf | ratio |")
    print("|---|---|---|---|---|---|")
    for sizes in ((5, 50, 50, 50, 50, 50, 50, 5), (8, 128, 128, 4), (16, 256, 256, 256, 10)):
        query = above(dense(sizes), [0.0] * sizes[0], 0.1, 0.0)
        measure("x".join(map(str, sizes)), query, args.depth, args.runs)
    for folder, model, stated in REAL if args.folder else ():
        base = args.folder / folder
        query = load_question(base / "onnx" / f"{model}.onnx", base / "vnnlib" / f"{stated}.vnnlib")
        measure(f"{folder} {model} {stated}", query, args.depth, args.runs)


if __name__ == "__main__":
    main()
