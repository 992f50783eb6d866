"""The search finds multipliers with which the kernel closes inner nodes."""

from __future__ import annotations

from fractions import Fraction

import pytest

from proofs.check import check_proof
from proofs.draft import draft_of
from proofs.minimise import Size, minimise
from proofs.oracle import Oracle
from proofs.proof import NodeKind, Proof, ProofBuilder
from specs.errors import EvidenceError
from specs.query import Query
from tests.proofs.helpers import Net, at_least, box_case, query
from verifier.options import Options
from verifier.reoptimise import Reoptimiser
from verifier.verify import verify


def needs_a_slope(disjuncts: int = 1) -> Query:
    """x - relu(x) < 1/2 on [-1, 1]: one leaf with a slope, or two without."""
    net = Net(1)
    net.subtract(0, net.relu(net.dense(0, [[1.0]])))
    unsafe = [at_least(0, Fraction(1, 2) + k) for k in range(disjuncts)]
    return query(net.done(), [box_case([-1], [1], *unsafe)])


def split(question: Query) -> Proof:
    made = ProofBuilder(question)
    made.begin_case(0)
    made.begin_tree()
    made.sweep()
    made.split_input(0)
    for _ in range(2):
        made.sweep()
        made.close()
    return made.finish()


@pytest.mark.parametrize("disjuncts", [1, 2])
def test_inner_nodes_close_with_what_the_search_finds(disjuncts):
    question = needs_a_slope(disjuncts)
    proof = split(question)
    assert check_proof(question, None).verdict == "invalid"
    assert check_proof(question, proof).verdict == "valid unsat"
    alone = minimise(question, proof, effort="high", order="leaves").proof
    assert Size.of(alone).splits == 1
    made = minimise(question, proof, effort="high", order="time", reoptimise=Reoptimiser())
    kinds = made.proof.arrays["node_kind"].tolist()
    assert NodeKind.SPLIT_INPUT not in kinds
    for arithmetic in ("outward", "exact"):
        assert check_proof(question, made.proof, arithmetic=arithmetic).verdict == "valid unsat"


def test_states_that_nothing_closes_are_left_alone():
    question = needs_a_slope()
    false = query(question.network, [box_case([-1], [1], at_least(0, Fraction(-1, 2)))])
    draft = draft_of(false, split(false))
    nodes = [node for node in draft.nodes() if node.kind is NodeKind.SPLIT_INPUT]
    states = Oracle(draft.query).states(draft, nodes)
    assert len(states) == 1
    assert Reoptimiser()(draft.query, states) == [None]


def test_a_deadline_finds_nothing():
    question = needs_a_slope()
    draft = draft_of(question, split(question))
    nodes = [node for node in draft.nodes() if node.kind is NodeKind.SPLIT_INPUT]
    states = Oracle(draft.query).states(draft, nodes)
    found = Reoptimiser(deadline=0.0)(draft.query, states)
    assert len(found) == 1


@pytest.mark.parametrize("effort", ["none", "default", "high"])
def test_verify_makes_proofs_smaller_and_checks_them(effort):
    question = needs_a_slope(2)
    options = Options(timeout=60, proof_effort=effort, settings={"policy.kernel_share": 0})
    verdict = verify(question, options)
    assert verdict.answer == "unsat"
    assert isinstance(verdict.evidence, Proof)
    assert check_proof(question, verdict.evidence).verdict == "valid unsat"
    assert any(stage.name == "minimise" for stage in verdict.stages) == (effort != "none")


def test_a_smaller_proof_that_is_not_valid_is_not_taken(monkeypatch):
    """The proof as the search wrote it stands in, and is checked like any other."""
    from verifier import verify as module

    question = needs_a_slope()
    bad = ProofBuilder(question)
    bad.begin_case(0)
    bad.begin_tree()
    bad.close()

    def wrong(*_, **__):
        from proofs.minimise import Minimised

        return Minimised(bad.finish(), (), True)

    monkeypatch.setattr(module, "minimise", wrong)
    verdict = verify(question, Options(timeout=60, settings={"policy.kernel_share": 0}))
    assert verdict.answer == "unsat"
    assert check_proof(question, verdict.evidence).verdict == "valid unsat"
    checks = [stage.result for stage in verdict.stages if stage.name == "check"]
    assert checks == ["invalid", "valid unsat"]


@pytest.mark.parametrize("error", [EvidenceError("no"), MemoryError()])
def test_a_proof_that_cannot_be_made_smaller_stands(monkeypatch, error):
    from verifier import verify as module

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(module, "minimise", fails)
    settings = {"policy.kernel_share": 0}
    assert verify(needs_a_slope(), Options(timeout=60, settings=settings)).answer == "unsat"
