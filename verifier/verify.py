"""The portfolio: from a question to a verdict with checked evidence.

:mod:`verifier.policy` says who runs, for how long and with which settings.  The proof of
branch and bound is checked by the kernel, and leaves it rejects are opened again.  ``unsat``
is said only of a proof that the kernel found valid, ``sat`` only of a witness that the
kernel's exact evaluation and onnxruntime's replay both confirm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from proofs.check import Checked, check_proof
from proofs.minimise import minimise
from proofs.proof import NodeKind, Proof, ProofBuilder
from proofs.tree import DeadlineError
from proofs.workers import cpu_seconds
from specs.errors import EvidenceError, UnsupportedOperatorError
from specs.faults.struck import faults_of
from specs.query import Query
from verifier import smt
from verifier.attack import Attack
from verifier.attack import Settings as AttackSettings
from verifier.attack_again import RepeatedAttack
from verifier.attack_confirm import Confirm, Confirmed
from verifier.attack_forward import NumpyEvaluator
from verifier.bounds_errors import OverflowPossibleError
from verifier.memory import ran_out
from verifier.needs import PROGRAMS, SOLVERS, have, need, need_torch
from verifier.old_proof import Rest, Tried, tried
from verifier.options import Options
from verifier.policy import Budget, Features, Policy, Seen
from verifier.policy import Settings as PolicySettings
from verifier.progress import Progress
from verifier.quantised.question import IntegerQuestion, Question
from verifier.verdict import Reused, Stage, Verdict

if TYPE_CHECKING:
    from verifier.attack_forward import Evaluator, FloatArray
    from verifier.bab import Progress as Far
    from verifier.bab import Search
    from verifier.smt.search import Search as SmtSearch

OUT_OF_MEMORY = "ran out of memory"
"""The reason of an answer ``unknown`` that more memory might decide."""

SEVERAL = "proofs about [faults] are searched for of one case only, and no violation was found"


def verify(
    query: Question,
    options: Options | None = None,
    *,
    start: float | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Whether the query's network has its property, with evidence.

    Args:
        query: the question; of integers, :mod:`verifier.quantised` answers.
        options: how to verify.
        start: when the time limit began to run, in ``time.monotonic`` seconds; now if
            ``None``.
        progress: where to report.

    Raises:
        MissingExtraError: what needs no extra package did not decide it, and torch or
            onnxruntime is missing.
        FarkasError: a part of the question has no form in the search.
    """
    if isinstance(query, IntegerQuestion):
        from verifier.quantised.run import verify_integers

        return verify_integers(query, options, start=start, progress=progress)
    chosen = options or Options()
    began = time.monotonic() if start is None else start
    deadline = math.inf if chosen.timeout is None else began + chosen.timeout
    run = _Run(query, chosen, deadline, progress or Progress(enabled=False))
    try:
        verdict = run.verdict()
        return replace(verdict, settings=chosen.settings, reused=run.reused(verdict))
    finally:
        run.progress.clear()


class _Run:
    """One run of the portfolio: carries out what the policy says."""

    def __init__(self, query: Query, options: Options, deadline: float, progress: Progress) -> None:
        self.query = query
        self.options = options
        self.policy = Policy(
            Features.of(query),
            options.method,
            PolicySettings(**options.of_group("policy")),
            attack=options.of_group("attack"),
            seed=options.seed,
        )
        self._cpu_began = cpu_seconds()
        self.deadline = deadline - self.policy.settings.margin_seconds
        self.progress = progress
        self.stages: list[Stage] = []
        self.confirm = Confirm(query, self.deadline)
        self.seen: Seen | None = None
        self.claim: str | None = None
        self._tried: Tried | None = None
        self._mended: Proof | None = None
        self._found: Confirmed | None = None
        self._search_began = self._search_deadline = math.inf
        self._enough = False
        self._again = RepeatedAttack(
            query,
            self._evaluator,
            self.confirm,
            share=self.policy.settings.repeated_attack_share,
            after=self.policy.settings.repeated_attack_after,
            settings=self.policy.attack_settings("repeated"),
        )

    def verdict(self) -> Verdict:
        members = {
            "look": self._look,
            "kernel": self._kernel,
            "attack": self._attack,
            "search": self._search,
            "smt": self._smt,
            "reuse": self._reuse,
        }
        names: list[str] = list(self.policy.members(self._left()))
        if self.options.reuse is not None:
            names.insert(names[0] == "look", "reuse")
        faulty = faults_of(self.query) is not None
        if faulty:  # what is found without faults holds with none of them striking
            names = [n for n in names if n in ("look", "kernel", "reuse", "attack")]
        for name in names:
            try:
                found = members[name]()
            except Exception as error:
                if not ran_out(error):
                    raise
                return self._undecided("unknown", OUT_OF_MEMORY)
            if found is not None:
                return found
            if self._left() <= 0:
                return self._undecided("timeout", "the time limit")
        if faulty:
            return self._faults()
        return self._undecided("unknown", "no violation was found, and nothing was proved")

    def _faults(self) -> Verdict:
        """A violation with faults, or a proof over where they strike."""
        faults = faults_of(self.query)
        if faults is None or len(self.query.property.cases) != 1:
            return self._undecided("unknown", SEVERAL)
        need_torch(self.options.device)
        from verifier.faults.branching import prove
        from verifier.faults.word_attack import WordAttack

        method = self.options.method
        if method in ("auto", "attack"):
            with self._stage("attack on faults") as result:
                until = min(self.deadline, time.monotonic() + max(1.0, 0.2 * self._left()))
                found = WordAttack(self.query, faults, self.options.seed).run(until)
                result.append("no violation" if found is None else "violation")
            if found is not None:
                how = "exact evaluation and by onnxruntime's replay of the rewritten model"
                if found.replay is None:
                    how = "exact evaluation; no model file has faulty activations to be replayed"
                reason = f"a witness with {len(found.witness.faults)} faulty words, by {how}"
                stages = tuple(self.stages)
                return Verdict("sat", reason, found.witness, found.checked, found.replay, stages)
        if method not in ("auto", "bounds", "bab"):
            return self._undecided("unknown", "no violation was found")
        with self._stage("search") as result:
            leaves = 1 if method == "bounds" else 20_000
            try:
                proved = prove(self.query, faults, self.deadline, leaves, self._far)
            except UnsupportedOperatorError as error:
                return self._undecided("unknown", str(error))
            result.append(proved.reason or f"{proved.closed} domains closed")
        if proved.proof is not None and proved.checked is not None:
            return self._proved(proved.proof, proved.checked)
        answer = "timeout" if self._left() <= 0 else "unknown"
        reason = f"{proved.reason}; {proved.closed} domains closed, {proved.open} open"
        return self._undecided(answer, reason)

    def _far(self, closed: int, open_: int) -> None:
        self.progress.leaves("search", open_, closed)

    def _left(self) -> float:
        return self.deadline - time.monotonic()

    def _until(self, budget: Budget) -> float:
        """The deadline of a stage that begins now."""
        return budget.deadline(time.monotonic(), self.deadline)

    @contextmanager
    def _stage(self, name: str) -> Iterator[list[str]]:
        """Times a stage; the body puts its result into the list."""
        self.progress.stage(name)
        wall, cpu = time.perf_counter(), cpu_seconds()
        result: list[str] = []
        try:
            yield result
        finally:
            self.stages.append(
                Stage(
                    name,
                    time.perf_counter() - wall,
                    cpu_seconds() - cpu,
                    result[-1] if result else "",
                )
            )

    def _look(self) -> Verdict | None:
        """A few sampled points."""
        attack = self._prepared(
            NumpyEvaluator(self.query.network),
            self._until(self.policy.look()),
            self.policy.attack_settings("look"),
        )
        with self._stage("attack") as result:
            found = attack.sample()
            result.append("no violation" if found is None else "violation")
        return None if found is None else self._violated(found)

    def _reuse(self) -> Verdict | None:
        """The old proof as it is; if most of it holds, the search goes on with the rest."""
        if self.options.reuse is None:
            return None
        with self._stage("reuse") as result:
            until = _finite(self._until(self.policy.kernel()))
            began = time.monotonic()
            least = self.policy.settings.least_reused_share
            self._tried = found = tried(self.query, self.options.reuse, until, least)
            result.append(found.reused.in_words())
        if found.proof is not None and found.checked is not None and found.checked.valid:
            return self._proved(found.proof, found.checked)
        if found.rest is not None:
            self.seen = Seen(True, time.monotonic() - began, found.rest.cases)
        return None

    def reused(self, verdict: Verdict) -> Reused | None:
        """What became of the old proof, in the end."""
        if self._tried is None:
            return None
        found, proof = self._tried.reused, self._mended
        if found.why_not or proof is None or verdict.answer != "unsat":
            return found
        listed = len(proof.arrays["case_number"])
        leaves = proof.leaves + len(self.query.property.cases) - listed
        return replace(found, added=max(0, leaves - found.survived))

    def _kernel(self) -> Verdict | None:
        """The empty proof; if it is not valid, also the cases it leaves open, if known."""
        if self._rest is not None:  # a proof with more hints than none is being mended
            return None
        with self._stage("kernel") as result:
            until = _finite(self._until(self.policy.kernel()))
            began = time.monotonic()
            checked = check_proof(self.query, None, deadline=until)
            result.append(checked.verdict)
        if checked.verdict == "valid unsat":
            return self._proved(ProofBuilder(self.query).finish(), checked)
        left = tuple(sorted({r.case for r in checked.rejected})) if checked.ended else None
        self.seen = Seen(checked.ended, time.monotonic() - began, left)
        return None

    def _attack(self) -> Verdict | None:
        """Gradient descent from many points; torch is not started for a quick one."""
        torch = self.policy.attack_alone and not self.policy.small
        if torch:
            need_torch(self.options.device)
        with self._stage("attack") as result:
            attack = self._prepared(
                self._evaluator() if torch else NumpyEvaluator(self.query.network),
                self._until(self.policy.descent()),
                self.policy.attack_settings("attack"),
            )
            found = attack.descend()
            result.append("no violation" if found is None else "violation")
            if torch:
                result.append(f"{result[-1]}, with torch")
        return None if found is None else self._violated(found)

    def _prepared(
        self, evaluator: Evaluator, deadline: float, settings: AttackSettings
    ) -> Attack[Confirmed]:
        return Attack(self.query, evaluator, self.confirm, deadline=deadline, settings=settings)

    def _evaluator(self) -> Evaluator:
        """What evaluates the network fastest."""
        if self.policy.small:
            return NumpyEvaluator(self.query.network)
        from verifier.attack_torch import TorchEvaluator

        return TorchEvaluator(self.query.network, self.options.device)

    def _search(self) -> Verdict | None:
        """Branch and bound, the check of its proof, and rejected leaves opened again."""
        need_torch(self.options.device)
        if self.options.method == "star":
            need(PROGRAMS, "--method star")
            if not smt.applies(self.query.network):
                return self._undecided("unknown", "stars are split at Relus; use another method")
        with self._stage("search") as result:
            from verifier import bab

            settings = bab.Settings(
                **{**self.policy.search_settings(), **self.options.of_group("search")}
            )
            try:
                search = bab.Search(
                    self.query,
                    deadline=self.deadline,
                    device=self.options.device,
                    settings=settings,
                    on_candidate=self._on_candidate,
                    on_round=self._branched,
                    cases=None if self.seen is None else self.seen.open_cases,
                    old=None if self._rest is None else self._rest.draft,
                )
                if self._rest is not None and not self._taken_up(search, self._rest):
                    return self._undecided("timeout", "the old proof could not be gone on with")
            except OverflowPossibleError as error:
                return self._undecided("unknown", str(error))
            except bab.OutOfTimeError:
                return self._undecided("timeout", "no time was left for the errors' bounds")
            result.append("made")
        verdict = self._closed_by(search)
        return self._handed_over(search) if self._enough and verdict is None else verdict

    def _smt(self, open_: Proof | None = None) -> Verdict | None:
        """Boolean reasoning, about whole cases or what a proof leaves open."""
        need_torch(self.options.device)
        need(SOLVERS, "--method smt")
        with self._stage("smt") as result:
            from verifier import bab
            from verifier.smt.search import Search as SmtSearch
            from verifier.smt.settings import Settings as SmtSettings

            try:
                search = SmtSearch(
                    self.query,
                    deadline=self.deadline,
                    device=self.options.device,
                    settings=SmtSettings(**self.options.of_group("smt")),
                    on_candidate=self._on_candidate,
                    on_witness=self._on_witness,
                    on_round=self._round_over,
                    cases=None if self.seen is None else self.seen.open_cases,
                    open_=open_,
                )
            except (OverflowPossibleError, UnsupportedOperatorError) as error:
                return self._undecided("unknown", str(error))
            except bab.OutOfTimeError:
                return self._undecided("timeout", "no time was left for the errors' bounds")
            result.append("made")
        return self._closed_by(search)

    def _closed_by(self, search: Search | SmtSearch) -> Verdict | None:
        """A search to its end, the check of its proof, and rejected leaves opened again."""
        from verifier.bounds_sweep import OutOfTimeError

        self._search_began = time.monotonic()
        for _ in range(self.policy.settings.reopenings):
            with self._stage("search") as result:
                status = self._searched(search)
                result.append(status)
            if status == "violated" and self._found is not None:
                return self._violated(self._found)
            if self._enough:
                return None
            if status == "timeout":
                return self._undecided("timeout", f"{search.name} reached its time limit")
            if status == "memory":
                return self._undecided("unknown", OUT_OF_MEMORY)
            if status != "closed" and self.options.method == "bounds":
                return self._undecided("unknown", "bounds without splits do not decide it")
            reasoning = status == "exhausted" and self._worth_reasoning(search)
            if status != "closed" and not reasoning:
                return self._undecided("unknown", f"{search.name} ended: {status}")
            with self._stage("search") as result:
                try:
                    proof = search.proof(self.deadline)
                except OutOfTimeError:
                    return self._undecided("timeout", "the proof could not be written in time")
                result.append("; ".join(filter(None, ("written", search.remark))))
            if reasoning:
                return self._smt(proof)
            # A deadline inside a round may lose what was in work: it is open, not closed.
            holes = np.flatnonzero(proof.arrays["node_kind"] == NodeKind.HOLE).tolist()
            if holes:
                if not self._reopened(search, holes):
                    return self._undecided("timeout", f"{search.name} reached its time limit")
                continue
            self.claim, self._mended = "unsat", proof
            if not self.policy.worth_checking(self.seen, self._left()):
                return self._undecided("timeout", "too little time was left to check the proof")
            for candidate in (*self._smaller(proof), proof):
                with self._stage("check") as result:
                    checked = check_proof(self.query, candidate, deadline=_finite(self.deadline))
                    result.append(checked.verdict)
                if checked.verdict == "valid unsat":
                    return self._proved(candidate, checked)
            if self._left() <= 0:
                return self._undecided("timeout", "the check of the proof ran out of time")
            nodes = [r.node for r in checked.rejected if r.node is not None]
            if not nodes:
                return self._undecided("unknown", f"the kernel's verdict: {checked.reason}")
            if not self._reopened(search, nodes):
                return self._undecided("timeout", "no time was left to search rejected leaves")
        checks = self.policy.settings.reopenings
        return self._undecided("unknown", f"leaves still rejected after {checks} checks")

    def _branched(self, far: Far) -> bool:
        """After a round of branch and bound: whether it is to end."""
        if self._round_over(far):
            return True
        wanted = self.options.hand_over
        if wanted is not None:
            elapsed = time.monotonic() - self._search_began
            self._enough = elapsed >= wanted.seconds and far.open >= wanted.leaves
        return self._enough

    def _handed_over(self, search: Search) -> Verdict:
        """What a search has that ended before it was done."""
        with self._stage("search") as result:
            search.lead()
            proof = search.proof()
            result.append("handed over")
        verdict = self._undecided("timeout", "branch and bound was handed over")
        return replace(verdict, unfinished=proof)

    @property
    def _rest(self) -> Rest | None:
        return None if self._tried is None else self._tried.rest

    def _taken_up(self, search: Search, rest: Rest) -> bool:
        """Give a search the leaves of an old proof that fail; whether it can go on."""
        try:
            return search.take_up(*rest.states(_finite(self.deadline)))
        except DeadlineError:
            return False

    def _smaller(self, proof: Proof) -> list[Proof]:
        """The proof made smaller, where that is wanted and does not take long."""
        effort, spent = self.options.proof_effort, cpu_seconds() - self._cpu_began
        seconds = self.policy.minimising(effort, spent, self._left())
        if effort == "none" or seconds <= 0:
            return []
        until, thorough = time.monotonic() + seconds, effort == "high"
        with self._stage("minimise") as result:
            from verifier.reoptimise import Reoptimiser

            try:
                found = minimise(
                    self.query,
                    proof,
                    effort=effort,
                    deadline=_finite(until),
                    reoptimise=Reoptimiser(until, self.options.device) if thorough else None,
                )
            except Exception as error:  # the proof stands as it is, and the check will say
                if not isinstance(error, EvidenceError) and not ran_out(error):
                    raise
                result.append("failed")
                return []
            result.append("finished" if found.finished else "as far as time allowed")
        return [] if found.proof is proof else [found.proof]

    def _worth_reasoning(self, search: Search | SmtSearch) -> bool:
        """Whether Boolean reasoning may close what branch and bound cannot split further."""
        splits = search.name == "branch and bound" and not search.splits_inputs
        return splits and smt.applies(self.query.network) and have(SOLVERS)

    def _reopened(self, search: Search | SmtSearch, nodes: Sequence[int]) -> bool:
        """Take leaves back; whether there was time for it."""
        from verifier import bab

        search.extend(self.deadline)
        try:
            search.reopen(nodes)
        except bab.OutOfTimeError:
            return False
        return True

    def _searched(self, search: Search | SmtSearch) -> str:
        """Search, and go on with what time is left if that is worth while."""
        budget = self.policy.search(self.seen, self._left(), splits_inputs=search.splits_inputs)
        self._search_deadline = self._until(budget)
        search.extend(self._search_deadline)
        status = search.run()
        if status == "timeout":
            overrun = time.monotonic() - self._search_deadline
            budget = self.policy.more(self.seen, self._left(), overrun)
            if budget.most > 0:
                self._search_deadline = self._until(budget)
                search.extend(self._search_deadline)
                status = search.run()
        return status

    def _round_over(self, far: Far) -> bool:
        """Report; now and then attack with other random numbers."""
        self.progress.leaves("search", far.open, far.closed, far.worst)
        if self.options.method == "auto" and self._found is None:
            elapsed = time.monotonic() - self._search_began
            self._found = self._again.attack(elapsed, self._search_deadline)
        return self._found is not None

    def _on_candidate(self, points: FloatArray) -> bool:
        for x in points:
            if self._found is None:
                self._found = self.confirm.anywhere(x)
        return self._found is not None

    def _on_witness(self, case: int, disjunct: int, point: tuple[Fraction, ...]) -> bool:
        if self._found is None:
            self._found = self.confirm.exactly(case, disjunct, point)
        return self._found is not None

    def _proved(self, proof: Proof, checked: Checked) -> Verdict:
        leaves = "1 leaf" if checked.leaves == 1 else f"{checked.leaves} leaves"
        reason = f"a proof of {leaves}, checked by the kernel"
        if self.query.property.vacuous:
            reason = "vacuous: the property has no case that could be violated"
        elif len(checked.vacuous) == len(self.query.property.cases):
            reason = "vacuous: the region of every case is empty"
        return Verdict("unsat", reason, proof, checked, None, tuple(self.stages))

    def _violated(self, found: Confirmed) -> Verdict:
        reason = "a witness, confirmed by exact evaluation and by onnxruntime's replay"
        if self.query.rounding is not None:
            reason = f"a witness that every {self.query.semantics} evaluation violates"
            if not found.checked.valid:
                reason = (
                    f"a witness in {self.query.semantics}, by onnxruntime's replay of the stored "
                    "graph; other evaluations that are allowed may not violate"
                )
        elif not found.replay.inside:
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
