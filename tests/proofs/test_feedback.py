"""Bound steps under multiples of the unsafe constraints, scaled row by row."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from proofs import steps
from proofs.check import check_proof
from proofs.facts import Facts
from proofs.proof import AS_STORED, Fact, Proof, ProofBuilder, Side
from specs.query import Query
from tests.proofs.helpers import BOTH, Net, at_least, box_case, query, with_arrays
from tests.proofs.mutants import Mutant, each, notice, refused
from tests.proofs.probes import F, before_disjuncts, kink


def two(second: Fraction) -> Query:
    """r = relu(x) on [-1, 1]; unsafe: r >= 1/2 and r - x >= ``second``.

    Where r >= 1/2, x is not negative and r - x is 0.
    """
    net = Net(1)
    r = net.relu(net.dense(0, [[1.0]]))
    net.add(net.dense(r, [[1.0], [1.0]]), net.dense(0, [[0.0], [-1.0]]))
    unsafe = (*at_least(0, F(1, 2)), *at_least(1, second))
    return query(net.done(), [box_case([-1], [1], unsafe)])


def one(threshold: Fraction) -> Query:
    """r = relu(x) on [-1, 1]; unsafe: r >= ``threshold``."""
    return query(kink(), [box_case([-1], [1], at_least(0, threshold))])


def fed(
    stated: Query,
    scales: object,
    sides: tuple[Side, ...] = (Side.LOWER,),
    value: float = 1.0,
    as_stored: bool = True,
) -> Proof:
    made = ProofBuilder(stated)
    facts = made.substitution((), [(Fact.UNSAFE, 0, value)])
    grown = None if scales is None else np.array(scales)
    step = made.step(1, np.array([0]), sides, facts, grown, as_stored=as_stored)
    made.begin_case(0, ())
    made.begin_tree()
    made.bound(step)
    made.close()
    return made.finish()


@pytest.mark.parametrize("arithmetic", BOTH)
def test_the_scale_decides(arithmetic):
    """Below, x + g (1/2 - r) with r <= (x + 1) / 2 is x (1 - g / 2): g = 2 shows x >= 0."""
    stated = two(F(1, 4))
    assert check_proof(stated, fed(stated, [[1]]), arithmetic=arithmetic).verdict == "valid unsat"
    for scales in (None, [[0]], [[-3]], [[-128]], [[2]], [[127]]):
        refused(stated, fed(stated, scales), arithmetic)
    refused(stated, fed(stated, [[1]], (Side.UPPER,)), arithmetic)
    doubled = fed(stated, [[0]], value=2.0)
    assert check_proof(stated, doubled, arithmetic=arithmetic).verdict == "valid unsat"


@pytest.mark.parametrize("arithmetic", BOTH)
def test_scales_belong_to_sides(arithmetic):
    stated, both = two(F(1, 4)), tuple(Side)
    for scales, expected in (([[1], [-5]], "valid unsat"), ([[-5], [1]], "invalid")):
        checked = check_proof(stated, fed(stated, scales, both), arithmetic=arithmetic)
        assert checked.verdict == expected


@pytest.mark.parametrize("arithmetic", BOTH)
def test_scales_belong_to_rows(arithmetic):
    """Two copies of x, of which only one may be known to be positive."""
    net = Net(1)
    r = net.relu(net.dense(0, [[1.0], [1.0]]))
    net.add(net.dense(r, [[1.0, 0.0], [0.0, 1.0]]), net.dense(0, [[0.0], [-1.0]]))
    unsafe = (*at_least(0, F(1, 2)), *at_least(1, F(1, 4)))
    stated = query(net.done(), [box_case([-1], [1], unsafe)])
    for rows, scales, expected in (
        ([0, 1], [[-9, 1]], "valid unsat"),
        ([0, 1], [[1, -9]], "invalid"),
        ([1, 0], [[1, -9]], "valid unsat"),
        ([1], [[1]], "valid unsat"),
        ([0], [[1]], "invalid"),
    ):
        made = ProofBuilder(stated)
        facts = made.substitution((), [(Fact.UNSAFE, 0, 1.0)])
        step = made.step(1, np.array(rows), (Side.LOWER,), facts, np.array(scales))
        made.begin_case(0, ())
        made.begin_tree()
        made.bound(step)
        made.close()
        assert check_proof(stated, made.finish(), arithmetic=arithmetic).verdict == expected


@pytest.mark.parametrize("arithmetic", BOTH)
def test_intervals_are_propagated_unless_bounds_are_taken_as_stored(arithmetic, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("propagated")

    stated = two(F(1, 4))
    monkeypatch.setattr(steps, "propagate", refuse)
    stored = fed(stated, [[1]], as_stored=True)
    assert check_proof(stated, stored, arithmetic=arithmetic).verdict == "valid unsat"
    with pytest.raises(AssertionError, match="propagated"):
        check_proof(stated, fed(stated, [[1]], as_stored=False), arithmetic=arithmetic)


@pytest.mark.parametrize(
    "arrays",
    [
        {"step_scale": [1, 1], "step_scale_ptr": [0, 2]},
        {"step_scale": [1], "step_scale_ptr": [0, 0]},
        {"step_scale": [1], "step_scale_ptr": [0]},
        {"step_scale": [1], "step_scale_ptr": [0, 1, 1]},
        {"step_sides": [AS_STORED]},
        {"step_sides": [2 * AS_STORED]},
        {"step_sides": [AS_STORED | 3]},
        {"step_set": [-1]},
    ],
)
def test_malformed_scales_are_refused(arrays):
    stated = two(F(1, 4))
    good = fed(stated, [[1]])
    found = {name: np.array(v, good.arrays[name].dtype) for name, v in arrays.items()}
    checked = check_proof(stated, with_arrays(good, **found))
    assert checked.verdict == "unreadable"


def test_proofs_without_scales_need_no_spans():
    stated = two(F(1, 4))
    good = fed(stated, None, value=2.0)
    short = with_arrays(good, step_scale_ptr=np.zeros(1, dtype=np.uint32))
    assert check_proof(stated, short).verdict == "valid unsat"


def reachable_sets_stay_reachable(arithmetic: str) -> None:
    """Whatever the scale, a statement that is false is not proved."""
    for threshold in (F(1, 4), F(3, 4), F(1)):
        stated = one(threshold)
        for exponent in (-9, -3, -1, 0, 1, 3, 9):
            for sides in ((Side.LOWER,), (Side.UPPER,)):
                refused(stated, fed(stated, [[exponent]], sides), arithmetic)
            refused(stated, fed(stated, [[exponent]] * 2, tuple(Side)), arithmetic)


def feedback_dies_with_its_disjunct(arithmetic: str) -> None:
    """A root state under a fact of one of two disjuncts would refute the other one."""
    case = box_case([-1], [1], at_least(0, F(2)), at_least(0, F(1, 2)))
    stated = query(kink(), [case])
    facts, scales = [(Fact.UNSAFE, 0, 1.0)], np.array([[1], [1]])
    proof = before_disjuncts(stated, facts, np.array([0]), scales, to_close=False)
    refused(stated, proof, arithmetic)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("probe", [reachable_sets_stay_reachable, feedback_dies_with_its_disjunct])
def test_the_kernel_passes(probe, arithmetic):
    probe(arithmetic)


def scaled_rows(original):
    """The row itself is scaled, not its facts."""

    def combine(parts):
        listed = list(parts)
        return original(zip([m for m, _ in listed][::-1], [f for _, f in listed], strict=True))

    return combine


def of_the_first(original):
    """The unsafe constraint counts while other disjuncts remain."""

    def listed(self, path, stored, place, hints):
        return original(self, replace(path, disjuncts=(0,)), stored, place, hints)

    return listed


MUTANTS = (
    Mutant("rows scaled", reachable_sets_stay_reachable, steps, "combine", scaled_rows),
    Mutant(
        "any disjunct",
        feedback_dies_with_its_disjunct,
        Facts,
        "_listed",
        of_the_first,
    ),
)


@each(MUTANTS)
def test_a_wrong_kernel_is_noticed(mutant, arithmetic, monkeypatch):
    notice(mutant, arithmetic, monkeypatch)
