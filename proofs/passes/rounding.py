"""Hints in fewer bits."""

from __future__ import annotations

from collections.abc import Sequence

from proofs.draft import Argument, Node
from proofs.passes.edits import Work
from proofs.passes.thin import below
from proofs.proof import NodeKind
from proofs.tables import Step, Substitution


def hints(work: Work, tops: Sequence[Node], rung: int) -> None:
    """Hints of clips and bound steps in as many bits as a rung of the ladder says."""
    coarse = work.ladder[rung]
    for node in below(tops):
        made: Argument = None
        if node.kind is NodeKind.CLIP and isinstance(node.arg, Substitution):
            made = coarse.hints(node.arg)
        elif isinstance(node.arg, Step):
            made = coarse.step(node.arg)
        if made is not None and made is not node.arg:
            work.edit(node)
            node.arg = made
