"""Single-flip maps at test points, of digits classifiers and of competition networks.

A section of ``benchmarks.faults``: every single flip of every stored bit is decided at every
point, in int8 and in float32.  A sample of the decisions is compared with onnxruntime on
rewritten models; it evaluates in float32, so what lies near a tie may differ there.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import digits
from benchmarks.tables import table
from specs.enclosure import FloatArray
from specs.faults.memory import Choice, Memory, Quantised, store
from specs.faults.models import BitFlips
from specs.faults.placed import read_placed
from specs.faults.sites import cells
from specs.question import load_question
from verifier.faults.maps import Maps, single_fault_maps
from verifier.faults.runtime import FaultyModel

POINTS = 100
COMPETITION_POINTS = 2
COMPARED = 1000
"""Faults of each map that are run in onnxruntime, at one point each."""

FORMATS: Mapping[str, Choice] = {"int8": Quantised(8), "float32": None}
COMPETITION = (("mnist_fc", "256x2"), ("acasxu", "_1_1_"), ("cifar10_resnet", "resnet_2b"))


@dataclass(frozen=True)
class Network:
    """A network and the points at which it is looked at."""

    name: str
    path: Path
    points: FloatArray


def networks(out: Path) -> Iterator[Network]:
    """The digits classifiers, and competition networks where ``FARKAS_VNNCOMP`` has them."""
    _, _, images, _ = digits.data()
    for kind, path in digits.networks(out / "networks").items():
        yield Network(kind, path, images[:POINTS])
    folder = os.environ.get("FARKAS_VNNCOMP")
    if not folder:
        return
    with Path(folder, "instances.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for benchmark, part in COMPETITION:
        own = [row for row in rows if row["benchmark"] == benchmark and part in row["onnx"]]
        points = []
        for row in own[:COMPETITION_POINTS]:
            files = (Path(folder, benchmark, row[key]) for key in ("onnx", "vnnlib"))
            lower, upper = load_question(*files).property.cases[0].box()
            points.append((lower + upper) / 2.0)
        path = Path(folder, benchmark, own[0]["onnx"])
        yield Network(f"{benchmark} {path.stem}", path, np.stack(points))


def compared(found: Maps, memory: Memory, points: FloatArray, seed: int = 0) -> tuple[int, int]:
    """How many decisions onnxruntime was asked about, and how many it contradicts."""
    rng = np.random.default_rng(seed)
    names = list(found.maps)
    sizes = np.array([len(found.maps[name].faults) for name in names], dtype=np.float64)
    asked = differing = 0
    intact = FaultyModel(memory, {})
    before = [int(np.argmax(intact.run(point))) for point in points]
    for _ in range(COMPARED):
        name = names[int(rng.choice(len(names), p=sizes / sizes.sum()))]
        own, place = found.maps[name], int(rng.integers(len(found.maps[name].faults)))
        if not own.number[place] or own.undecided[place]:
            continue
        critical = bool(own.critical[place] > 0)
        point = int(own.first[place]) if critical else int(rng.integers(len(points)))
        entry, value = int(own.faults.entry[place]), float(own.faults.value[place])
        outputs = FaultyModel(memory, {name: {entry: value}}).run(points[point])
        rest = np.delete(outputs, before[point])
        same = bool(outputs[before[point]] > rest.max())
        asked += 1
        differing += int(same == critical)
    return asked, differing


def by_parameter(found: Maps) -> list[dict[str, object]]:
    """What the faults of each parameter come to."""
    return [
        {
            "parameter": name,
            "faults": len(each.faults),
            "benign": int(each.benign.sum()),
            "critical": int((each.critical > 0).sum()),
            "not a number": int((~each.number).sum()),
        }
        for name, each in found.maps.items()
    ]


def section(out: Path) -> tuple[str, object]:
    """Tables of all maps, and of the convolutional network's int8 map by parameter."""
    rows: list[dict[str, object]] = []
    parts: list[dict[str, object]] = []
    for network in networks(out):
        for format, choice in FORMATS.items():
            memory = store(read_placed(network.path), choice)
            cpu = time.process_time()
            found = single_fault_maps(cells(memory, BitFlips(format=choice)), network.points)
            cpu = time.process_time() - cpu
            asked, differing = compared(found, memory, network.points)
            rows.append(
                {
                    "network": network.name,
                    "format": format,
                    "points": len(network.points),
                    **found.totals,
                    "CPU s": round(cpu, 2),
                    "decisions/s": round(found.totals["faults"] * len(network.points) / cpu),
                    "in rationals": found.tally.exact,
                    "onnxruntime asked": asked,
                    "differs": differing,
                }
            )
            if (network.name, format) == ("convolutional", "int8"):
                parts = by_parameter(found)
    text = f"{table(rows)}\nThe convolutional network in int8, by parameter:\n\n{table(parts)}"
    return text, {"maps": rows, "by parameter": parts}
