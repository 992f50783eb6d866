"""What a run comes to: an answer, its evidence, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proofs.check import Checked
from proofs.proof import Proof
from proofs.witness import Witness
from verifier.replay import Replayed

if TYPE_CHECKING:
    from verifier.overrides import Value
    from verifier.quantised.question import Question


@dataclass(frozen=True)
class Stage:
    """What one stage of the portfolio cost.

    Attributes:
        name: ``"reuse"``, ``"kernel"``, ``"attack"``, ``"search"``, ``"smt"``,
            ``"minimise"`` or ``"check"``.
        wall, cpu: seconds; the CPU seconds are those of all threads.
        result: what came of it, in words.
    """

    name: str
    wall: float
    cpu: float
    result: str


@dataclass(frozen=True)
class Reused:
    """What became of an old proof.

    Attributes:
        leaves: of the old proof; a case without a tree counts as one.
        survived: how many close as they are in the new question.
        seconds: that finding out took.
        dropped: pieces without a place in the new question, by what they are.
        added: leaves of the new proof, before it is made smaller, that are not old ones;
            ``None``: there is no new one.
        why_not: why it was not gone on with, in words; empty: it was.
    """

    leaves: int
    survived: int
    seconds: float
    dropped: Mapping[str, int] = field(default_factory=dict)
    added: int | None = None
    why_not: str = ""

    @property
    def share(self) -> float:
        """Of the leaves that survived."""
        return self.survived / self.leaves if self.leaves else 0.0

    def in_words(self) -> str:
        """For a person."""
        words = f"{self.survived} of {self.leaves} leaves close as they are ({self.share:.1%})"
        if self.dropped:
            gone = ", ".join(f"{count} {name}" for name, count in self.dropped.items())
            words += f"; without a place: {gone}"
        if self.why_not:
            words += f"; searched anew: {self.why_not}"
        elif self.added:
            words += f"; {self.added} new ones"
        return f"{words}; {self.seconds:.2f} s"


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
        settings: those that were given, see :class:`verifier.verify.Options`.
        reused: what became of the old proof that was given.
        unfinished: what a search has handed over, where that was asked for; open leaves are holes.
    """

    answer: str
    reason: str
    evidence: Proof | Witness | None = None
    checked: Checked | None = None
    replay: Replayed | None = None
    stages: tuple[Stage, ...] = ()
    uncertified_claim: str | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)
    reused: Reused | None = None
    unfinished: Proof | None = None

    @property
    def leaves(self) -> int:
        """Leaves that the kernel closed, cases without a tree included."""
        proved = self.answer == "unsat" and self.checked is not None
        return self.checked.leaves if proved and self.checked is not None else 0

    def seconds(self, *names: str) -> tuple[float, float]:
        """Wall and CPU seconds of the stages with these names, of all if none is given."""
        chosen = [s for s in self.stages if not names or s.name in names]
        return sum(s.wall for s in chosen), sum(s.cpu for s in chosen)


def as_json(query: Question, verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain data, for ``--json``."""
    wall, cpu = verdict.seconds()
    data: dict[str, Any] = {
        "answer": verdict.answer,
        "reason": verdict.reason,
        "question": query.digest,
        "title": query.title,
        "semantics": query.semantics,
        "not_modelled": list(query.not_modelled),
        "property": query.property_digest,
        "models": [model.digest for model in query.models],
        "uncertified_claim": verdict.uncertified_claim,
        "leaves": verdict.leaves,
        "settings": dict(verdict.settings),
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
    if verdict.reused is not None:
        data["reused"] = vars(verdict.reused) | {"share": verdict.reused.share}
    if verdict.replay is not None:
        data["replay"] = {
            "violated": verdict.replay.violated,
            "inside": verdict.replay.inside,
            "outputs": list(verdict.replay.outputs),
        }
    if verdict.answer == "sat" and verdict.checked is not None:
        data["rests_on_replay"] = not verdict.checked.valid
    if verdict.checked is not None:
        data["check"] = {
            "question": verdict.checked.question,
            "verdict": verdict.checked.verdict,
            "leaves": verdict.checked.leaves,
        }
    return data
