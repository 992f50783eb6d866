"""What makes the root states of cases: bound steps with less in them, or left out."""

from __future__ import annotations

from proofs.draft import CaseDraft
from proofs.passes import thin
from proofs.passes.edits import Work
from proofs.proof import NodeKind
from proofs.tables import Step

Operation = tuple[NodeKind, int | Step]


def rounded(work: Work) -> None:
    """Round the hints of all steps alike, as far as everything closes."""
    for case in work.draft.cases:
        for coarse in work.ladder:
            made = [
                (kind, coarse.step(a) if isinstance(a, Step) else a) for kind, a in case.prelude
            ]
            if made == case.prelude or _tried(work, case, made):
                break


def thinned(work: Work) -> None:
    """Leave out steps one by one, the largest first, or round them."""
    for case in work.draft.cases:
        steps = [arg for _, arg in case.prelude if isinstance(arg, Step)]
        for step in sorted(steps, key=_stored, reverse=True):
            rest = [part for part in case.prelude if part[1] is not step]
            if _tried(work, case, rest):
                continue
            for coarse in work.ladder:
                short = coarse.step(step)
                made = [(kind, short if arg is step else arg) for kind, arg in case.prelude]
                if short is step or _tried(work, case, made):
                    break


def unswept(work: Work) -> None:
    """Leave sweeps out where there is another one on the way to each leaf."""
    for case in work.draft.cases:
        rest = without_sweeps(case)
        own = thin.swept([node for tree in case.trees for node in tree.root])
        if len(rest) < len(case.prelude) and all(own[id(tree.root)] for tree in case.trees):
            _tried(work, case, rest)


def without_sweeps(case: CaseDraft) -> list[Operation]:
    """A prelude that only propagates intervals where it swept, and takes its steps."""
    return [part for part in case.prelude if part[0] is not NodeKind.SWEEP or part[1]]


def _stored(step: Step) -> int:
    return sum(block.slopes.size for block in step.substitution.blocks)


def _tried(work: Work, case: CaseDraft, prelude: list[Operation]) -> bool:
    """Take another prelude if all leaves of its case close with it."""
    before, case.prelude = case.prelude, prelude
    closes = False
    try:
        closes = not work.failing([tree.root for tree in case.trees])
    finally:
        if not closes:
            case.prelude = before
    return closes
