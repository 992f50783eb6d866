"""Branch and bound on inputs whose boxes are closed with stars."""

from __future__ import annotations

import importlib.util
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

pytest.importorskip("highspy")

from benchmarks.ridges import ridge
from proofs.check import check_proof
from proofs.proof import NodeKind, Proof
from specs.errors import MissingExtraError
from specs.network import Univariate
from specs.query import Query
from tests.proofs.helpers import BOTH, Net, at_least, at_most, box_case, query, reached
from tests.verifier.small import random_mlp
from verifier import bab, bab_stars
from verifier.alpha import Multipliers
from verifier.bab import Search, Settings
from verifier.bab_input import InputSearch
from verifier.bab_pays import MOST_SAVED, Growth, Pays
from verifier.bab_tree import Kind
from verifier.options import Options
from verifier.verify import verify

ALWAYS = Settings(method="inputs", stars="always")


def searching(
    stated: Query, settings: Settings = ALWAYS, seconds: float = 60.0, **more: Any
) -> Search:
    return Search(stated, deadline=time.monotonic() + seconds, settings=settings, **more)


def counts(search: Search) -> bab_stars.Counts:
    engine = search._engine
    assert isinstance(engine, InputSearch)
    assert engine.stars is not None
    return engine.stars


def kinds(proof: Proof) -> list[int]:
    return proof.arrays["node_kind"].tolist()


def asked(seed: int, room: float, disjuncts: int = 1, **more: Any) -> Query:
    """Whether outputs of a random network stay between thresholds."""
    rng = np.random.default_rng(seed)
    net = Net(2)
    hidden = net.relu(net.dense(0, rng.normal(size=(5, 2)), rng.normal(size=5) / 2))
    hidden = net.relu(net.dense(hidden, rng.normal(size=(4, 5)), rng.normal(size=4) / 2))
    network = net.done(net.dense(hidden, rng.normal(size=(2, 4))))
    parts = [at_least(0, Fraction(room)), at_most(1, Fraction(-room))]
    unsafe = parts[:disjuncts] if disjuncts > 0 else [parts[0] + parts[1]]
    return query(network, [box_case([-1, -1], [1, 1], *unsafe, **more)])


def test_a_ridge_is_closed_where_halving_alone_is_lost() -> None:
    stated = ridge(2, 4, 1e-6)
    search = searching(stated)
    assert search.run() == "closed"
    proof = search.proof()
    for arithmetic in BOTH:
        assert check_proof(stated, proof, arithmetic=arithmetic).verdict == "valid unsat"
    assert NodeKind.SPLIT_NEURON in kinds(proof)
    assert counts(search).closed
    halving = searching(stated, Settings(method="inputs", stars="never"), 3.0)
    assert halving.run() == "timeout"


@pytest.mark.parametrize("disjuncts", [1, 2, 0])
def test_verdicts_agree_with_enumeration(disjuncts: int) -> None:
    answers = []
    for seed in range(6):
        for room in (0.25, 1.0, 4.0):
            stated = asked(seed, room, disjuncts)
            search = searching(stated, on_candidate=lambda points: bool(len(points)))
            status = search.run()
            answers.append(status)
            assert status == ("violated" if reached(stated) else "closed")
            if status == "closed":
                for arithmetic in BOTH:
                    checked = check_proof(stated, search.proof(), arithmetic=arithmetic)
                    assert checked.verdict == "valid unsat"
    assert min(answers.count("closed"), answers.count("violated")) >= 2


def test_constraints_of_the_region_are_used() -> None:
    beyond = ((Fraction(1), Fraction(1)), Fraction(1, 2))
    from specs.property import constraint

    held = (constraint({0: beyond[0][0], 1: beyond[0][1]}, {}, beyond[1]),)  # x0 + x1 <= -1/2
    for seed in range(4):
        for room in (0.5, 2.0):
            stated = asked(seed, room, constraints=held)
            search = searching(stated, on_candidate=lambda points: True)
            status = search.run()
            assert (status == "closed") == (not reached(stated))
            if status == "closed":
                assert check_proof(stated, search.proof()).verdict == "valid unsat"


def test_leaves_that_rounding_makes_too_weak_are_split_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = ridge(2, 4, 1e-3)
    plain = searching(stated)
    assert plain.run() == "closed"
    monkeypatch.setattr(Multipliers, "rounded", Multipliers.coarse)
    search = searching(stated)
    assert search.run() == "closed"
    assert counts(search).weak > counts(plain).weak
    assert check_proof(stated, search.proof()).verdict == "valid unsat"


def test_leaves_that_the_kernel_rejects_are_opened_again() -> None:
    stated = ridge(2, 4, 1e-3)
    search = searching(stated)
    assert search.run() == "closed"
    before = search.proof()
    leaves = [k for k, kind in enumerate(kinds(before)) if kind == NodeKind.CLOSE]
    search.reopen(leaves[:3])
    assert NodeKind.HOLE in kinds(search.proof())
    search.extend(time.monotonic() + 60)
    assert search.run() == "closed"
    after = search.proof()
    assert NodeKind.HOLE not in kinds(after)
    assert check_proof(stated, after).verdict == "valid unsat"


def test_a_box_is_opened_once_and_what_is_open_can_be_taken_up_again() -> None:
    stated = ridge(2, 4, 1e-3)
    search = searching(stated)
    assert search.run() == "closed"
    engine, proof = search._engine, search.proof()
    assert isinstance(engine, InputSearch)
    leaves = [k for k, kind in enumerate(kinds(proof)) if kind == NodeKind.CLOSE]
    assert engine._stars is not None
    margin = engine._stars.margin
    search.reopen(leaves)  # all leaves of all boxes
    assert engine._stars.margin == pytest.approx(10.0 * margin)
    tree = search._tree
    opened = {n for n in range(len(tree.kind)) if tree.kind[n] == Kind.OPEN and tree.attached(n)}
    assert 0 < len(opened) < len(leaves)
    assert engine.open == len(opened)
    while len(engine._pool):  # as if a deadline had lost what was in work
        engine._pool.take(1)
    proof = search.proof()
    search.reopen([k for k, kind in enumerate(kinds(proof)) if kind == NodeKind.HOLE])
    assert engine.open == len(opened)
    search.extend(time.monotonic() + 60)
    assert search.run() == "closed"
    assert check_proof(stated, search.proof()).verdict == "valid unsat"


def test_twice_as_many_programs_where_fewer_were_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    original = bab_stars._Box.close

    def close(self: Any, node: int, programs: int, deadline: float) -> bool:
        given.append(programs)
        return original(self, node, programs, deadline)

    monkeypatch.setattr(bab_stars._Box, "close", close)
    stated = ridge(2, 4, 1e-3)
    search = searching(stated, Settings(method="inputs", stars="always", star_programs=4))
    assert search.run() == "closed"
    assert given[:3] == [4, 8, 8]
    assert max(given) > 8
    assert check_proof(stated, search.proof()).verdict == "valid unsat"


def test_boxes_with_many_unstable_neurons_are_left_to_halving() -> None:
    stated = ridge(2, 4, 0.5)
    search = searching(stated, Settings(method="inputs", stars="always", star_neurons=3))
    assert search.run() == "closed"
    assert counts(search).boxes < search.evaluated
    assert check_proof(stated, search.proof()).verdict == "valid unsat"


def test_what_the_deadline_cuts_off_stays_open() -> None:
    stated = ridge(3, 6, 1e-4)
    search = searching(stated, seconds=0.3)
    assert search.run() == "timeout"
    search.extend(time.monotonic() + 0.3)
    search.run()
    proof = search.proof()
    assert check_proof(stated, proof).verdict == "incomplete"


@pytest.mark.parametrize("quicker", ["auto", "always"])
def test_what_closes_more_goes_on(quicker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stated, turns = ridge(2, 4, 0.02), []

    def run(self: Any, deadline: float, round_over: Any) -> str:
        kind = self.engine._settings.stars
        turns.append(kind)
        if len(turns) > 4:
            return self.engine.run(time.monotonic() + 60, round_over)
        self.rate = 2.0 if kind == quicker else 1.0
        return "timeout"

    monkeypatch.setattr(bab._Rival, "run", run)
    search = searching(stated, Settings(method="inputs"))
    assert search.run() == "closed"
    assert turns == ["auto", "always", quicker, quicker, quicker]
    engine = search._engine
    assert isinstance(engine, InputSearch)
    assert engine._settings.stars == quicker
    assert check_proof(stated, search.proof()).verdict == "valid unsat"


def test_what_gets_slower_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    stated, turns = ridge(2, 4, 0.02), []
    rates = {"auto": [3.0, 0.5], "always": [1.0, 1.0]}

    def run(self: Any, deadline: float, round_over: Any) -> str:
        kind = self.engine._settings.stars
        turns.append(kind)
        if len(turns) > 3:
            return self.engine.run(time.monotonic() + 60, round_over)
        self.rate = rates[kind].pop(0)
        return "timeout"

    monkeypatch.setattr(bab._Rival, "run", run)
    search = searching(stated, Settings(method="inputs"))
    assert search.run() == "closed"
    assert turns == ["auto", "always", "auto", "always"]
    assert check_proof(stated, search.proof()).verdict == "valid unsat"


def test_the_race_goes_on_with_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bab, "PATIENCE", 0.05)
    monkeypatch.setattr(bab, "PILOT", 0.1)
    stated = ridge(2, 6, 1e-6)
    search = searching(stated, Settings(method="inputs"), 0.4)
    assert search.run() == "timeout"
    seen = search.evaluated
    search.extend(time.monotonic() + 60)
    assert search.run() == "closed"
    assert search.evaluated > seen
    assert len(search._rivals) == 2
    assert check_proof(stated, search.proof()).verdict == "valid unsat"


def test_growth_estimates_what_is_below_a_box() -> None:
    growth = Growth()
    assert growth.below == 2.0
    growth.halved(10, 20)  # every half stays open
    assert growth.below == MOST_SAVED
    for _ in range(60):
        growth.halved(10, 5)
    assert growth.below == pytest.approx(4.0, rel=1e-3)
    for _ in range(60):
        growth.halved(10, 0)
    assert growth.below == pytest.approx(2.0, rel=1e-3)


def test_a_box_pays_for_all_that_is_below_it() -> None:
    few, many = Pays(), Pays()
    for pays, below in ((few, 2.0), (many, 200.0)):
        pays.evaluated(100, 0.1)
        pays.tried(1, 0.1, below)
    assert not few.worthwhile()
    assert many.worthwhile()


def test_the_method_gives_proofs_and_witnesses() -> None:
    stated = ridge(2, 4, 1e-3)
    found = verify(stated, Options(timeout=60, method="star", proof_effort="none"))
    assert found.answer == "unsat"
    assert found.checked is not None
    assert found.checked.verdict == "valid unsat"
    said = [stage.result for stage in found.stages if "stars closed" in stage.result]
    assert len(said) == 1
    assert "leaves were too weak" in said[0]


def test_many_inputs_are_not_halved() -> None:
    rng = np.random.default_rng(0)
    net = Net(30)
    hidden = net.relu(net.dense(0, rng.normal(size=(6, 30)), rng.normal(size=6)))
    network = net.done(net.dense(hidden, rng.normal(size=(1, 6))))
    stated = query(network, [box_case([-0.2] * 30, [0.2] * 30, at_least(0, Fraction(7)))])
    found = verify(stated, Options(timeout=60, method="star", proof_effort="none"))
    assert found.answer == "unsat"
    assert isinstance(found.evidence, Proof)
    assert NodeKind.SPLIT_INPUT not in kinds(found.evidence)


def test_other_functions_are_refused_in_words() -> None:
    net = Net(1)
    net.nodes.append(Univariate("s", (1,), 0, "sigmoid"))
    stated = query(net.done(), [box_case([-1], [1], at_least(0, Fraction(7, 10)))])
    found = verify(stated, Options(timeout=20, method="star", settings={"policy.attack_share": 0}))
    assert found.answer == "unknown"
    assert "Relu" in found.reason


def test_without_a_solver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "highspy" else real(name)
    )
    stated = ridge(2, 4, 0.02)
    with pytest.raises(MissingExtraError, match="highspy"):
        verify(stated, Options(timeout=20, method="star"))
    search = searching(stated, Settings(method="inputs"))
    assert search._engine.stars is None  # the automatic search does without


def test_files_are_verified_too(tmp_path: Any) -> None:
    network, model = random_mlp((3, 8, 8, 1), 1)
    case = box_case([-1] * 3, [1] * 3, at_least(0, Fraction(2)))
    from specs.property import Property

    stated = Property(3, 1, (case,))
    found = verify(
        Query(network, stated, (model,), stated.digest),
        Options(timeout=60, method="star", proof_effort="default"),
    )
    assert found.answer in ("unsat", "sat")
    assert found.checked is not None
    assert found.checked.valid
