"""Wrong kernels: leaves closed by nothing, or by lemmas that do not apply.

Each wrong kernel is listed with the probe that notices it; see ``probes.py``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from proofs import check, domain, facts, frame
from proofs.check import check_proof
from proofs.proof import Fact, ProofBuilder, Side
from proofs.tree import Found, Walker
from proofs.unsafe import Closer
from specs.property import Constraint
from tests.proofs.helpers import BOTH, Net, at_least, at_most, box_case, builder, query, with_arrays
from tests.proofs.mutants import EXACT, OUTWARD, Mutant, each, notice, refused
from tests.proofs.probes import F, hinted, simple


def strictness_counts(arithmetic: str) -> None:
    nothing = Constraint((), (), F(0))
    strict = Constraint((), (), F(0), True)
    network = simple().network
    for unsafe, weights in (
        ((nothing,), (1.0,)),
        ((nothing, strict), (1.0, 0.0)),
        ((nothing, strict), (1.0, -1.0)),
    ):
        stated = query(network, [box_case([-1], [1], unsafe)])
        refused(stated, hinted(stated, weights=weights), arithmetic)


def contradictions_are_not_numbers(arithmetic: str) -> None:
    """Degenerate boxes are not empty, and NaN never closes anything."""
    for value in (0.0, 0.1, -1e-310, 1e30):
        net = Net(1)
        hidden = net.relu(net.dense(0, [[1.0], [-1.0]]))
        net.dense(hidden, [[1.0, -1.0]])
        stated = query(net.done(), [box_case([value], [value], at_least(0, value))])
        refused(stated, None, arithmetic)
        refused(stated, hinted(stated, splits=[(0, value), (0, value)]), arithmetic)
    for limit in (1e300, 0.8e308):  # what overflows is no bound
        proof = hinted(simple(F(1, 2)), [(Fact.UPPER, 0, 1.0), (Fact.LOWER, 1, 1.0)])
        proof = with_arrays(proof, multiplier_value=np.full(2, limit))
        refused(simple(F(1, 2)), proof, arithmetic)
    net = Net(1)
    big = net.dense(0, [[1e308], [-1e308]])
    net.dense(net.relu(big), [[1e308, -1e308]])
    stated = query(net.done(), [box_case([-1e300], [1e300], at_least(0, 0))])
    refused(stated, None, arithmetic)


def lemmas_are_earlier_and_on_the_path(arithmetic: str) -> None:
    """y in [0.4, 0.6] is refuted for x <= 0 and x >= 3/4, and reached in between."""
    between = at_least(0, F(2, 5)) + at_most(0, F(3, 5))
    stated = query(simple().network, [box_case([-1], [1], between)])

    def start(point: float, side: Side):
        made = builder(stated)
        form = made.form([(0, 0, 1.0)], point)
        made.begin_tree([(form, side)])
        return made, form

    def leaf(made) -> None:
        made.sweep()
        made.close()

    for cited in (0, 1):  # the lemma itself, the tree that cites it
        made, form = start(0.75, Side.LOWER)
        made.cite(cited)
        made.begin_tree()
        made.split_form(form)
        made.cite(0)
        leaf(made)
        refused(stated, made.finish(), arithmetic)
    made, form = start(0.0, Side.LOWER)
    leaf(made)
    made.begin_tree()
    made.cite(0)  # without the literal on its path
    refused(stated, made.finish(), arithmetic)
    made, form = start(0.0, Side.LOWER)
    leaf(made)
    made.begin_tree()
    made.split_form(form)
    made.cite(0)
    made.cite(0)  # on the other side
    refused(stated, made.finish(), arithmetic)
    made, form = start(0.0, Side.LOWER)
    leaf(made)
    made.begin_tree()
    made.split_input(0, 0.75)
    made.cite(0)  # x <= 3/4 does not entail x <= 0
    leaf(made)
    refused(stated, made.finish(), arithmetic)
    made, form = start(0.75, Side.LOWER)
    leaf(made)  # is not refuted
    made.begin_tree()
    made.split_form(form)
    made.cite(0)
    leaf(made)
    refused(stated, made.finish(), arithmetic)
    made, form = start(0.0, Side.LOWER)
    leaf(made)
    made.begin_tree()
    made.split_input(0, -0.125)
    made.cite(0)  # x <= -1/8 does entail it
    made.hole()
    found = check_proof(stated, made.finish(), arithmetic=arithmetic)
    assert found.verdict == "incomplete"
    assert len(found.rejected) == 1


def lemmas_are_of_the_case_and_the_disjunct(arithmetic: str) -> None:
    network = simple().network
    safe, bad = (box_case([a], [b], at_least(0, F(1, 2))) for a, b in ((-1, 0), (0, 1)))
    stated = query(network, [safe, bad])
    made = ProofBuilder(stated)
    made.begin_case(0)
    made.begin_tree()
    made.close()
    made.begin_case(1)
    made.begin_tree()
    made.cite(0)
    refused(stated, made.finish(), arithmetic)
    for impossible in (0, 1):
        pair = [at_least(0, 5), at_least(0, F(1, 2))]
        unsafe = pair if impossible == 0 else pair[::-1]
        both = query(network, [box_case([-1], [1], *unsafe)])
        made = builder(both)
        made.begin_tree((), impossible)
        made.close()
        made.begin_tree()
        made.cite(0)
        refused(both, made.finish(), arithmetic)
        made = builder(both)
        made.begin_tree((), impossible)  # a tree for one disjunct does not stand for the case
        made.close()
        refused(both, made.finish(), arithmetic)


def holes_and_missing_trees_count(arithmetic: str) -> None:
    stated = simple(F(1, 2))
    for leaf in ("hole", "none", "lemma"):
        made = builder(stated)
        if leaf == "lemma":
            made.begin_tree([(made.form([(0, 0, 1.0)], -0.5), Side.LOWER)])
            made.close()
        elif leaf == "hole":
            made.begin_tree()
            made.hole()
        refused(stated, made.finish(), arithmetic)


PROBES = (
    strictness_counts,
    contradictions_are_not_numbers,
    lemmas_are_earlier_and_on_the_path,
    lemmas_are_of_the_case_and_the_disjunct,
    holes_and_missing_trees_count,
)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.__name__)
def test_the_kernel_passes(probe, arithmetic):
    probe(arithmetic)


def constantly(value):
    return lambda original: lambda *args, **kwargs: value


def always_strict(original):
    return lambda parts: replace(original(parts), strict=True)


def strict_of_any(original):
    def combine(parts):
        parts = list(parts)
        return replace(original(parts), strict=any(form.strict for _, form in parts))

    return combine


def nan_closes(original):
    def judge(self, wanted, found, disjunct, strict):
        return original(self, wanted, np.where(np.isneginf(found), 1.0, found), disjunct, strict)

    return judge


def zero_closes(original):
    def judge(self, wanted, found, disjunct, strict):
        return original(self, wanted, found, disjunct, np.ones_like(strict))

    return judge


def citation_without(*skipped: str):
    def break_(original):
        def citation(self, node, number, where):
            why = original(self, node, number, where)
            return None if why is not None and any(word in why for word in skipped) else why

        return citation

    return break_


def entails_reversed(original):
    return lambda self, other: original(other, self)


def claims_anything(original):
    def check_case(walker, *more):
        original(walker, *more)
        walker.rejected[:] = [r for r in walker.rejected if r.node is not None]

    return check_case


def empty_at_once(original):
    def improve(self, tensor, lower, upper):
        original(self, tensor, lower, upper)
        low, high = self.bounds[tensor]
        self.empty = self.empty | ~np.asarray(low < high, dtype=bool).all(axis=1)

    return improve


MUTANTS = (
    Mutant("all strict", strictness_counts, facts, "combine", always_strict),
    Mutant("strict though unused", strictness_counts, facts, "combine", strict_of_any),
    Mutant("NaN closes", contradictions_are_not_numbers, Closer, "_judge", nan_closes, OUTWARD),
    Mutant("zero closes", strictness_counts, Closer, "_judge", zero_closes),
    Mutant(
        "cites itself or later",
        lemmas_are_earlier_and_on_the_path,
        Walker,
        "_citation",
        citation_without("earlier"),
    ),
    Mutant(
        "cites off its path",
        lemmas_are_earlier_and_on_the_path,
        Walker,
        "_citation",
        citation_without("path"),
    ),
    Mutant(
        "cites another case",
        lemmas_are_of_the_case_and_the_disjunct,
        Walker,
        "_citation",
        citation_without("case"),
    ),
    Mutant(
        "cites another disjunct",
        lemmas_are_of_the_case_and_the_disjunct,
        Walker,
        "_citation",
        citation_without("disjuncts"),
    ),
    Mutant(
        "entails the reverse",
        lemmas_are_earlier_and_on_the_path,
        domain.Literal,
        "entails",
        entails_reversed,
    ),
    Mutant(
        "no tree for the case", holes_and_missing_trees_count, check, "_check_case", claims_anything
    ),
    Mutant(
        "one disjunct's tree for all",
        lemmas_are_of_the_case_and_the_disjunct,
        check,
        "_check_case",
        claims_anything,
    ),
    Mutant("holes close", holes_and_missing_trees_count, Found, "reject", constantly(None)),
    Mutant(
        "a degenerate box is empty",
        contradictions_are_not_numbers,
        frame.Batch,
        "improve",
        empty_at_once,
        EXACT,
    ),
)


@each(MUTANTS)
def test_a_mutant_is_noticed(mutant, arithmetic, monkeypatch):
    notice(mutant, arithmetic, monkeypatch)
