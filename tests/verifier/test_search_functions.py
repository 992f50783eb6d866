"""Searches over functions other than Relu, and over products: bounds, gradients, proofs."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
import torch

from proofs.check import check_proof
from specs.enclosure import Enclosure
from specs.linear import MatMul
from specs.network import Input, Linear, Network, Product, Term, Univariate
from specs.property import Case, Property, constraint
from specs.query import Query
from verifier.alpha import Effort, Multipliers, Problem, bounded, initial, optimise
from verifier.bab import Search, Settings
from verifier.bounds import Rows, evaluate
from verifier.bounds_compile import compile_network
from verifier.bounds_sweep import fresh, sweep
from verifier.branching import neuron_scores

FUNCTIONS = {
    "sigmoid": (),
    "tanh": (),
    "exp": (),
    "sin": (),
    "power": (3.0,),
    "gelu": (),
    "softplus": (),
    "product": (),
}


def network(name: str, seed: int) -> Network:
    """Two hidden layers of a function, or of products with a Relu's layer."""
    rng = np.random.default_rng(seed)
    nodes: list = [Input("x", (3,))]

    def dense(source: int, size: int, out: int) -> int:
        weight = Enclosure(rng.normal(size=(size, out)) / np.sqrt(size))
        offset = Enclosure(rng.normal(size=out) * 0.3)
        terms = (Term(source, MatMul(weight)),)
        nodes.append(Linear(f"n{len(nodes)}", (out,), terms, offset))
        return len(nodes) - 1

    def function(source: int) -> int:
        if name == "product":
            other = dense(0, 3, 5)
            nodes.append(Univariate(f"n{len(nodes)}", (5,), other, "relu"))
            nodes.append(Product(f"n{len(nodes)}", (5,), source, len(nodes) - 1))
        else:
            made = Univariate(f"n{len(nodes)}", (5,), source, name, FUNCTIONS[name])
            nodes.append(made)
        return len(nodes) - 1

    last = dense(function(dense(function(dense(0, 3, 5)), 5, 5)), 5, 2)
    return Network(tuple(nodes), (last,))


def asked(source: Network, share: float) -> Query:
    """Unsafe: ``y0 - y1`` below its least sampled value, moved by a share of its range."""
    points = torch.tensor(np.random.default_rng(0).uniform(-0.5, 0.5, size=(4000, 3)))
    outputs = evaluate(compile_network(source), points)
    values = outputs[:, 0] - outputs[:, 1]
    least = float(values.min() + share * (values.max() - values.min()))
    row = constraint({}, {0: Fraction(1), 1: Fraction(-1)}, -Fraction(least))
    case = Case((Fraction(-1, 2),) * 3, (Fraction(1, 2),) * 3, ((row,),))
    return Query(source, Property(3, 2, (case,)), (), "test")


def problem(source: Network, signs: torch.Tensor | None = None) -> Problem:
    net = compile_network(source)
    low = torch.full((3, 3), -0.5, dtype=torch.float64)
    state = sweep(net, fresh(net, low, -low)).domains
    forms = torch.tensor([[[1.0, -1.0]]], dtype=torch.float64).expand(3, 1, 2)
    rows = Rows({net.outputs[0]: forms}, torch.zeros(3, 1, dtype=torch.float64))
    points = net.split_points(state.lower, state.upper)
    return Problem(net, rows, low, -low, state.lower, state.upper, signs, None, points)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_equal_finite_differences(name: str) -> None:
    """Of the bound by parameters of lines, and by multipliers of splits at any point."""
    source = network(name, 1)
    count = compile_network(source).neuron_count
    signs = torch.zeros(3, count, dtype=torch.float64)
    signs[0, 1], signs[1, 2], signs[2, count - 1] = 1.0, -1.0, 1.0
    stated = problem(source, signs)
    generator = torch.Generator().manual_seed(0)
    start = initial(stated)
    alpha = 0.1 + 0.8 * torch.rand(start.alpha.shape, generator=generator, dtype=torch.float64)
    beta = torch.rand(3, count, generator=generator, dtype=torch.float64)
    at = Multipliers(alpha, beta)
    found = bounded(stated, at, gradient=True)
    from verifier.alpha import _gradient, _Relaxed

    gradient = _gradient(_Relaxed(stated), at, found, False)
    assert gradient.beta is not None
    for part, slope in ((alpha, gradient.alpha), (beta, gradient.beta)):
        for column in range(0, part.shape[1], 3):
            step = torch.zeros_like(part)
            step[:, column] = 1e-6
            moved = [
                Multipliers(alpha + s * step, beta)
                if part is alpha
                else Multipliers(alpha, beta + s * step)
                for s in (1.0, -1.0)
            ]
            up, down = (bounded(stated, m).bound for m in moved)
            numeric = (up - down) / 2e-6
            assert torch.allclose(numeric, slope[:, column], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_optimised_bounds_hold_and_gain(name: str) -> None:
    stated = problem(network(name, 2))
    before = bounded(stated, initial(stated)).bound
    after, best = optimise(stated, initial(stated), Effort(60, decay=0.98))
    points = torch.tensor(np.random.default_rng(1).uniform(-0.5, 0.5, size=(4000, 3)))
    outputs = evaluate(stated.net, points)
    least = float((outputs[:, 0] - outputs[:, 1]).min())
    assert bool((after <= least + 1e-9).all())
    assert bool((after >= before - 1e-6).all())
    rounded = bounded(stated, best.rounded()).bound
    assert bool((rounded <= least + 1e-9).all())


def test_some_bound_gains() -> None:
    """Without a gain the test above would say little."""
    gains = []
    for name in FUNCTIONS:
        stated = problem(network(name, 2))
        after, _ = optimise(stated, initial(stated), Effort(60, decay=0.98))
        gains.append(float((after - bounded(stated, initial(stated)).bound).mean()))
    assert sum(gain > 1e-4 for gain in gains) >= 5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_scores_are_of_what_is_given_away(name: str) -> None:
    stated = problem(network(name, 3))
    found = bounded(stated, initial(stated), gradient=True)
    given, height = neuron_scores(stated.net, found, stated.lower, stated.upper)
    assert bool((given >= 0).all())
    assert bool((height >= 0).all())
    assert bool((height > 0).any())
    points = stated.net.split_points(stated.lower, stated.upper)
    wide = stated.lower < stated.upper
    inside = (points >= stated.lower) & (points <= stated.upper)
    relu = stated.net.unstable(stated.lower, stated.upper)
    assert bool((inside | ~(wide & relu)).all())


@pytest.mark.parametrize("method", ["inputs", "neurons"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_closed_searches_have_valid_proofs(name: str, method: str) -> None:
    source = network(name, 4)
    holds = asked(source, -0.3)
    search = Search(holds, deadline=time.monotonic() + 60, settings=Settings(method=method))
    assert search.run() == "closed"
    proof = search.proof()
    for arithmetic in ("outward", "exact"):
        assert check_proof(holds, proof, arithmetic=arithmetic).verdict == "valid unsat"
    fails = asked(source, 0.02)
    offered: list[np.ndarray] = []
    search = Search(
        fails,
        deadline=time.monotonic() + 10,
        settings=Settings(method=method),
        on_candidate=lambda points: bool(offered.append(points)) or True,
    )
    assert search.run() in ("violated", "exhausted", "timeout")
