"""Proofs about small networks, against the exact answer."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.check import check_proof
from proofs.proof import Fact, NodeKind, Proof, ProofBuilder, Side, SlopeHint
from specs.property import Case, Constraint, constraint
from specs.query import Query
from tests.proofs.helpers import (
    BOTH,
    Net,
    RandomProof,
    at_least,
    at_most,
    box_case,
    builder,
    cells,
    extremes,
    member,
    mutated,
    query,
    random_network,
    reached,
    region,
    verdicts,
)

F = Fraction
SEEDS = st.integers(0, 2**32)


def given_seeds(examples: int):
    def decorate(test):
        plain = settings(max_examples=examples, deadline=None, derandomize=True)
        return plain(given(seed=SEEDS)(test))

    return decorate


def unit_box(network, *unsafe, constraints=()) -> Case:
    size = network.input_size
    return box_case([-1] * size, [1] * size, *unsafe, constraints=constraints)


def violated_query(rng: np.random.Generator) -> Query:
    """Violated exactly at the edge of what is possible, in one of several disguises."""
    network = random_network(rng, int(rng.integers(1, 3)))
    cut = ()
    if network.input_size == 2 and rng.random() < 0.5:
        cut = (constraint({0: F(1), 1: F(2)}, {}, F(-1, 3)),)
    case = unit_box(network, constraints=cut)
    low, high, at = extremes(network, case)
    kind = rng.integers(0, 4)
    if kind == 0:
        unsafe = (at_least(0, high),)
    elif kind == 1:  # an unreachable disjunct beside the one that is reached
        unsafe = (at_least(0, high + 1), at_most(0, low))
    elif kind == 2:  # a conjunction that meets in one point
        about = constraint({0: F(1)}, {}, -at[0])
        unsafe = ((*at_least(0, high), about),)
    else:
        split = constraint({}, {0: F(-1), 1: F(1, 3)}, F(0))
        unsafe = (at_least(0, high), (split, constraint({}, {0: F(1)}, -low + 1)))
    return query(network, [replace(case, unsafe=unsafe)])


@given_seeds(60)
def test_nothing_proves_what_is_violated(seed):
    rng = np.random.default_rng(seed)
    stated = violated_query(rng)
    assert reached(stated)
    for checked in verdicts(stated, None).values():
        assert not checked.valid
    for _ in range(2):
        proof = RandomProof(rng, stated).proof()
        for checked in verdicts(stated, proof).values():
            assert checked.verdict == "invalid", checked.reason


@given_seeds(150)
def test_mutated_proofs_prove_nothing_either(seed):
    rng = np.random.default_rng(seed)
    stated = violated_query(rng)
    proof = RandomProof(rng, stated).proof(depth=3)
    for _ in range(10):
        checked = check_proof(stated, mutated(rng, proof))
        assert checked.verdict in ("invalid", "unreadable", "incomplete")


@given_seeds(25)
def test_a_violation_by_some_member_of_the_enclosures_is_enough(seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng, 1, radii=0.7)
    case = unit_box(network)
    high = max(extremes(member(rng, network), case)[1] for _ in range(3))
    stated = query(network, [replace(case, unsafe=(at_least(0, high),))])
    proofs: list[Proof | None] = [None, RandomProof(rng, stated).proof(), cell_by_cell(stated)]
    for proof in proofs:
        for checked in verdicts(stated, proof).values():
            assert checked.verdict == "invalid"


def cell_by_cell(stated: Query, hints: int | None = None) -> Proof:
    """Splits the input where the network bends, so that nothing but rounding is lost."""
    network = stated.network
    made = builder(stated)
    found = {
        float(p[0]) for cell, _ in cells(network, region(stated.property.cases[0])) for p in cell
    }
    bends = sorted(found)[1:-1]
    made.begin_tree()
    for bend in bends:
        made.split_input(0, bend)
        made.sweep()
        made.close(hints)
    made.sweep()
    made.close(hints)
    return made.finish()


@given_seeds(40)
def test_only_rounding_is_lost_where_no_neuron_bends(seed):
    """Refused at the exact maximum, accepted a hair above it."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, 1)
    case = unit_box(network)
    _, high, _ = extremes(network, case)
    scale = 1 + abs(high)
    for share, expected in ((F(0), "invalid"), (F(1, 10**9), "valid unsat")):
        stated = query(network, [replace(case, unsafe=(at_least(0, high + share * scale),))])
        assert reached(stated) == (expected == "invalid")
        for name, checked in verdicts(stated, cell_by_cell(stated)).items():
            assert checked.verdict == expected, (name, checked.reason)


@given_seeds(24)
def test_whatever_is_accepted_is_true(seed):
    """Thresholds around the maximum, so that both answers occur."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, int(rng.integers(1, 3)))
    case = unit_box(network)
    low, high, _ = extremes(network, case)
    for share in (F(-1, 4), F(0), F(1, 100), F(1), F(5)):
        threshold = high + share * (high - low + F(1, 8))
        stated = query(network, [replace(case, unsafe=(at_least(0, threshold),))])
        for proof in (None, RandomProof(rng, stated, wild=0.05).proof()):
            for checked in verdicts(stated, proof).values():
                assert not checked.valid or not reached(stated)


@pytest.mark.parametrize("seed", range(8))
def test_the_empty_proof_is_accepted_far_from_the_maximum(seed):
    """So that the test above has seen proofs that are accepted."""
    network = random_network(np.random.default_rng(seed), 1)
    case = unit_box(network)
    low, high, _ = extremes(network, case)
    threshold = high + 50 * (high - low + F(1, 8))
    stated = query(network, [replace(case, unsafe=(at_least(0, threshold),))])
    for name, checked in verdicts(stated, None).items():
        assert checked.verdict == "valid unsat", (name, checked.reason)


@given_seeds(5)
def test_optimised_hints_prove_nothing_that_is_violated(seed):
    """Climbs from hints to better hints, with every kind of fact, towards the true bound."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, 1)
    if not network.nonlinear:
        return
    case = unit_box(network)
    _, high, _ = extremes(network, case)
    stated = query(network, [replace(case, unsafe=(at_least(0, high),))])
    sizes = [(t, side, network.sizes[t]) for t in network.nonlinear for side in Side]
    lengths = sum(size for _, _, size in sizes)
    neurons = sum(network.sizes[network.nodes[t].source] for t in network.nonlinear)
    facts = [(kind, i) for kind in (Fact.LOWER, Fact.UPPER) for i in range(min(neurons, 6))]
    facts += [(Fact.UNSAFE, 0), (Fact.SPLIT, 0)]
    position = np.concatenate([rng.random(lengths), np.zeros(len(facts))])

    def attempt(x: np.ndarray, name: str) -> float:
        made = ProofBuilder(stated, 20)
        hints, start = [], 0
        for tensor, side, size in sizes:
            hints.append(SlopeHint(tensor, side, x[start : start + size]))
            start += size
        multipliers = [(*fact, float(v)) for fact, v in zip(facts, x[lengths:], strict=True)]
        used = made.substitution(hints, multipliers)
        neuron = network.nodes[network.nonlinear[-1]].source
        step = made.step(neuron, None, tuple(Side), made.substitution(hints))
        made.begin_case(0, [(NodeKind.SWEEP, 0), (NodeKind.BOUND, step)])
        made.begin_tree()
        made.split_input(0)
        for _ in range(2):
            made.sweep()
            made.close(used)
        checked = check_proof(stated, made.finish(), arithmetic=name)
        assert checked.verdict == "invalid"
        shortfalls = [r.shortfall for r in checked.rejected]
        return max(s for s in shortfalls if s is not None)

    best = attempt(position, "outward")
    for _ in range(40):
        moved = position + rng.normal(size=position.size) * rng.choice([0.01, 0.3, 3.0])
        moved[lengths:] = np.abs(moved[lengths:]) * (rng.random(len(facts)) < 0.5)
        found = attempt(moved, "outward")
        if found < best:
            best, position = found, moved
    attempt(position, "exact")


@given_seeds(40)
def test_the_arithmetics_agree(seed):
    """Exact and outward fall short by the same, up to rounding; exact is never weaker."""
    rng = np.random.default_rng(seed)
    radii = float(rng.choice([0.0, 0.3]))
    network = random_network(rng, int(rng.integers(1, 3)), radii)
    stated = query(network, [unit_box(network, at_least(0, 10**6))])
    loss = 1e-2 if radii else 1e-6  # outward pays a little more than each radius
    for proof in (None, RandomProof(rng, stated, wild=0.0).proof()):
        found = verdicts(stated, proof)
        shortfalls = [{r.node: r.shortfall for r in found[name].rejected} for name in BOTH]
        outward, precise = shortfalls
        assert found["exact"].valid or not found["outward"].valid
        for node, value in precise.items():
            assert node in outward, "outward closes a leaf that exact does not"
            if value is not None and outward[node] is not None:
                assert value <= outward[node] + 1e-9 * (1 + abs(outward[node]))
                assert outward[node] <= value + loss * (1 + abs(value))


@pytest.mark.parametrize("arithmetic", BOTH)
def test_a_bound_of_zero_refutes_a_strict_constraint_only(arithmetic):
    """A form of no entries is bounded by its constant, which is 0 here, without rounding."""
    net = Net(1)
    net.dense(0, [[1.0]])
    network = net.done()
    for strict, expected in ((True, "valid unsat"), (False, "invalid")):
        nothing = Constraint((), (), F(0), strict)  # 0 < 0 or 0 <= 0
        stated = query(network, [unit_box(network, (nothing,))])
        assert check_proof(stated, None, arithmetic=arithmetic).verdict == expected
    two = (Constraint((), (), F(0), True), Constraint((), (), F(0)))
    for weights, expected in (
        ((0.0, 1.0), "invalid"),
        ((-1.0, 1.0), "invalid"),
        ((1.0, 1.0), "valid unsat"),
    ):
        stated = query(network, [unit_box(network, two)])
        made = builder(stated)
        made.begin_tree()
        made.close(made.substitution(weights=weights))
        assert check_proof(stated, made.finish(), arithmetic=arithmetic).verdict == expected
