"""Leaves that a branching rule needs, measured against splitting at random.

    python -m benchmarks.branching [--networks 20] [--seconds 20]

Random Relu networks, each with a property that holds by a little; both rules close the
same properties with the same bounds, so only the choice of the neuron differs.
"""

from __future__ import annotations

import argparse
import time
from unittest import mock

import torch
from torch import Tensor

from tests.verifier.test_bounds import network, query
from verifier import bab_neuron
from verifier.bab import Search, Settings
from verifier.bounds import evaluate
from verifier.bounds_compile import compile_network


def leaves(seed: int, seconds: float, at_random: bool) -> int | None:
    """Leaves of the closed tree, ``None`` if time was up."""
    source = network(seed, (4, 12, 12, 2))
    net = compile_network(source)
    generator = torch.Generator().manual_seed(seed)
    points = 2.0 * torch.rand(50000, 4, generator=generator, dtype=torch.float64) - 1.0
    outputs = evaluate(net, points)
    asked = query(source, 0.1 - float((outputs[:, 0] - outputs[:, 1]).min()))
    settings = Settings(method="neurons", neuron_lookahead=1 if at_random else 6)
    search = Search(asked, deadline=time.monotonic() + seconds, settings=settings)

    def random_scores(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        _, height = scores(*arguments)
        drawn = torch.rand(height.shape, generator=generator).to(height)
        return drawn * (height > 0), height

    scores = bab_neuron.neuron_scores
    chosen = random_scores if at_random else scores
    with mock.patch.object(bab_neuron, "neuron_scores", chosen):
        status = search.run()
    return max(1, search.proof().leaves) if status == "closed" else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    print("network  scored  random")
    for seed in range(options.networks):
        scored = leaves(seed, options.seconds, False)
        drawn = leaves(seed, options.seconds, True)
        print(f"{seed:7d}  {scored or 'open':>6}  {drawn or 'open':>6}", flush=True)


if __name__ == "__main__":
    main()
