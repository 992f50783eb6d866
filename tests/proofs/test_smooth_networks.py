"""Networks of smooth functions and of steps: the rules Bound and Relax from end to end."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from proofs.evaluate import evaluate
from proofs.functions import KNOWN
from proofs.proof import Proof, Side, SlopeHint
from specs.network import Network, Univariate
from specs.query import Query
from tests.proofs.helpers import Net, at_least, box_case, builder, query, verdicts

PARAMETERS = {"power": (3.0,), "elu": (1.5,), "selu": (1.67, 1.05)}


def network(name: str, rng: np.random.Generator) -> Network:
    """Two layers; what functions are applied to is positive, for the sake of the logarithm."""
    net = Net(2)

    def apply(source: int) -> int:
        parameters = PARAMETERS.get(name, ())
        node = Univariate(f"n{len(net.nodes)}", (net.size(source),), source, name, parameters)
        net.nodes.append(node)
        return len(net.nodes) - 1

    inner = apply(net.dense(0, rng.uniform(-0.2, 0.2, (3, 2)), offset=[1.5, 1.6, 1.7]))
    outer = apply(net.dense(inner, rng.uniform(0.0, 0.2, (2, 3)), offset=[0.7, 0.9]))
    net.dense(outer, rng.normal(size=(1, 2)))
    return net.done()


def hinted(stated: Query, slopes: list[SlopeHint]) -> Proof:
    made = builder(stated)
    made.begin_tree()
    made.close(made.substitution(slopes))
    return made.finish()


@pytest.mark.parametrize("name", KNOWN)
def test_no_slopes_prove_what_is_reached_and_all_prove_what_is_far(name):
    rng = np.random.default_rng(sum(map(ord, name)))
    made = network(name, rng)
    points = [[Fraction(int(k), 64) for k in rng.integers(-64, 65, size=2)] for _ in range(60)]
    values = [evaluate(made, point)[0] for point in points]
    reached = max(centre - radius for centre, radius in values)

    def stated(threshold: Fraction) -> Query:
        return query(made, [box_case([-1, -1], [1, 1], at_least(0, threshold))])

    random = [
        SlopeHint(tensor, side, rng.normal(size=made.sizes[tensor]))
        for tensor in made.nonlinear
        for side in Side
    ]
    for slopes in ([], random):
        proof = hinted(stated(reached), slopes)
        short = {}
        for arithmetic, checked in verdicts(stated(reached), proof).items():
            assert checked.verdict == "invalid"
            short[arithmetic] = checked.rejected[0].shortfall
        assert short["outward"] == pytest.approx(short["exact"], rel=1e-6, abs=1e-9)
        safe = reached + Fraction(max(short.values())) * Fraction(1001, 1000) + Fraction(1, 10**6)
        proof = hinted(stated(safe), slopes)
        for checked in verdicts(stated(safe), proof).values():
            assert checked.verdict == "valid unsat"


def test_default_slopes_are_better_than_others():
    """What the empty proof loses on a sigmoid of a small box is of second order."""
    made = network("sigmoid", np.random.default_rng(1))
    centre, _ = evaluate(made, [Fraction(0), Fraction(0)])[0]
    case = box_case([-1 / 64, -1 / 64], [1 / 64, 1 / 64])
    near = [
        evaluate(made, [Fraction(a, 64), Fraction(b, 64)])[0][0] for a in (-1, 1) for b in (-1, 1)
    ]
    top = max(near)
    assert top > centre
    for share, verdict in ((Fraction(1, 100), "valid unsat"), (Fraction(0), "invalid")):
        unsafe = at_least(0, top + (top - centre) * share)
        for checked in verdicts(query(made, [replace(case, unsafe=(unsafe,))]), None).values():
            assert checked.verdict == verdict


@pytest.mark.parametrize("name", ["log", "reciprocal", "sqrt"])
def test_that_a_function_is_defined_is_never_a_fact(name):
    """Not even at the one point where the property speaks of its value."""
    net = Net(1)
    net.nodes.append(Univariate("f", (1,), 0, name))
    net.dense(1, [[1.0]])
    made = net.done()
    for lower, verdict in ((-1, "invalid"), (1, "valid unsat")):
        case = box_case([lower], [2], at_least(0, 100))
        for checked in verdicts(query(made, [case]), None).values():
            assert checked.verdict == verdict


def test_what_overflows_is_unbounded():
    net = Net(1)
    net.nodes.append(Univariate("f", (1,), 0, "exp"))
    made = net.done()
    case = box_case([0], [2000], at_least(0, 10**400))
    for checked in verdicts(query(made, [case]), None).values():
        assert checked.verdict == "invalid"
