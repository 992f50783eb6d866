"""Wrong kernels: facts of the wrong sign, side or path.

Each wrong kernel is listed with the probe that notices it; see ``probes.py``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from proofs import domain, facts, forms
from proofs.check import check_proof
from proofs.facts import Facts
from proofs.proof import Fact
from specs.property import Constraint
from tests.proofs.helpers import BOTH, at_least, at_most, box_case, builder, query
from tests.proofs.mutants import Mutant, each, notice, refused
from tests.proofs.probes import F, before_disjuncts, hinted, simple


def facts_have_their_sign(arithmetic: str) -> None:
    stated = simple(F(1, 2))
    for kind in Fact:
        for index in range(3):
            for value in (-1e6, -1.0, 1.0, 1e6):
                proof = hinted(stated, [(kind, index, value)], splits=[(0, 0.25)])
                refused(stated, proof, arithmetic)


def weights_have_their_sign(arithmetic: str) -> None:
    two = at_least(0, F(1, 2)) + at_most(0, 2)
    net = simple().network
    stated = query(net, [box_case([-1], [1], two)])
    for weights in ((-1.0, 0.0), (0.0, -1.0), (-5.0, -1.0), (1.0, -1.0), (0.0, 0.0)):
        refused(stated, hinted(stated, weights=weights), arithmetic)


def region_constraints_cut_the_right_side(arithmetic: str) -> None:
    """x >= -1/4, so that y reaches 1 but not -1; the wrong sign would hide 1."""
    cut = Constraint(((0, F(-1)),), (), F(-1, 4))
    stated = simple(1, constraints=(cut,))
    refused(stated, hinted(stated, [(Fact.REGION, 0, 1.0)]), arithmetic)
    below = query(stated.network, [box_case([-1], [1], at_most(0, F(-1, 2)), constraints=(cut,))])
    made = builder(below)
    made.begin_tree()
    made.split_input(0, 0.0)
    for _ in range(2):
        made.sweep()
        made.close(made.substitution((), [(Fact.REGION, 0, 1.0)]))
    assert check_proof(below, made.finish(), arithmetic=arithmetic).valid


def split_facts_have_their_side(arithmetic: str) -> None:
    """Multiplied by what it needs, each half is closed by the fact of the other."""
    stated = simple(F(3, 4))
    for point in (-0.5, 0.0, 0.5):
        for value in (0.5, 1.0, 2.0):
            for splits in ([(0, point)], [(0, point), (0, 2.0)]):
                proof = hinted(stated, [(Fact.SPLIT, 0, value)], splits=splits)
                refused(stated, proof, arithmetic)
            made = builder(stated)
            made.begin_tree()
            made.split_form(made.form([(3, 0, 2.0)], point))
            for _ in range(2):
                made.close(made.substitution((), [(Fact.SPLIT, 0, value)]))
            refused(stated, made.finish(), arithmetic)


def unsafe_is_a_fact_of_one_disjunct_only(arithmetic: str) -> None:
    """y >= 5 or y <= 1/2: the first, which is false, would refute the second."""
    stated = query(simple().network, [box_case([-1], [1], at_least(0, 5), at_most(0, F(1, 2)))])
    for value in (0.5, 1.0, 3.0):
        facts = [(Fact.UNSAFE, 0, value)]
        refused(stated, hinted(stated, facts), arithmetic)
        refused(stated, before_disjuncts(stated, facts), arithmetic)


PROBES = (
    facts_have_their_sign,
    weights_have_their_sign,
    region_constraints_cut_the_right_side,
    split_facts_have_their_side,
    unsafe_is_a_fact_of_one_disjunct_only,
)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.__name__)
def test_the_kernel_passes(probe, arithmetic):
    probe(arithmetic)


def clamped_wrong(original):
    def combine(parts):
        parts = list(parts)
        weights: dict = {}
        for multiplier, form in parts:
            for place, weight in form.weights.items():
                weights[place] = weights.get(place, F(0)) + multiplier * weight
        constant = sum((m * form.constant for m, form in parts), F(0))
        return forms.Form(weights, constant, any(form.strict for m, form in parts if m > 0))

    return combine


def facts_of_any_sign(original):
    def listed(self, path, stored, place, hints):
        multipliers = tuple((k, i, abs(v) + 1.0) for k, i, v in hints.multipliers)
        hints = replace(hints, multipliers=multipliers)
        for value, form in original(self, path, stored, place, hints):
            weights = {p: -w for p, w in form.weights.items()}
            yield value, replace(form, weights=weights, constant=-form.constant)

    return listed


def region_reversed(original):
    def of_constraint(network, c):
        form = original(network, c)
        if c.outputs:
            return form
        return replace(form, weights={p: -w for p, w in form.weights.items()})

    return of_constraint


def unsafe_of_the_first(original):
    def listed(self, path, stored, place, hints):
        one = replace(path, disjuncts=path.disjuncts[:1])
        return original(self, one, stored, place, hints)

    return listed


def fact_of_the_other_side(original):
    def fact(self):
        form = original.func(self)
        weights = {p: -w for p, w in form.weights.items()}
        return replace(form, weights=weights, constant=-form.constant)

    return property(fact)


MUTANTS = (
    Mutant("multipliers not clamped", weights_have_their_sign, facts, "combine", clamped_wrong),
    Mutant("facts reversed", facts_have_their_sign, Facts, "_listed", facts_of_any_sign),
    Mutant(
        "region reversed",
        region_constraints_cut_the_right_side,
        facts,
        "of_constraint",
        region_reversed,
    ),
    Mutant(
        "unsafe as a fact of several disjuncts",
        unsafe_is_a_fact_of_one_disjunct_only,
        Facts,
        "_listed",
        unsafe_of_the_first,
    ),
    Mutant(
        "the other side's fact",
        split_facts_have_their_side,
        domain.Literal,
        "fact",
        fact_of_the_other_side,
    ),
)


@each(MUTANTS)
def test_a_mutant_is_noticed(mutant, arithmetic, monkeypatch):
    notice(mutant, arithmetic, monkeypatch)
