"""The portfolio: what it answers, and what it refuses to answer."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from proofs.check import check_proof, check_witness
from proofs.proof import NodeKind, Proof, ProofBuilder
from proofs.tree import Rejected
from proofs.witness import Witness
from specs.errors import InputError, MissingExtraError
from specs.property import Case, Property, constraint
from specs.query import Query
from tests.verifier.small import box_query, identity, mlp, random_mlp
from verifier import verify as module
from verifier.options import Options
from verifier.verdict import as_json
from verifier.verify import verify

F = Fraction
ROOT = Path(__file__).resolve().parents[2]


def at_least(made: Any, threshold: Fraction | float, size: int = 1, strict: bool = False) -> Query:
    """``y[0] >= threshold`` somewhere on the box [-1, 1]?"""
    unsafe = [[constraint({}, {0: F(-1)}, F(threshold), strict)]]
    return box_query(made, [-1] * size, [1] * size, unsafe)


def hard() -> Query:
    """A question that holds, and whose proof needs splits."""
    return at_least(random_mlp([4, 10, 10, 2], 6), 1.2, 4)


def test_the_kernel_alone_answers_an_easy_question() -> None:
    query = at_least(identity(), F(2))
    verdict = verify(query)
    assert verdict.answer == "unsat"
    assert isinstance(verdict.evidence, Proof)
    assert check_proof(query, verdict.evidence).verdict == "valid unsat"
    assert [s.name for s in verdict.stages] == ["attack", "kernel"]
    assert verdict.leaves == 1


def test_a_violation_has_a_witness_that_checks() -> None:
    pytest.importorskip("onnxruntime")
    query = at_least(identity(), F(1))
    verdict = verify(query)
    assert verdict.answer == "sat"
    assert isinstance(verdict.evidence, Witness)
    assert check_witness(query, verdict.evidence).verdict == "valid sat"
    assert verdict.replay is not None
    assert verdict.replay.violated


@pytest.mark.parametrize("method", ["auto", "bab"])
def test_branch_and_bound_proves_what_needs_splits(method: str) -> None:
    pytest.importorskip("torch")
    query = hard()
    assert check_proof(query, None).verdict == "invalid"
    verdict = verify(query, Options(timeout=60, method=method))
    assert verdict.answer == "unsat"
    assert isinstance(verdict.evidence, Proof)
    again = check_proof(query, verdict.evidence, arithmetic="exact")
    assert again.verdict == "valid unsat"
    assert verdict.leaves == again.leaves > 1
    assert {"search", "check"} <= {s.name for s in verdict.stages}


def test_answers_agree_with_the_maximum_over_a_grid() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    from verifier.attack_forward import NumpyEvaluator

    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 81)] * 2), axis=-1).reshape(-1, 2)
    answers = []
    for seed in range(4):
        made = random_mlp([2, 8, 8, 1], seed)
        top = float(NumpyEvaluator(made[0]).evaluate(grid)[0].max())
        for threshold in (top - 1e-3, top + 0.2):
            answers.append(verify(at_least(made, F(threshold), 2), Options(timeout=60)).answer)
    assert answers == ["sat", "unsat"] * 4


def test_a_tie_under_a_strict_constraint_is_never_sat() -> None:
    pytest.importorskip("torch")
    verdict = verify(at_least(identity(), F(1), strict=True), Options(timeout=10))
    assert verdict.answer != "sat"
    assert verdict.evidence is None or isinstance(verdict.evidence, Proof)


def test_disagreement_of_the_evaluations_is_unknown_with_the_reason() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    # In float32 1e8 + x - 1e8 is 0 or a multiple of 8: exactly, y reaches 1.
    made = mlp([np.ones((1, 1))] * 2, [np.array([1e8]), np.array([-1e8])])
    verdict = verify(at_least(made, F(1)), Options(timeout=10))
    assert verdict.answer in ("unknown", "timeout")
    assert "onnxruntime's replay" in verdict.reason
    assert verdict.uncertified_claim == "sat"
    assert verdict.evidence is None


def test_a_proof_that_the_kernel_rejects_is_never_unsat(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    query = hard()
    reopened = []

    class Liar:
        remark = ""

        def __init__(self, query: Query, **_: Any) -> None:
            self.query = query

        splits_inputs = True

        def run(self) -> str:
            return "closed"

        def proof(self, deadline: float = math.inf) -> Proof:
            builder = ProofBuilder(self.query)
            builder.begin_case(0)
            builder.begin_tree()
            builder.close()
            return builder.finish()

        def reopen(self, nodes: list[int]) -> None:
            reopened.append(list(nodes))

        def extend(self, deadline: float) -> None:
            assert deadline > 0

    import verifier.bab

    monkeypatch.setattr(verifier.bab, "Search", Liar)
    verdict = verify(query, Options(timeout=30, method="bab"))
    assert verdict.answer == "unknown"
    assert verdict.uncertified_claim == "unsat"
    assert verdict.evidence is None
    assert reopened
    assert all(nodes == [0] for nodes in reopened)
    assert as_json(query, verdict)["uncertified_claim"] == "unsat"


def test_a_rejected_leaf_is_opened_again_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    query = hard()
    rejected_once = []

    def strict_at_first(query: Query, proof: Proof | None, **more: Any) -> Any:
        checked = check_proof(query, proof, **more)
        if proof is None or rejected_once or checked.leaves < 2:
            return checked
        leaf = int(np.flatnonzero(proof.arrays["node_kind"] == NodeKind.CLOSE)[-1])
        rejected_once.append(leaf)
        refused = (Rejected(0, leaf, 1e-9, "made up"),)
        return dataclasses.replace(checked, verdict="invalid", rejected=refused)

    monkeypatch.setattr(module, "check_proof", strict_at_first)
    verdict = verify(query, Options(timeout=60, method="bab"))
    assert rejected_once
    assert verdict.answer == "unsat"
    assert isinstance(verdict.evidence, Proof)
    assert check_proof(query, verdict.evidence).verdict == "valid unsat"
    assert [s.name for s in verdict.stages].count("check") >= 2


@pytest.mark.parametrize("method", ["attack", "bounds"])
def test_limits_that_no_float_holds_are_no_error(method: str) -> None:
    huge = Fraction(10**400)
    unsafe = constraint({}, {0: Fraction(1)}, -huge)
    query = box_query(identity(), [-huge], [huge], [[unsafe]])
    assert verify(query, Options(0.5, method=method)).answer in ("unknown", "timeout", "sat")


def test_the_time_limit_covers_everything() -> None:
    pytest.importorskip("torch")
    query = at_least(random_mlp([12, 40, 40, 40, 2], 0), 1.5, 12)
    began = time.monotonic()
    verdict = verify(query, Options(timeout=3))
    assert time.monotonic() - began < 6
    assert verdict.answer in ("timeout", "unsat", "sat")
    if verdict.answer == "timeout":
        assert verdict.evidence is None


def test_no_case_is_vacuous_in_words() -> None:
    network, model = identity()
    prop = Property(1, 1, ())
    verdict = verify(Query(network, prop, (model,), prop.digest))
    assert verdict.answer == "unsat"
    assert "vacuous" in verdict.reason


def test_only_open_cases_are_searched() -> None:
    pytest.importorskip("torch")
    made = hard()
    (case,) = made.property.cases
    easy = ((constraint({}, {0: F(-1)}, F(50)),),)
    cases = [Case(case.lower, case.upper, unsafe) for unsafe in (easy, case.unsafe, easy)]
    prop = Property(4, 2, tuple(cases))
    query = Query(made.network, prop, made.models, prop.digest)
    verdict = verify(query, Options(timeout=60))
    assert verdict.answer == "unsat"
    assert isinstance(verdict.evidence, Proof)
    assert verdict.evidence.arrays["case_number"].tolist() == [1]


def test_attack_alone() -> None:
    verdict = verify(hard(), Options(timeout=20, method="attack"))
    assert verdict.answer == "unknown"
    assert verdict.evidence is None
    assert "search" not in {s.name for s in verdict.stages}


def test_bounds_alone_optimise_slopes_and_split_nothing() -> None:
    made = random_mlp([4, 10, 10, 2], 6)
    decided = {}
    for threshold in np.arange(1.2, 3.0, 0.05):
        query = at_least(made, float(threshold), 4)
        verdict = verify(query, Options(timeout=20, method="bounds"))
        decided[check_proof(query, None).verdict, verdict.answer] = verdict
    assert set(decided) == {("invalid", "unknown"), ("invalid", "unsat"), ("valid unsat", "unsat")}
    proof = decided["invalid", "unsat"].evidence
    assert isinstance(proof, Proof)
    assert proof.leaves == 1
    assert proof.splits == ""
    assert "without splits" in decided["invalid", "unknown"].reason


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"method": "magic"}, "use one of"),
        ({"device": "tpu"}, "use one of"),
        ({"timeout": 0.0}, "positive"),
        ({"timeout": -3.0}, "positive"),
        ({"timeout": float("inf")}, "positive"),
        ({"timeout": float("nan")}, "positive"),
    ],
)
def test_options_without_meaning_are_refused(bad: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Options(**bad)


def test_cuda_without_a_device_is_refused() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    query = hard()
    with pytest.raises(InputError, match="no CUDA device"):
        verify(query, Options(timeout=20, device="cuda"))


def test_without_torch_the_kernel_answers_and_the_rest_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else real(name)
    )
    assert verify(at_least(identity(), F(2))).answer == "unsat"
    with pytest.raises(MissingExtraError, match=r"\[verifier\]"):
        verify(hard())


def test_an_easy_question_imports_neither_torch_nor_onnxruntime() -> None:
    program = (
        "import sys\n"
        "from fractions import Fraction\n"
        "from tests.verifier.test_verify import at_least\n"
        "from tests.verifier.small import identity\n"
        "from verifier.verify import verify\n"
        "assert verify(at_least(identity(), Fraction(2))).answer == 'unsat'\n"
        "print(sorted({'torch', 'onnxruntime', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_attacks_go_on_beside_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only a later attack finds ends the search; the share of time is kept."""
    from verifier import attack, attack_again

    class Scripted:
        seeds: ClassVar[list[int]] = []
        work: ClassVar[list[float]] = []

        def __init__(self, *_: Any, settings: Any, **__: Any) -> None:
            self.seeds.append(settings.seed)
            self.work.append(settings.work)

        def descend(self) -> str | None:
            time.sleep(0.02)
            return "found" if self.seeds[-1] == 9 else None

    monkeypatch.setattr(attack_again, "Attack", Scripted)
    again = attack_again.RepeatedAttack(
        hard(),
        lambda: None,  # type: ignore[arg-type,return-value]
        lambda *_: None,
        share=0.1,
        after=1.0,
        settings=attack.Settings(seed=7, work=100.0),
    )
    assert again.attack(0.5, 1e18) is None
    assert Scripted.seeds == []  # too early
    never = attack_again.RepeatedAttack(
        hard(),
        lambda: None,  # type: ignore[arg-type,return-value]
        lambda *_: None,
        share=0.0,
        after=0.0,
        settings=attack.Settings(),
    )
    assert never.attack(5.0, 1e18) is None
    assert Scripted.seeds == []
    assert again.attack(1.0, 1e18) is None
    again._spent = 0.2
    assert again.attack(1.5, 1e18) is None
    assert Scripted.seeds == [8]  # the share is used up
    assert again.attack(9.0, time.monotonic()) is None
    assert Scripted.seeds == [8]  # no time is left
    assert again.attack(9.0, 1e18) == "found"
    assert Scripted.seeds == [8, 9]
    assert Scripted.work == [100.0 / 32, 100.0 / 16]


def test_a_violation_found_between_rounds_ends_the_search() -> None:
    from verifier.bab import Search
    from verifier.bab import Settings as SearchSettings

    for method in ("inputs", "neurons"):
        search = Search(
            hard(),
            deadline=time.monotonic() + 20,
            settings=SearchSettings(method=method, stars="never"),
            on_round=lambda far: far.closed >= 0,
        )
        assert search.run() == "violated"


class Stub:
    """A search that does what a test wants."""

    name, remark = "branch and bound", ""
    splits_inputs = True

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def run(self) -> str:
        return "timeout"

    def extend(self, deadline: float) -> None:
        pass

    def proof(self, deadline: float = math.inf) -> Proof:
        raise AssertionError("nothing was proved")


def of_class(name: str, text: str) -> RuntimeError:
    made: RuntimeError = type(name, (RuntimeError,), {})(text)
    return made


OUT_OF_MEMORY = [
    MemoryError(),
    of_class("OutOfMemoryError", "CUDA says no"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"
    ),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize("where", ["__init__", "run", "proof"])
def test_running_out_of_memory_is_unknown(
    error: Exception, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    import verifier.bab

    def fail(*_: Any, **__: Any) -> str:
        raise error

    class Search(Stub):
        def run(self) -> str:
            return "closed"

    setattr(Search, where, fail)
    monkeypatch.setattr(verifier.bab, "Search", Search)
    verdict = verify(hard(), Options(timeout=20))
    assert (verdict.answer, verdict.reason) == ("unknown", "ran out of memory")
    assert verdict.evidence is None
    assert verdict.stages[-1].name == "search"


def test_a_search_that_says_memory_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    import verifier.bab

    class Search(Stub):
        def run(self) -> str:
            return "memory"

    monkeypatch.setattr(verifier.bab, "Search", Search)
    verdict = verify(hard(), Options(timeout=20))
    assert (verdict.answer, verdict.reason) == ("unknown", "ran out of memory")


def test_other_errors_of_a_stage_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    import verifier.bab

    class Search(Stub):
        def run(self) -> str:
            raise RuntimeError("shapes do not match")

    monkeypatch.setattr(verifier.bab, "Search", Search)
    with pytest.raises(RuntimeError, match="shapes"):
        verify(hard(), Options(timeout=20))


def test_what_torch_raises_is_recognised() -> None:
    torch = pytest.importorskip("torch")
    from verifier.memory import ran_out

    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 45, dtype=torch.float64)
    assert ran_out(caught.value)
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(MemoryError) as again:
        np.empty(1 << 45)
    assert ran_out(again.value)
    assert not ran_out(RuntimeError("a size mismatch"))
    assert not ran_out(ValueError("out of memory"))


def test_what_a_deadline_lost_is_opened_again_and_not_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    import verifier.bab

    reopened: list[list[int]] = []

    class Forgetful(verifier.bab.Search):
        """Says once that all is closed while the root is open."""

        def run(self) -> Any:
            if not reopened:
                self._tree.add_root(0)
                self._engine._begun = True  # type: ignore[union-attr]
                return "closed"
            return super().run()

        def reopen(self, nodes: Any) -> None:
            reopened.append(list(nodes))
            super().reopen(nodes)

    monkeypatch.setattr(verifier.bab, "Search", Forgetful)
    verdict = verify(hard(), Options(timeout=30, method="bab"))
    assert verdict.answer == "unsat"
    assert reopened[0] == [0]
    assert [s.name for s in verdict.stages].count("check") == 1


def test_a_proof_without_time_for_its_check_is_a_timeout() -> None:
    pytest.importorskip("torch")
    given = {"policy.kernel_speed": 1e-6, "policy.kernel_patience": 0.001}
    verdict = verify(hard(), Options(timeout=20, settings=given))
    assert (verdict.answer, verdict.uncertified_claim) == ("timeout", "unsat")
    assert "too little time" in verdict.reason
    assert {"kernel", "check"} & {s.name for s in verdict.stages} == set()


def test_a_search_that_is_not_done_goes_on_with_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stops early enough to end in time, however much it overran the first deadline."""
    pytest.importorskip("torch")
    import verifier.bab

    deadlines: list[float] = []

    class Search(Stub):
        splits_inputs = False

        def extend(self, deadline: float) -> None:
            deadlines.append(deadline)

        def run(self) -> str:
            time.sleep(max(0.0, deadlines[-1] - time.monotonic()) + 0.3)
            return "timeout"

    monkeypatch.setattr(verifier.bab, "Search", Search)
    began = time.monotonic()
    verdict = verify(hard(), Options(timeout=4, method="bab"))
    spent = time.monotonic() - began
    assert verdict.answer == "timeout"
    assert len(deadlines) == 2
    assert 3.3 < spent < 4.0
