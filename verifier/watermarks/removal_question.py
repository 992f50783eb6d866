"""Questions about removal: as text, and answered with evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from proofs.watermarks.evidence import FAILS, HOLDS, MarkEvidence
from proofs.watermarks.last_layer import Change, objection, stated
from proofs.watermarks.removal import Tree, refuted
from specs.errors import QuestionError
from specs.watermarks.claims.removal import LastLayerRemoval
from specs.watermarks.question import MarkQuestion
from verifier.progress import Progress
from verifier.toml import toml
from verifier.watermarks.removal import Found, least_removal
from verifier.watermarks.removal_lp import Moved

GROWN = (1e-9, 1e-7, 1e-5)
"""By how much a change is made larger, relatively, so that no rounding leaves a margin positive."""


@dataclass(frozen=True)
class Removing:
    """What a question about removal says, beside its radius.

    Attributes:
        model, samples: files, as the question names them.
        removed: how many triggers; ``None``: all.
        norm: of the changes.
        bias: whether it may change.
        others: a file of samples that keep their labels; ``keep``: how many, ``None``: all.
    """

    model: str
    samples: str
    removed: int | None = None
    norm: str = "linf"
    bias: bool = False
    others: str | None = None
    keep: int | None = None

    def text(self, radius: Fraction) -> str:
        """The question file for a radius, which is a decimal."""
        lines = [
            "[models]",
            f"net = {toml(self.model)}",
            "",
            "[claim]",
            'kind = "removal"',
            f"samples = {toml(self.samples)}",
            f"radius = {toml(radius)}",
            f"norm = {toml(self.norm)}",
        ]
        if self.removed is not None:
            lines.append(f"removed = {self.removed}")
        if self.bias:
            lines.append("bias = true")
        if self.others is not None:
            lines.append(f"others = {toml(self.others)}")
            if self.keep is not None:
                lines.append(f"keep = {self.keep}")
        return "\n".join(lines) + "\n"


def least_change(
    claim: LastLayerRemoval, seconds: float = math.inf, progress: Progress | None = None
) -> Found:
    """The search for a claim, whatever its radius is."""
    samples = stated(claim).samples
    return least_removal(samples, claim.norm, claim.removed, claim.keep, seconds, progress=progress)


def holds(question: MarkQuestion, tree: Tree) -> MarkEvidence:
    """A tree as evidence for a question."""
    names = ("sample", "target", "first", "row", "column", "value")
    return MarkEvidence(question.digest, HOLDS, {name: getattr(tree, name) for name in names})


def fails(question: MarkQuestion, moved: Moved) -> MarkEvidence | None:
    """A change as evidence against a question; ``None``: exactly, it does not do it."""
    claim = _claim(question)
    classes, width = claim.layer.entries.shape
    for grown in GROWN:
        whole = moved.change * (1 + grown)
        weight, bias = whole[:, :width], whole[:, width:].reshape(-1)
        exact = tuple(tuple(map(Fraction, row)) for row in weight.tolist())
        added = tuple(map(Fraction, bias.tolist())) or (Fraction(0),) * classes
        if objection(claim, Change(exact, added)) is None:
            arrays = {"weight": weight.reshape(-1), "bias": bias}
            return MarkEvidence(
                question.digest, FAILS, {name: a for name, a in arrays.items() if a.size}
            )
    return None


def answered(
    question: MarkQuestion, seconds: float = math.inf, progress: Progress | None = None
) -> MarkEvidence | None:
    """Evidence that decides a question about removal; ``None``: none was found."""
    claim = _claim(question)
    found = least_change(claim, seconds, progress)
    if found.tree is not None and refuted(stated(claim), found.tree) is None:
        return holds(question, found.tree)
    return None if found.moved is None else fails(question, found.moved)


def _claim(question: MarkQuestion) -> LastLayerRemoval:
    if not isinstance(question.claim, LastLayerRemoval):
        raise QuestionError(f"a claim of kind '{question.claim.kind}' is not about removal")
    return question.claim
