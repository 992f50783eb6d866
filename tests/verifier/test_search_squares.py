"""Squares beside products in the search: lines, ratios, and proofs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from proofs import products
from proofs.check import ARITHMETICS
from specs.network import Network, Product, Univariate
from specs.squares import with_squares
from tests.proofs.helpers import Net
from verifier import squares
from verifier.bounds_compile import compile_network
from verifier.bounds_product import Squared
from verifier.squares import adjusted, moving_together

COUNT = 200


def ends(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounds ``(8, n)`` of factors with more or less in common and of both forms; ``t``."""
    rng = np.random.default_rng(seed)
    (a, b), t = rng.normal(size=(2, COUNT)), np.exp2(rng.integers(-4, 5, COUNT) * 1.0)
    t = np.where(rng.random(COUNT) < 0.7, np.clip(np.abs(a / b), 2.0**-50, 2.0**50), t)
    middles = rng.normal(size=(3, COUNT)) * rng.choice([0.1, 1.0, 5.0], COUNT)
    widths = rng.random((3, COUNT)) * np.array([[1.0], [0.2], [0.2]]) * np.abs(a * b)
    one, none = np.ones(COUNT), np.zeros(COUNT)
    rows = []
    for form in ((a, one, none), (b, none, one), (a + t * b, one, t), (a - t * b, one, -t)):
        middle = sum(c * m for c, m in zip(form, middles, strict=True))
        reach = sum(np.abs(c) * w for c, w in zip(form, widths, strict=True))
        rows += [middle - reach, middle + reach]
    return np.stack(rows), t


def lines(bounds: np.ndarray, t: np.ndarray, weights=None):
    relaxation = Squared(torch.tensor(t))
    inside = [torch.tensor(row)[None] for row in bounds]
    if weights is None:
        return relaxation.default(*inside)
    return relaxation.relaxed(*inside).lines(*(torch.tensor(w)[None] for w in weights))


def check_lines(seed: int, hinted: bool) -> int:
    """Those of the kernel; how many are not those of a product without squares."""
    bounds, t = ends(seed)
    rng = np.random.default_rng(seed + 1)
    weights = rng.choice([0.0, 0.3, 0.5, 1.0], (2, COUNT)) if hinted else None
    found = lines(bounds, t, weights)
    numbers = ARITHMETICS["outward"]()
    left, right, *forms = [(bounds[k], bounds[k + 1]) for k in (0, 2, 4, 6)]
    hints = (None, None) if weights is None else weights
    squared = products.Squared(*forms, t)
    under, floor, over, ceiling = products.planes(numbers, left, right, *hints, squared)
    plain = products.planes(numbers, left, right, *hints)
    size = np.abs(bounds[:2]).max(0) * np.abs(bounds[2:4]).max(0) + 1e-300
    pairs = (
        (found.lower_intercept, floor, size),
        (found.upper_intercept, ceiling, size),
        (found.lower_slope, under[0], np.abs(bounds[2:4]).max(0)),
        (found.upper_slope, over[0], np.abs(bounds[2:4]).max(0)),
        (found.second[0], under[1], np.abs(bounds[:2]).max(0)),
        (found.second[1], over[1], np.abs(bounds[:2]).max(0)),
    )
    for ours, kernel, scale in pairs:
        assert np.all(np.abs(ours[0].numpy() - kernel) <= 1e-7 * scale)
    return int(np.sum((plain[1] != floor) | (plain[3] != ceiling)))


@pytest.mark.parametrize("hinted", [False, True])
def test_lines_are_the_kernels(hinted: bool) -> None:
    differ = sum(check_lines(seed, hinted) for seed in range(10))
    assert 0.2 * 10 * COUNT < differ < 10 * COUNT


WRONG = {
    "forms exchanged": lambda rows: rows[[0, 1, 2, 3, 6, 7, 4, 5]],
    "an end forgotten": lambda rows: rows[[0, 1, 2, 3, 4, 5, 6, 6]],
    "factors exchanged": lambda rows: rows[[2, 3, 0, 1, 4, 5, 6, 7]],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_other_lines_are_noticed(wrong: str, monkeypatch) -> None:
    own = lines
    monkeypatch.setitem(globals(), "lines", lambda rows, *rest: own(WRONG[wrong](rows), *rest))
    with pytest.raises(AssertionError):
        check_lines(0, False)


def test_rates_are_those_of_the_lines() -> None:
    """But for a few entries, where two intercepts meet between the points compared."""
    for seed in range(5):
        bounds, t = ends(seed)
        rng, step = np.random.default_rng(seed), 1e-6
        weights = rng.uniform(0.1, 0.9, (2, COUNT))
        inside = [torch.tensor(row)[None] for row in bounds]
        rates = Squared(torch.tensor(t)).relaxed(*inside).rates(*map(torch.tensor, weights))
        low, high = lines(bounds, t, weights - step), lines(bounds, t, weights + step)
        size = (np.abs(bounds[:2]).max(0) + 1) * (np.abs(bounds[2:4]).max(0) + 1) * (t + 1 / t)

        def differ(start, stop, rate, size=size, step=step) -> np.ndarray:
            numeric = (stop - start).numpy() / (2 * step)
            return np.abs(numeric - rate.numpy())[0] > 1e-6 * size

        for name in ("lower_slope", "upper_slope"):
            parts = (getattr(which, name) for which in (low, high, rates))
            assert not differ(*parts).any()
        for side in range(2):
            assert not differ(low.second[side], high.second[side], rates.second[side]).any()
        for name in ("lower_intercept", "upper_intercept"):
            parts = (getattr(which, name) for which in (low, high, rates))
            assert differ(*parts).mean() <= 0.01


def test_an_unbounded_form_has_no_finite_intercept() -> None:
    bounds, t = ends(0)
    bounds[4, 0], bounds[1, 1] = -np.inf, np.inf
    found = lines(bounds, t)
    assert found.lower_intercept is not None
    assert torch.isneginf(found.lower_intercept[0, :2]).all()
    assert torch.isposinf(found.upper_intercept[0, :2]).all()
    assert torch.isfinite(found.lower_intercept[0, 2:]).all()
    parts = (found.lower_slope, found.upper_slope, *found.second)
    assert all(bool(torch.isfinite(part).all()) for part in parts)


def network(kind: str, seed: int = 0) -> Network:
    """``x y`` of factors that go with the same inputs, against each other, or with others."""
    rng, net = np.random.default_rng(seed), Net(4)
    weight = rng.normal(size=(2, 2))
    with_, other = np.hstack([weight, 0.1 * weight]), np.hstack([0 * weight, weight])
    right = {"together": with_, "against": -with_, "apart": other}[kind]
    moved = net.dense(0, 2.0 * right + 0.05 * rng.normal(size=(2, 4)), rng.normal(size=2))
    first = net.dense(0, with_, rng.normal(size=2))
    net.nodes.append(Univariate("bent", (2,), first, "tanh"))
    product = net.product(len(net.nodes) - 1, moved)
    net.dense(product, [[1.0, 0.7], [0.6, -1.0]])
    return net.done()


def around(size: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    low = torch.full((1, size), -0.3, dtype=torch.float64)
    return low, -low


@pytest.mark.parametrize("kind", ["together", "against"])
@pytest.mark.parametrize("seed", range(4))
def test_factors_that_move_in_one_line_are_found(kind: str, seed: int) -> None:
    source = network(kind, seed)
    found = moving_together(compile_network(source), *around())
    assert list(found) == ["n4"]
    (ratios,) = found.values()
    assert ratios.shape == (2,)
    assert np.array_equal(np.float32(ratios), ratios)
    assert np.all((ratios > 0.05) & (ratios < 2.0))  # the factors' slopes are as 1 to 2, or less
    after = with_squares(source, {source.tensors[name]: ratio for name, ratio in found.items()})
    assert len(after.nodes) == len(source.nodes) + 2


@pytest.mark.parametrize("seed", range(4))
def test_factors_of_their_own_are_left_alone(seed: int) -> None:
    assert moving_together(compile_network(network("apart", seed)), *around()) == {}


def test_a_square_itself_and_no_product_are_left_alone() -> None:
    net = Net(4)
    inner = net.dense(0, np.ones((2, 4)))
    assert moving_together(compile_network(net.done()), *around()) == {}
    net.product(inner, inner)
    assert moving_together(compile_network(net.done()), *around()) == {}


def test_a_point_moves_nothing() -> None:
    low, _ = around()
    assert moving_together(compile_network(network("against")), low, low) == {}


def test_a_large_product_is_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(squares, "ENTRIES", 1)
    assert moving_together(compile_network(network("against")), *around()) == {}


def test_ratios_are_adjusted_to_the_widths_of_bounds() -> None:
    source = network("against")
    scales = {source.tensors["n4"]: np.array([0.5, 4.0])}
    net = compile_network(with_squares(source, scales))
    product = next(node for node in net.source.nodes if isinstance(node, Product))
    left, right = (net.neurons[factor] for factor in product.sources)
    upper = torch.ones(3, net.neuron_count, dtype=torch.float64)
    upper[:, left] = torch.tensor([[2.0, 0.0], [8.0, 3.0], [32.0, 0.0]], dtype=torch.float64)
    upper[:, right] = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    found = adjusted(net, torch.zeros_like(upper), upper)
    assert found["n4"].tolist() == [8.0, 4.0]  # the median; without one what there was
    upper[:, right], upper[:, left] = 1e-300, 1.0
    found = adjusted(net, torch.zeros_like(upper), upper)
    assert found["n4"].tolist() == [2.0**60, 2.0**60]


def test_only_products_with_squares_are_adjusted() -> None:
    net = compile_network(network("against"))
    wide = torch.ones(1, net.neuron_count, dtype=torch.float64)
    assert adjusted(net, -wide, wide) == {}
