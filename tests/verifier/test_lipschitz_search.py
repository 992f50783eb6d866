"""The search for partitions that bound Lipschitz constants."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.partitions.check import check_partition
from proofs.partitions.evidence import Kind
from specs.lipschitz import NORMS, LipschitzQuestion
from specs.network import Network
from specs.property import Case
from specs.query import ModelFile
from tests.proofs.helpers import Net
from verifier.probability.growing import Growing
from verifier.probability.lipschitz import Norms, _Search, bound, largest_gradient


def ask(network: Network, low, high, norm="linf") -> LipschitzQuestion:
    case = Case(tuple(map(Fraction, low)), tuple(map(Fraction, high)), ())
    rows, file = np.eye(network.output_size), ModelFile(None, b"", "0")
    return LipschitzQuestion(file, network, case, norm, rows, Fraction(0), "f", "built")


def layered(seed: int, *widths: int) -> Network:
    rng, net, last = np.random.default_rng(seed), Net(widths[0]), 0
    for number, (before, after) in enumerate(itertools.pairwise(widths)):
        last = net.relu(last) if number else last
        last = net.dense(last, rng.normal(size=(after, before)), rng.normal(size=after))
    return net.done(last)


def steps(count: int) -> Network:
    """A ramp of x1 whose slope is 1 or 3, in steps; x0 and x2 are added."""
    net = Net(3)
    at = np.arange(count) / count
    hidden = net.relu(net.dense(0, [[0.0, 1.0, 0.0]] * count, -at))
    ramp = net.dense(hidden, [[1.0] + [2.0 * (-1) ** k for k in range(count - 1)]])
    return net.done(net.add(ramp, net.dense(0, [[1.0, 0.0, 1.0]])))


def test_inputs_that_leave_nothing_undecided_are_not_split():
    found = bound(ask(steps(6), [0, 0, 0], [1, 1, 1]), 20.0)
    assert found.constant == pytest.approx(5, rel=0.01)
    assert found.leaves > 1
    assert set(found.evidence.arrays["axis"].tolist()) == {1}


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(NORMS))
def test_more_leaves_are_never_worse(seed, norm):
    asked = ask(layered(seed, 3, 6, 5, 1), [-1] * 3, [1] * 3, norm)
    curve = []
    whole = bound(asked, 20.0, leaves=1)
    found = bound(asked, 20.0, leaves=12, progress=lambda *reached: curve.append(reached))
    assert whole.leaves == 1
    assert whole.first == found.first
    reached = [value for value, _ in curve]
    assert reached == sorted(reached, reverse=True)
    assert found.found <= found.constant <= whole.constant
    assert check_partition(found.question, found.evidence).checked.verdict == "valid unsat"
    if curve:
        assert (
            curve[-1][1]
            == found.leaves
            == np.count_nonzero(found.evidence.integers("kind") == Kind.SAFE)
        )


def test_a_clock_that_is_over_leaves_the_whole_box():
    times = itertools.count()
    asked = ask(layered(1, 3, 6, 5, 1), [-1] * 3, [1] * 3)
    found = bound(asked, 0.5, clock=lambda: float(next(times)))
    assert found.leaves == 1
    assert found.evidence.integers("kind").tolist() == [Kind.SAFE]
    assert found.constant >= Fraction(found.first)
    assert check_partition(found.question, found.evidence).checked.verdict == "valid unsat"


def test_it_ends_close_to_the_largest_gradient():
    asked = ask(layered(2, 2, 5, 4, 1), [-1] * 2, [1] * 2)
    near, nearer = (bound(asked, 20.0, close=close) for close in (0.5, 0.01))
    assert near.leaves <= nearer.leaves
    for found, close in ((near, 0.5), (nearer, 0.01)):
        assert found.found <= found.constant <= found.found * (1 + close) * 1.001
        assert Norms(asked)(found.point[None])[0] == pytest.approx(found.found)


def test_a_smaller_constant_than_a_gradient_is_not_shown():
    found = bound(ask(layered(2, 2, 5, 4, 1), [-1] * 2, [1] * 2), 20.0)
    claimed = Fraction(found.found) * Fraction(999, 1000)
    lower = replace(found.question, at_most=claimed)
    evidence = replace(found.evidence, question=lower.digest)
    assert check_partition(lower, evidence).checked.verdict == "invalid"


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_at_corners_are_found(norm):
    """``Relu(sum x - n + 1/2)`` is steep in one corner alone."""
    net = Net(7)
    network = net.done(net.relu(net.dense(0, np.ones((1, 7)), [-6.5])))
    found, point = largest_gradient(ask(network, [0] * 7, [1] * 7, norm))
    assert found == pytest.approx({"linf": 7, "l2": 7**0.5, "l1": 1}[norm])
    assert np.all((point >= 0) & (point <= 1))


def test_a_tree_as_it_was():
    tree, seen = Growing(), []
    for node, axis in ((0, 1), (2, 0), (1, 2), (3, 0)):
        seen.append((len(tree.kind), tree.evidence("q", "unsat")))
        first = tree.split(node, axis, 0.5)
        for child in (first, first + 1):
            tree.close(child, Kind.SAFE)
    for nodes, evidence in seen:
        before = tree.first(nodes).evidence("q", "unsat").arrays
        expected = dict(evidence.arrays)
        expected["kind"] = np.where(expected["kind"] == Kind.OPEN, Kind.SAFE, expected["kind"])
        assert all(np.array_equal(before[name], expected[name]) for name in expected)
    whole = tree.first(len(tree.kind)).evidence("q", "unsat").arrays
    assert np.array_equal(whole["kind"], tree.evidence("q", "unsat").arrays["kind"])


def test_leaves_that_are_never_split_are_let_go():
    asked = ask(layered(2, 2, 5, 4, 1), [-1] * 2, [1] * 2)
    run = _Search(asked, 0.1, lambda: None)
    run.start()
    least = run.enough
    while run.highest > run.enough:
        assert run.round()
        assert all(-leaf.key > least for leaf in run._heap)
    assert run.leaves > len(run._heap) + 1
    assert run.enough >= least
    claimed = replace(asked, at_most=Fraction(run.highest) * Fraction(1000001, 1000000))
    evidence = run.tree.evidence(claimed.digest, "unsat")
    assert check_partition(claimed, evidence).checked.verdict == "valid unsat"


def test_gradients_that_overflow_say_nothing():
    net = Net(1)
    asked = ask(net.done(net.product(net.product(0, 0), net.product(0, 0))), [1e100], [1e110])
    norms = Norms(asked)(np.array([[1.0], [1e90], [1e110], [np.nan]]))
    assert norms.tolist() == pytest.approx([4.0, 4e270, 0.0, 0.0])
    found = bound(asked, 5.0)
    assert found.constant is None or found.constant >= Fraction(found.found)
