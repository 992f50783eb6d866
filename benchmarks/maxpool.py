"""MaxPool as the reader's tree of Relus, beside planes of its own (``benchmarks.maxima``).

    python -m benchmarks.maxpool [VNNCOMP] [--seeds 5] [--runs 3]

Rules: *tree*, ``max(a, b) = b + relu(a - b)`` pair by pair, by the search's sweep with default
slopes; *constant*, *plane* and *compared*, a node with planes of its own and intervals or rows
for its entries; each with slopes or weights of planes *optimised* by as many gradient steps for
every row, the inner bounds kept.  Three tables:

- windows alone, over boxes of their entries: the mean distance between the planes above and
  below a maximum (as these are linear, that at the centre), as a share of the distance of the
  constants ``max u_i`` and ``max l_i``;
- generated networks, whose entries share inputs: by how much the bound of the output lies
  below the least value that descent finds, in units of what that lies below the value at the
  centre; and CPU milliseconds;
- with the folder of benchmarks, verivital's ``Convnet_maxpool`` over the boxes of its queries:
  margins of the unsafe constraints (all positive: proved without a split), what stays open
  (Relus of the tree, or windows in which several entries may be the largest), rows substituted
  back for inner bounds, and CPU seconds.

Measured: on ``Convnet_maxpool`` (4x4) every plane of its own beats the tree, even optimised: by
default mean margins are 17.0, 14.3 and 15.4 instead of 12.8, 10.6 and 11.2, least ones about
twice the tree's, in 0.01 s instead of 9 s for the tree's 25000 rows.  On the generated networks
(2x2, 3x3) differences matter: the tree is tighter than *constant* in 9 of 10 settings and than
*plane* in 6, but *compared* is as tight or tighter in 9 by default, in all when optimised, at a
part of the cost.  So a rule of its own is worth having, with differences where a window is open.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.difficulty import least_value
from benchmarks.generated import Model, pooled_convolutional, pooled_dense, windows
from benchmarks.maxima import Planes
from benchmarks.pool_rules import NAMES, RULES, Found, measure
from specs.question import load_question
from verifier.bounds import Rows, both_sides, evaluate, substitute
from verifier.bounds_compile import compile_network
from verifier.bounds_spec import build_table
from verifier.bounds_sweep import fresh, sweep

REGIMES: dict[str, Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]] = {
    "alike": lambda random, k: (random.uniform(-0.1, 0.1, k), np.ones(k)),
    "scattered": lambda random, k: (random.uniform(-1, 1, k), random.uniform(0.05, 1, k)),
    "one ahead": lambda random, k: (random.uniform(0, 1, k) + 1.5 * np.eye(k)[0], np.ones(k)),
    "one wide": lambda random, k: (random.uniform(-0.3, 0.3, k), 0.1 + 0.9 * np.eye(k)[0]),
}
"""Centres and radii ``(k,)`` of a window's entries."""

COUNT = 50
"""Windows of a regime."""

NETWORKS: dict[str, tuple[Callable[[int], Model], tuple[float, ...]]] = {
    "dense, 4 inputs, 3x3": (partial(pooled_dense, 4, 16, 3), (0.03, 0.3)),
    "dense, 64 inputs, 3x3": (partial(pooled_dense, 64, 16, 3), (0.01, 0.1)),
    "1 convolution, 2x2": (partial(pooled_convolutional, (2, 12, 12), (8,), 2), (0.03, 0.3)),
    "2 convolutions, 2x2": (partial(pooled_convolutional, (2, 12, 12), (8, 16), 2), (0.01, 0.1)),
    "2 convolutions, 3x3": (partial(pooled_convolutional, (2, 18, 18), (8, 16), 3), (0.01, 0.1)),
}
"""Generated networks by seed, with the windows of their pools, and radii of boxes."""


def gaps(kernel: int, regime: str) -> dict[str, float]:
    """By rule the mean distance of the planes, in units of the constants' distance."""
    random = np.random.default_rng(0)
    drawn = [REGIMES[regime](random, kernel**2) for _ in range(COUNT)]
    centre, radius = (torch.tensor(np.array(part)) for part in zip(*drawn, strict=True))
    low, high = centre - radius, centre + radius
    whole = high.amax(-1) - low.amax(-1)
    found = {}
    for rule in ("constant", "plane"):
        planes = Planes.of(low, high, rule)
        above = planes.above * ((planes.slope * centre[:, None]).sum(-1) + planes.intercept)
        found[rule] = above.sum(-1) - (planes.below * centre).sum(-1)
    net = compile_network(windows(COUNT, kernel)[0])
    lines = sweep(net, fresh(net, low.reshape(1, -1), high.reshape(1, -1))).lines
    eye = torch.eye(COUNT, dtype=net.dtype)
    rows = both_sides(Rows({net.outputs[0]: eye}, eye.new_zeros(COUNT)))
    matrix, constant = substitute(net, rows, lines.__getitem__)
    found["tree"] = -(matrix @ centre.flatten() + constant).reshape(2, -1).sum(0)
    return {rule: float((gap / whole).mean()) for rule, gap in found.items()}


def looseness(name: str, radius: float, seed: int, runs: int) -> dict[str, tuple[float, float]]:
    """By rule how loose the bound of the output is, and CPU milliseconds."""
    model = NETWORKS[name][0](seed)
    net = compile_network(model[0])
    middle = np.random.default_rng(seed).normal(size=net.input_size).tolist()
    at = torch.tensor(middle, dtype=net.dtype)[None]
    least, centre = least_value(net, radius, middle=middle), float(evaluate(net, at))
    found = measure(model, (at - radius, at + radius), torch.ones_like(at[:, :1]), runs)
    return {
        rule: ((least - float(one.bounds)) / (centre - least), 1e3 * one.seconds)
        for rule, one in found.items()
    }


def margins(folder: Path, stated: Path, runs: int) -> dict[str, Found]:
    """The margins of a query's unsafe constraints by rule."""
    query = load_question(folder / "Convnet_maxpool.onnx", stated)
    (case,) = query.property.cases
    table = build_table([case], compile_network(query.network), query.property.output_size)
    low, high = (torch.tensor(side)[None] for side in case.box())
    found = measure((query.network, query.models[0]), (low, high), table.outputs, runs)
    return {rule: replace(f, bounds=f.bounds + table.constant) for rule, f in found.items()}


def header(*cells: str) -> None:
    """Print the first two lines of a table."""
    line(*cells)
    line(*("---" for _ in cells))


def line(*cells: object) -> None:
    """Print a line of a table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    header("window", "entries", *RULES[:3])
    for kernel in (2, 3, 4):
        for regime in REGIMES:
            found = gaps(kernel, regime)
            line(f"{kernel}x{kernel}", regime, *(f"{found[rule]:.2f}" for rule in RULES[:3]))
    print()
    header("network", "radius", *NAMES)
    for name, (_, radii) in NETWORKS.items():
        for radius in radii:
            each = [looseness(name, radius, seed, args.runs) for seed in range(args.seeds)]
            cells = []
            for rule in NAMES:
                loose, spent = zip(*(found[rule] for found in each), strict=True)
                cells.append(f"{statistics.median(loose):.2f}, {statistics.median(spent):.0f}")
            line(name, radius, *cells)
    if args.folder is None:
        return
    print()
    header("query", "rule", "least margin", "mean margin", "open", "rows", "CPU s")
    folder = args.folder / "verivital"
    for stated in sorted((folder / "specs" / "maxpool_specs").iterdir()):
        for rule, one in margins(folder, stated, args.runs).items():
            ends = one.bounds.min(), one.bounds.mean()
            line(
                stated.stem,
                rule,
                *(f"{end:.2f}" for end in ends),
                one.open_,
                one.rows,
                f"{one.seconds:.3g}",
            )


if __name__ == "__main__":
    main()
