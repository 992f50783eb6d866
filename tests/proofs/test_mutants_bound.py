"""Wrong kernels: bounds that are too tight, or another domain's.

Each wrong kernel is listed with the probe that notices it; see ``probes.py``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from proofs import frame, substitution
from proofs.check import ARITHMETICS, check_proof
from proofs.exact import Exact
from proofs.frame import Frame, Relaxations
from proofs.functions.relu import Relu
from proofs.outward import Outward
from specs.enclosure import Enclosure
from specs.network import Linear, Term
from specs.property import constraint
from tests.proofs.contracts import watched
from tests.proofs.helpers import (
    BOTH,
    Net,
    RandomProof,
    at_least,
    at_most,
    box_case,
    builder,
    member,
    query,
)
from tests.proofs.mutants import EXACT, OUTWARD, Mutant, each, notice, refused
from tests.proofs.probes import F, kink, rounding_is_paid, simple
from tests.proofs.test_bounds_hold import boxes, points_of, wild_network


def bounds_hold(arithmetic: str) -> None:
    """Random networks with enclosures and random proofs, watched at points."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        network = wild_network(rng, radii=0.5)
        low, high = boxes(rng)
        stated = query(network, [box_case(low, high, at_least(0, 1), at_least(1, 0))])
        real = query(member(rng, network), stated.property.cases)
        with watched(real, list(points_of(rng, low, high, 4))):
            check_proof(stated, None, arithmetic=arithmetic)
            check_proof(stated, RandomProof(rng, stated).proof(depth=3), arithmetic=arithmetic)


def lines_enclose_relu(arithmetic: str) -> None:
    """Lines of any slopes against the corners of the graph, in fractions."""
    numbers, rng = ARITHMETICS[arithmetic](), np.random.default_rng(3)
    small = 2.0 ** -rng.integers(0, 60, (2, 200))  # their products are no exact numbers
    lower, upper = (rng.random((2, 200)) * small * [[-1.0], [1.0]])[:, None]
    slopes = Relu().usable_slopes(rng.normal(0.0, 2.0, (1, 200)))
    ends = numbers.lift_down(lower), numbers.lift_up(upper)
    lines = [numbers.lift_down(slopes)] * 2
    floor, ceiling = Relu().intercepts(numbers, *lines, *ends)
    for k in range(200):
        slope, corners = F(slopes[0, k]), (F(lower[0, k]), F(0), F(upper[0, k]))
        gaps = [max(x, F(0)) - slope * x for x in corners]
        assert numbers.fraction(floor[0, k]) <= min(gaps)
        assert numbers.fraction(ceiling[0, k]) >= max(gaps)


def bounds_stay_on_their_path(arithmetic: str) -> None:
    """Sibling leaves in one batch keep their own bounds, whichever stands first."""
    for network, unsafe in (
        (simple().network, at_least(0, F(1, 2))),
        (simple().network, at_most(0, F(-1, 2))),
        (kink(), at_least(0, F(1, 2))),
    ):
        stated = query(network, [box_case([-1], [1], unsafe)])
        for point in (0.25, -0.25):
            for hint in (False, True):
                made = builder(stated)
                made.begin_tree()
                made.split_input(0, point)
                for _ in range(2):
                    made.sweep()
                    made.close(made.substitution() if hint else None)
                checked = check_proof(stated, made.finish(), arithmetic=arithmetic)
                assert checked.verdict == "invalid"


def rows_keep_their_entries(arithmetic: str) -> None:
    net = Net(1)
    net.dense(0, [[1.0], [-1.0]])
    both = constraint({}, {0: F(1), 1: F(1)}, F(0))
    inputs = constraint({0: F(1)}, {}, F(-10))
    stated = query(net.done(), [box_case([5], [6], (both, inputs))])
    refused(stated, None, arithmetic)


def sums_in_any_order_are_paid(arithmetic: str) -> None:
    """Offsets added up one after the other, each too small to change the first one alone."""
    count = 512
    offset = np.full(count, -(2.0**-55))
    offset[0] = 1.0
    net = Net(1)
    net.dense(net.dense(0, np.zeros((count, 1)), offset), np.ones((1, count)))
    stated = query(net.done(), [box_case([0], [1], at_most(0, sum(map(F, offset))))])

    def one_by_one(self, rows, values):
        return np.add.accumulate(rows * values, axis=1)[:, -1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outward, "dot", one_by_one)
        refused(stated, None, arithmetic)


PROBES = (
    bounds_hold,
    lines_enclose_relu,
    rounding_is_paid,
    sums_in_any_order_are_paid,
    bounds_stay_on_their_path,
    rows_keep_their_entries,
)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.__name__)
def test_the_kernel_passes(probe, arithmetic):
    probe(arithmetic)


def own_of_the_first(original):
    def init(self, *args):
        original(self, *args)
        self._taken = self._rows.owner * 0

    return init


def lines_by_wrong_sign(original):
    def lines(self, tensor):
        made = original(self, tensor)
        return frame.Lines(made.above, made.ceiling, made.below, made.floor)

    return lines


def forgets_other_readers(original):
    def accumulate(self, tensor, rows):
        self._coefficients[tensor] = rows

    return accumulate


def without_cost(original):
    def cost(self, tensor):
        vector, flat = original(self, tensor)
        return vector * 0, flat * 0

    return cost


def a_little_more(original):
    def more(self, *args):
        return original(self, *args) + (1 << 20 if self.name == "exact" else 2.0**-30)

    return more


def unpaid_offset(original):
    return lambda self, values: (values * 0, 0.0)


def narrower(original):
    """Intervals without the radii of coefficients."""

    def interval(self, node, sources):
        terms = tuple(
            t
            if t.map.weight is None
            else Term(t.source, replace(t.map, weight=Enclosure(t.map.weight.value)))
            for t in node.terms
        )
        bare = Linear(node.name, node.shape, terms, node.offset)
        KEPT.append(bare)
        return original(self, bare, sources)

    return interval


KEPT: list = []  # arithmetics know maps by identity


def no_radius_of_offsets(original):
    def offset(self, enclosure):
        return original(self, Enclosure(enclosure.value))

    return offset


def unpaid_adjoint(original):
    def adjoint_cost(self, term, magnitude):
        vector, flat = original(self, term, magnitude)
        return vector * 0, flat * 0

    return adjoint_cost


def stops_for_free(original):
    """What stops at a tensor is bounded too well."""

    def run(self, stop):
        result = original(self, stop)
        return result if stop is None else result + np.abs(result) + 1

    return run


def union_of_rows(original):
    def select(self, tensor, given):
        equal = np.array_equal
        try:
            np.array_equal = lambda a, b: True if a.dtype.kind == "i" else equal(a, b)
            return original(self, tensor, given)
        finally:
            np.array_equal = equal

    return select


def rounding_down_up(original):
    """The intercept below is rounded up and the one above down."""

    def intercepts(self, arithmetic, below, above, lower, upper):
        class Swapped:
            lift_down = staticmethod(arithmetic.lift_down)
            multiply_down = staticmethod(arithmetic.multiply_up)
            multiply_up = staticmethod(arithmetic.multiply_down)

        return original(self, Swapped, below, above, lower, upper)

    return intercepts


def first_lines(original):
    """Lines are made for the first domain's bounds only."""

    def lines(self, tensor):
        made = original(self, tensor)
        count = len(made.floor)

        def first(numbers):
            return np.repeat(numbers[:1], count, axis=0)

        return frame.Lines(
            tuple(map(first, made.below)),
            first(made.floor),
            tuple(map(first, made.above)),
            first(made.ceiling),
        )

    return lines


SUBSTITUTION = substitution.Backward
MUTANTS = (
    Mutant(
        "bounds of the first",
        bounds_stay_on_their_path,
        SUBSTITUTION,
        "__init__",
        own_of_the_first,
    ),
    Mutant(
        "lines of the first",
        bounds_stay_on_their_path,
        Relaxations,
        "_lines",
        first_lines,
    ),
    Mutant("lines exchanged", bounds_hold, Relaxations, "_lines", lines_by_wrong_sign),
    Mutant(
        "other readers forgotten",
        bounds_hold,
        SUBSTITUTION,
        "_accumulate",
        forgets_other_readers,
    ),
    Mutant("no cost at all", bounds_hold, Frame, "cost", without_cost),
    Mutant("off by 2**-108", rounding_is_paid, Exact, "dot_down", a_little_more, EXACT),
    Mutant("off by 2**-30", rounding_is_paid, Outward, "_ends_down", a_little_more, OUTWARD),
    Mutant("offset off by 2**-108", rounding_is_paid, Exact, "dot", a_little_more, EXACT),
    Mutant("offset off by 2**-30", rounding_is_paid, Outward, "dot", a_little_more, OUTWARD),
    Mutant(
        "offset's product unpaid",
        sums_in_any_order_are_paid,
        Outward,
        "dot_cost",
        unpaid_offset,
        OUTWARD,
    ),
    Mutant("adjoint unpaid (out)", bounds_hold, Outward, "adjoint_cost", unpaid_adjoint, OUTWARD),
    Mutant("adjoint unpaid (exact)", bounds_hold, Exact, "adjoint_cost", unpaid_adjoint, EXACT),
    Mutant("radii unpaid (out)", bounds_hold, Outward, "linear_interval", narrower, OUTWARD),
    Mutant("radii unpaid (exact)", bounds_hold, Exact, "linear_interval", narrower, EXACT),
    Mutant("offset's radius (out)", bounds_hold, Outward, "offset", no_radius_of_offsets, OUTWARD),
    Mutant("offset's radius (exact)", bounds_hold, Exact, "offset", no_radius_of_offsets, EXACT),
    Mutant("intercepts inverted", lines_enclose_relu, Relu, "intercepts", rounding_down_up),
    Mutant(
        "sums rounded up",
        bounds_hold,
        Outward,
        "add_down",
        lambda original: lambda self, a, b: self.add_up(a, b),
        OUTWARD,
    ),
    Mutant("stops for free", bounds_hold, SUBSTITUTION, "run", stops_for_free),
    Mutant("rows mixed", rows_keep_their_entries, SUBSTITUTION, "_select", union_of_rows),
)


@each(MUTANTS)
def test_a_mutant_is_noticed(mutant, arithmetic, monkeypatch):
    notice(mutant, arithmetic, monkeypatch)
