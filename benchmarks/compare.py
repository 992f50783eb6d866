"""Our results beside a peer's: what each decides, and at what cost.

    python -m benchmarks.compare runs/strength ../shared/vnncomp/peers_2core.csv
        [--peer abcrown] [--plot cactus.svg]

The first argument is a folder that ``farkas bench`` wrote.  The peers' file has a row for
each tool and query, with CPU seconds of the whole process.  ``bench`` starts one process
for many queries, so the start-up that a single query would pay is measured here, once
with and once without torch, and added to ours; the peer's is taken to be its cheapest
query.  Only queries in both files count.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from verifier.bench_table import Row

DECIDED = ("unsat", "sat")
LONG = 10.0
"""CPU seconds from which on a peer's start-up hardly counts."""


@dataclass(frozen=True)
class Pair:
    """One query in both files.

    Attributes:
        ours, theirs: answers; ``expected``: what is known.
        our_cpu, their_cpu: CPU seconds with start-up; ``_run``: without.
    """

    benchmark: str
    key: str
    ours: str
    theirs: str
    expected: str
    our_cpu: float
    our_run: float
    their_cpu: float
    their_run: float

    @property
    def both(self) -> bool:
        return self.ours in DECIDED and self.theirs in DECIDED


@dataclass(frozen=True)
class StartUp:
    """CPU seconds until a process has imported what a query needs."""

    kernel: float
    torch: float


def start_up(runs: int = 3) -> StartUp:
    """Measured in fresh processes, medians."""

    def seconds(modules: str) -> float:
        code = f"import {modules}, time; print(time.process_time())"
        found = [
            float(
                subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
            )
            for _ in range(runs)
        ]
        return median(found)

    kernel = "specs.question, verifier.verify, proofs.check"
    return StartUp(seconds(kernel), seconds(f"{kernel}, torch, verifier.bab, onnxruntime"))


def read_ours(folder: Path) -> list[Row]:
    with open(folder / "results.csv", newline="") as stream:
        return [Row.parse(cells) for cells in csv.DictReader(stream)]


def joined(
    rows: Sequence[Row], peers: Sequence[dict[str, str]], peer: str, cost: StartUp
) -> list[Pair]:
    """The queries that are in both."""
    theirs = {
        f"{row['benchmark']} {row['onnx']} {row['vnnlib']}": row
        for row in peers
        if row["tool"] == peer
    }
    if not theirs:
        return []
    least = min(float(row["cpu"]) for row in theirs.values())
    return [
        Pair(
            row.benchmark,
            row.key,
            row.answer,
            other["verdict"],
            row.expected,
            row.cpu + (cost.torch if row.torch else cost.kernel),
            row.cpu,
            float(other["cpu"]),
            max(float(other["cpu"]) - least, 0.0),
        )
        for row in rows
        if (other := theirs.get(row.key)) is not None
    ]


def table(pairs: Sequence[Pair], peer: str) -> str:
    """By benchmark and in all, as Markdown."""
    names = sorted({pair.benchmark for pair in pairs})
    head = (
        f"| benchmark | queries | ours | {peer} | both | neither | only ours | only {peer} "
        "| CPU ours / theirs, median | without start-up, theirs over 10 s |"
    )
    lines = [head, "|---" * 10 + "|"]
    lines += [_line(name, [p for p in pairs if p.benchmark == name]) for name in names]
    return "\n".join([*lines, _line("all", pairs)])


def _line(name: str, pairs: Sequence[Pair]) -> str:
    def count(wanted: Callable[[Pair], bool]) -> str:
        return str(sum(map(wanted, pairs)))

    whole = [p.our_cpu / p.their_cpu for p in pairs if p.both]
    long = [p.our_run / p.their_run for p in pairs if p.both and p.their_cpu > LONG]
    cells = [
        name,
        str(len(pairs)),
        count(lambda p: p.ours in DECIDED),
        count(lambda p: p.theirs in DECIDED),
        count(lambda p: p.both),
        count(lambda p: p.ours not in DECIDED and p.theirs not in DECIDED),
        count(lambda p: p.ours in DECIDED and p.theirs not in DECIDED),
        count(lambda p: p.ours not in DECIDED and p.theirs in DECIDED),
        f"{median(whole):.2f}" if whole else "-",
        f"{median(long):.2f} ({len(long)})" if long else "-",
    ]
    return "| " + " | ".join(cells) + " |"


def listed(pairs: Sequence[Pair], peer: str) -> list[str]:
    """Queries that only the peer decides, and disagreements."""
    lines = [
        f"only {peer}: {p.key} ({p.theirs}, {p.their_cpu:.1f} s)"
        for p in pairs
        if p.theirs in DECIDED and p.ours not in DECIDED
    ]
    lines += [
        f"DISAGREE: {p.key}: ours {p.ours}, {peer} {p.theirs}, expected {p.expected}"
        for p in pairs
        if p.both and p.ours != p.theirs
    ]
    return lines


def plot(pairs: Sequence[Pair], peer: str, target: Path) -> None:
    """A cactus plot: how many queries are decided within so many CPU seconds each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for label, seconds in (
        ("Farkas, with start-up", [p.our_cpu for p in pairs if p.ours in DECIDED]),
        ("Farkas, without", [p.our_run for p in pairs if p.ours in DECIDED]),
        (f"{peer}, with start-up", [p.their_cpu for p in pairs if p.theirs in DECIDED]),
        (f"{peer}, without", [p.their_run for p in pairs if p.theirs in DECIDED]),
    ):
        axes.step(range(1, len(seconds) + 1), [max(s, 1e-2) for s in sorted(seconds)], label=label)
    axes.set(xlabel="queries decided", ylabel="CPU seconds each", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("peers", type=Path)
    parser.add_argument("--peer", default="abcrown")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    with open(options.peers, newline="") as stream:
        peers = list(csv.DictReader(stream))
    begun = time.monotonic()
    cost = start_up()
    pairs = joined(read_ours(options.results), peers, options.peer, cost)
    print(
        f"start-up in CPU seconds: {cost.kernel:.2f}, with torch {cost.torch:.2f} "
        f"(median of 3, measured in {time.monotonic() - begun:.0f} s)\n"
    )
    print(table(pairs, options.peer))
    print("\n".join(["", *listed(pairs, options.peer)]))
    if options.plot:
        plot(pairs, options.peer, options.plot)


if __name__ == "__main__":
    main()
