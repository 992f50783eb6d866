"""Certified budgets and removals as keys of questions, and as evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from proofs.watermarks.claims.persistence import CHANGE
from proofs.watermarks.evidence import FAILS, HOLDS, MarkEvidence
from specs.errors import QuestionError
from specs.watermarks.changes import Ball, Changes, Flips, Pruned
from specs.watermarks.claims.persistence import ChangedWeights
from specs.watermarks.question import MarkQuestion
from verifier.toml import toml
from verifier.watermarks.problem import Problem, problem

if TYPE_CHECKING:  # with torch and scipy, which kept results do without
    from verifier.watermarks.margin_attack import Removal
    from verifier.watermarks.persistence import Certified


def allowed_keys(changes: Changes) -> dict[str, str]:
    """Keys of ``[claim]`` that allow a set of changes; ``format`` is to be added where it is not
    that of the file.

    Raises:
        QuestionError: no keys do.
    """
    if isinstance(changes, Ball):
        return {"relative_l2" if changes.relative else changes.norm: toml(changes.radius)}
    if isinstance(changes, Pruned):
        return {"pruned": str(changes.count)}
    if isinstance(changes, Flips):
        found = {"flips": str(changes.count)}
        return found if changes.bits is None else {**found, "bits": toml(changes.bits)}
    raise QuestionError(f"no keys of [claim] allow {changes.words}")


def problem_of(claim: ChangedWeights) -> Problem:
    """What a change would have to do to refute a claim."""
    return problem(claim.demands, claim.weights)


def proof_of(question: MarkQuestion, found: Certified) -> MarkEvidence:
    """Hints as evidence that the question's claim holds."""
    hints = {name: values.astype(np.float32) for name, values in found.hints.items()}
    return MarkEvidence(question.digest, HOLDS, hints)


def witness_of(question: MarkQuestion, found: Removal) -> MarkEvidence:
    """A change as evidence that the question's claim does not hold."""
    return MarkEvidence(question.digest, FAILS, {CHANGE: found.change})
