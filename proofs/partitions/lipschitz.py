"""Does a partition show that a network has a Lipschitz constant on a box, or that it has not?

It has if, on every leaf, the kernel proves that the norm of the gradient is nowhere above the
constant: a segment between two inputs of the box passes leaves one after the other.  It has not if
some leaf, which has a volume, is proved to have a larger norm everywhere: the gradient is the
network's at almost every input (``specs/derivative.py``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from proofs.arithmetic import Arithmetic
from proofs.arrays import HOLDS, ArrayEvidence
from proofs.domain import Domains
from proofs.partitions.evidence import Kind, read_tree
from proofs.partitions.gradient import Gradients
from proofs.partitions.probability import Decided
from proofs.partitions.prover import BoolArray
from proofs.partitions.walk import walk
from specs.lipschitz import LipschitzQuestion
from specs.numerals import numeral


def decide(
    question: LipschitzQuestion,
    evidence: ArrayEvidence,
    arithmetic: Arithmetic,
    tick: Callable[[], None] = lambda: None,
    report: Callable[[int], None] = lambda _: None,
) -> Decided:
    """Replay a partition of the box.

    Raises:
        EvidenceError: the arrays are no partition of the question's box.
    """
    tree = read_tree(evidence, question.network.input_size, 1)
    gradients = Gradients(question, arithmetic, tick)

    def look(domains: Domains) -> BoolArray:
        proved = np.zeros(len(domains), dtype=bool)
        for kind, claim in ((Kind.SAFE, gradients.at_most), (Kind.UNSAFE, gradients.over)):
            some = np.flatnonzero(tree.kind[domains.nodes] == kind)
            if some.size:
                proved[some] = claim(domains.batch.pick(some))
        return proved

    leaves = below = above = unproved = 0
    for found in walk(gradients, tree, look, report):
        kinds = tree.kind[found.nodes]
        leaves += len(kinds)
        below += int(np.count_nonzero(found.proved & (kinds == Kind.SAFE)))
        above += int(np.count_nonzero(found.proved & (kinds == Kind.UNSAFE)))
        unproved += int(np.count_nonzero(~found.proved & (kinds != Kind.OPEN)))
    bound = numeral(question.at_most)
    if evidence.claims == HOLDS:
        shown = leaves > 0 and below == leaves
        reason = f"the gradient's norm is at most {bound} on {below} of {leaves} leaves"
    else:
        shown = above > 0
        reason = f"the gradient's norm is above {bound} everywhere on {above} leaves"
    facts = (
        ("leaves", str(leaves)),
        ("proved: norm of the gradient at most the constant on", str(below)),
        ("proved: norm of the gradient above it everywhere on", str(above)),
        ("leaves not proved to be what the evidence says", str(unproved)),
    )
    return Decided(shown, reason, facts, leaves, unproved, None)
