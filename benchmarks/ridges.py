"""Questions that stars close and halving does not: two ways to take the same maximum.

    python -m benchmarks.ridges [--timeout 60] [--only 3x4,5x8] [--methods star,auto,...]

A network of Relus takes the maximum of random affine functions twice, pair by pair in two orders,
and subtracts one from the other.  The difference is zero everywhere, but along every edge where
two functions are equal, relaxations of both sides lose something in however small a box.  The
property says that the difference stays below a margin.  Every method gets the same time;
``halving`` and ``neurons`` are branch and bound without stars.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from proofs.workers import cpu_seconds
from specs.network import Network
from specs.query import Query
from tests.proofs.helpers import Net, at_least, at_most, box_case, query
from verifier.options import Options
from verifier.verify import verify

SIZES = (
    (2, 6, 1e-3),
    (3, 4, 1e-3),
    (3, 5, 1e-3),
    (3, 6, 1e-3),
    (3, 8, 1e-3),
    (4, 4, 1e-3),
    (5, 4, 1e-3),
    (4, 6, 1e-2),
)
"""Inputs, affine functions, and the margin."""

METHODS = {
    "star": Options(method="star"),
    "auto": Options(),
    "smt": Options(method="smt"),
    "halving": Options(method="bab", settings={"search.method": "inputs", "search.stars": "never"}),
    "neurons": Options(method="bab", settings={"search.method": "neurons"}),
}


def tournament(net: Net, tensor: int) -> int:
    """The greatest entry of a tensor, by ``max(a, b) = b + relu(a - b)``.

    What waits for the next layer passes through Relus, ``b = relu(b) - relu(-b)``, as in a
    network that is a plain sequence of layers.
    """
    while (size := net.size(tensor)) > 1:
        pairs, kept = divmod(size, 2)
        passed = [2 * pair + 1 for pair in range(pairs)] + [size - 1] * kept
        unit = np.eye(size)
        differences = unit[0 : 2 * pairs : 2] - unit[1 : 2 * pairs : 2]
        before = np.concatenate([differences, unit[passed], -unit[passed]])
        hidden = net.relu(net.dense(tensor, before))
        count = len(passed)
        after = np.zeros((count, len(before)))
        after[np.arange(pairs), np.arange(pairs)] = 1.0
        after[np.arange(count), pairs + np.arange(count)] = 1.0
        after[np.arange(count), pairs + count + np.arange(count)] = -1.0
        tensor = net.dense(hidden, after)
    return tensor


def difference(inputs: int, functions: int, seed: int) -> Network:
    """The maximum of affine functions, minus the same in another order."""
    rng = np.random.default_rng(seed)
    net = Net(inputs)
    weight, offset = rng.normal(size=(functions, inputs)), 0.3 * rng.normal(size=functions)
    values = net.dense(0, weight, offset)
    order = np.eye(functions)[rng.permutation(functions)]
    first, second = tournament(net, values), tournament(net, net.dense(values, order))
    return net.done(net.subtract(first, second))


def ridge(inputs: int, functions: int, margin: float, seed: int = 0) -> Query:
    """Whether both maxima agree up to a margin where all inputs lie between -1 and 1."""
    unsafe = at_least(0, Fraction(margin)), at_most(0, Fraction(-margin))
    case = box_case([-1] * inputs, [1] * inputs, *unsafe)
    return query(difference(inputs, functions, seed), [case])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ridges")
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--only", default="", help="sizes such as 3x4 (inputs x functions)")
    parser.add_argument("--methods", default=",".join(METHODS))
    args = parser.parse_args(arguments)
    chosen = [name for name in args.only.split(",") if name]
    print("| inputs x functions, margin | method | answer | CPU s | wall s | leaves | check s |")
    print("|---|---|---|---|---|---|---|")
    for inputs, functions, margin in SIZES:
        if chosen and f"{inputs}x{functions}" not in chosen:
            continue
        stated = ridge(inputs, functions, margin)
        for name in args.methods.split(","):
            given = METHODS[name]
            options = Options(
                timeout=args.timeout,
                method=given.method,
                settings=given.settings,
                proof_effort="none",
            )
            cpu, wall = cpu_seconds(), time.perf_counter()
            found = verify(stated, options)
            seconds = cpu_seconds() - cpu, time.perf_counter() - wall
            leaves = getattr(found.evidence, "leaves", "")
            check = sum(stage.cpu for stage in found.stages if stage.name == "check")
            print(
                f"| {inputs}x{functions}, {margin:g} | {name} | {found.answer} | {seconds[0]:.1f} "
                f"| {seconds[1]:.1f} | {leaves} | {check:.1f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
