"""Feedback: bounds at violations hold at violations, and the kernel agrees."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proofs.check import check_proof
from proofs.proof import NodeKind
from specs.property import Case, Property, constraint
from specs.query import Query
from tests.verifier.test_bounds import FAR, network, query
from verifier.alpha import Problem, initial
from verifier.bab import Search, Settings
from verifier.bounds import Rows, evaluate
from verifier.bounds_compile import compile_network
from verifier.bounds_focus import focused
from verifier.bounds_sweep import fresh, sweep
from verifier.feedback import PROBES, Worth, feed, late_tensor

WIDTHS = (3, 10, 10, 2)


def asked(seed: int, margin: float):
    """A question that holds by some margin, if a fine grid tells the truth."""
    source = network(seed, WIDTHS)
    axis = torch.linspace(-1, 1, 21, dtype=torch.float64)
    outputs = evaluate(compile_network(source), torch.cartesian_prod(axis, axis, axis))
    return query(source, margin - float((outputs[:, 0] - outputs[:, 1]).min()))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(-3.0, 0.0), st.integers(1, 10))
def test_bounds_hold_at_violations(seed: int, threshold: float, most: int) -> None:
    source = network(seed, WIDTHS)
    net, fast = compile_network(source), compile_network(source, dtype=torch.float32)
    low = torch.full((1, 3), -1.0, dtype=torch.float64)
    state = sweep(net, fresh(net, low, -low)).domains
    nets = focused(net, fast, state)
    late = late_tensor(nets.sure)
    assume(late is not None)
    own = nets.domains(state)
    difference = torch.tensor([[[1.0, -1.0]]], dtype=torch.float64)
    constant = torch.tensor([[-threshold]], dtype=torch.float64)
    forms = Rows({source.outputs[0]: difference}, constant)
    problem = Problem(nets.sure, forms, own.low, own.high, own.lower, own.upper)
    stored = initial(problem).rounded()
    found = feed(nets, problem, stored, late, most, 1e8, (-3, -1, 1))
    assert bool((found.state.lower >= own.lower).all())
    assert bool((found.state.upper <= own.upper).all())
    axis = torch.linspace(-1, 1, 15, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis, axis)
    outputs = evaluate(net, points)
    points = points[outputs[:, 0] - outputs[:, 1] <= threshold]
    values = net.split(points, net.inputs)
    neurons = []
    for number in net.needed:
        node = net.nodes[number]
        if hasattr(node, "relaxation"):
            values[number] = node.relaxation.value(values[node.sources[0]])
        else:
            total = sum(linear.forward(values[t]) for t, linear in node.terms)
            values[number] = total if node.offset is None else total + node.offset
        if number in net.neurons:
            neurons.append(values[number])
    reached = torch.cat(neurons, -1)[:, nets.columns]
    assert bool((reached >= found.state.lower - 1e-9).all())
    assert bool((reached <= found.state.upper + 1e-9).all())


def test_something_is_gained() -> None:
    """Without a gain the property above would say nothing."""
    gained = 0
    for seed in range(5):
        search = Search(
            asked(seed, 0.05),
            deadline=FAR,
            settings=Settings(method="neurons", refine_steps=0, root_steps=0),
        )
        assert search.run() == "closed"
        gained += sum(map(len, search._tree.tightened.values()))
    assert gained > 5


@pytest.mark.parametrize("arithmetic", ["outward", "exact"])
@pytest.mark.parametrize("seed", range(4))
def test_proofs_with_feedback_are_valid(seed: int, arithmetic: str) -> None:
    question = asked(seed, 0.05)
    plan = Settings(method="neurons", refine_steps=0, root_steps=0, clips=0, clip_neurons=0)
    search = Search(question, deadline=FAR, settings=plan)
    assert search.run() == "closed"
    proof = search.proof()
    assert check_proof(question, proof, arithmetic=arithmetic).verdict == "valid unsat"
    kinds = proof.arrays["node_kind"].tolist()
    if NodeKind.BOUND in kinds:  # what was gained is needed, or costs nothing
        without = Search(question, deadline=FAR, settings=replace(plan, feeds=0, root_feeds=0))
        assert without.run() == "closed"
        assert NodeKind.BOUND not in without.proof().arrays["node_kind"].tolist()


def test_feedback_saves_leaves() -> None:
    leaves = {}
    for feeds in (0, 3):
        plan = Settings(
            method="neurons", refine_steps=0, root_steps=0, feeds=feeds, root_feeds=feeds, clips=0
        )
        leaves[feeds] = 0
        for seed in (0, 1, 2, 3):
            search = Search(asked(seed, 0.05), deadline=FAR, settings=plan)
            assert search.run() == "closed"
            leaves[feeds] += search.proof().leaves
    assert leaves[3] < leaves[0]


def test_conjunctions_and_regions_take_feedback() -> None:
    """A disjunct of two constraints has weights, which the proof repeats."""
    closed = 0
    for seed in range(6):
        source = network(seed, WIDTHS)
        point = {0: Fraction(1), 1: Fraction(-1)}
        low = constraint({}, point, Fraction(seed - 3, 2))
        third = constraint({0: Fraction(1, 3)}, {0: Fraction(-1, 7)}, Fraction(1, 5))
        below = constraint({0: Fraction(1), 1: Fraction(1)}, {}, Fraction(-1))
        box = (Fraction(-1),) * 3, (Fraction(1),) * 3
        case = Case(*box, ((low, third), (third, low)), (below,))
        question = Query(source, Property(3, 2, (case,)), (), "test")
        plan = Settings(method="neurons", refine_steps=0, root_steps=0, clips=0)
        search = Search(question, deadline=FAR, settings=plan, on_candidate=lambda _: True)
        if search.run() == "closed":
            closed += 1
            assert check_proof(question, search.proof()).verdict == "valid unsat"
    assert closed >= 2


def bounds(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_what_is_unknown_is_probed() -> None:
    worth = Worth()
    assert int(worth.pays(bounds(*[-1.0] * 50)).sum()) == PROBES
    assert int(worth.pays(bounds(-1.0, -10.0, -100.0)).sum()) == 3


def test_what_gains_nothing_is_left() -> None:
    worth, many = Worth(), bounds(*[-1.0] * 50)
    worth.fed(many, many, 1.0)
    worth.split(many, 0.8 * many, 1.0)
    assert not bool(worth.pays(many).any())
    assert bool(worth.pays(bounds(-64.0)).all())


def test_what_saves_many_splits_is_fed() -> None:
    worth, many = Worth(), bounds(*[-1.0] * 50)
    worth.fed(many, 0.6 * many, 1.0)
    worth.split(many, 0.9 * many, 1.0)
    assert bool(worth.pays(many).all())


def test_what_the_next_split_closes_is_not_fed() -> None:
    worth, many = Worth(), bounds(*[-1.0] * 50)
    worth.fed(many, -many, 1.0)
    worth.split(many, -many, 1.0)
    assert not bool(worth.pays(many).any())


def test_exponents_follow_what_was_best() -> None:
    worth = Worth()
    start = worth.exponents
    assert start[1] - start[0] == 2
    for _ in range(9):
        worth.learn(torch.tensor([2.0, 3.0]))
    assert worth.exponents[0] <= 2 <= worth.exponents[1]
    worth.learn(torch.zeros(0))
    assert all(isinstance(e, int) for e in worth.exponents)


def test_late_tensors_have_neurons() -> None:
    source = network(0, WIDTHS)
    net, fast = compile_network(source), compile_network(source, dtype=torch.float32)
    point = torch.zeros(1, 3, dtype=torch.float64)
    state = sweep(net, fresh(net, point, point)).domains
    assert late_tensor(focused(net, fast, state).sure) is None
    assert late_tensor(net) == max(net.neurons)
