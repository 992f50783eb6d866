"""What checking costs: per neuron-pass, per leaf and per proof.

    python -m benchmarks.check_cost passes
    python -m benchmarks.check_cost leaves [VNNCOMP]
    python -m benchmarks.check_cost proofs VNNCOMP runs/first KEY...

``passes`` prints CPU seconds per million neuron-passes and per million lines (see
``benchmarks/passes.py``), by kind of layer, in both arithmetics.

``leaves``: for each network the region of a question is cut into boxes by halving inputs in
turn.  The kernel checks a proof whose leaves are these boxes (a sweep and a CLOSE each,
outward arithmetic), and torch bounds the same boxes from the same parents' bounds by the
same sweeps in float64 without any account of rounding.  Both run on one thread; each figure
is in CPU seconds per leaf.  Without the folder only generated networks are measured.

``proofs`` checks proofs that ``farkas bench VNNCOMP --out runs/first`` left, those whose keys
contain a text: seconds from start to verdict, the process's own start included, with one
process and with two, CPU seconds, and the largest memory of a process.

Figures are medians of several runs.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import datetime
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.generated import above, dense
from benchmarks.passes import kinds, seconds
from proofs.check import ARITHMETICS, check_proof
from proofs.proof import Proof, ProofBuilder
from specs.query import Query
from specs.question import load_question
from verifier.bab_boxes import evaluate_boxes, halves
from verifier.bench import read_list, read_results
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


def print_passes(runs: int) -> None:
    """A line for each kind of layer."""
    print("| layers | outward: passes | lines | exact: passes | lines | exact / outward |")
    print("|---|---|---|---|---|---|")
    with np.errstate(all="ignore"):
        for kind in kinds():
            outward, exact = (seconds(kind, made(), runs) for made in ARITHMETICS.values())
            cells = [f"{number:.2g}" for number in (*outward, *exact)]
            print(f"| {kind.name} | {' | '.join(cells)} | {exact[0] / outward[0]:.0f} |")


def print_leaves(folder: Path | None, depth: int, runs: int) -> None:
    """A line for each generated network, and each real one where the folder is given."""
    torch.set_num_threads(1)
    print("| network | neurons | leaves | kernel ms/leaf | plain ms/leaf | ratio |")
    print("|---|---|---|---|---|---|")
    for sizes in ((5, 50, 50, 50, 50, 50, 50, 5), (8, 128, 128, 4), (16, 256, 256, 256, 10)):
        query = above(dense(sizes), [0.0] * sizes[0], 0.1, 0.0)
        measure("x".join(map(str, sizes)), query, depth, runs)
    for name, model, stated in REAL if folder else ():
        base = (folder or Path()) / name
        query = load_question(base / "onnx" / f"{model}.onnx", base / "vnnlib" / f"{stated}.vnnlib")
        measure(f"{name} {model} {stated}", query, depth, runs)


CHECK = """
import resource, sys
from proofs.check import check_file
from specs.question import load_question
query = load_question(*sys.argv[1:3])
found = check_file(query, sys.argv[3], arithmetic=sys.argv[4], processes=int(sys.argv[5]))
every = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
peak = max(resource.getrusage(who).ru_maxrss for who in every) / 1024
print(found.verdict, found.leaves, query.network.neurons, found.cpu_seconds, peak, sep=";")
"""


def print_proofs(listed: Path, out: Path, texts: Sequence[str], runs: int, limit: float) -> None:
    """A line for each proof and arithmetic."""
    rows = {row.key: row for row in read_results(out / "results.csv")}
    print("| question | neurons | leaves | arithmetic | CPU s | s, one process | s, two | MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for instance in read_list(listed):
        row = rows.get(instance.key)
        if row is None or row.answer != "unsat" or not any(text in row.key for text in texts):
            continue
        asked = [instance.folder / instance.onnx, instance.folder / instance.vnnlib]
        for arithmetic in ARITHMETICS:
            cells = _checked([*asked, out / row.evidence], arithmetic, runs, limit)
            print(f"| {row.benchmark} {Path(row.evidence).stem[:-9]} | {cells} |", flush=True)


def _checked(paths: Sequence[Path], arithmetic: str, runs: int, limit: float) -> str:
    wall: dict[int, list[float]] = {1: [], 2: []}
    cpu, memory, stated = [], 0.0, ("", "")
    for _ in range(runs):
        for processes, times in wall.items():
            command = [sys.executable, "-c", CHECK, *map(str, paths), arithmetic, str(processes)]
            started = time.monotonic()
            try:
                done = subprocess.run(command, capture_output=True, timeout=limit, check=True)
            except subprocess.TimeoutExpired:
                return f"- | - | {arithmetic} | over {limit:.0f} s | - | - | -"
            times.append(time.monotonic() - started)
            verdict, leaves, neurons, used, peak = done.stdout.decode().split(";")
            if verdict != "valid unsat":
                return f"{neurons} | {leaves} | {arithmetic} | {verdict} | - | - | -"
            stated, memory = (neurons, leaves), max(memory, float(peak))
            if processes == 1:
                cpu.append(float(used))
    one, two = (statistics.median(times) for times in wall.values())
    median_cpu = statistics.median(cpu)
    return (f"{stated[0]} | {stated[1]} | {arithmetic} | {median_cpu:.2f} | {one:.1f} | "
            f"{two:.1f} | {memory:.0f}")  # fmt: skip


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="of which the median is taken")
    tables = parser.add_subparsers(dest="table", required=True)
    tables.add_parser("passes")
    leaves = tables.add_parser("leaves")
    leaves.add_argument("folder", nargs="?", type=Path, help="of benchmarks")
    leaves.add_argument("--depth", type=int, default=8, help="of the tree of boxes")
    proofs = tables.add_parser("proofs")
    proofs.add_argument("list", type=Path, help="as given to farkas bench")
    proofs.add_argument("out", type=Path, help="the folder of its results")
    proofs.add_argument("keys", nargs="+", help="parts of the keys of questions")
    proofs.add_argument("--limit", type=float, default=600.0, help="seconds a check")
    args = parser.parse_args()
    print(f"{datetime.date.today()}, {os.cpu_count()} cores\n")
    if args.table == "passes":
        print_passes(args.runs)
    elif args.table == "leaves":
        print_leaves(args.folder, args.depth, args.runs)
    else:
        print_proofs(args.list, args.out, args.keys, args.runs, args.limit)


if __name__ == "__main__":
    main()
