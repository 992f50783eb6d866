"""From a question under integer semantics to a verdict.

``sat`` is said of a float32 input at which the integer program and onnxruntime, with its
optimisations off, both violate the property.  That there is none is Z3's word alone, and
``unsat`` is never said: the answer is ``unknown``, with the claim beside it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.check import Checked, check_witness
from proofs.witness import Witness
from proofs.workers import cpu_seconds
from specs.errors import InputError
from specs.property import Case
from verifier.needs import need
from verifier.options import Options
from verifier.progress import Progress
from verifier.quantised.calls import Integers
from verifier.quantised.program import IntArray
from verifier.quantised.question import IntegerQuestion
from verifier.quantised.reader import Compiled, Stored
from verifier.quantised.reals import Float32Array, from_ordinal, ordinal, ordinals_between
from verifier.quantised.settings import LimitError, Settings
from verifier.replay import Replay, Replayed, ReplayError
from verifier.verdict import Stage, Verdict

METHODS = ("auto", "smt")
_PROMISING = 8


def verify_integers(
    question: IntegerQuestion,
    options: Options | None = None,
    *,
    start: float | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Whether a quantised model, computed bit by bit, has its property.

    Args:
        question: what is asked.
        options: how to verify; the method is ``"auto"`` or ``"smt"``, and the settings used are
            those of ``quantised``.
        start: when the time limit began to run, in ``time.monotonic`` seconds; now if ``None``.
        progress: where to report.

    Raises:
        InputError: an option makes no sense here, or the model has an operator without a rule.
        MissingExtraError: z3-solver or onnxruntime is not installed.
    """
    chosen = options or Options()
    if chosen.method not in METHODS:
        raise InputError(
            f"method '{chosen.method}' has no use for integer semantics; use {' or '.join(METHODS)}"
        )
    if chosen.reuse is not None or chosen.device != "cpu":
        raise InputError("integer semantics has no use for an old proof or a device; leave it out")
    need(("z3", "onnxruntime"), "integer semantics")
    began = time.monotonic() if start is None else start
    deadline = math.inf if chosen.timeout is None else began + chosen.timeout
    run = _Run(question, chosen, deadline, progress or Progress(enabled=False))
    try:
        return replace(run.verdict(), stages=tuple(run.stages), settings=chosen.settings)
    finally:
        run.progress.clear()


@dataclass(frozen=True)
class _Closed:
    """What became of a case: ``"empty"``, ``"unsat"``, ``"timeout"`` or ``"unknown"``."""

    status: str
    why: str = ""


class _Run:
    """One run over all cases."""

    def __init__(
        self, question: IntegerQuestion, options: Options, deadline: float, progress: Progress
    ) -> None:
        self.question, self.query = question, question.query
        self.limits = Settings(**options.of_group("quantised"))
        self.deadline, self.progress = deadline, progress
        self.stages: list[Stage] = []
        self.random = np.random.default_rng([self.limits.seed, options.seed])
        self.doubt: str | None = None
        self.claim: str | None = None
        self.refuted = False
        self.model = Stored(self.query.models[0])
        self.replay: Replay | None = None

    def verdict(self) -> Verdict:
        network = self.query.network
        shapes = [network.nodes[number].shape for number in network.inputs]
        closed = []
        for number, case in enumerate(self.query.property.cases):
            if time.monotonic() >= self.deadline:
                return self._undecided("timeout", "the time limit")
            found = self._case(number, case, shapes)
            if isinstance(found, Verdict):
                return found
            closed.append(found)
            if found.status == "timeout":
                return self._undecided("timeout", found.why)
        for number, found in enumerate(closed):
            if found.status == "unknown":
                return self._undecided("unknown", f"case {number}: {found.why}")
        empty = sum(found.status == "empty" for found in closed)
        reason = "Z3 finds no violation, and gives no proof of it that could be checked"
        if empty:
            reason += f"; {empty} of {len(closed)} cases have no float32 input"
        if self.query.property.vacuous:
            reason = "vacuous: the property has no case that could be violated"
        return self._undecided("unknown", reason, "unsat")

    def _undecided(self, answer: str, reason: str, claim: str | None = None) -> Verdict:
        if self.doubt is not None:
            reason = f"{reason}; {self.doubt}"
        claim = claim or self.claim
        return Verdict(answer, reason, uncertified_claim=claim)

    @contextmanager
    def _stage(self, name: str) -> Iterator[list[str]]:
        self.progress.stage(name)
        wall, cpu = time.perf_counter(), cpu_seconds()
        result = [""]
        try:
            yield result
        finally:
            spent = time.perf_counter() - wall, cpu_seconds() - cpu
            self.stages.append(Stage(name, *spent, result[-1]))

    def _case(self, number: int, case: Case, shapes: list[tuple[int, ...]]) -> Verdict | _Closed:
        self.refuted = False
        ends = [
            ordinals_between(low, high, i in case.strict_lower, i in case.strict_upper)
            for i, (low, high) in enumerate(zip(case.lower, case.upper, strict=True))
        ]
        if any(low > high for low, high in ends):
            return _Closed("empty")
        try:
            with self._stage("compile") as result:
                low, high = ([int(end[side]) for end in ends] for side in (0, 1))
                compiled = self.model.compiled(shapes, low, high, self.limits)
                result.append(f"{len(compiled.program.nodes)} nodes")
            if not case.unsafe:
                return _Closed("unsat")
            with self._stage("attack") as result:
                points = self._points(low, high)
                found = self._best(number, case, compiled, points)
                result.append("no violation" if found is None else "violation")
            return found or self._solved(number, case, compiled)
        except LimitError as error:
            return _Closed("unknown", f"the question is too large: {error}")

    def _points(self, low: list[int], high: list[int]) -> IntArray:
        """Places of random float32 inputs, corners of the box among them."""
        least, most = (np.float64(from_ordinal(np.array(side))) for side in (low, high))
        shares = self.random.random((self.limits.samples, len(low)))
        corners = shares[: len(shares) // 4]
        corners[:] = np.rint(corners)
        points = ordinal((least + shares * (most - least)).astype(np.float32))
        return np.clip(points, low, high)

    def _best(
        self, number: int, case: Case, compiled: Compiled, points: IntArray
    ) -> Verdict | None:
        """The first of the most promising points that is a violation."""
        with np.errstate(over="ignore"):
            outputs = _outputs(compiled, points).astype(np.float64)
        worst = np.full(len(points), np.inf)
        for disjunct in case.unsafe:
            margins = [
                sum(float(w) * outputs[:, j] for j, w in c.outputs) + float(c.constant)
                for c in disjunct
            ]
            worst = np.minimum(worst, np.max([np.zeros(len(points)) - np.inf, *margins], axis=0))
        for at in np.argsort(worst)[:_PROMISING]:
            if worst[at] <= 0:
                found = self._judged(number, case, compiled, points[at])
                if found is not None:
                    return found
        return None

    def _solved(self, number: int, case: Case, compiled: Compiled) -> Verdict | _Closed:
        import z3

        from verifier.quantised.encode import Encoding

        with self._stage("smt") as result:
            encoding = Encoding(compiled, self.limits)
            solver = z3.Solver()
            solver.set("random_seed", self.limits.seed % 2**31)
            solver.add(encoding.violation(case.unsafe))
            until = min(self.deadline, time.monotonic() + self.limits.seconds)
            for _ in range(self.limits.candidates):
                left = until - time.monotonic()
                if left <= 0:
                    break
                solver.set("timeout", max(1, min(int(left * 1000), 2**31)))
                answer = solver.check()
                result.append(str(answer))
                if answer == z3.unsat:
                    return self._refuted() if self.refuted else _Closed("unsat")
                if answer != z3.sat:
                    if "keyboard" in solver.reason_unknown():  # Z3 takes the signal itself
                        raise KeyboardInterrupt
                    break
                inputs = encoding.inputs(solver.model())
                found = self._judged(number, case, compiled, inputs)
                if found is not None:
                    return found
                solver.add(encoding.differs(inputs))
            else:
                return self._refuted()
        if time.monotonic() >= self.deadline:
            return _Closed("timeout", "the time limit")
        if time.monotonic() >= until:
            return _Closed(
                "unknown", f"Z3 took more than {self.limits.seconds:g} s (quantised.seconds)"
            )
        return _Closed("unknown", f"Z3 gave up: {solver.reason_unknown()}")

    def _refuted(self) -> _Closed:
        return _Closed("unknown", "what would be a violation is none in onnxruntime")

    def _judged(
        self, number: int, case: Case, compiled: Compiled, inputs: IntArray
    ) -> Verdict | None:
        """``sat`` with its witness, if program and runtime agree on it."""
        x = from_ordinal(inputs)
        point = tuple(Fraction(float(v)) for v in x)
        with np.errstate(over="ignore"):
            ours = [Fraction(float(v)) for v in _outputs(compiled, inputs[None, :])[0]]
        violated = case.violated(point, ours)
        if compiled.exact and not violated:
            return None
        try:
            if self.replay is None:
                self.replay = Replay(self.query, stored=True)
            replayed = self.replay.judge(case, x)
        except ReplayError as error:
            return self._doubted(f"the counterexample found cannot be replayed: {error}", "sat")
        if not (replayed.violated and replayed.inside):
            if not compiled.exact:
                why = "some order of summation may violate the property, but onnxruntime's does not"
                return self._doubted(why, None)
            why = (
                "the stored graph violates the property at a point by the operators' definition, "
                "but onnxruntime computes something else there (docs/integers.md says why it may)"
            )
            return self._doubted(why, "sat")
        disjunct = _disjunct(case, point, replayed)
        witness = Witness(self.question.digest, number, disjunct, point)
        checked = check_witness(self.query, replace(witness, question=self.query.digest))
        return Verdict("sat", _reason(compiled, checked), witness, checked, replayed)

    def _doubted(self, why: str, claim: str | None) -> None:
        self.doubt, self.claim, self.refuted = why, self.claim or claim, True


def _reason(compiled: Compiled, checked: Checked) -> str:
    reason = "a witness, by onnxruntime's replay of the stored graph"
    if compiled.exact:
        reason += " and by its bit-precise evaluation"
    if checked.valid:
        return f"{reason}; it violates the property in exact real arithmetic as well"
    return f"{reason}; in exact real arithmetic it does not violate the property"


def _disjunct(case: Case, point: tuple[Fraction, ...], replayed: Replayed) -> int:
    y = [Fraction(v) for v in replayed.outputs]
    return next(n for n, d in enumerate(case.unsafe) if all(c.holds(point, y) for c in d))


def _outputs(compiled: Compiled, inputs: IntArray) -> npt.NDArray[Any]:
    """Outputs ``(batch, outputs)`` at inputs; where only enclosed, the least."""
    values = compiled.program.evaluate(inputs)
    parts: list[IntArray | Float32Array] = []
    for output in compiled.outputs:
        keys = values[:, output.keys]
        found = keys if isinstance(output, Integers) else output.ends(keys)[0]
        parts.append(found.reshape(len(inputs), -1))
    return np.concatenate([part.astype(np.float64) for part in parts], axis=1)
