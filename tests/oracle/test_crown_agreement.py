"""Our bounds without hints beside those of CROWN in auto_LiRPA, on the same model files.

*Layer by layer* the two must agree where they relax alike.  Told our bounds of the
pre-activations before it, the oracle finds those of the next, and in the end of the outputs,
to ``TOLERANCE``: where the neuron is unstable ours are the better of its substitution and its
intervals; elsewhere ours may stop at the intervals, since a stable neuron's line is what it is.

*As a whole*, the oracle left alone, ours are not looser, or ``cases.py`` says by which share
of the oracle's width and why; a share that has grown fails, and so does one that has halved.
"""

from __future__ import annotations

import csv
import os
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from specs.network import Network, Univariate
from specs.onnx_reader import read_model, read_model_bytes
from specs.question import load_question
from tests.oracle import crown, models
from tests.oracle.cases import (
    OTHER_LINES,
    PUBLISHED_OTHER_LINES,
    PUBLISHED_SAME_LINES,
    SAME_LINES,
    Case,
    Published,
)
from tests.oracle.crown import Array, Ends, Oracle, require
from tests.oracle.ours import Compute, by_kernel, by_search
from verifier.bounds import evaluate
from verifier.bounds_compile import compile_network
from verifier.relaxations import relu

TOLERANCE = 1e-6
"""Relative to bounds beyond 1, absolute below."""

RADII = (0.02, 0.1, 0.5)
SEEDS = range(4)

COMPUTE = {"search": by_search, "outward": by_kernel("outward"), "exact": by_kernel("exact")}
FAST = ("search", "outward")
FUNCTIONS = {"relu": "Relu", "reciprocal": "Reciprocal", "log": "Log"}
"""Those that both relax alike, by our names and the oracle's."""


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
    nodes = [n for n in network.nodes if isinstance(n, Univariate)]
    kinds, names = zip(*oracle.preactivations(FUNCTIONS.values()), strict=True)
    assert kinds == tuple(FUNCTIONS[node.function] for node in nodes)
    known: dict[str, Ends] = {}
    for node, name in zip(nodes, names, strict=True):
        layer = oracle.layer(name, low, high, known)
        lower, upper = found.inner[node.source]
        best = (
            np.maximum(layer.crown[0], layer.interval[0]),
            np.minimum(layer.crown[1], layer.interval[1]),
        )
        bent = node.function == "relu"
        unstable = (layer.interval[0] < 0) & (layer.interval[1] > 0) if bent else ...
        ours = lower[unstable], upper[unstable]
        what = f"pre-activation '{network.nodes[node.source].name}'"
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


@cache
def drawn(case: Case, seed: int) -> tuple[Network, Oracle]:
    content = case.model(seed)
    return read_model_bytes(content, None, case.name), Oracle(content)


@pytest.mark.parametrize("case", SAME_LINES + OTHER_LINES, ids=lambda case: case.name)
def test_models_mean_the_same(case: Case) -> None:
    for seed in SEEDS:
        network, oracle = drawn(case, seed)
        for radius in RADII:
            check_meaning(network, oracle, *box(network, seed, radius))


@pytest.mark.parametrize("how", COMPUTE)
@pytest.mark.parametrize("case", SAME_LINES, ids=lambda case: case.name)
def test_layers_agree(case: Case, how: str) -> None:
    for seed in SEEDS[:1] if how == "exact" else SEEDS:
        network, oracle = drawn(case, seed)
        for radius in RADII[:1] if how == "exact" else RADII:
            check_layers(network, oracle, *box(network, seed, radius), COMPUTE[how])


@pytest.mark.parametrize("how", FAST)
@pytest.mark.parametrize("case", SAME_LINES + OTHER_LINES, ids=lambda case: case.name)
def test_outputs_are_not_looser_than_stated(case: Case, how: str) -> None:
    for radius in RADII:
        found = []
        for seed in SEEDS:
            network, oracle = drawn(case, seed)
            found.append(compared(network, oracle, box(network, seed, radius), COMPUTE[how]))
        shares, absolute = zip(*found, strict=True)
        check_share(max(shares), max(absolute), case.looser.get(radius, 0.0), case.why)


@pytest.mark.parametrize("how", FAST)
@pytest.mark.parametrize("query", PUBLISHED_SAME_LINES, ids=lambda query: query.benchmark)
def test_layers_of_published_networks_agree(query: Published, how: str, vnncomp: Path) -> None:
    network, oracle, ends = published(vnncomp, query)
    check_layers(network, oracle, *ends, COMPUTE[how])


@pytest.mark.parametrize("how", FAST)
@pytest.mark.parametrize(
    "query", PUBLISHED_SAME_LINES + PUBLISHED_OTHER_LINES, ids=lambda query: Path(query.model).stem
)
def test_published_outputs_are_not_looser_than_stated(
    query: Published, how: str, vnncomp: Path
) -> None:
    network, oracle, ends = published(vnncomp, query)
    if how == FAST[0]:
        check_meaning(network, oracle, *ends)
    check_share(*compared(network, oracle, ends, COMPUTE[how]), query.looser, query.why)


def published(vnncomp: Path, query: Published) -> tuple[Network, Oracle, Ends]:
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
    content = SAME_LINES[0].model(0)
    network, oracle = read_model_bytes(content, None, "m"), Oracle(content)
    ends = box(network, 0, RADII[-1])

    check_layers(network, oracle, *ends, by_search)
    monkeypatch.setattr(relu, "_steep", lambda lower, upper: (upper < -lower).double())
    with pytest.raises(AssertionError, match="apart"):
        check_layers(network, oracle, *ends, by_search)


@pytest.mark.parametrize(
    "model",
    [
        models.through("Sqrt", shift=0.5),  # its upper line has the second derivative for slope
        models.softmax,  # as the package has it, without the shim's correction
    ],
)
def test_wrong_bounds_of_the_oracle_are_noticed(
    model: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crown._packages(), "operators", {})
    oracle = Oracle(model(0))
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


def test_what_the_oracle_needs_is_put_back() -> None:
    before = set(sys.modules) & set(crown._stand_ins())
    drawn(SAME_LINES[0], 0)[1].outputs(np.zeros((1, 4)))
    assert set(sys.modules) & set(crown._stand_ins()) == before
    assert not hasattr(torch._C.Node, "__getitem__")
    assert torch.get_default_dtype() == torch.float32
    assert "AUTOLIRPA_USE_FULL_C" not in os.environ
    assert torch.is_grad_enabled()
