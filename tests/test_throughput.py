"""What a pass costs is counted rightly, and what is timed is what the search does."""

from __future__ import annotations

import math
import time

import pytest
import torch

from benchmarks import throughput
from benchmarks.difficulty import problem, root
from benchmarks.generated import convolutional, dense, residual
from verifier.alpha import bounded, initial
from verifier.bounds_compile import compile_network


def test_multiply_adds_are_those_counted_by_hand() -> None:
    layers = 3 * 5 + 5 * 4 + 4 * 2
    assert throughput.multiply_adds(dense((3, 5, 4, 2))[0]) == 2 * layers
    # 2 x 8 x 8 to 3 x 4 x 4 by 3 x 3 kernels, to 5, to 2
    convolution = (9 * 2) * (3 * 4 * 4)
    model = convolutional((2, 8, 8), (3,), 5, 2)
    assert throughput.multiply_adds(model[0]) == 2 * (convolution + 48 * 5 + 5 * 2)
    # the shortcut of a block costs nothing
    model = residual((1, 4, 4), 2, 1, 3)
    stem, inner, outer = (9 * 1) * 8, (9 * 2) * 8, (9 * 2) * 8
    assert throughput.multiply_adds(model[0]) == 2 * (stem + inner + outer + 8 * 3)


def test_generated_networks_have_the_neurons_they_are_listed_with() -> None:
    neurons = {name: make()[0].neurons for name, (make, _) in throughput.NETWORKS.items()}
    assert neurons == {
        "dense": 6 * 256,
        "conv": 16 * 16 * 16 + 32 * 8 * 8 + 100,
        "resnet": 5 * 16 * 16 * 16,
    }


def test_bare_maps_go_through_every_map_once_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    net = compile_network(dense((3, 5, 4, 2))[0], "cpu", torch.float32)
    calls: list[tuple[int, ...]] = []
    kind = type(net.nodes[1].terms[0][1])  # type: ignore[union-attr]

    for name in ("forward", "adjoint"):
        method = getattr(kind, name)
        monkeypatch.setattr(
            kind, name, lambda self, x, m=method: calls.append(tuple(x.shape)) or m(self, x)
        )
    throughput.bare_maps(net, 7)()
    assert calls == [(7, 2), (7, 4), (7, 5), (7, 3), (7, 5), (7, 4)]


def test_every_row_of_the_timed_problem_has_the_same_finite_bound() -> None:
    net = compile_network(dense((3, 5, 4, 2))[0], "cpu", torch.float32)
    asked = problem(net, root(net, [0.0] * 3, 0.1), 6)
    found = bounded(asked, initial(asked), gradient=True)
    assert found.values is not None
    assert found.values.shape == (6, 9)
    torch.testing.assert_close(found.bound, found.bound[:1].expand(6))
    assert bool(found.bound.isfinite().all())


def test_timing_is_per_call() -> None:
    timer = throughput.Timer("cpu", runs=3, least=0.02)
    slow, slower = timer.seconds(lambda: time.sleep(0.002), lambda: time.sleep(0.01))
    assert 0.002 <= slow < slower
    assert slower >= 0.01


def test_sub_problems_are_counted_in_full_rounds_only() -> None:
    model = dense((8, 24, 24, 24, 2))
    rate = throughput.sub_problems(model, 0.5, "cpu", 4, 5.0)
    assert rate is not None
    assert 0 < rate < math.inf
    assert throughput.sub_problems(model, 0.5, "cpu", 4096, 0.0) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_refused() -> None:
    with pytest.raises(SystemExit, match="no CUDA device"):
        throughput.require("cuda")
