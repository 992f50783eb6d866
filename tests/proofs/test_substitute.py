"""Substituting back: corners where a row could be lost, doubled or rounded for free."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from proofs.bounds import propagate
from proofs.check import ARITHMETICS, check_proof
from proofs.frame import Batch, Frame, Lines, Relaxations, Rows
from proofs.proof import Side, SlopeHint
from proofs.substitution import substitute
from specs.enclosure import Enclosure
from specs.linear import Scale
from specs.property import constraint
from tests.proofs.helpers import BOTH, Net, at_most, box_case, builder, query, random_network

F = Fraction


@pytest.mark.parametrize("arithmetic", BOTH)
def test_a_row_with_two_entries_is_not_taken_for_two_rows_with_one(arithmetic):
    """As many unit entries as rows, but not one in each: dense look-up does not apply."""
    net = Net(1)
    net.dense(0, [[1.0], [-1.0]])
    both = constraint({}, {0: F(1), 1: F(1)}, F(0))  # y0 + y1 = 0, always reached
    inputs = constraint({0: F(1)}, {}, F(-10))
    stated = query(net.done(), [box_case([5], [6], (both, inputs))])
    assert check_proof(stated, None, arithmetic=arithmetic).verdict == "invalid"


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize(
    ("low", "high", "slope", "verdict"),
    [
        (1, 2, 0.0, "valid unsat"),  # stable: hints have no say
        (-2, -1, -3.0, "valid unsat"),
        (1, 3, 1024.0, "valid unsat"),
        (-1, 2, 1.0, "valid unsat"),
        (-1, 2, 0.0, "invalid"),
    ],
)
def test_slopes_are_taken_for_what_bends_only(arithmetic, low, high, slope, verdict):
    """relu(x) - x > -1/4 everywhere, which the slope 1 proves, and the node itself."""
    net = Net(1)
    before = net.dense(0, [[1.0]])
    after = net.relu(before)
    net.subtract(after, before)
    stated = query(net.done(), [box_case([low], [high], at_most(0, F(-1, 4)))])
    made = builder(stated)
    made.begin_tree()
    made.sweep()
    made.close(made.substitution([SlopeHint(after, Side.LOWER, np.array([slope]))]))
    assert check_proof(stated, made.finish(), arithmetic=arithmetic).verdict == verdict


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("top", [2.0**-1060, 2.0**-1030, 2.0**-900])
def test_rounding_is_paid_for_where_a_magnitude_is_nearly_zero(arithmetic, top):
    """Coefficients near 2**1000 lose much when they cancel, however small the tensor is."""
    net = Net(1)
    big, small = 2.0**1000, 2.0**946
    terms = [(0, Scale(Enclosure(np.array([w])))) for w in (big, *[small] * 200, -big)]
    parts = [net.linear(term) for term in terms]
    net.add(*parts)
    threshold = 200 * F(small) * F(top)  # reached at the box's end, and not beyond
    unsafe = (constraint({}, {0: F(-1)}, threshold),)
    stated = query(net.done(), [box_case([-F(top)], [F(top)], unsafe)])
    assert check_proof(stated, None, arithmetic=arithmetic).verdict == "invalid"


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("unsafe_below", [True, False], ids=["reached", "never"])
def test_coefficients_that_become_zero_are_paid_for(arithmetic, unsafe_below):
    """2**-1200 x is nothing in floats, and below 0 for all that."""
    net = Net(1)
    small = net.dense(0, [[2.0**-600]])
    net.dense(small, [[2.0**-600]])
    unsafe = at_most(0, 0, strict=True) if unsafe_below else at_most(0, F(-1), strict=True)
    stated = query(net.done(), [box_case([-2], [-1], unsafe)])
    verdict = "invalid" if unsafe_below else "valid unsat"
    assert check_proof(stated, None, arithmetic=arithmetic).verdict == verdict


@pytest.mark.parametrize("arithmetic", BOTH)
def test_what_a_zero_coefficient_hides_does_not_count(arithmetic):
    """``0 relu(x) + z`` is at least what ``z`` is, however large the relu is."""
    net = Net(2)
    large = net.relu(net.dense(0, [[2.0**40, 0.0]]))
    nothing = net.linear((large, Scale(Enclosure(np.zeros(1)))))
    net.add(nothing, net.dense(0, [[0.0, 1.0]]))
    for threshold, verdict in ((F(1), "invalid"), (F(999, 1000), "valid unsat")):
        stated = query(net.done(), [box_case([-1, 1], [1, 2], at_most(0, threshold))])
        assert check_proof(stated, None, arithmetic=arithmetic).verdict == verdict


@pytest.mark.parametrize(
    ("floor", "ceiling", "resting"),
    [
        ([0.0, -0.0], [0.0, 1.0], True),
        ([0.0, 0.0], [np.inf, 1.0], True),
        ([0.0, 0.0], [2.0, -5e-324], False),  # a sum of these is not that of their sizes
        ([0.0, 0.0], [2.0, np.nan], False),
        ([0.0, -5e-324], [0.0, 1.0], False),
        ([0.0, np.nan], [0.0, 1.0], False),
    ],
)
def test_lines_rest_where_no_intercept_is_below_zero(floor, ceiling, resting):
    slopes = np.ones((1, 2))
    lines = Lines((slopes,), np.array([floor]), (slopes,), np.array([ceiling]))
    assert lines.resting is resting


@pytest.mark.parametrize("seed", range(40))
def test_outward_bounds_are_at_most_exact_ones(seed):
    """The same rows, slopes and stored bounds in both: on points next to nothing is lost."""
    rng = np.random.default_rng(seed)
    network, domains, count = random_network(rng, 2), int(rng.integers(1, 4)), 5
    low = rng.normal(size=(domains, 2))
    high = low + rng.choice([0.0, 2.0**-30, 1.0]) * rng.random((domains, 2))
    last = len(network.nodes) - 1
    width = network.sizes[last]
    owner, values = rng.integers(0, domains, size=count), rng.normal(size=(count, width))
    signs = rng.choice([1.0, -1.0, 1.0 + 2.0**-52], size=(count, width))
    hints = {
        (tensor, side): rng.choice([1.0, 40.0]) * rng.normal(size=(domains, network.sizes[tensor]))
        for tensor in network.nonlinear
        for side in Side
        if rng.random() < 0.7
    }
    around = Batch(low.min(0)[None], high.max(0)[None], {}, np.zeros(1, dtype=bool))
    propagate(Frame(network, ARITHMETICS["outward"]()), around, record=True)
    row, entry = np.divmod(np.arange(count * width), width)
    found = {}
    for name in BOTH:
        numbers = ARITHMETICS[name]()
        frame = Frame(network, numbers)
        whole = Batch(around.lower, around.upper, {}, around.empty)
        propagate(frame, whole, record=True)
        stored = {
            tensor: tuple(np.repeat(numbers.lift_down(end), domains, axis=0) for end in ends)
            for tensor, ends in around.bounds.items()
        }
        batch = Batch(low, high, stored, np.zeros(domains, dtype=bool))
        start = {last: (row, entry, numbers.lift_down((values * signs).reshape(-1)))}
        rows = Rows(owner, numbers.zeros((count,)), start)
        least = substitute(frame, batch, Relaxations(frame, batch, hints), rows)
        found[name] = [numbers.fraction(value) for value in least]
    for outward, exact in zip(found["outward"], found["exact"], strict=True):
        assert outward <= exact
        assert exact - outward <= F(1, 1 << 30) * (1 + abs(exact))
