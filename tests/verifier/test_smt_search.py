"""The search by Boolean reasoning against exact enumeration, and its clauses in the kernel."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("z3")
pytest.importorskip("highspy")

from farkas import main
from proofs.check import check_proof, check_witness
from proofs.draft import CaseDraft, Draft, Node, TreeDraft, written
from proofs.proof import NodeKind, Proof, ProofBuilder
from proofs.witness import Witness
from specs.errors import InputError, MissingExtraError, UnsupportedOperatorError
from specs.network import Input, Network, Univariate
from specs.property import Case, Conjunction, constraint
from specs.query import Query
from tests.proofs.helpers import (
    at_least,
    at_most,
    box_case,
    extremes,
    query,
    random_network,
    verdicts,
)
from tests.verifier.small import box_query, random_mlp
from verifier.bab import Progress
from verifier.bab_neuron import NeuronSearch
from verifier.bench import Settings as BenchSettings
from verifier.options import Options
from verifier.smt import applies
from verifier.smt.clauses import Clause, substitution
from verifier.smt.exact import Core, Violation, decided, fits
from verifier.smt.search import Search
from verifier.smt.settings import Settings
from verifier.verify import verify

SIZES = (4, 10, 10, 2)
HARD = 1.02
"""A threshold that takes some splits, for the network with the seed 6."""


def above(threshold: float, *more: Conjunction) -> Query:
    """Whether the first output stays below a threshold."""
    unsafe = [(constraint({}, {0: Fraction(-1)}, Fraction(threshold)),), *more]
    return box_query(random_mlp(SIZES, 6), [-1] * 4, [1] * 4, unsafe)


def searched(stated: Query, **more: Any) -> tuple[Search, str, list[np.ndarray]]:
    seen: list[np.ndarray] = []

    def note(points: np.ndarray) -> bool:
        seen.extend(points)
        return True

    chosen = Settings(**{"exact_neurons": 0, **more.pop("settings", {})})
    until = time.monotonic() + 60
    search = Search(stated, deadline=until, settings=chosen, on_candidate=note, **more)
    return search, search.run(), seen


def alone(search: Search, clause: Clause, kept: Sequence[int]) -> Proof:
    """A tree with only the path of some phases, at whose end the clause's hints stand."""
    (case,) = search._draft.cases  # type: ignore[union-attr]
    places = search._places[case.number]
    node = Node(NodeKind.CLOSE, substitution(clause, kept))
    for phase in reversed(kept):
        pair = [Node(NodeKind.HOLE, 0), Node(NodeKind.HOLE, 0)]
        pair[phase % 2] = node
        node = Node(NodeKind.SPLIT_NEURON, places[phase // 2], pair)
    count = len(search._query.property.cases[case.number].unsafe)
    if count > 1:
        parts = [Node(NodeKind.HOLE, 0) for _ in range(count)]
        parts[clause.disjunct] = node
        node = Node(NodeKind.SPLIT_DISJUNCT, 0, parts)
    made = CaseDraft(case.number, case.prelude, [TreeDraft(node)])
    return written(Draft(search._query, [made]))[0]


@pytest.mark.parametrize("seed", range(12))
def test_the_verdict_agrees_with_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = 1 + seed % 2
    network = random_network(rng, inputs)
    box = [-1.0] * inputs, [2.0] * inputs
    low, high, _ = extremes(network, box_case(*box))
    for gap in (Fraction(1, 1000), Fraction(-1, 1000)):
        unsafe = at_least(0, high + gap), at_most(0, low - abs(gap))
        stated = query(network, [box_case(*box, *unsafe)])
        search, status, seen = searched(stated)
        if gap > 0:
            assert status == "closed"
            checked = verdicts(stated, search.proof())
            assert {found.verdict for found in checked.values()} == {"valid unsat"}
        elif high > low:
            assert status == "violated"
            assert seen


@pytest.mark.parametrize("disjuncts", [1, 2])
def test_every_clause_refutes_its_phases_in_the_kernel(disjuncts: int) -> None:
    more = [(constraint({}, {1: Fraction(1)}, Fraction(2)),)] * (disjuncts - 1)
    search, status, _ = searched(above(HARD, *more))
    assert status == "closed"
    assert any(len(clause.phases) > 1 for clause in search.clauses)
    for clause in search.clauses:
        for arithmetic in ("outward", "exact"):
            proof = alone(search, clause, clause.phases)
            found = check_proof(search._query, proof, arithmetic=arithmetic)
            kinds = proof.arrays["node_kind"]
            assert [kinds[r.node] for r in found.rejected] == [NodeKind.HOLE] * proof.holes


def test_a_clause_without_a_phase_that_a_violation_lacks_does_not_close() -> None:
    stated = above(0.822)
    _, status, seen = searched(stated)
    assert status == "violated"
    rounds = []

    def enough(progress: Progress) -> bool:
        rounds.append(progress)
        return len(rounds) > 12

    until = time.monotonic() + 60
    chosen = Settings(exact_neurons=0, batch=8, limit=8)
    search = Search(stated, deadline=until, settings=chosen, on_round=enough)
    assert search.run() != "closed"
    assert len(search.clauses) > 3
    values = _activations(stated, np.float64(seen[0]))
    places = search._places[0]
    for clause in search.clauses:
        holds = tuple(p for p in clause.phases if (values[places[p // 2]] > 0) == bool(p % 2))
        assert len(holds) < len(clause.phases), "a clause forbids a real violation"
        proof = alone(search, clause, holds)
        found = check_proof(stated, proof)
        bad = [r for r in found.rejected if proof.arrays["node_kind"][r.node] == NodeKind.CLOSE]
        assert len(bad) == 1


def _activations(stated: Query, point: np.ndarray) -> dict[tuple[int, int], float]:
    values: dict[int, np.ndarray] = {0: point}
    found: dict[tuple[int, int], float] = {}
    for number, node in enumerate(stated.network.nodes[1:], 1):
        if hasattr(node, "terms"):
            values[number] = node.offset.value + sum(
                t.map.forward(values[t.source][None], t.map.weight.value, np.matmul)[0]
                for t in node.terms
            )
            found |= {(number, k): float(v) for k, v in enumerate(values[number])}
        else:
            values[number] = np.maximum(values[node.source], 0)
    return found


def test_holes_of_another_proof_are_filled_and_the_rest_stays() -> None:
    stated = above(HARD)
    made = ProofBuilder(stated)
    made.begin_case(0)
    made.begin_tree()
    made.split_neuron(1, 3)
    made.hole()
    made.split_neuron(3, 2)
    made.hole()
    made.hole()
    search, status, _ = searched(stated, open_=made.finish())
    assert status == "closed"
    proof = search.proof()
    own = proof.arrays["tree_ptr"][-2] if len(proof.arrays["tree_ptr"]) > 1 else 0
    assert proof.arrays["node_kind"][own] == NodeKind.SPLIT_NEURON
    assert {found.verdict for found in verdicts(stated, proof).values()} == {"valid unsat"}


def test_holes_below_which_the_property_fails_are_not_filled() -> None:
    stated = above(0.5)
    made = ProofBuilder(stated)
    made.begin_case(0)
    made.begin_tree()
    made.split_neuron(1, 3)
    made.hole()
    made.hole()
    search = Search(stated, deadline=time.monotonic() + 3, settings=Settings(), open_=made.finish())
    assert search.run() != "closed"
    assert check_proof(stated, search.proof()).verdict == "incomplete"


def test_clauses_taken_back_are_found_again() -> None:
    stated = above(HARD)
    search, status, _ = searched(stated)
    assert status == "closed"
    proof = search.proof()
    ends = np.flatnonzero(proof.arrays["node_kind"] == NodeKind.CLOSE).tolist()
    before = len(search.clauses)
    search.reopen(ends[:2])
    assert len(search.clauses) == before - 2
    assert check_proof(stated, search.proof()).verdict == "incomplete"
    assert search.run() == "closed"
    assert check_proof(stated, search.proof()).verdict == "valid unsat"


@pytest.mark.parametrize("seed", range(8))
def test_z3_alone_agrees_with_enumeration(seed: int) -> None:
    network = random_network(np.random.default_rng(100 + seed), 2)
    if not fits(network, 12, 500):
        pytest.skip("too large for the whole to be given to Z3")
    box = [-1.0, -1.0], [1.0, 1.0]
    _, high, _ = extremes(network, box_case(*box))
    for gap in (Fraction(1, 10**9), Fraction(0)):
        case = box_case(*box, at_least(0, high + gap))
        found = decided(network, case, {}, 20.0)
        if gap:
            assert isinstance(found, Core)
        else:
            assert isinstance(found, Violation)
            stated = query(network, [case])
            witness = Witness(stated.digest, 0, found.disjunct, found.point)
            assert check_witness(stated, witness).verdict == "valid sat"


def test_strict_ends_are_strict_for_z3() -> None:
    network = random_network(np.random.default_rng(3), 1)
    case = box_case([-1.0], [2.0])
    _, high, _ = extremes(network, case)
    edge = Case(case.lower, case.upper, (at_least(0, high, strict=True),))
    assert isinstance(decided(network, edge, {}, 20.0), Core)
    closed = box_case([-1.0], [2.0], at_least(0, high))
    assert isinstance(decided(network, closed, {}, 20.0), Violation)


def test_enclosures_and_large_networks_are_not_given_to_z3() -> None:
    rng = np.random.default_rng(5)
    assert not fits(random_network(rng, 2, radii=1.0), 1000, 100_000)
    network, _ = random_mlp(SIZES, 6)
    assert fits(network, 20, 200)
    assert not fits(network, 19, 200)
    assert not fits(network, 20, 100)


def test_the_method_gives_proofs_and_witnesses() -> None:
    holds = verify(above(HARD), Options(timeout=60, method="smt"))
    assert (holds.answer, holds.checked and holds.checked.verdict) == ("unsat", "valid unsat")
    assert [s.name for s in holds.stages][:2] == ["kernel", "smt"]
    fails = verify(above(0.5), Options(timeout=60, method="smt"))
    assert fails.answer == "sat"


def test_what_z3_finds_in_rational_numbers_becomes_a_witness() -> None:
    small = box_query(random_mlp((2, 4, 2), 1), [-1] * 2, [1] * 2, [at_most(0, 0.25)])
    where = []

    def note(case: int, disjunct: int, point: tuple[Fraction, ...]) -> bool:
        where.append((case, disjunct, point))
        return True

    search = Search(small, deadline=time.monotonic() + 30, on_witness=note)
    assert search.run() == "violated"
    ((case, disjunct, point),) = where
    assert check_witness(small, Witness(small.digest, case, disjunct, point)).verdict == "valid sat"


def test_other_functions_are_refused_in_words() -> None:
    nodes = Input("x", (1,)), Univariate("y", (1,), 0, "tanh")
    stated = query(Network(nodes, (1,)), [box_case([-1.0], [1.0], at_least(0, 0.7))])
    assert not applies(stated.network)
    with pytest.raises(UnsupportedOperatorError, match="Relus only"):
        Search(stated, deadline=time.monotonic() + 9)
    found = verify(stated, Options(timeout=20, method="smt"))
    assert (found.answer, found.reason) == ("unknown", "Boolean reasoning is about Relus only")


def test_branch_and_bound_that_is_stuck_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(self: NeuronSearch, deadline: float, round_over: Any) -> str:
        for number in self._numbers:
            self._tree.add_root(number)
        return "exhausted"

    monkeypatch.setattr(NeuronSearch, "run", stuck)
    given = {"search.method": "neurons"}
    found = verify(above(HARD), Options(timeout=60, method="bab", settings=given))
    assert found.answer == "unsat"
    assert "smt" in [stage.name for stage in found.stages]


def test_an_old_proof_is_not_gone_on_with() -> None:
    proof = ProofBuilder(above(HARD)).finish()
    with pytest.raises(InputError, match="by branch and bound, not by smt"):
        Options(method="smt", reuse=proof)


def test_bench_takes_the_method_and_refuses_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "instances.csv").write_text("")
    assert main(["bench", str(tmp_path), "--method", "magic"]) == 3
    assert "use one of" in capsys.readouterr().err
    chosen = BenchSettings(1.0, (), tmp_path, method="smt")
    assert chosen.kept == {"method": "smt"}
    assert BenchSettings(1.0, (), tmp_path).kept == {}


def test_without_its_solvers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "highspy" else real(name)
    )
    with pytest.raises(MissingExtraError, match="highspy"):
        verify(above(HARD), Options(timeout=20, method="smt"))


def test_settings_are_taken_and_others_refused() -> None:
    found = verify(above(HARD), Options(timeout=60, method="smt", settings={"smt.batch": 4}))
    assert found.answer == "unsat"
    with pytest.raises(InputError, match=r"smt\.batch"):
        Options(settings={"smt.batch": 0})
    with pytest.raises(InputError, match=r"smt\.bach"):
        Options(settings={"smt.bach": 4})
