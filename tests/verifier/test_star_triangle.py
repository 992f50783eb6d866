"""The linear program of a star with relaxed Relus, and what its duals prove."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("highspy")

from specs.network import Network
from tests.proofs.helpers import Net, extremes
from tests.proofs.helpers import at_most as unsafe_below
from tests.proofs.helpers import box_case as case_of
from verifier.alpha import Problem, bounded, initial
from verifier.bounds import Domains, Rows, TorchNetwork, evaluate
from verifier.bounds_compile import compile_network
from verifier.bounds_sweep import fresh, sweep
from verifier.stars.images import Images, images, relaxed, take_slopes
from verifier.stars.triangle import PRICE, Triangles

SEEDS = st.integers(0, 10_000)


def network(seed: int) -> Network:
    rng = np.random.default_rng(seed)
    net, tensor = Net(2), 0
    for size in (4, 4):
        weight = rng.normal(size=(size, net.size(tensor)))
        tensor = net.relu(net.dense(tensor, weight, rng.normal(size=size) / 2))
    return net.done(net.dense(tensor, rng.normal(size=(1, 4)), rng.normal(size=1)))


def asked(seed: int) -> tuple[TorchNetwork, Domains, Rows]:
    """A network on the square with bounds of its neurons, and its negated output as a form."""
    net = compile_network(network(seed))
    ends = (torch.full((1, 2), side, dtype=torch.float64) for side in (-1.0, 1.0))
    domains = sweep(net, fresh(net, *ends)).domains
    minus = torch.full((1, 1, 1), -1.0, dtype=torch.float64)
    return net, domains, Rows({net.outputs[0]: minus}, torch.zeros(1, 1, dtype=torch.float64))


def program(seed: int) -> tuple[Images, Triangles, TorchNetwork, Domains, Rows]:
    net, domains, rows = asked(seed)
    seen = images(net, domains.lower[0], domains.upper[0])
    return seen, Triangles(relaxed(seen, domains, rows)), net, domains, rows


def before(net: TorchNetwork, point: torch.Tensor) -> np.ndarray:
    """All neurons' values before their Relu."""
    values, found = net.split(point, net.inputs), []
    for number in net.needed:
        node = net.nodes[number]
        if hasattr(node, "terms"):
            total = sum(linear.forward(values[tensor]) for tensor, linear in node.terms)
            values[number] = total + node.offset
        else:
            found.append(values[node.sources[0]])
            values[number] = found[-1].clamp(min=0.0)
    return torch.cat(found, -1)[0].numpy()


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_images_are_the_network_where_values_after_relus_are_right(seed: int) -> None:
    seen, _, net, _, _ = program(seed)
    for point in 2.0 * torch.rand((5, 1, 2), dtype=torch.float64) - 1.0:
        z = before(net, point)[seen.unstable]
        at = np.concatenate([[1.0], point[0].numpy(), np.maximum(z, 0.0)])
        np.testing.assert_allclose(at @ seen.neurons.numpy(), z, atol=1e-9)
        found = at @ seen.tensors[net.outputs[0]].numpy()
        np.testing.assert_allclose(found, evaluate(net, point)[0], atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_the_relaxation_is_below_the_least_value_and_exact_where_all_is_decided(seed: int) -> None:
    seen, triangles, net, _, _ = program(seed)
    root = triangles.solve(np.zeros(len(seen.unstable)))
    _, high, where = extremes(network(seed), case_of([-1, -1], [1, 1], unsafe_below(0, 0)))
    assert root is not None
    assert root.value <= -float(high) + 1e-7
    z = before(net, torch.tensor([[float(x) for x in where]], dtype=torch.float64))[seen.unstable]
    decided = triangles.solve(np.where(z > 0, -1, 1))
    assert decided is not None
    assert decided.value == pytest.approx(-float(high), abs=1e-6)
    assert decided.gap.max(initial=0.0) == 0.0


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.data())
def test_duals_are_multipliers_that_prove_the_optimum(seed: int, data: st.DataObject) -> None:
    seen, triangles, net, domains, rows = program(seed)
    count = len(seen.unstable)
    signs = np.array(
        data.draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=count, max_size=count))
    )
    least = triangles.solve(signs)
    assert least is not None
    wide, most, under = (torch.zeros_like(domains.lower) for _ in range(3))
    wide[0, seen.unstable] = torch.tensor(signs, dtype=torch.float64)
    most[0, seen.unstable] = torch.tensor(least.upper)
    under[0, seen.unstable] = torch.tensor(least.lower)
    assert not ((most > 1e-6) & (under > 1e-6)).any()
    held = torch.sign(most - under)
    problem = Problem(
        net,
        rows,
        domains.low,
        domains.high,
        domains.lower.where(wide >= 0, domains.lower.clamp(min=0.0)),
        domains.upper.where(wide <= 0, domains.upper.clamp(max=0.0)),
        signs=wide + held,
        points=torch.where(held > 0, domains.upper, domains.lower) * held.abs(),
    )
    slopes, beta = torch.full_like(wide, -1.0), torch.zeros_like(wide)
    slopes[0, seen.unstable] = torch.tensor(least.slopes)
    beta[0, seen.unstable] = torch.tensor(least.beta)
    beta += torch.maximum(most, under)
    start = initial(problem)
    take_slopes(net, start.alpha, slopes)
    bound = float(bounded(problem, replace(start, beta=beta)).bound)
    assert bound == pytest.approx(least.value, rel=1e-6, abs=1e-6)


def test_phases_that_cannot_hold_are_priced() -> None:
    net = Net(1)
    twice = net.relu(net.dense(0, [[1.0], [1.0]], [0.5, 0.25]))
    made = compile_network(net.done(net.dense(twice, [[1.0, -1.0]])))
    ends = (torch.full((1, 1), side, dtype=torch.float64) for side in (-1.0, 1.0))
    domains = sweep(made, fresh(made, *ends)).domains
    form = Rows(
        {made.outputs[0]: torch.ones(1, 1, 1, dtype=torch.float64)},
        torch.zeros(1, 1, dtype=torch.float64),
    )
    seen = images(made, domains.lower[0], domains.upper[0])
    triangles = Triangles(relaxed(seen, domains, form))
    possible = triangles.solve([-1, 1])  # x + 0.5 >= 0 and x + 0.25 <= 0
    assert possible is not None
    assert possible.value == pytest.approx(0.0, abs=1e-9)
    impossible = triangles.solve([1, -1])
    assert impossible is not None
    assert impossible.value > 0.1 * PRICE
    again = triangles.solve([-1, 1])
    assert again is not None
    assert again.value == pytest.approx(possible.value, abs=1e-9)


def test_each_disjunct_has_its_own_optimum_whatever_was_solved_before() -> None:
    net, domains, rows = asked(3)
    both = Rows(
        {t: torch.cat([m, -m]) for t, m in rows.coefficients.items()}, rows.constant.repeat(2, 1)
    )
    seen = images(net, domains.lower[0], domains.upper[0])
    triangles = Triangles(relaxed(seen, domains, both))
    none = np.zeros(len(seen.unstable))
    first = [triangles.solve(none, k) for k in (0, 1, 0, 1)]
    low, high, _ = extremes(network(3), case_of([-1, -1], [1, 1], unsafe_below(0, Fraction(0))))
    values = [least.value for least in first if least is not None]
    assert values[0] == pytest.approx(values[2], abs=1e-9)
    assert values[1] == pytest.approx(values[3], abs=1e-9)
    assert values[0] <= -float(high) + 1e-7
    assert values[1] <= float(low) + 1e-7


def test_constraints_of_the_region_count() -> None:
    net, domains, rows = asked(5)
    seen = images(net, domains.lower[0], domains.upper[0])
    none = np.zeros(len(seen.unstable))
    free = Triangles(relaxed(seen, domains, rows)).solve(none)
    assert free is not None
    normal = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    offset = torch.tensor([[0.5]], dtype=torch.float64)  # x0 + 0.5 <= 0
    held = Triangles(relaxed(seen, domains, rows, (normal, offset))).solve(none)
    assert held is not None
    assert held.point[0] <= -0.5 + 1e-7
    assert held.value >= free.value - 1e-9
    empty = Triangles(relaxed(seen, domains, rows, (normal, offset + 1.0))).solve(none)
    assert empty is None  # no input satisfies x0 + 1.5 <= 0
