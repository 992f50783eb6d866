"""Our bounds without hints beside those of CROWN in auto_LiRPA, on the same model files.

*Layer by layer* the two must agree.  Told our bounds of the pre-activations before it, the
oracle finds those of the next, and in the end of the outputs, to ``TOLERANCE``: where the
neuron is unstable ours are the better of its substitution and its intervals, elsewhere ours
may stop at the intervals, since a stable neuron's line is what it is.

*As a whole*, the oracle left alone, ours are not looser, or ``CASES`` says by which share of
the oracle's width and why; a share that has grown fails, and so does one that has halved.

Why ours can be looser:

- *Flips*.  Ours intersects what substitution finds with intervals, the oracle does not.  A
  Relu's lower slope is 0 or 1 after its bounds, so a tighter bound may flip it, and what is
  best for the neuron alone can be worse for a row.
- *Rewrites*.  LeakyRelu, Abs and MaxPool are read as Relus and the oracle has lines of their
  own: of LeakyRelu with another threshold, of Abs below with slope 0, of MaxPool a constant
  above.  None is better throughout; the same models show ours tighter elsewhere.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from specs.network import Network, Univariate
from specs.onnx_reader import read_model, read_model_bytes
from specs.question import load_question
from tests.oracle import models
from tests.oracle.crown import Array, Ends, Oracle, require
from tests.oracle.ours import Compute, by_kernel, by_search
from verifier.bounds import compile_network, evaluate
from verifier.relaxations import relu

TOLERANCE = 1e-6
"""Relative to bounds beyond 1, absolute below."""

RADII = (0.02, 0.1, 0.5)
SEEDS = range(4)
FLIPS, REWRITES = "flips", "rewrites"

COMPUTE = {"search": by_search, "outward": by_kernel("outward"), "exact": by_kernel("exact")}
FAST = ("search", "outward")


@dataclass(frozen=True)
class Case:
    """A model, and the most by which ours are looser by radius, as a share of a width."""

    name: str
    model: models.Model
    looser: Mapping[float, float] = field(default_factory=dict)
    why: str = ""


RELU = (
    Case("dense", models.feedforward(4, 8, 8, 3)),
    Case("deep", models.feedforward(3, 12, 12, 12, 12, 2)),
    Case("wide", models.feedforward(8, 40, 40, 3)),
    Case("convolutional", models.convolutional, {0.5: 0.022}, FLIPS),
    Case("residual", models.residual, {0.1: 0.039, 0.5: 0.024}, FLIPS),
    Case("average pool", models.pooled("AveragePool")),
)

OTHERS = (
    Case(
        "leaky",
        models.feedforward(4, 8, 8, 3, activation="LeakyRelu", alpha=0.1),
        {0.02: 0.12, 0.1: 0.046, 0.5: 0.0063},
        REWRITES,
    ),
    Case(
        "absolute",
        models.feedforward(4, 8, 8, 3, activation="Abs"),
        {0.02: 0.029, 0.1: 0.089, 0.5: 0.18},
        REWRITES,
    ),
    Case("max pool", models.pooled("MaxPool"), {0.02: 0.0006, 0.5: 0.25}, REWRITES),
)


@dataclass(frozen=True)
class Query:
    """A published model with the box of a published property."""

    benchmark: str
    model: str
    share: float = 0.0
    why: str = ""


QUERIES = (
    Query("acasxu", "onnx/ACASXU_run2a_2_4_batch_2000.onnx"),
    Query("mnist_fc", "onnx/mnist-net_256x4.onnx"),
    Query("cifar10_resnet", "onnx/resnet_2b.onnx"),
    Query("oval21", "onnx/cifar_base_kw.onnx"),
    Query("cora", "./onnx/mnist-trades.onnx"),
    Query("eran", "nets/mnist_relu_9_200.onnx"),
    Query("rl_benchmarks", "onnx/dubinsrejoin.onnx"),
    Query("safenlp", "onnx/medical/perturbations_0.onnx"),
    Query("reach_prob_density", "onnx/vdp.onnx"),
    Query("tllverifybench", "onnx/tllBench_n=2_N=M=8_m=1_instance_0_3.onnx"),
)


@pytest.fixture(autouse=True)
def _oracle() -> None:
    require()


def box(network: Network, seed: int, radius: float) -> Ends:
    centre = np.random.default_rng(seed).normal(size=network.input_size)
    return centre - radius, centre + radius


def rows_of(network: Network) -> Array:
    """The outputs, and differences and mixtures of them."""
    drawn = np.random.default_rng(0).normal(size=(3, network.output_size))
    return np.concatenate([np.eye(network.output_size), drawn])


def slack(ends: Ends) -> Ends:
    lower, upper = (TOLERANCE * np.maximum(1.0, np.abs(end)) for end in ends)
    return lower, upper


def looseness(ours: Ends, theirs: Ends) -> Array:
    """By how much a lower or upper bound of ours is worse, the greater of the two, ``(n,)``."""
    return np.maximum(theirs[0] - ours[0], ours[1] - theirs[1])


def check_agreement(ours: Ends, theirs: Ends, what: str) -> None:
    for mine, other, allowed in zip(ours, theirs, slack(theirs), strict=True):
        assert mine.shape == other.shape, what
        far = np.abs(mine - other) / allowed
        assert (far <= 1).all(), f"{what}: {np.nanmax(far) * TOLERANCE:.3g} apart"


def check_layers(network: Network, oracle: Oracle, low: Array, high: Array, how: Compute) -> None:
    """Ours, layer by layer, are what the oracle finds if told those of the layers before."""
    rows = rows_of(network)
    found = how(network, low, high, rows)
    sources = [n.source for n in network.nodes if isinstance(n, Univariate)]
    names = oracle.preactivations("Relu")
    known: dict[str, Ends] = {}
    for tensor, name in zip(sources, names, strict=True):
        layer, (lower, upper) = oracle.layer(name, low, high, known), found.inner[tensor]
        best = (
            np.maximum(layer.crown[0], layer.interval[0]),
            np.minimum(layer.crown[1], layer.interval[1]),
        )
        unstable = (layer.interval[0] < 0) & (layer.interval[1] > 0)
        ours = lower[unstable], upper[unstable]
        what = f"pre-activation '{network.nodes[tensor].name}'"
        check_agreement(ours, (best[0][unstable], best[1][unstable]), what)
        allowed = slack(layer.interval)
        for tight, loose in ((best, (lower, upper)), ((lower, upper), layer.interval)):
            assert (tight[0] - loose[0] >= -allowed[0]).all(), what
            assert (loose[1] - tight[1] >= -allowed[1]).all(), what
        known[name] = lower, upper
    check_agreement(found.rows, oracle.bounds(low, high, rows, known), "outputs")


def check_meaning(network: Network, oracle: Oracle, low: Array, high: Array) -> None:
    """Both readers compute the same, and no sample leaves the oracle's bounds."""
    random = np.random.default_rng(0)
    share = random.uniform(size=(30, len(low)))
    share[:15] = share[:15] > 0.5
    points = low + share * (high - low)
    theirs = oracle.outputs(points)
    ours = evaluate(compile_network(network), torch.tensor(points)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    check_contains(oracle, low, high, points)


def check_contains(oracle: Oracle, low: Array, high: Array, points: Array) -> None:
    outputs = oracle.outputs(points)
    lower, upper = oracle.bounds(low, high, np.eye(outputs.shape[1]))
    room = slack((lower, upper))
    inside = (outputs >= lower - room[0]) & (outputs <= upper + room[1])
    assert inside.all(), "the oracle's bounds are wrong"


def check_share(found: float, absolute: float, stated: float, why: str) -> None:
    """Whether the looseness found is the one that is stated."""
    if not stated:
        assert absolute <= 1, f"ours are looser by {found:.3g} of the oracle's width: say why"
    else:
        assert why
        assert found <= stated, f"ours are looser by {found:.3g}, more than {stated} ({why})"
        assert found > stated / 2, f"ours are looser by {found:.3g} only: state it anew"


def compared(network: Network, oracle: Oracle, ends: Ends, how: Compute) -> tuple[float, float]:
    """How much looser ours are: as a share of a width, and in units of what is tolerated."""
    rows = rows_of(network)
    ours, theirs = how(network, *ends, rows).rows, oracle.bounds(*ends, rows)
    worse = looseness(ours, theirs)
    width = np.maximum(theirs[1] - theirs[0], TOLERANCE)
    return float((worse / width).max()), float((worse / np.maximum(*slack(theirs))).max())


@pytest.mark.parametrize("how", COMPUTE)
@pytest.mark.parametrize("case", RELU, ids=lambda case: case.name)
def test_layers_of_relu_networks_agree(case: Case, how: str) -> None:
    for seed in (0,) if how == "exact" else SEEDS:
        content = case.model(seed)
        network, oracle = read_model_bytes(content, None, case.name), Oracle(content)
        for radius in RADII[seed % 3 :: 3] if how == "exact" else RADII:
            check_layers(network, oracle, *box(network, seed, radius), COMPUTE[how])


@pytest.mark.parametrize("how", FAST)
@pytest.mark.parametrize("case", RELU + OTHERS, ids=lambda case: case.name)
def test_outputs_are_not_looser_than_stated(case: Case, how: str) -> None:
    pairs = []
    for seed in SEEDS:
        content = case.model(seed)
        network = read_model_bytes(content, None, case.name)
        pairs.append((seed, network, Oracle(content)))
    for radius in RADII:
        found = []
        for seed, network, oracle in pairs:
            ends = box(network, seed, radius)
            check_meaning(network, oracle, *ends)
            found.append(compared(network, oracle, ends, COMPUTE[how]))
        shares, absolute = zip(*found, strict=True)
        check_share(max(shares), max(absolute), case.looser.get(radius, 0.0), case.why)


@pytest.mark.parametrize("how", FAST)
@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.benchmark)
def test_published_networks_agree(query: Query, how: str, vnncomp: Path) -> None:
    network, oracle, ends = published(vnncomp, query)
    check_meaning(network, oracle, *ends)
    check_layers(network, oracle, *ends, COMPUTE[how])
    check_share(*compared(network, oracle, ends, COMPUTE[how]), query.share, query.why)


def published(vnncomp: Path, query: Query) -> tuple[Network, Oracle, Ends]:
    with open(vnncomp / "instances.csv", newline="") as stream:
        listed = [r for r in csv.DictReader(stream) if r["benchmark"] == query.benchmark]
    listed = [row for row in listed if row["onnx"] == query.model]
    folder = vnncomp / query.benchmark
    if not listed or not folder.is_dir():
        pytest.skip(f"{query.benchmark}: {query.model} is not at hand")
    stated = load_question(folder / query.model, folder / listed[0]["vnnlib"])
    _, file = read_model(folder / query.model)
    return stated.network, Oracle(file.content), stated.property.cases[0].box()


def test_another_slope_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    content = RELU[0].model(0)
    network, oracle = read_model_bytes(content, None, "m"), Oracle(content)
    ends = box(network, 0, RADII[-1])

    check_layers(network, oracle, *ends, by_search)
    monkeypatch.setattr(relu, "_steep", lambda lower, upper: (upper < -lower).double())
    with pytest.raises(AssertionError, match="apart"):
        check_layers(network, oracle, *ends, by_search)


def test_wrong_bounds_of_the_oracle_are_noticed() -> None:
    """Its upper line of Sqrt has the slope of the derivative's derivative."""
    content = models.through("Sqrt", shift=0.5)(0)
    oracle = Oracle(content)
    low, high = np.full(4, -1.0), np.full(4, 1.0)
    points = np.random.default_rng(0).uniform(low, high, size=(500, 4))
    with pytest.raises(AssertionError, match="wrong"):
        check_contains(oracle, low, high, points)


@pytest.mark.parametrize(
    ("found", "stated", "message"), [(0.2, 0.0, "say why"), (0.2, 0.1, "more"), (0.2, 0.5, "anew")]
)
def test_a_looseness_that_is_not_as_stated_is_refused(
    found: float, stated: float, message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        check_share(found, 10.0, stated, "a reason")
    check_share(found, 10.0, 0.25, "a reason")
    check_share(found, 0.5, 0.0, "")
