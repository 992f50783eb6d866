"""Removal: a tree that refutes every change, or one change that does it."""

from __future__ import annotations

from fractions import Fraction

from proofs.watermarks.check import Decided, Tick
from proofs.watermarks.evidence import HOLDS, MarkEvidence
from proofs.watermarks.last_layer import Change, objection, stated
from proofs.watermarks.removal import Tree, refuted
from specs.watermarks.claims.removal import LastLayerRemoval

TREE = ("sample", "target", "first", "row", "column", "value")
WEIGHT, BIAS = "weight", "bias"


def decide(claim: LastLayerRemoval, evidence: MarkEvidence, tick: Tick) -> Decided:
    """Check the leaves of a tree, or a change."""
    if evidence.claims != HOLDS:
        found = objection(claim, _change(claim, evidence), tick)
        return Decided(found is None, found or "a change within the radius removes the triggers")
    evidence.only(*TREE)
    tree = Tree(*(evidence.integers(name) for name in TREE))
    gap = refuted(stated(claim, tick), tree, tick)
    leaves = int(tree.first.size - 1)
    if gap is not None:
        short = f"by a relative {gap.excess:.3g}"
        return Decided(False, f"leaf {gap.leaf} of {leaves} is not refuted, {short}")
    facts = (("leaves", str(leaves)),)
    return Decided(True, "no change within the radius removes the triggers", facts)


def _change(claim: LastLayerRemoval, evidence: MarkEvidence) -> Change:
    """Floats, taken as the exact numbers that they are: what is added to ``W``, by rows, and ``b``.

    Raises:
        EvidenceError: arrays that are not known, or do not fit.
    """
    evidence.only(WEIGHT, BIAS)
    classes, width = claim.layer.entries.shape
    weight = evidence.floats(WEIGHT, classes * width).reshape(classes, width)
    bias = evidence.floats(BIAS, classes if BIAS in evidence.arrays else None)
    exact = tuple(tuple(map(Fraction, row)) for row in weight.tolist())
    return Change(exact, tuple(map(Fraction, bias.tolist())) or (Fraction(0),) * classes)
