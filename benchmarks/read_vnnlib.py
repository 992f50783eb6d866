"""Seconds and peak memory of reading a large VNN-LIB 1.0 file, which this script makes.

    python -m benchmarks.read_vnnlib [MEGABYTES] [BOXES]

Each line of the file is one box with bounds on an output, as in nn4sys.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from pathlib import Path

from specs.source import read_source
from specs.vnnlib1 import read_vnnlib1

ATOM_BYTES = 28


def write_file(path: Path, megabytes: float, boxes: int) -> int:
    """Write a file of about this size; returns how many inputs it has."""
    inputs = max(1, round(megabytes * 1e6 / boxes / (2 * ATOM_BYTES)) - 1)
    rng = random.Random(1)
    with path.open("w") as file:
        for i in range(inputs):
            file.write(f"(declare-const X_{i} Real)\n")
        file.write("(declare-const Y_0 Real)\n(assert (or\n")
        for _ in range(boxes):
            centre = [rng.random() for _ in range(inputs)]
            bounds = " ".join(
                f"(>= X_{i} {c - 1e-3:.16f}) (<= X_{i} {c + 1e-3:.16f})"
                for i, c in enumerate(centre)
            )
            file.write(f"  (and {bounds} (<= Y_0 {rng.random():.16f}))\n")
        file.write("))\n")
    return inputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("megabytes", nargs="?", type=float, default=100.0)
    parser.add_argument("boxes", nargs="?", type=int, default=60_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.vnnlib"
        inputs = write_file(path, args.megabytes, args.boxes)
        before = time.perf_counter(), time.process_time()
        source, _ = read_source(path)
        read = read_vnnlib1(source, inputs, 1)
        wall, cpu = time.perf_counter() - before[0], time.process_time() - before[1]
        print(f"file            {path.stat().st_size / 1e6:8.1f} MB, {inputs} inputs")
        print(f"read            {wall:8.2f} s wall, {cpu:.2f} s CPU, {len(read.cases)} cases")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"peak memory     {peak:8.0f} MB")
        start = time.perf_counter()
        for case in read.cases:
            case.box()
        print(f"float64 boxes   {time.perf_counter() - start:8.2f} s for all cases")


if __name__ == "__main__":
    main()
