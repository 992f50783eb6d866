"""Wrong kernels: the question, the file or the witness misread.

Each wrong kernel is listed with the probe that notices it; see ``probes.py``.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from proofs import check, facts, tables, witness
from proofs.check import check_proof
from proofs.proof import Fact, NodeKind, Side, SlopeHint
from specs.errors import EvidenceError
from specs.property import Constraint, constraint
from tests.proofs.helpers import BOTH, Net, at_least, at_most, box_case, builder, query, with_arrays
from tests.proofs.mutants import EXACT, Mutant, each, notice, refused
from tests.proofs.probes import F, hinted, simple
from tests.proofs.test_witness import (
    test_all_members_of_an_enclosure_must_violate,
    test_constraints_of_the_region_count,
    test_every_constraint_of_the_disjunct_counts,
    test_the_region_is_met_exactly,
    test_the_threshold_is_met_exactly,
)


def the_box_is_rounded_outward(arithmetic: str) -> None:
    """1/3 is no float: both neighbours must stay inside."""
    net = Net(1)
    net.dense(0, [[1.0]])
    third = F(1, 3)
    for low, high, unsafe in ((0, third, at_least(0, third)), (third, 1, at_most(0, third))):
        stated = query(net.done(), [box_case([low], [high], unsafe)])
        refused(stated, None, arithmetic)


def coefficients_are_rational(arithmetic: str) -> None:
    """Thirds and sevenths, of several outputs, in a constraint that is met exactly."""
    net = Net(1)
    net.dense(0, [[1.0], [3.0]], [0.0, 2.0])
    at_one = F(1, 7) - F(1, 3) + F(5, 9)
    at_zero = F(2, 9)
    tip = min(at_one, at_zero)
    moved = constraint({0: F(1, 7)}, {0: F(-1, 3), 1: F(1, 9)}, -tip)
    stated = query(net.done(), [box_case([0], [1], (moved,))])
    refused(stated, None, arithmetic)


def hints_are_finite(arithmetic: str) -> None:
    stated = simple(F(1, 2))
    proof = hinted(
        stated,
        [(Fact.LOWER, 0, 1.0)],
        (1.0,),
        slopes=[SlopeHint(2, side, np.ones(2)) for side in Side],
        splits=[(0, 0.5)],
    )
    for name in ("multiplier_value", "weight_value", "form_point", "entry_weight"):
        for bad in (np.nan, np.inf, -np.inf):
            values = np.full(proof.arrays[name].shape, bad)
            checked = check_proof(stated, with_arrays(proof, **{name: values}))
            assert checked.verdict == "unreadable"


def indices_do_not_wrap(arithmetic: str) -> None:
    """Numbers beyond a table are refused, not taken from its other end."""
    stated = simple(F(1, 2))
    proof = hinted(stated, [(Fact.LOWER, 0, 1.0)], splits=[(0, 0.5)])
    for name in ("entry_index", "entry_tensor", "multiplier_index", "node_arg", "tree_case"):
        for bad in (2**32 - 1, 1000):
            values = np.full(proof.arrays[name].shape, bad, dtype=np.uint32)
            checked = check_proof(stated, with_arrays(proof, **{name: values}))
            assert checked.verdict == "unreadable"


def trees_are_consumed(arithmetic: str) -> None:
    """A split with one child, nodes left over, an empty tree, a tree over another's nodes."""
    stated = simple(5)  # any well-formed proof of it is valid
    split, leaf = NodeKind.SPLIT_INPUT, NodeKind.CLOSE
    for kinds in ([split, leaf], [leaf, leaf], [split], [split, leaf, leaf, leaf], []):
        made = builder(stated)
        made.begin_tree()
        made.close()
        proof = with_arrays(
            made.finish(),
            node_kind=np.array(kinds, dtype=np.uint8),
            node_arg=np.zeros(len(kinds), dtype=np.uint32),
            tree_ptr=np.array([0, len(kinds)], dtype=np.uint32),
        )
        assert check_proof(stated, proof, arithmetic=arithmetic).verdict == "unreadable"


def witnesses_are_decided_exactly(arithmetic: str) -> None:
    test_the_threshold_is_met_exactly()
    test_the_region_is_met_exactly()
    test_constraints_of_the_region_count()
    test_every_constraint_of_the_disjunct_counts()
    for part in ("weight", "offset"):
        test_all_members_of_an_enclosure_must_violate(part)


PROBES = (
    the_box_is_rounded_outward,
    coefficients_are_rational,
    hints_are_finite,
    indices_do_not_wrap,
    trees_are_consumed,
    witnesses_are_decided_exactly,
)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.__name__)
def test_the_kernel_passes(probe, arithmetic):
    probe(arithmetic)


def nearest_box(original):
    def box(self):
        return tuple(np.array([float(v) for v in side]) for side in (self.lower, self.upper))

    return box


def six_decimals(original):
    def of_constraint(network, stated):
        def rounded(value):
            return F(math.ceil(value * 10**6), 10**6)

        parts = [tuple((k, rounded(c)) for k, c in p) for p in (stated.inputs, stated.outputs)]
        return original(network, Constraint(*parts, rounded(stated.constant), stated.strict))

    return of_constraint


def missing_check(*words: str):
    def break_(original):
        def check_(self, *args):
            try:
                return original(self, *args)
            except EvidenceError as error:
                if any(word in str(error) for word in words):
                    return None
                raise

        return check_

    return break_


def middle_only(original):
    return lambda network, point: [(centre, F(0)) for centre, _ in original(network, point)]


def not_strict(original):
    def violates(constraint_, x, y):
        value = original(constraint_, x, y)
        return value - F(1, 10**60) if constraint_.strict else value

    return violates


def region_closed(original):
    def why(stated, point):
        cases = [
            replace(c, constraints=(), strict_lower=frozenset(), strict_upper=frozenset())
            for c in stated.property.cases
        ]
        other = query(stated.network, cases)
        return original(other, replace(point, question=other.digest))

    return why


MUTANTS = (
    Mutant("rounded coefficients", coefficients_are_rational, facts, "of_constraint", six_decimals),
    Mutant(
        "NaN in hints",
        hints_are_finite,
        tables.Tables,
        "_check_references",
        missing_check("not finite"),
    ),
    Mutant(
        "indices unchecked",
        indices_do_not_wrap,
        tables.Tables,
        "_check_references",
        missing_check("outside"),
    ),
    Mutant(
        "trees not consumed",
        trees_are_consumed,
        tables.Tables,
        "_check_nodes",
        missing_check("exactly one tree"),
    ),
    Mutant("enclosures ignored", witnesses_are_decided_exactly, witness, "evaluate", middle_only),
    Mutant("strictness ignored", witnesses_are_decided_exactly, witness, "_largest", not_strict),
    Mutant("region ignored", witnesses_are_decided_exactly, check, "objection", region_closed),
)


@each(MUTANTS)
def test_a_mutant_is_noticed(mutant, arithmetic, monkeypatch):
    notice(mutant, arithmetic, monkeypatch)


def test_a_box_that_is_rounded_to_nearest_is_noticed(monkeypatch):
    from specs.property import Case

    monkeypatch.setattr(Case, "box", nearest_box(Case.box))
    for name in EXACT:
        with pytest.raises(AssertionError):
            the_box_is_rounded_outward(name)
