"""Wrong kernels: splits that do not cover, children and cases that are left out.

Each wrong kernel is listed with the probe that notices it; see ``probes.py``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from proofs import check, domain, tree
from proofs.exact import BITS
from proofs.proof import Fact, ProofBuilder, Side
from proofs.tree import Walker
from proofs.unsafe import Closer
from tests.proofs.helpers import BOTH, at_least, at_most, box_case, builder, query
from tests.proofs.mutants import Mutant, each, notice, refused
from tests.proofs.probes import F, hinted, kink, simple


def splits_cover(arithmetic: str) -> None:
    """A point that is unsafe on either side of a split, or on its edge, is found."""
    for target in (F(-1), F(-3, 8), F(0), F(1, 8), F(5, 8), F(1)):
        about = at_least(0, target) + at_most(0, target)
        stated = query(simple().network, [box_case([-1], [1], about)])
        for split in ("input", "at", "neuron", "shifted", "form"):
            for hint in (False, True):
                made = builder(stated)
                made.begin_tree()
                if split == "input":
                    made.split_input(0)
                elif split == "at":
                    made.split_input(0, 0.5)
                elif split == "neuron":
                    made.split_neuron(1, 0)
                elif split == "shifted":
                    made.split_neuron(1, 0, -0.5)
                else:
                    made.split_form(made.form([(0, 0, 1.0), (1, 0, 1.0)], 1.0))
                use = made.substitution((), [(Fact.SPLIT, 0, 1.0)]) if hint else None
                for _ in range(2):
                    made.sweep()
                    made.close(use)
                refused(stated, made.finish(), arithmetic)


def stored_bounds_are_cut_where_they_are_split(arithmetic: str) -> None:
    """y = relu(x), bounded by what is stored for the neuron alone."""
    for target in (F(1, 8), F(0), F(5, 8)):
        about = at_least(0, target) + at_most(0, target)
        stated = query(kink(), [box_case([-1], [1], about)])
        for point in (0.0, 0.25, -0.25):
            made = builder(stated)
            made.begin_tree()
            made.split_neuron(1, 0, point)
            for _ in range(2):
                made.close(made.substitution(stop=1))
            refused(stated, made.finish(), arithmetic)


def every_disjunct_is_refuted(arithmetic: str) -> None:
    """One disjunct is impossible, the other one is not."""
    for unsafe in (
        (at_least(0, 5), at_least(0, F(1, 2))),
        (at_least(0, F(1, 2)), at_least(0, 5)),
    ):
        stated = query(simple().network, [box_case([-1], [1], *unsafe)])
        refused(stated, None, arithmetic)
        refused(stated, hinted(stated), arithmetic)
        for children in (0, 1, 2, 3):
            made = builder(stated)
            made.begin_tree()
            made.split_disjunct(children)
            for _ in range(children):
                made.close()
            refused(stated, made.finish(), arithmetic)


def all_cases_count(arithmetic: str) -> None:
    """The second, the last or only the middle case is violated."""
    network = simple().network
    safe = box_case([-1], [0], at_least(0, F(1, 2)))
    bad = box_case([0], [1], at_least(0, F(1, 2)))
    empty = box_case([1], [0], at_least(0, F(1, 2)))
    for cases in ([safe, bad], [bad, safe], [safe, bad, safe], [empty, bad], [bad, empty], [bad]):
        stated = query(network, cases)
        refused(stated, None, arithmetic)
        for chosen in range(len(cases)):
            made = ProofBuilder(stated)
            made.begin_case(chosen)
            made.begin_tree()
            made.close()
            refused(stated, made.finish(), arithmetic)


PROBES = (
    splits_cover,
    stored_bounds_are_cut_where_they_are_split,
    every_disjunct_is_refuted,
    all_cases_count,
)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.__name__)
def test_the_kernel_passes(probe, arithmetic):
    probe(arithmetic)


def only_the_first_disjunct(original):
    def judge(self, wanted, found, disjunct, strict):
        return original(self, wanted[:1], found, disjunct, strict)

    return judge


def other_half_twice(original):
    def branch(self, domains):
        found = original(self, domains)
        for place, children in enumerate(found.following):
            first = np.arange(len(children)) // 2 * 2
            half = children.pick(first)
            found.following[place] = replace(half, nodes=children.nodes)
        return found

    return branch


def gap_between_halves(original):
    def assume(frame, domains, made):
        moved = [
            replace(literal, point=literal.point + 0.25) if literal.side is Side.UPPER else literal
            for literal in made
        ]
        return original(frame, domains, moved)

    return assume


def cut_too_much(original):
    def cut(ends, places, entries, side, points):
        shift = -0.5 if side is Side.LOWER else 0.5
        moved = points + (int(shift * 2**BITS) if points.dtype == object else shift)
        return original(ends, places, entries, side, moved)

    return cut


def no_rest(original):
    def walkers(query_, tables_, *more):
        for number, walker in enumerate(original(query_, tables_, *more)):
            if number == 0:
                yield walker

    return walkers


MUTANTS = (
    Mutant("one disjunct", every_disjunct_is_refuted, Closer, "_judge", only_the_first_disjunct),
    Mutant("a half twice", splits_cover, Walker, "_branch", other_half_twice),
    Mutant("a gap between halves", splits_cover, tree, "assume", gap_between_halves),
    Mutant(
        "cut too much",
        stored_bounds_are_cut_where_they_are_split,
        domain,
        "_cut",
        cut_too_much,
    ),
    Mutant("cases without trees skipped", all_cases_count, check, "_walkers", no_rest),
)


@each(MUTANTS)
def test_a_mutant_is_noticed(mutant, arithmetic, monkeypatch):
    notice(mutant, arithmetic, monkeypatch)
