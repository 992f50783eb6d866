"""No evaluated point violates a bound of the search; gradients are what they claim."""

from __future__ import annotations

import itertools
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.check import check_proof
from specs.enclosure import Enclosure, zeros
from specs.linear import Identity, MatMul
from specs.network import Input, Linear, Network, Term, Univariate
from specs.property import Case, Property, constraint
from specs.query import Query
from verifier.alpha import Effort, Multipliers, Problem, bounded, initial, optimise
from verifier.bab import Search, Settings
from verifier.bounds import Rows, evaluate
from verifier.bounds_compile import compile_network
from verifier.bounds_sweep import OutOfTimeError, fresh, sweep, until

FAR = float("inf")


def network(seed: int, widths: tuple[int, ...] = (3, 6, 6, 2), skip: bool = False) -> Network:
    """A random Relu network; with ``skip`` its second layer adds up its own input."""
    random = np.random.default_rng(seed)
    nodes: list = [Input("x", (widths[0],))]
    last = 0
    for depth, (m, n) in enumerate(itertools.pairwise(widths)):
        weight = random.normal(size=(m, n)) / np.sqrt(m)
        terms = [Term(last, MatMul(Enclosure(weight)))]
        if skip and depth == 1 and m == n:
            terms.append(Term(last, Identity(n)))
        offset = Enclosure(random.normal(size=n) * 0.3)
        nodes.append(Linear(f"z{depth}", (n,), tuple(terms), offset))
        last = len(nodes) - 1
        if depth < len(widths) - 2:
            nodes.append(Univariate(f"h{depth}", (n,), last, "relu"))
            last += 1
    return Network(tuple(nodes), (last,))


def boxes(seed: int, count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    center = torch.tensor(random.normal(size=(count, size)))
    radius = torch.tensor(random.uniform(0.05, 1.0, size=(count, size)))
    return center - radius, center + radius


def samples(low: torch.Tensor, high: torch.Tensor, count: int) -> torch.Tensor:
    random = np.random.default_rng(1)
    share = torch.tensor(random.uniform(size=(count, len(low), low.shape[1])))
    return low + share * (high - low)


def query(net: Network, threshold: float) -> Query:
    """Unsafe: the first output is at most the second one minus ``threshold``."""
    bound = constraint(
        {}, {0: Fraction(1), 1: Fraction(-1)}, Fraction(threshold).limit_denominator(10**6)
    )
    size = net.input_size
    case = Case((Fraction(-1),) * size, (Fraction(1),) * size, ((bound,),))
    return Query(net, Property(size, net.output_size, (case,)), (), "test")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_no_point_leaves_the_swept_bounds(seed: int, skip: bool) -> None:
    net = compile_network(network(seed, skip=skip))
    low, high = boxes(seed, 4, 3)
    state = sweep(net, fresh(net, low, high)).domains
    for points in samples(low, high, 50):
        values = net.split(points, net.inputs)
        for number in net.needed:
            node = net.nodes[number]
            if hasattr(node, "terms"):
                total = sum(m.forward(values[t]) for t, m in node.terms)
                values[number] = total if node.offset is None else total + node.offset
            else:
                values[number] = torch.relu(values[node.sources[0]])
            if number in net.neurons:
                where = net.neurons[number]
                assert bool((values[number] >= state.lower[:, where] - 1e-6).all())
                assert bool((values[number] <= state.upper[:, where] + 1e-6).all())


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_optimised_bounds_hold_and_are_no_weaker(seed: int, skip: bool) -> None:
    net = compile_network(network(seed, skip=skip))
    low, high = boxes(seed, 3, 3)
    state = sweep(net, fresh(net, low, high)).domains
    forms = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64).expand(3, 2, 2)
    rows = Rows({net.outputs[0]: forms}, torch.zeros(3, 2, dtype=torch.float64))
    problem = Problem(net, rows, low, high, state.lower, state.upper)
    start = initial(problem)
    bound, best = optimise(problem, start, Effort(steps=30))
    rounded = best.rounded()
    assert torch.allclose(bound, bounded(problem, best).bound)
    assert rounded.weights is not None
    final = bounded(problem, rounded).bound
    for points in samples(low, high, 50):
        value = (forms @ evaluate(net, points)[:, :, None])[:, :, 0]
        assert bool(((value * rounded.weights).sum(1) >= final - 1e-6).all())


@pytest.mark.parametrize("seed", range(5))
def test_gradients_equal_those_of_autograd(seed: int) -> None:
    net = compile_network(network(seed, skip=bool(seed % 2)))
    low, high = boxes(seed, 3, 3)
    state = sweep(net, fresh(net, low, high)).domains
    signs = torch.zeros(3, net.neuron_count, dtype=torch.float64)
    signs[1, 2], signs[2, 8] = 1.0, -1.0
    forms = torch.tensor([[[1.0, -1.0]]], dtype=torch.float64).expand(3, 1, 2)
    rows = Rows({net.outputs[0]: forms}, torch.zeros(3, 1, dtype=torch.float64))
    lower, upper = state.lower * (signs >= 0), state.upper * (signs <= 0)
    problem = Problem(net, rows, low, high, lower, upper, signs)
    generator = torch.Generator().manual_seed(seed)
    alpha = torch.rand(3, net.neuron_count, generator=generator, dtype=torch.float64)
    beta = torch.rand(3, net.neuron_count, generator=generator, dtype=torch.float64)
    alpha.requires_grad_(True)
    beta.requires_grad_(True)
    found = bounded(problem, Multipliers(alpha, beta), gradient=True)
    slope, force = torch.autograd.grad(found.bound.sum(), (alpha, beta))
    assert found.values is not None
    assert torch.allclose(force, (signs * found.values).detach())
    by_hand = torch.zeros_like(slope)
    for number, matrix in found.trace.items():
        where = net.neurons[net.nodes[number].sources[0]]
        by_hand[:, where] += (matrix.clamp(min=0) * found.values[:, where]).detach()
    unstable = (lower < 0) & (upper > 0)
    assert torch.allclose(slope, by_hand * unstable)


@pytest.mark.parametrize("method", ["inputs", "neurons"])
@pytest.mark.parametrize("seed", range(4))
def test_closed_searches_have_valid_proofs_and_open_ones_witnesses(seed: int, method: str) -> None:
    source = network(seed)
    net = compile_network(source)
    grid = torch.tensor(np.random.default_rng(0).uniform(-1, 1, size=(20000, 3)))
    outputs = evaluate(net, grid)
    least = float((outputs[:, 0] - outputs[:, 1]).min())
    holds, fails = query(source, -(least - 0.05)), query(source, -(least + 0.05))
    search = Search(holds, deadline=FAR, settings=Settings(method=method))
    assert search.run() == "closed"
    assert check_proof(holds, search.proof(), arithmetic="outward").verdict == "valid unsat"
    offered: list[np.ndarray] = []

    def confirm(points: np.ndarray) -> bool:
        offered.append(points)
        return True

    search = Search(fails, deadline=FAR, settings=Settings(method=method), on_candidate=confirm)
    status = search.run()
    assert status == "violated" or (method == "neurons" and status == "exhausted")
    if status == "exhausted":  # a cell's corner need not violate; attacks find such points
        return
    values = evaluate(net, torch.tensor(offered[-1]))
    assert float((values[:, 0] - values[:, 1]).min()) <= least + 0.05 + 1e-5


def test_an_interrupted_search_leaves_holes() -> None:
    asked = query(network(0), 0.0)
    search = Search(asked, deadline=0.0, settings=Settings(method="neurons"))
    assert search.run() == "timeout"
    assert check_proof(asked, search.proof(), arithmetic="outward").verdict != "valid unsat"


def test_a_deadline_ends_the_writing_of_a_proof() -> None:
    search = Search(query(network(0), 2.0), deadline=FAR, settings=Settings(method="neurons"))
    search.run()
    with pytest.raises(OutOfTimeError):
        search.proof(deadline=0.0)
    assert search.proof().arrays["node_kind"].size


def test_a_deadline_ends_a_sweep_and_leaves_its_domains_open() -> None:
    asked = query(network(3), 100.0)  # it holds, but the search may not say so
    with pytest.raises(OutOfTimeError):
        until(time.monotonic())()
    until(FAR)()
    net = compile_network(asked.network, "cpu")
    low, high = boxes(0, 4, 3)
    with pytest.raises(OutOfTimeError):
        sweep(net, fresh(net, 50 * low, 50 * high), until(0.0))
    search = Search(asked, deadline=0.0)
    assert search.run() == "timeout"
    assert check_proof(asked, search.proof()).verdict == "incomplete"
    assert check_proof(asked, None).valid


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_a_chain_of_linear_nodes_is_one_map_of_the_input(seed: int) -> None:
    """Its interval bounds are then the values at corners, and nothing else changes."""
    random = np.random.default_rng(seed)
    chain = [random.normal(size=shape) for shape in ((2, 9), (9, 7))]
    nodes: list = [Input("x", (2,))]
    for depth, weight in enumerate(chain):
        offset = Enclosure(random.normal(size=weight.shape[1]))
        term = Term(depth, MatMul(Enclosure(weight)))
        nodes.append(Linear(f"z{depth}", (weight.shape[1],), (term,), offset))
    nodes.append(Univariate("h", (7,), 2, "relu"))
    net = compile_network(Network(tuple(nodes), (3,)))
    assert net.exact == {2}
    assert [t for t, _ in net.nodes[2].terms] == [0]  # type: ignore[union-attr]
    low, high = boxes(seed, 3, 2)
    state = sweep(net, fresh(net, low, high)).domains
    corners = torch.stack(
        [
            torch.where(torch.tensor(c), low, high)
            for c in itertools.product((True, False), repeat=2)
        ]
    )
    middle = corners.numpy() @ chain[0] + nodes[1].offset.value
    values = torch.tensor(middle @ chain[1] + nodes[2].offset.value)
    assert torch.allclose(state.lower, values.amin(0))
    assert torch.allclose(state.upper, values.amax(0))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_rows_passed_back_by_entries_have_the_same_bounds(seed: int) -> None:
    """Sparse layers with several readers, entry by entry and dense."""
    from specs.linear import Gather, Scale, Sparse
    from verifier import bounds_sparse, bounds_sweep

    random = np.random.default_rng(seed)

    def lattice(source: int, target: int) -> Sparse:
        places = (random.integers(0, size, size=2 * target) for size in (source, target))
        return Sparse(Enclosure(random.normal(size=2 * target)), *places, source, target)

    nodes: list = [Input("x", (3,)), Linear("z", (8,), (Term(0, lattice(3, 8)),), zeros(8))]
    for depth in range(2):
        nodes.append(Univariate(f"h{depth}", (8,), len(nodes) - 1, "relu"))
        last = len(nodes) - 1
        terms = (
            Term(last, lattice(8, 8)),
            Term(last, Gather(random.integers(-1, 8, size=8), 8)),
            Term(last - 1, Scale(Enclosure(random.normal(size=8)))),
        )
        nodes.append(Linear(f"z{depth + 1}", (8,), terms, Enclosure(random.normal(size=8))))
    nodes.append(Univariate("h", (8,), len(nodes) - 1, "relu"))
    net = compile_network(Network(tuple(nodes), (len(nodes) - 1,)))
    low, high = boxes(seed, 4, 3)
    found = []
    for filled in (0.0, 1e9):
        with pytest.MonkeyPatch.context() as patch:
            for module in (bounds_sparse, bounds_sweep):
                patch.setattr(module, "FILLED", filled)
            found.append(sweep(net, fresh(net, low, high)).domains)
    assert torch.allclose(found[0].lower, found[1].lower)
    assert torch.allclose(found[0].upper, found[1].upper)


def test_leaves_are_not_taken_back_after_the_deadline() -> None:
    asked = query(network(0), 2.0)
    search = Search(asked, deadline=FAR, settings=Settings(method="inputs"))
    assert search.run() == "closed"
    leaves = np.flatnonzero(search.proof().arrays["node_kind"] == 0).tolist()
    search.extend(time.monotonic() - 1.0)
    with pytest.raises(OutOfTimeError):
        search.reopen(leaves[:1])
    search.extend(FAR)
    search.reopen(leaves[:1])
    assert search.run() == "closed"
    assert check_proof(asked, search.proof()).verdict == "valid unsat"
