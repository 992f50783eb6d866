"""The portfolio: from a question to a verdict with checked evidence.

The kernel with no hints comes first and costs no torch; then attacks, then branch and
bound, whose proof the kernel checks and whose rejected leaves are opened again.  ``unsat``
is said only of a proof that the kernel found valid, ``sat`` only of a witness that the
kernel's exact evaluation and onnxruntime's replay both confirm.
"""

from __future__ import annotations

import importlib.util
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from proofs.check import Checked, check_proof
from proofs.proof import Proof, ProofBuilder
from proofs.witness import Witness
from specs.errors import FarkasError, InputError, MissingExtraError
from specs.query import Query
from verifier.attack import Attack, Settings
from verifier.attack_again import RepeatedAttack
from verifier.attack_confirm import Confirm, Confirmed
from verifier.attack_forward import NumpyEvaluator, multiplications
from verifier.progress import Progress
from verifier.replay import Replayed

if TYPE_CHECKING:
    from verifier.attack_forward import Evaluator, FloatArray
    from verifier.bab import Progress as Far

METHODS = ("auto", "bounds", "bab", "attack")
LATER_METHODS = ("star", "smt")
DEVICES = ("cpu", "cuda")

_KERNEL_SHARE = 0.15
_MANY_CASES = 1000
_KERNEL_SHARE_MANY_CASES = 0.6
_ATTACK_SHARE = 0.15
_SEARCH_SHARE = 0.75
_SLOW_CHECK_SEARCH_SHARE = 0.5
_NEURON_SPARE_SHARE = 0.6
_MARGIN_SECONDS = 0.15
_MOST_REOPENINGS = 20
_CHEAP = Settings(samples=64, rows=128, steps=60, rounds=2, work=4e8)
_THOROUGH = Settings(samples=128, rows=256, steps=80, rounds=4, work=1e9)
_CHEAP_SECONDS = 2.0
_SMALL_MULTIPLICATIONS = 2_000_000


@dataclass(frozen=True)
class Options:
    """How to verify.

    Attributes:
        timeout: seconds from the start to the verdict, the check included; ``None`` = no
            limit.
        method: ``"auto"``: everything; ``"bounds"``: the kernel and optimised bounds
            without splits; ``"bab"``: branch and bound; ``"attack"``: attacks alone.
        device: where the search runs, ``"cpu"`` or ``"cuda"``.
        seed: of the attacks' random numbers.

    Raises:
        InputError: a value outside these.
    """

    timeout: float | None = None
    method: str = "auto"
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method in LATER_METHODS:
            raise InputError(
                f"method '{self.method}' is not there yet; use one of {', '.join(METHODS)}"
            )
        if self.method not in METHODS:
            raise InputError(f"method '{self.method}': use one of {', '.join(METHODS)}")
        if self.device not in DEVICES:
            raise InputError(f"device '{self.device}': use one of {', '.join(DEVICES)}")
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise InputError(f"a time limit of {self.timeout} seconds; it must be positive")


@dataclass(frozen=True)
class Stage:
    """What one stage of the portfolio cost.

    Attributes:
        name: ``"kernel"``, ``"attack"``, ``"search"`` or ``"check"``.
        wall, cpu: seconds; the CPU seconds are those of all threads.
        result: what came of it, in a word or two.
    """

    name: str
    wall: float
    cpu: float
    result: str


@dataclass(frozen=True, eq=False)
class Verdict:
    """An answer and its evidence.

    Attributes:
        answer: ``"unsat"`` (the property holds), ``"sat"`` (it is violated),
            ``"unknown"`` or ``"timeout"``.
        reason: why, in words.
        evidence: the proof of ``unsat``, the witness of ``sat``, else ``None``.
        checked: what the kernel said of the evidence.
        replay: what onnxruntime made of the witness.
        stages: in the order they ran; a name may occur several times.
        uncertified_claim: an answer that the search gave and the evidence did not bear
            out; ``answer`` is then ``unknown`` or ``timeout``.
    """

    answer: str
    reason: str
    evidence: Proof | Witness | None = None
    checked: Checked | None = None
    replay: Replayed | None = None
    stages: tuple[Stage, ...] = ()
    uncertified_claim: str | None = None

    @property
    def leaves(self) -> int:
        """Leaves that the kernel closed, cases without a tree included."""
        proved = self.answer == "unsat" and self.checked is not None
        return self.checked.leaves if proved and self.checked is not None else 0

    def seconds(self, *names: str) -> tuple[float, float]:
        """Wall and CPU seconds of the stages with these names, of all if none is given."""
        chosen = [s for s in self.stages if not names or s.name in names]
        return sum(s.wall for s in chosen), sum(s.cpu for s in chosen)


def verify(
    query: Query,
    options: Options | None = None,
    *,
    start: float | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Whether the query's network has its property, with evidence.

    Args:
        query: the question.
        options: how to verify.
        start: when the time limit began to run, in ``time.monotonic`` seconds; now if
            ``None``.
        progress: where to report.

    Raises:
        MissingExtraError: what needs no extra package did not decide it, and torch or
            onnxruntime is missing.
        FarkasError: a part of the question has no form in the search.
    """
    chosen = options or Options()
    began = time.monotonic() if start is None else start
    deadline = math.inf if chosen.timeout is None else began + chosen.timeout - _MARGIN_SECONDS
    run = _Run(query, chosen, deadline, progress or Progress(enabled=False))
    try:
        return run.verdict()
    finally:
        run.progress.clear()


class _Run:
    """One run of the portfolio."""

    def __init__(self, query: Query, options: Options, deadline: float, progress: Progress) -> None:
        self.query = query
        self.options = options
        self.deadline = deadline
        self.progress = progress
        self.stages: list[Stage] = []
        self.confirm = Confirm(query, deadline)
        self.search_share = _SEARCH_SHARE
        self.claim: str | None = None
        self._found: Confirmed | None = None
        self._again = RepeatedAttack(query, self._evaluator, self.confirm, deadline, options.seed)

    def verdict(self) -> Verdict:
        method = self.options.method
        found: Verdict | None = None
        open_cases: list[int] | None = None
        if method in ("auto", "attack"):
            found = self._attack(NumpyEvaluator(self.query.network), sampling=True)
        if found is None and method in ("auto", "bounds"):
            found, open_cases = self._kernel()
        if found is None and method in ("auto", "attack") and self._small:
            # Starting torch would cost more than this whole attack.
            numpy_evaluator = NumpyEvaluator(self.query.network)
            thorough = _THOROUGH if method == "attack" else _CHEAP
            found = self._attack(numpy_evaluator, sampling=False, settings=thorough)
        if found is not None:
            return found
        if self._left() <= 0:
            return self._undecided("timeout", "the time limit")
        if not (self._small and method == "attack"):
            _need_torch(self.options.device)
        if method in ("auto", "attack") and not self._small:
            found = self._torch_attack()
        if found is None and method in ("auto", "bab", "bounds"):
            found = self._search(open_cases)
        if found is not None:
            return found
        if self._left() <= 0:
            return self._undecided("timeout", "the time limit")
        return self._undecided("unknown", "no violation was found, and nothing was proved")

    def _left(self) -> float:
        return self.deadline - time.monotonic()

    def _share(self, share: float, most: float = math.inf) -> float:
        """The deadline of a stage that may use a share of the time left."""
        now = time.monotonic()
        return min(self.deadline, now + most, now + share * max(self.deadline - now, 0.0))

    @contextmanager
    def _stage(self, name: str) -> Iterator[list[str]]:
        """Times a stage; the body puts its result into the list."""
        self.progress.stage(name)
        wall, cpu = time.perf_counter(), time.process_time()
        result: list[str] = []
        try:
            yield result
        finally:
            self.stages.append(
                Stage(
                    name,
                    time.perf_counter() - wall,
                    time.process_time() - cpu,
                    result[-1] if result else "",
                )
            )

    def _kernel(self) -> tuple[Verdict | None, list[int] | None]:
        """The empty proof; if it is not valid, also the cases it leaves open, if known."""
        many = len(self.query.property.cases) > _MANY_CASES  # and most of them small and easy
        deadline = self._share(_KERNEL_SHARE_MANY_CASES if many else _KERNEL_SHARE)
        with self._stage("kernel") as result:
            checked = check_proof(self.query, None, deadline=_finite(deadline))
            result.append(checked.verdict)
        if checked.verdict == "valid unsat":
            return self._proved(ProofBuilder(self.query).finish(), checked), None
        if checked.verdict == "invalid" and checked.rejected:
            return None, sorted({r.case for r in checked.rejected})
        # One pass over the network took the whole share: the check will take longer.
        self.search_share = _SLOW_CHECK_SEARCH_SHARE
        return None, None

    def _attack(
        self, evaluator: Evaluator, *, sampling: bool, settings: Settings = _CHEAP
    ) -> Verdict | None:
        share = self._share(_ATTACK_SHARE, _CHEAP_SECONDS if settings is _CHEAP else math.inf)
        attack = Attack(
            self.query,
            evaluator,
            self.confirm,
            deadline=share,
            settings=Settings(**{**vars(settings), "seed": self.options.seed}),
        )
        with self._stage("attack") as result:
            found = attack.sample() if sampling else attack.descend()
            result.append("no violation" if found is None else "violation")
        return None if found is None else self._violated(found)

    @property
    def _small(self) -> bool:
        """Whether numpy is quicker than torch on the network."""
        return multiplications(self.query.network) <= _SMALL_MULTIPLICATIONS

    def _evaluator(self) -> Evaluator:
        """What evaluates the network fastest."""
        if self._small:
            return NumpyEvaluator(self.query.network)
        from verifier.attack_torch import TorchEvaluator

        return TorchEvaluator(self.query.network, self.options.device)

    def _torch_attack(self) -> Verdict | None:
        with self._stage("attack") as result:
            evaluator = self._evaluator()
            result.append("start of torch")
        return self._attack(evaluator, sampling=False, settings=_THOROUGH)

    def _search(self, cases: Sequence[int] | None) -> Verdict | None:
        """Branch and bound, the check of its proof, and rejected leaves opened again."""
        with self._stage("search") as result:
            from verifier.bab import Search
            from verifier.bab import Settings as SearchSettings

            search = Search(
                self.query,
                deadline=self._share(self.search_share),
                device=self.options.device,
                settings=SearchSettings(split=self.options.method != "bounds"),
                on_candidate=self._on_candidate,
                on_round=self._round_over,
                cases=cases,
            )
            result.append("made")
        # A leaf under neuron splits is one row to the kernel and hundreds of passes to the
        # search, so that little time need be kept for its check.
        spare = 0.0 if search.splits_inputs else _NEURON_SPARE_SHARE
        for _ in range(_MOST_REOPENINGS):
            with self._stage("search") as result:
                status = search.run()
                if status == "timeout" and spare:
                    search.extend(self._share(spare))
                    spare, status = 0.0, search.run()
                result.append(status)
            if status == "violated" and self._found is not None:
                return self._violated(self._found)
            if status == "timeout":
                return self._undecided("timeout", "branch and bound reached its time limit")
            if status != "closed" and self.options.method == "bounds":
                return self._undecided("unknown", "bounds without splits do not decide it")
            if status != "closed":
                return self._undecided("unknown", f"branch and bound ended: {status}")
            self.claim = "unsat"
            with self._stage("check") as result:
                proof = search.proof()
                checked = check_proof(self.query, proof, deadline=_finite(self.deadline))
                result.append(checked.verdict)
            if checked.verdict == "valid unsat":
                return self._proved(proof, checked)
            if self._left() <= 0:
                return self._undecided("timeout", "the check of the proof ran out of time")
            nodes = [r.node for r in checked.rejected if r.node is not None]
            if not nodes:
                return self._undecided("unknown", f"the kernel's verdict: {checked.reason}")
            search.reopen(nodes)
            search.extend(self._share(self.search_share))
        return self._undecided("unknown", f"leaves still rejected after {_MOST_REOPENINGS} checks")

    def _round_over(self, far: Far) -> bool:
        """Report; now and then attack with other random numbers."""
        self.progress.leaves("search", far.open, far.closed, far.worst)
        if self.options.method == "auto" and self._found is None:
            self._found = self._again.attack(far.elapsed)
        return self._found is not None

    def _on_candidate(self, points: FloatArray) -> bool:
        for x in points:
            if self._found is None:
                self._found = self.confirm.anywhere(x)
        return self._found is not None

    def _proved(self, proof: Proof, checked: Checked) -> Verdict:
        reason = f"a proof of {checked.leaves} leaves, checked by the kernel"
        if self.query.property.vacuous:
            reason = "vacuous: the property has no case that could be violated"
        elif len(checked.vacuous) == len(self.query.property.cases):
            reason = "vacuous: the region of every case is empty"
        return Verdict("unsat", reason, proof, checked, None, tuple(self.stages))

    def _violated(self, found: Confirmed) -> Verdict:
        reason = "a witness, confirmed by exact evaluation and by onnxruntime's replay"
        if not found.replay.inside:
            reason += (
                "; its float32 rounding lies outside the region"
                f" ({found.degenerate} intervals contain no float32 number)"
            )
        return Verdict(
            "sat", reason, found.witness, found.checked, found.replay, tuple(self.stages)
        )

    def _undecided(self, answer: str, reason: str) -> Verdict:
        if self.confirm.doubt is not None:
            reason = f"{reason}; {self.confirm.doubt}"
        claim = self.claim or ("sat" if self.confirm.doubt is not None else None)
        return Verdict(answer, reason, stages=tuple(self.stages), uncertified_claim=claim)


def _finite(deadline: float) -> float | None:
    return None if deadline == math.inf else deadline


def _need_torch(device: str) -> None:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError(
            "the kernel alone and sampling did not decide this question, and the search "
            'needs torch, which is not installed: pip install ".[verifier]"'
        )
    # Idle threads that spin cost a hundredfold on a busy machine.  OpenMP reads this when
    # torch is first imported, and a choice of the user's own stands.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError("--device cuda: torch finds no CUDA device here; use --device cpu")


def as_json(query: Query, verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain data, for ``--json``."""
    wall, cpu = verdict.seconds()
    data: dict[str, Any] = {
        "answer": verdict.answer,
        "reason": verdict.reason,
        "question": query.digest,
        "title": query.title,
        "semantics": query.semantics,
        "property": query.property_digest,
        "models": [model.digest for model in query.models],
        "uncertified_claim": verdict.uncertified_claim,
        "leaves": verdict.leaves,
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "stages": [vars(stage) for stage in verdict.stages],
    }
    if isinstance(verdict.evidence, Witness):
        data["witness"] = {
            "case": verdict.evidence.case,
            "disjunct": verdict.evidence.disjunct,
            "point": [str(v) for v in verdict.evidence.point],
        }
    if verdict.replay is not None:
        data["replay"] = {
            "violated": verdict.replay.violated,
            "inside": verdict.replay.inside,
            "outputs": list(verdict.replay.outputs),
        }
    if verdict.checked is not None:
        data["check"] = {"verdict": verdict.checked.verdict, "leaves": verdict.checked.leaves}
    return data


__all__ = ["FarkasError", "Options", "Stage", "Verdict", "as_json", "verify"]
