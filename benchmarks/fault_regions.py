"""Single-flip maps over boxes around test images, each with one proof, and attempts to refute them.

A section of ``benchmarks.faults``.  Around correctly classified test images the *radius* is the
largest, of two digits, at which the kernel proves the fault-free network robust without hints.
At that radius and at half of it every single flip of every int8 word is decided for all inputs of
the box: benign (covered by the box's proof), critical (a witness), or left undecided.

Whatever a proof covers is then attacked: all cells at random points and corners of the box, decided
exactly; and the cells that could move an output furthest at points that a signed gradient chooses
for the faulty network.  Rows go to ``regions.csv``; a run that is interrupted goes on from there.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import digits
from benchmarks.tables import table
from proofs.check import check_proof
from proofs.format import file_content
from specs.enclosure import FloatArray
from specs.faults.exact import WordFault, faulted_network
from specs.faults.memory import Quantised
from specs.faults.models import BitFlips
from specs.faults.placed import read_placed
from specs.faults.struck import WordFaults
from specs.network import Network
from specs.property import Property
from verifier.attack_forward import NumpyEvaluator
from verifier.faults.candidates import BENIGN
from verifier.faults.judge import exact_outputs, exact_verdict
from verifier.faults.maps import single_fault_maps
from verifier.faults.radius import certified_radius, robust_region
from verifier.faults.region import RegionMap, Settings, map_region

IMAGES = 20
SHARES = (Fraction(1), Fraction(1, 2))
SECONDS = 60.0
"""For each map, its proof's check not counted."""

RANDOM = 8
"""Random points and corners of each box at which all benign cells are injected."""

CHOSEN = 128
"""Benign cells of each box that a gradient looks for a point against."""

STEPS = 12


@dataclass(frozen=True)
class Row:
    """A box.

    Attributes:
        benign, critical, number, undecided: cells; ``number``: those that leave no number.
        injected, chosen: injections at random points, and at points that a gradient chose.
        contradicted: injections that change the prediction though the cell is said to be benign.
    """

    network: str
    image: int
    radius: float
    share: float
    cells: int
    benign: int
    critical: int
    number: int
    undecided: int
    leaves: int
    proof_bytes: int
    seconds: float
    check: float
    injected: int
    chosen: int
    contradicted: int
    reason: str = ""


def injected(
    faults: WordFaults, found: RegionMap, stated: Property, label: int, seed: int
) -> tuple[int, int]:
    """Injections at random points, how many contradict, of all cells a proof covers."""
    case, rng = stated.cases[0], np.random.default_rng(seed)
    low, high = (np.array([float(end) for end in ends]) for ends in (case.lower, case.upper))
    side = rng.random((RANDOM, low.size))
    points = np.where(np.arange(RANDOM)[:, None] % 2, side.round(), side) * (high - low) + low
    maps = single_fault_maps(faults.cells, points)
    count = wrong = 0
    for name, own in found.cells.items():
        critical = maps.maps[name]
        hit = set(
            zip(
                critical.faults.entry[critical.critical > 0].tolist(),
                critical.faults.bit[critical.critical > 0].tolist(),
                strict=True,
            )
        )
        benign = own.state == BENIGN
        pairs = zip(own.faults.entry[benign].tolist(), own.faults.bit[benign].tolist(), strict=True)
        count += int(benign.sum()) * RANDOM
        wrong += sum(pair in hit for pair in pairs)
    if np.any(maps.labels != label):
        raise RuntimeError("the fault-free network is not robust where it is proved to be")
    return count, wrong


def chosen(faults: WordFaults, found: RegionMap, stated: Property, label: int) -> tuple[int, int]:
    """Injections at points that a signed gradient chooses, and how many contradict."""
    reach = [
        (float(own.reach[k]), name, int(k))
        for name, own in found.cells.items()
        for k in np.flatnonzero(own.state == BENIGN)
    ]
    case = stated.cases[0]
    low, high = (np.array([float(end) for end in ends]) for ends in (case.lower, case.upper))
    count = wrong = 0
    for _, name, k in sorted(reach, reverse=True)[:CHOSEN]:
        own = found.cells[name].faults
        fault = WordFault(name, int(own.entry[k]), (int(own.bit[k]),))
        network = faulted_network(faults, [fault])
        for point in worst_points(network, low, high, label):
            count += 1
            wrong += exact_verdict(exact_outputs(network, point), label) is not True
    return count, wrong


def worst_points(
    network: Network, low: FloatArray, high: FloatArray, label: int
) -> Iterator[FloatArray]:
    """For the nearest other output, where a signed gradient makes the margin least."""
    evaluator = NumpyEvaluator(network)
    others = [k for k in range(network.output_size) if k != label]
    x = np.repeat(((low + high) / 2.0)[None], len(others), axis=0)
    rows = np.arange(len(others))
    best, least = x.copy(), np.full(len(others), np.inf)
    for step in range(STEPS + 1):
        y, back = evaluator.evaluate(x)
        margin = y[:, label] - y[rows, others]
        better = margin < least
        best[better], least[better] = x[better], margin[better]
        direction = np.zeros_like(y)
        direction[:, label], direction[rows, others] = 1.0, -1.0
        length = (high - low) * (0.5 if step < 3 else 0.5 / (step - 1))
        x = np.clip(x - np.sign(back(direction)) * length, low, high)
    yield best[int(np.argmin(least))]


Box = tuple[str, WordFaults, int, FloatArray, int]
"""Network, faults, number and pixels of an image, label."""


def boxes(out: Path) -> Iterator[Box]:
    """The images that the networks classify rightly, the first of them."""
    _, _, images, labels = digits.data()
    for kind, path in digits.networks(out / "networks").items():
        format = Quantised(8)
        faults = WordFaults(read_placed(path), BitFlips(1, format))
        scores, _ = NumpyEvaluator(faults.intact).evaluate(images)
        right = np.flatnonzero(np.argmax(scores, axis=1) == labels)[:IMAGES]
        for number in right.tolist():
            yield kind, faults, number, images[number], int(labels[number])


def measured(
    kind: str, faults: WordFaults, number: int, image: FloatArray, label: int
) -> Iterator[Row]:
    """The rows of an image."""
    centre, clip = [Fraction(float(pixel)) for pixel in image], (Fraction(0), Fraction(1))
    largest = certified_radius(faults, centre, label, clip)
    for share in SHARES:
        radius = largest * share
        stated = robust_region(faults, centre, label, radius, clip)
        cpu = time.process_time()
        found = map_region(faults, stated, Settings(seconds=SECONDS))
        cpu = time.process_time() - cpu
        totals = found.totals
        size = check = leaves = 0
        if found.proof is not None and found.query is not None:
            again = check_proof(found.query, found.proof)
            if not again.valid:
                raise RuntimeError("a proof is not accepted again")
            size, check, leaves = len(file_content(found.proof)), again.cpu_seconds, again.leaves
        count, wrong = injected(faults, found, stated, label, number)
        picked, missed = chosen(faults, found, stated, label)
        yield Row(
            kind,
            number,
            float(radius),
            float(share),
            totals["cells"],
            totals["benign"],
            totals["critical"],
            totals["not a number"],
            totals["undecided"],
            leaves,
            size,
            round(cpu, 2),
            round(check, 2),
            count,
            picked,
            wrong + missed,
            found.reason,
        )


def section(out: Path) -> tuple[str, object]:
    """Tables over all boxes."""
    out.mkdir(parents=True, exist_ok=True)
    path, names = out / "regions.csv", [field.name for field in fields(Row)]
    rows: list[Row] = []
    if path.is_file():
        kinds = {f.name: {"int": int, "float": float}.get(str(f.type), str) for f in fields(Row)}
        with path.open(newline="") as stream:
            rows = [Row(**{n: kinds[n](c[n]) for n in names}) for c in csv.DictReader(stream)]
    done = {(row.network, row.image) for row in rows}
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        if not rows:
            writer.writeheader()
        for kind, faults, number, image, label in boxes(out):
            if (kind, number) in done:
                continue
            made = list(measured(kind, faults, number, image, label))
            for row in made:
                writer.writerow(asdict(row))
                print(asdict(row), file=sys.stderr)
            stream.flush()
            rows += made
    return text(rows), [asdict(row) for row in rows]


def text(rows: list[Row]) -> str:
    """What the boxes come to, by network and share of the radius."""
    lines = []
    for kind in dict.fromkeys(row.network for row in rows):
        for share in sorted({row.share for row in rows}, reverse=True):
            own = [row for row in rows if (row.network, row.share) == (kind, share)]
            cells, undecided = (sum(getattr(r, n) for r in own) for n in ("cells", "undecided"))
            lines.append(
                {
                    "network": kind,
                    "radius": "certified" if share == 1 else f"{share} of it",
                    "boxes": len(own),
                    "median radius": f"{median(r.radius for r in own):.3f}",
                    "cells": cells,
                    "benign": sum(r.benign for r in own),
                    "critical": sum(r.critical for r in own),
                    "no number": sum(r.number for r in own),
                    "decided": f"{100 * (1 - undecided / cells):.2f} %",
                    "least of a box": f"{100 * min(1 - r.undecided / r.cells for r in own):.2f} %",
                    "leaves": f"{median(r.leaves for r in own):.0f}",
                    "bytes": f"{median(r.proof_bytes for r in own):.0f}",
                    "CPU s": f"{median(r.seconds for r in own):.1f}",
                    "check s": f"{median(r.check for r in own):.1f}",
                    "injected": sum(r.injected for r in own),
                    "chosen": sum(r.chosen for r in own),
                    "contradicted": sum(r.contradicted for r in own),
                }
            )
    return f"Medians of leaves, bytes and seconds are over boxes.\n\n{table(lines)}"
