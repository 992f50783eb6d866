"""Planes of maxima enclose them and are tight, and what is measured with them is a bound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from scipy.optimize import linprog
from torch import Tensor

from benchmarks import maxpool, pool_rules
from benchmarks.generated import Model, pooled_convolutional, pooled_dense
from benchmarks.maxima import BEYOND, Planes, contested, envelope
from benchmarks.pooling import compare, cut_at_pools, relax
from specs.errors import UnsupportedOperatorError
from tests.oracle import crown
from verifier.bounds import evaluate
from verifier.bounds_compile import compile_network

ONE = torch.ones(1, 1).double()
MODELS = {
    "dense": lambda seed: pooled_dense(3, 4, 2, seed),
    "convolutions": lambda seed: pooled_convolutional((1, 8, 8), (2, 3), 2, seed),
}


def drawn(seed: int, entries: int, count: int = 40) -> tuple[Tensor, Tensor]:
    """Bounds of windows: wide and narrow ones, points and equal ends among them."""
    random = np.random.default_rng(seed)
    ends = random.integers(-4, 5, (2, count, entries)) * random.choice([0.25, 1.0], (count, 1))
    return torch.tensor(ends.min(0)), torch.tensor(ends.max(0))


def points(low: Tensor, high: Tensor, seed: int = 0, count: int = 400) -> Tensor:
    """Corners and points inside, ``(count, W, k)``."""
    share = np.random.default_rng(seed).uniform(size=(count, *low.shape))
    share[::2] = share[::2] > 0.5
    return low + torch.tensor(share) * (high - low)


def slack(slope: Tensor, intercept: Tensor, x: Tensor) -> Tensor:
    """The least distance of planes ``(W, p)`` above the maxima at points, ``(W, p)``."""
    above = (slope * x[:, :, None]).sum(-1) + intercept
    return (above - x.amax(-1)[..., None]).amin(0)


@pytest.mark.parametrize("entries", [1, 2, 4, 9])
def test_planes_lie_above_the_maximum(entries: int) -> None:
    for seed in range(5):
        low, high = drawn(seed, entries)
        assert slack(*envelope(low, high), points(low, high)).min() >= -1e-12


@pytest.mark.parametrize("entries", [2, 4])
def test_a_plane_that_is_lowered_is_seen_to_fail(entries: int) -> None:
    low, high = drawn(0, entries)
    slope, intercept = envelope(low, high)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * entries)[:, None]
    found = slack(slope, intercept - 1e-6, low + corners * (high - low))
    assert (found < 0).all()


def test_no_plane_above_is_better_than_all_of_them() -> None:
    low, high = drawn(1, 4, count=12)
    slope, intercept = envelope(low, high)
    shares = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 4)
    for x in points(low, high, count=6)[1::2]:
        planes = ((slope * x[:, None]).sum(-1) + intercept).amin(-1)
        for window in range(len(low)):
            # the largest mean of the maximum over corners whose mean is the point
            corners = low[window] + shares * (high - low)[window]
            equal = torch.cat([corners.T, torch.ones(1, len(corners))])
            given = torch.cat([x[window], torch.ones(1)])
            best = linprog(-corners.amax(-1).numpy(), A_eq=equal.numpy(), b_eq=given.numpy())
            assert best.status == 0
            assert -best.fun == pytest.approx(float(planes[window]), abs=1e-9)


@pytest.mark.parametrize("rule", ["constant", "plane"])
def test_chosen_planes_enclose_the_maximum_and_are_it_where_one_entry_is_known(rule: str) -> None:
    low, high = drawn(2, 4)
    planes = Planes.of(low, high, rule)  # type: ignore[arg-type]
    x = points(low, high)
    some = (planes.above[..., None] * planes.slope).sum(1)
    above = (some * x).sum(-1) + (planes.above * planes.intercept).sum(-1)
    below = (planes.below * x).sum(-1)
    largest = x.amax(-1)
    assert (below <= largest + 1e-12).all()
    assert (above >= largest - 1e-12).all()
    known = ~contested(low, high).any(-1)
    assert 0 < known.sum() < len(known)
    torch.testing.assert_close(above[:, known], largest[:, known])
    torch.testing.assert_close(below[:, known], largest[:, known])


def test_the_plane_least_at_the_centre_is_not_above_the_constant_there() -> None:
    low, high = drawn(3, 9)
    middle = (low + high) / 2
    heights = []
    for rule in ("plane", "constant"):
        planes = Planes.of(low, high, rule)  # type: ignore[arg-type]
        each = (planes.slope * middle[:, None]).sum(-1) + planes.intercept
        heights.append((planes.above * each).sum(-1))
    assert (heights[0] <= heights[1]).all()
    assert (heights[0] < heights[1] - 0.1).any()


def sampled(model: Model, radius: float, seed: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """A box ``(1, I)``, and outputs at points in it."""
    net = compile_network(model[0])
    centre = torch.tensor(np.random.default_rng(seed).normal(size=(1, net.input_size)))
    low, high = centre - radius, centre + radius
    return (low, high), evaluate(net, points(low, high, count=500)[:, 0])


@pytest.mark.parametrize("name", MODELS)
def test_all_rules_bound_a_network_and_optimising_does_not_lose(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_rules, "STEPS", 15)
    for seed, radius in enumerate((0.05, 0.3, 1.0)):
        model = MODELS[name](seed)
        box, outputs = sampled(model, radius, seed)
        rows = torch.cat([ONE, -ONE])
        found = pool_rules.measure(model, box, rows, 1)
        assert tuple(found) == pool_rules.NAMES
        for rule, one in found.items():
            low, high = float(one.bounds[0]), -float(one.bounds[1])
            assert low <= outputs.min() + 1e-9, rule
            assert outputs.max() <= high + 1e-9, rule
            assert one.seconds > 0
        for rule in pool_rules.OPTIMISED:
            assert (found[f"{rule}, optimised"].bounds >= found[rule].bounds - 1e-9).all()


def test_planes_that_are_too_low_are_seen_in_a_networks_bound() -> None:
    model = MODELS["dense"](0)
    box, outputs = sampled(model, 0.3, 0)
    relaxed = relax(cut_at_pools(model[1].content), *box, "plane")
    rows = torch.cat([ONE, -ONE])
    lowered = replace(relaxed.planes[0], intercept=relaxed.planes[0].intercept - 2.0)
    right, wrong = (one.outputs(rows) for one in (relaxed, replace(relaxed, planes=(lowered,))))
    ends = torch.stack([outputs.min(), -outputs.max()])
    assert (right <= ends).all()
    assert (wrong > ends).any()


def test_parts_and_windows_compute_what_the_network_does() -> None:
    model = MODELS["convolutions"](4)
    cut, net = cut_at_pools(model[1].content), compile_network(model[0])
    x = torch.tensor(np.random.default_rng(0).normal(size=(50, net.input_size)))
    values = evaluate(cut.parts[0], x)
    for windows, part in zip(cut.windows, cut.parts[1:], strict=True):
        values = torch.nn.functional.pad(values, (0, 1))[:, windows].amax(-1)
        values = evaluate(part, values)
    torch.testing.assert_close(values, evaluate(net, x))


def test_entries_that_share_inputs_are_compared() -> None:
    """The windows of x, x - 1 and of x, -x, for x in [-2, 2]: the first is x itself."""
    weight = np.array([[[1.0, 1.0, 1.0, -1.0]]])
    offset = np.array([0.0, -1.0, 0.0, 0.0])
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["scaled"]),
        helper.make_node("Add", ["scaled", "b"], ["entries"]),
        helper.make_node("MaxPool", ["entries"], ["y"], kernel_shape=[1, 2], strides=[1, 2]),
    ]
    cut = cut_at_pools(
        model_of(nodes, [1, 1, 1, 1], w=weight.reshape(1, 1, 1, 4), b=offset.reshape(1, 1, 1, 4))
    )
    low, high = torch.tensor([[-2.0]]).double(), torch.tensor([[2.0]]).double()
    plain, compared = (relax(cut, low, high, rule) for rule in ("plane", "compared"))
    assert (plain.open_, compared.open_) == (2, 1)
    (low, high), differences, count = compare(plain, 0, *plain.ends[0])
    assert count == 2
    torch.testing.assert_close(low[0], torch.tensor([-2.0, BEYOND]).double())
    torch.testing.assert_close(differences[1][0], torch.tensor([0.0, -1.0]).double())
    rows = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).double()
    torch.testing.assert_close(-compared.outputs(rows), torch.tensor([2.0, 2.0, 2.0, 2.0]).double())


def model_of(nodes: list[onnx.NodeProto], shape: list[int], **constants: np.ndarray) -> bytes:
    """A model that ends in tensor ``y``."""
    stored = [
        onnx.numpy_helper.from_array(value.astype(np.float32), name)
        for name, value in constants.items()
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, given)
        for name, given in (("x", shape), ("y", None))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    "attributes", [{"pads": [1, 1, 1, 1]}, {"dilations": [2, 2]}, {"ceil_mode": 1}]
)
def test_pools_that_are_not_cut_are_refused(attributes: dict[str, object]) -> None:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], **attributes)
    with pytest.raises(UnsupportedOperatorError, match="a pool with"):
        cut_at_pools(model_of([node], [1, 1, 6, 6]))


def test_the_constant_rule_is_that_of_crown() -> None:
    crown.require()
    for seed, radius in enumerate((0.01, 0.1, 0.5)):
        model = pooled_dense(4, 16, 3, seed)
        box, _ = sampled(model, radius, seed)
        ours = relax(cut_at_pools(model[1].content), *box, "constant")
        low, high = ours.outputs(torch.cat([ONE, -ONE])).tolist()
        ends = (side[0].numpy() for side in box)
        theirs = crown.Oracle(model[1].content).bounds(*ends, ONE.numpy())
        np.testing.assert_allclose([[low], [-high]], theirs, rtol=1e-9)


def test_the_tables_have_a_line_for_every_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(pool_rules, "STEPS", 2)
    monkeypatch.setattr(maxpool, "COUNT", 3)
    monkeypatch.setattr(maxpool, "NETWORKS", {"tiny": (MODELS["dense"], (0.1, 0.2))})
    folder = tmp_path / "verivital"
    (folder / "specs" / "maxpool_specs").mkdir(parents=True)
    (folder / "Convnet_maxpool.onnx").write_bytes(MODELS["dense"](0)[1].content)
    box = "".join(
        f"(declare-const X_{i} Real)(assert (>= X_{i} -0.1))(assert (<= X_{i} 0.1))"
        for i in range(3)
    )
    stated = box + "(declare-const Y_0 Real)(assert (<= Y_0 -100))"
    (folder / "specs" / "maxpool_specs" / "far.vnnlib").write_text(stated)
    maxpool.main([str(tmp_path), "--seeds", "2", "--runs", "1"])
    windows, networks, queries = capsys.readouterr().out.strip().split("\n\n")
    assert len(windows.splitlines()) == 2 + 3 * len(maxpool.REGIMES)
    for line in windows.splitlines()[2:]:
        assert 0 < float(line.split("|")[5]) <= float(line.split("|")[4]) < 10
    lines = [line.split(" | ") for line in networks.splitlines()[2:]]
    assert [line[:2] for line in lines] == [["| tiny", "0.1"], ["| tiny", "0.2"]]
    assert {len(line) for line in lines} == {2 + len(pool_rules.NAMES)}
    lines = [line.split(" | ") for line in queries.splitlines()[2:]]
    assert [line[:2] for line in lines] == [["| far", rule] for rule in pool_rules.NAMES]
    assert all(90 < float(line[2]) == float(line[3]) < 110 for line in lines)
