"""What it costs the search to write its proof down while it goes on.

    python -m benchmarks.recording VNNCOMP [--runs 3]

Each query is searched twice in one run, with its hints kept and with them thrown away; the
search takes the same steps both times.  The ratio of CPU seconds is the price of evidence
before it is checked.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np

from specs.query import Query
from specs.question import load_question
from verifier import bab_leaf, bab_leaves
from verifier.bab import Search
from verifier.bab_tree import LeafHint

QUERIES = (
    ("acasxu", "run2a_2_9", "prop_1"),
    ("acasxu", "run2a_3_9", "prop_1"),
    ("reach_prob_density", "", "robot_6"),
    ("safenlp", "ruarobot", "hyperrectangle_2667"),
    ("mnist_fc", "256x6", "prop_7_0.03"),
    ("oval21", "base", "img4763"),
)


def nothing(
    problem: object, stored: object, stated: object, places: Sequence[int], *_: object
) -> list[LeafHint]:
    """Hints that hold nothing, one for each place."""
    return [LeafHint({}, np.zeros(0)) for _ in places]


def seconds(query: Query, limit: float, recorded: bool) -> tuple[float, int]:
    """CPU seconds of a search, and domains bounded."""
    begun = time.process_time()
    with ExitStack() as stack:
        for module in () if recorded else (bab_leaves, bab_leaf):
            stack.enter_context(mock.patch.object(module, "leaf_hints", nothing))
        search = Search(query, deadline=time.monotonic() + limit)
        search.run()
        if recorded:
            search.proof()
    return time.process_time() - begun, search.evaluated


def find(folder: Path, wanted: tuple[str, str, str]) -> Query | None:
    """The query of the list whose names contain the given parts."""
    benchmark, model, named = wanted
    with open(folder / "instances.csv", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["benchmark"] == benchmark and model in row["onnx"] and named in row["vnnlib"]:
                place = folder / benchmark
                return load_question(place / row["onnx"], place / row["vnnlib"])
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=float, default=60.0)
    options = parser.parse_args()
    print("| query | domains | CPU s without | with | ratio |\n|---|---|---|---|---|")
    ratios = []
    for wanted in QUERIES:
        query = find(options.folder, wanted)
        if query is None:
            continue
        seconds(query, options.limit, False)  # warm
        pairs = [
            (seconds(query, options.limit, False), seconds(query, options.limit, True))
            for _ in range(options.runs)
        ]
        without = median(first[0] for first, _ in pairs)
        kept = median(second[0] for _, second in pairs)
        ratios.append(kept / without)
        domains = pairs[0][1][1]
        print(
            f"| {' '.join(wanted)} | {domains} | {without:.2f} | {kept:.2f} | {ratios[-1]:.2f} |",
            flush=True,
        )
    if ratios:
        print(f"\nmedian ratio {median(ratios):.2f}, largest {max(ratios):.2f}")


if __name__ == "__main__":
    main()
