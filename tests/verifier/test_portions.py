"""Open leaves searched in portions make the proof whole, and what is of another proof does not."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from proofs.check import check_proof, check_witness
from proofs.draft import Draft, Node, draft_of, written
from proofs.proof import NodeKind, Proof, ProofBuilder
from specs.errors import EvidenceError
from specs.property import Case, Property, constraint
from specs.query import Query
from tests.verifier.small import random_mlp
from verifier.options import HandOver, Options
from verifier.portions import dealt, graft, holes, reopened, search_portion
from verifier.verify import verify

LIMIT = Fraction(1952, 1000)
PLAIN = {"search.feeds": 0, "search.root_feeds": 0, "search.clips": 0, "search.stars": "never"}
KINDS = {kind: {"search.method": kind, **PLAIN} for kind in ("inputs", "neurons")}


def asked(limit: Fraction = LIMIT, cases: int = 1) -> Query:
    """Whether an output stays below a limit on a box, or on each of its two halves."""
    network, model = random_mlp((5, 24, 24, 1), 2)
    low, high, zero = Fraction(-2), Fraction(2), Fraction(0)
    unsafe = ((constraint({}, {0: Fraction(-1)}, limit),),)
    ends = [(low, high)] if cases == 1 else [(low, zero), (zero, high)]
    regions = [Case([a, *[low] * 4], [b, *[high] * 4], unsafe) for a, b in ends]
    stated = Property(5, 1, tuple(regions))
    return Query(network, stated, (model,), stated.digest)


def unfinished(query: Query, kind: str = "inputs", leaves: int = 8) -> Proof:
    """What a search hands over as soon as it may."""
    options = Options(timeout=60, settings=KINDS[kind], hand_over=HandOver(0.0, leaves))
    verdict = verify(query, options)
    assert verdict.answer == "timeout"
    assert verdict.evidence is None
    assert verdict.unfinished is not None
    return verdict.unfinished


def searched(query: Query, proof: Proof, number: int, count: int, **how: Any) -> Any:
    how.setdefault("deadline", time.monotonic() + 60)
    return search_portion(query, proof, number, count, **how)


def joined(query: Query, proof: Proof, count: int) -> Draft:
    base = draft_of(query, proof)
    leaves = holes(base)
    for number in range(count):
        found = searched(query, proof, number, count)
        assert found.status == "closed"
        graft(base, draft_of(query, found.proof), dealt(leaves, count, number))
    return base


@pytest.fixture(scope="module", params=list(KINDS))
def begun(request: pytest.FixtureRequest) -> Proof:
    return unfinished(asked(), request.param)


@given(st.integers(0, 40), st.integers(1, 12))
def test_every_leaf_is_in_one_portion(leaves, count):
    nodes = [Node(NodeKind.HOLE, 0) for _ in range(leaves)]
    parts = [dealt(nodes, count, number) for number in range(count)]
    assert [id(n) for part in parts for n in part] == [id(n) for n in nodes]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_what_is_handed_over_is_incomplete(begun):
    assert len(holes(draft_of(asked(), begun))) >= 8
    assert check_proof(asked(), begun).verdict == "incomplete"


def test_portions_make_the_proof_whole(begun):
    query = asked()
    base = joined(query, begun, 3)
    assert not holes(base)
    proof, _ = written(base)
    assert check_proof(query, proof).verdict == "valid unsat"
    assert check_proof(query, proof, arithmetic="exact").verdict == "valid unsat"


def test_a_portion_says_nothing_of_other_leaves(begun):
    query = asked()
    found = searched(query, begun, 1, 4)
    assert check_proof(query, found.proof).verdict == "incomplete"
    base = draft_of(query, begun)
    leaves = holes(base)
    graft(base, draft_of(query, found.proof), dealt(leaves, 4, 1))
    left = {id(leaf) for leaf in holes(base)}
    assert left == {id(leaf) for number in (0, 2, 3) for leaf in dealt(leaves, 4, number)}


def test_a_case_that_was_not_begun_is_searched_as_any():
    query = asked(cases=2)
    proof = unfinished(query, "neurons", leaves=2)
    roots = [case.refutation().root.kind for case in draft_of(query, proof).cases]
    assert NodeKind.HOLE in roots
    whole, _ = written(joined(query, proof, 2))
    assert check_proof(query, whole).verdict == "valid unsat"


def test_what_the_kernel_rejects_is_searched_again(begun):
    """Leaves that were closed in vain; the proof is none until they are closed for good."""
    query = asked()
    base = draft_of(query, begun)
    for leaf in holes(base):
        leaf.kind, leaf.arg = NodeKind.CLOSE, None
    proof, nodes = written(base)
    checked = check_proof(query, proof)
    assert checked.verdict == "invalid"
    reopened(base, nodes, checked)
    assert len(holes(base)) == len(checked.rejected)
    whole, _ = written(joined(query, written(base)[0], 2))
    assert check_proof(query, whole).verdict == "valid unsat"


def test_a_case_whose_default_fails_is_opened():
    query = asked()
    checked = check_proof(query, None)
    base = Draft(query, [])
    reopened(base, [], checked)
    whole, _ = written(joined(query, written(base)[0], 1))
    assert check_proof(query, whole).verdict == "valid unsat"


def halves(query: Query, entry: int = 0) -> Proof:
    builder = ProofBuilder(query)
    builder.begin_case(0, [(NodeKind.SWEEP, 0)])
    builder.begin_tree()
    builder.split_input(entry)
    builder.hole()
    builder.hole()
    return builder.finish()


def test_portions_of_another_proof_are_refused(begun):
    query = asked()
    found = searched(query, halves(query), 0, 1)
    base = draft_of(query, begun)
    leaves = holes(base)
    with pytest.raises(EvidenceError, match="another unfinished proof"):
        graft(base, draft_of(query, found.proof), leaves)
    other = draft_of(query, halves(query, 1))
    with pytest.raises(EvidenceError, match="another unfinished proof"):
        graft(other, draft_of(query, found.proof), holes(other))
    with pytest.raises(EvidenceError, match="a case that"):
        graft(Draft(query, []), other, [])
    with pytest.raises(EvidenceError, match="another question"):
        searched(asked(LIMIT + 1), begun, 0, 1)


def test_a_portion_that_claims_too_much_proves_nothing(begun):
    query = asked()
    base, claims = draft_of(query, begun), draft_of(query, begun)
    for leaf in holes(claims):
        leaf.kind, leaf.arg = NodeKind.CLOSE, None
    graft(base, claims, holes(base))
    assert check_proof(query, written(base)[0]).verdict == "invalid"


def test_a_violation_is_found_in_the_portion_that_has_it():
    query = asked(Fraction(3, 2))
    proof = halves(query)
    found = [searched(query, proof, number, 2) for number in range(2)]
    assert "violated" in {each.status for each in found}
    for each in found:
        if each.status == "violated":
            assert check_witness(query, each.witness).verdict == "valid sat"


def test_a_portion_that_comes_too_late_leaves_its_leaves_open(begun):
    found = searched(asked(), begun, 0, 2, deadline=time.monotonic())
    assert (found.status, found.proof) == ("timeout", None)


def test_a_portion_that_is_not_wanted_ends(begun):
    found = searched(asked(), begun, 0, 1, unwanted=lambda: True)
    assert found.status == "ended"
    assert holes(draft_of(asked(), found.proof))
