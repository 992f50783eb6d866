"""Small questions and proofs that several probes of the kernel ask, and a probe that they share.

A probe is a small soundness check: it passes on the kernel as it is and must fail on each
mutant that is listed with it, in every arithmetic that the mutant concerns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from proofs.proof import NodeKind, ProofBuilder, Side
from specs.enclosure import Enclosure
from specs.linear import MatMul
from specs.network import Network
from tests.proofs.helpers import Net, at_least, box_case, extremes, query
from tests.proofs.mutants import refused
from tests.proofs.test_truth import cell_by_cell

F = Fraction


def simple(threshold: object = 1, *more, outputs: int = 1, strict: bool = False, constraints=()):
    """y = relu(x) - relu(-x) = x over [-1, 1]."""
    net = Net(1)
    hidden = net.relu(net.dense(0, [[1.0], [-1.0]]))
    net.dense(hidden, [[1.0, -1.0]] * outputs)
    first = at_least(0, threshold, strict)
    return query(net.done(), [box_case([-1], [1], first, *more, constraints=constraints)])


def kink() -> Network:
    """y = relu(x)."""
    net = Net(1)
    net.dense(net.relu(net.dense(0, [[1.0]])), [[1.0]])
    return net.done()


def hinted(stated, multipliers=(), weights=(), splits=(), slopes=(), prelude=()):
    made = ProofBuilder(stated)
    made.begin_case(0, prelude)
    made.begin_tree()
    for entry in splits:
        made.split_input(*entry)
    for _ in range(len(splits) + 1):
        made.close(made.substitution(slopes, multipliers, weights))
    return made.finish()


def before_disjuncts(stated, facts, entries=None, scales=None, *, to_close=True):
    """Facts bound tensor 1 before a split into two disjuncts and below, and may help to close."""
    made = ProofBuilder(stated)
    hints = made.substitution((), facts)
    step = made.step(1, entries, tuple(Side), hints, scales)
    made.begin_case(0, [(NodeKind.BOUND, step)])
    made.begin_tree()
    made.bound(step)
    made.split_disjunct(2)
    for _ in range(2):
        made.bound(step)
        made.close(hints if to_close else None)
    return made.finish()


def tight() -> Iterator[tuple]:
    """Queries violated exactly at an end of the box, and proofs that lose only rounding."""
    rng = np.random.default_rng(5)
    found = 0
    while found < 16:
        net = Net(1)
        hidden = net.dense(0, rng.normal(size=(3, 1)) * 1e3, rng.normal(size=3) * 0.5)
        if found % 2:
            hidden = net.relu(hidden)
        more = net.dense(hidden, rng.normal(size=(2, 3)), rng.normal(size=2))
        net.linear(
            (more, MatMul(Enclosure(rng.normal(size=(2, 1))))),
            (hidden, MatMul(Enclosure(rng.normal(size=(3, 1))))),
            offset=rng.normal(size=1),
        )
        network = net.done()
        case = box_case([-1], [1])
        _, best, at = extremes(network, case)
        if abs(at[0]) == 1:
            found += 1
            stated = query(network, [replace(case, unsafe=(at_least(0, best),))])
            yield stated, cell_by_cell(stated)


TIGHT: list = []


def rounding_is_paid(arithmetic: str) -> None:
    """A network that is linear on each leaf: only rounding keeps the kernel from 0."""
    TIGHT.extend(() if TIGHT else tight())
    for stated, proof in TIGHT:
        refused(stated, proof, arithmetic)
