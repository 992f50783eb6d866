"""Every rule of the kernel, broken on purpose: the checks of this suite notice.

A *probe* is a small soundness check: it passes on the kernel as it is and must fail on each
mutant that is listed with it, in every arithmetic that the mutant concerns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from proofs import check, domain, facts, forms, frame, substitution, tables, tree, witness
from proofs.check import check_proof
from proofs.exact import Exact
from proofs.facts import Facts
from proofs.frame import Frame, Relaxations
from proofs.functions.relu import Relu
from proofs.outward import Outward
from proofs.proof import Fact, NodeKind, ProofBuilder, Side, SlopeHint
from proofs.tree import Walker
from proofs.unsafe import Closer
from specs.enclosure import Enclosure
from specs.errors import EvidenceError
from specs.linear import MatMul
from specs.network import Linear, Network, Term
from specs.property import Constraint, constraint
from tests.proofs.contracts import watched
from tests.proofs.helpers import (
    BOTH,
    Net,
    RandomProof,
    at_least,
    at_most,
    box_case,
    builder,
    extremes,
    member,
    query,
    with_arrays,
)
from tests.proofs.mutants import EXACT, OUTWARD, Mutant, each, notice, refused
from tests.proofs.test_bounds_hold import boxes, points_of, wild_network
from tests.proofs.test_truth import cell_by_cell
from tests.proofs.test_witness import (
    test_all_members_of_an_enclosure_must_violate,
    test_constraints_of_the_region_count,
    test_every_constraint_of_the_disjunct_counts,
    test_the_region_is_met_exactly,
    test_the_threshold_is_met_exactly,
)

F = Fraction


# --------------------------------------------------------------------------------- probes


def bounds_hold(arithmetic: str) -> None:
    """Random networks with enclosures and random proofs, watched at points."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        network = wild_network(rng, radii=0.5)
        low, high = boxes(rng)
        stated = query(network, [box_case(low, high, at_least(0, 1), at_least(1, 0))])
        real = query(member(rng, network), stated.property.cases)
        with watched(real, list(points_of(rng, low, high, 4))):
            check_proof(stated, None, arithmetic=arithmetic)
            check_proof(stated, RandomProof(rng, stated).proof(depth=3), arithmetic=arithmetic)


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


def facts_have_their_sign(arithmetic: str) -> None:
    stated = simple(F(1, 2))
    for kind in Fact:
        for index in range(3):
            for value in (-1e6, -1.0, 1.0, 1e6):
                proof = hinted(stated, [(kind, index, value)], splits=[(0, 0.25)])
                refused(stated, proof, arithmetic)


def weights_have_their_sign(arithmetic: str) -> None:
    two = at_least(0, F(1, 2)) + at_most(0, 2)
    net = simple().network
    stated = query(net, [box_case([-1], [1], two)])
    for weights in ((-1.0, 0.0), (0.0, -1.0), (-5.0, -1.0), (1.0, -1.0), (0.0, 0.0)):
        refused(stated, hinted(stated, weights=weights), arithmetic)


def region_constraints_cut_the_right_side(arithmetic: str) -> None:
    """x >= -1/4, so that y reaches 1 but not -1; the wrong sign would hide 1."""
    cut = Constraint(((0, F(-1)),), (), F(-1, 4))
    stated = simple(1, constraints=(cut,))
    refused(stated, hinted(stated, [(Fact.REGION, 0, 1.0)]), arithmetic)
    below = query(stated.network, [box_case([-1], [1], at_most(0, F(-1, 2)), constraints=(cut,))])
    made = builder(below)
    made.begin_tree()
    made.split_input(0, 0.0)
    for _ in range(2):
        made.sweep()
        made.close(made.substitution((), [(Fact.REGION, 0, 1.0)]))
    assert check_proof(below, made.finish(), arithmetic=arithmetic).valid


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


def split_facts_have_their_side(arithmetic: str) -> None:
    """Multiplied by what it needs, each half is closed by the fact of the other."""
    stated = simple(F(3, 4))
    for point in (-0.5, 0.0, 0.5):
        for value in (0.5, 1.0, 2.0):
            for splits in ([(0, point)], [(0, point), (0, 2.0)]):
                proof = hinted(stated, [(Fact.SPLIT, 0, value)], splits=splits)
                refused(stated, proof, arithmetic)
            made = builder(stated)
            made.begin_tree()
            made.split_form(made.form([(3, 0, 2.0)], point))
            for _ in range(2):
                made.close(made.substitution((), [(Fact.SPLIT, 0, value)]))
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


def unsafe_is_a_fact_of_one_disjunct_only(arithmetic: str) -> None:
    """y >= 5 or y <= 1/2: the first, which is false, would refute the second."""
    stated = query(simple().network, [box_case([-1], [1], at_least(0, 5), at_most(0, F(1, 2)))])
    for value in (0.5, 1.0, 3.0):
        facts = [(Fact.UNSAFE, 0, value)]
        refused(stated, hinted(stated, facts), arithmetic)
        made = ProofBuilder(stated)
        step = made.step(1, None, tuple(Side), made.substitution((), facts))
        made.begin_case(0, [(NodeKind.BOUND, step)])
        made.begin_tree()
        made.bound(step)
        made.split_disjunct(2)
        for _ in range(2):
            made.bound(step)
            made.close(made.substitution((), facts))
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


def lemmas_are_earlier_and_on_the_path(arithmetic: str) -> None:
    """y in [0.4, 0.6] is refuted for x <= 0 and x >= 3/4, and reached in between."""
    between = at_least(0, F(2, 5)) + at_most(0, F(3, 5))
    stated = query(simple().network, [box_case([-1], [1], between)])

    def start(point: float, side: Side):
        made = builder(stated)
        form = made.form([(0, 0, 1.0)], point)
        made.begin_tree([(form, side)])
        return made, form

    def leaf(made) -> None:
        made.sweep()
        made.close()

    for cited in (0, 1):  # the lemma itself, the tree that cites it
        made, form = start(0.75, Side.LOWER)
        made.cite(cited)
        made.begin_tree()
        made.split_form(form)
        made.cite(0)
        leaf(made)
        refused(stated, made.finish(), arithmetic)
    made, form = start(0.0, Side.LOWER)
    leaf(made)
    made.begin_tree()
    made.cite(0)  # without the literal on its path
    refused(stated, made.finish(), arithmetic)
    made, form = start(0.0, Side.LOWER)
    leaf(made)
    made.begin_tree()
    made.split_form(form)
    made.cite(0)
    made.cite(0)  # on the other side
    refused(stated, made.finish(), arithmetic)
    made, form = start(0.0, Side.LOWER)
    leaf(made)
    made.begin_tree()
    made.split_input(0, 0.75)
    made.cite(0)  # x <= 3/4 does not entail x <= 0
    leaf(made)
    refused(stated, made.finish(), arithmetic)
    made, form = start(0.75, Side.LOWER)
    leaf(made)  # is not refuted
    made.begin_tree()
    made.split_form(form)
    made.cite(0)
    leaf(made)
    refused(stated, made.finish(), arithmetic)
    made, form = start(0.0, Side.LOWER)
    leaf(made)
    made.begin_tree()
    made.split_input(0, -0.125)
    made.cite(0)  # x <= -1/8 does entail it
    made.hole()
    found = check_proof(stated, made.finish(), arithmetic=arithmetic)
    assert found.verdict == "incomplete"
    assert len(found.rejected) == 1


def lemmas_are_of_the_case_and_the_disjunct(arithmetic: str) -> None:
    network = simple().network
    safe, bad = (box_case([a], [b], at_least(0, F(1, 2))) for a, b in ((-1, 0), (0, 1)))
    stated = query(network, [safe, bad])
    made = ProofBuilder(stated)
    made.begin_case(0)
    made.begin_tree()
    made.close()
    made.begin_case(1)
    made.begin_tree()
    made.cite(0)
    refused(stated, made.finish(), arithmetic)
    for impossible in (0, 1):
        pair = [at_least(0, 5), at_least(0, F(1, 2))]
        unsafe = pair if impossible == 0 else pair[::-1]
        both = query(network, [box_case([-1], [1], *unsafe)])
        made = builder(both)
        made.begin_tree((), impossible)
        made.close()
        made.begin_tree()
        made.cite(0)
        refused(both, made.finish(), arithmetic)
        made = builder(both)
        made.begin_tree((), impossible)  # a tree for one disjunct does not stand for the case
        made.close()
        refused(both, made.finish(), arithmetic)


def holes_and_missing_trees_count(arithmetic: str) -> None:
    stated = simple(F(1, 2))
    for leaf in ("hole", "none", "lemma"):
        made = builder(stated)
        if leaf == "lemma":
            made.begin_tree([(made.form([(0, 0, 1.0)], -0.5), Side.LOWER)])
            made.close()
        elif leaf == "hole":
            made.begin_tree()
            made.hole()
        refused(stated, made.finish(), arithmetic)


def bounds_stay_on_their_path(arithmetic: str) -> None:
    """Sibling leaves in one batch keep their own bounds, whichever stands first."""
    for network, unsafe in (
        (simple().network, at_least(0, F(1, 2))),
        (simple().network, at_most(0, F(-1, 2))),
        (kink(), at_least(0, F(1, 2))),
    ):
        stated = query(network, [box_case([-1], [1], unsafe)])
        for point in (0.25, -0.25):
            for hint in (False, True):
                made = builder(stated)
                made.begin_tree()
                made.split_input(0, point)
                for _ in range(2):
                    made.sweep()
                    made.close(made.substitution() if hint else None)
                checked = check_proof(stated, made.finish(), arithmetic=arithmetic)
                assert checked.verdict == "invalid"


def strictness_counts(arithmetic: str) -> None:
    nothing = Constraint((), (), F(0))
    strict = Constraint((), (), F(0), True)
    network = simple().network
    for unsafe, weights in (
        ((nothing,), (1.0,)),
        ((nothing, strict), (1.0, 0.0)),
        ((nothing, strict), (1.0, -1.0)),
    ):
        stated = query(network, [box_case([-1], [1], unsafe)])
        refused(stated, hinted(stated, weights=weights), arithmetic)


def the_box_is_rounded_outward(arithmetic: str) -> None:
    """1/3 is no float: both neighbours must stay inside."""
    net = Net(1)
    net.dense(0, [[1.0]])
    third = F(1, 3)
    for low, high, unsafe in ((0, third, at_least(0, third)), (third, 1, at_most(0, third))):
        stated = query(net.done(), [box_case([low], [high], unsafe)])
        refused(stated, None, arithmetic)


def coefficients_are_rational(arithmetic: str) -> None:
    """Thirds and sevenths, of several outputs, in a constraint that is met exactly."""
    net = Net(1)
    net.dense(0, [[1.0], [3.0]], [0.0, 2.0])
    c = constraint({0: F(1, 7)}, {0: F(-1, 3), 1: F(1, 9)}, F(0))
    at_one = F(1, 7) - F(1, 3) + F(5, 9)
    at_zero = F(2, 9)
    tip = min(at_one, at_zero)
    moved = constraint({0: F(1, 7)}, {0: F(-1, 3), 1: F(1, 9)}, -tip)
    stated = query(net.done(), [box_case([0], [1], (moved,))])
    refused(stated, None, arithmetic)
    assert c is not None


def contradictions_are_not_numbers(arithmetic: str) -> None:
    """Degenerate boxes are not empty, and NaN never closes anything."""
    for value in (0.0, 0.1, -1e-310, 1e30):
        net = Net(1)
        hidden = net.relu(net.dense(0, [[1.0], [-1.0]]))
        net.dense(hidden, [[1.0, -1.0]])
        stated = query(net.done(), [box_case([value], [value], at_least(0, value))])
        refused(stated, None, arithmetic)
        refused(stated, hinted(stated, splits=[(0, value), (0, value)]), arithmetic)
    for limit in (1e300, 0.8e308):  # what overflows is no bound
        proof = hinted(simple(F(1, 2)), [(Fact.UPPER, 0, 1.0), (Fact.LOWER, 1, 1.0)])
        proof = with_arrays(proof, multiplier_value=np.full(2, limit))
        refused(simple(F(1, 2)), proof, arithmetic)
    net = Net(1)
    big = net.dense(0, [[1e308], [-1e308]])
    net.dense(net.relu(big), [[1e308, -1e308]])
    stated = query(net.done(), [box_case([-1e300], [1e300], at_least(0, 0))])
    refused(stated, None, arithmetic)


def hints_are_finite(arithmetic: str) -> None:
    stated = simple(F(1, 2))
    proof = hinted(
        stated,
        [(Fact.LOWER, 0, 1.0)],
        (1.0,),
        slopes=[SlopeHint(2, side, np.ones(2)) for side in Side],
        splits=[(0, 0.5)],
    )
    for name in ("multiplier_value", "weight_value", "form_point", "entry_weight"):
        for bad in (np.nan, np.inf, -np.inf):
            values = np.full(proof.arrays[name].shape, bad)
            checked = check_proof(stated, with_arrays(proof, **{name: values}))
            assert checked.verdict == "unreadable"


def indices_do_not_wrap(arithmetic: str) -> None:
    """Numbers beyond a table are refused, not taken from its other end."""
    stated = simple(F(1, 2))
    proof = hinted(stated, [(Fact.LOWER, 0, 1.0)], splits=[(0, 0.5)])
    for name in ("entry_index", "entry_tensor", "multiplier_index", "node_arg", "tree_case"):
        for bad in (2**32 - 1, 1000):
            values = np.full(proof.arrays[name].shape, bad, dtype=np.uint32)
            checked = check_proof(stated, with_arrays(proof, **{name: values}))
            assert checked.verdict == "unreadable"


def trees_are_consumed(arithmetic: str) -> None:
    """A split with one child, nodes left over, an empty tree, a tree over another's nodes."""
    stated = simple(5)  # any well-formed proof of it is valid
    split, leaf = NodeKind.SPLIT_INPUT, NodeKind.CLOSE
    for kinds in ([split, leaf], [leaf, leaf], [split], [split, leaf, leaf, leaf], []):
        made = builder(stated)
        made.begin_tree()
        made.close()
        proof = with_arrays(
            made.finish(),
            node_kind=np.array(kinds, dtype=np.uint8),
            node_arg=np.zeros(len(kinds), dtype=np.uint32),
            tree_ptr=np.array([0, len(kinds)], dtype=np.uint32),
        )
        assert check_proof(stated, proof, arithmetic=arithmetic).verdict == "unreadable"


def rows_keep_their_entries(arithmetic: str) -> None:
    net = Net(1)
    net.dense(0, [[1.0], [-1.0]])
    both = constraint({}, {0: F(1), 1: F(1)}, F(0))
    inputs = constraint({0: F(1)}, {}, F(-10))
    stated = query(net.done(), [box_case([5], [6], (both, inputs))])
    refused(stated, None, arithmetic)


def witnesses_are_decided_exactly(arithmetic: str) -> None:
    test_the_threshold_is_met_exactly()
    test_the_region_is_met_exactly()
    test_constraints_of_the_region_count()
    test_every_constraint_of_the_disjunct_counts()
    for part in ("weight", "offset"):
        test_all_members_of_an_enclosure_must_violate(part)


PROBES = (
    bounds_hold,
    rounding_is_paid,
    facts_have_their_sign,
    weights_have_their_sign,
    region_constraints_cut_the_right_side,
    splits_cover,
    stored_bounds_are_cut_where_they_are_split,
    split_facts_have_their_side,
    every_disjunct_is_refuted,
    unsafe_is_a_fact_of_one_disjunct_only,
    all_cases_count,
    lemmas_are_earlier_and_on_the_path,
    lemmas_are_of_the_case_and_the_disjunct,
    holes_and_missing_trees_count,
    bounds_stay_on_their_path,
    strictness_counts,
    the_box_is_rounded_outward,
    coefficients_are_rational,
    contradictions_are_not_numbers,
    hints_are_finite,
    indices_do_not_wrap,
    trees_are_consumed,
    rows_keep_their_entries,
    witnesses_are_decided_exactly,
)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.__name__)
def test_the_kernel_passes(probe, arithmetic):
    probe(arithmetic)


# -------------------------------------------------------------------------------- mutants


def constantly(value):
    return lambda original: lambda *args, **kwargs: value


def clamped_wrong(original):
    def combine(parts):
        parts = list(parts)
        weights: dict = {}
        for multiplier, form in parts:
            for place, weight in form.weights.items():
                weights[place] = weights.get(place, F(0)) + multiplier * weight
        constant = sum((m * form.constant for m, form in parts), F(0))
        return forms.Form(weights, constant, any(form.strict for m, form in parts if m > 0))

    return combine


def always_strict(original):
    return lambda parts: replace(original(parts), strict=True)


def strict_of_any(original):
    def combine(parts):
        parts = list(parts)
        return replace(original(parts), strict=any(form.strict for _, form in parts))

    return combine


def facts_of_any_sign(original):
    def listed(self, where, hints):
        multipliers = tuple((k, i, abs(v) + 1.0) for k, i, v in hints.multipliers)
        for value, form in original(self, where, replace(hints, multipliers=multipliers)):
            weights = {p: -w for p, w in form.weights.items()}
            yield value, replace(form, weights=weights, constant=-form.constant)

    return listed


def region_reversed(original):
    def of_constraint(network, c):
        form = original(network, c)
        if c.outputs:
            return form
        return replace(form, weights={p: -w for p, w in form.weights.items()})

    return of_constraint


def unsafe_of_the_first(original):
    def listed(self, where, hints):
        one = replace(where, disjuncts=where.disjuncts[:1])
        return original(self, one, hints)

    return listed


def only_the_first_disjunct(original):
    def judge(self, wanted, found, disjunct, strict):
        return original(self, wanted[:1], found, disjunct, strict)

    return judge


def nan_closes(original):
    def judge(self, wanted, found, disjunct, strict):
        return original(self, wanted, np.where(np.isneginf(found), 1.0, found), disjunct, strict)

    return judge


def zero_closes(original):
    def judge(self, wanted, found, disjunct, strict):
        return original(self, wanted, found, disjunct, np.ones_like(strict))

    return judge


def other_half_twice(original):
    def branch(self, node, kind, arg, where):
        children = original(self, node, kind, arg, where)
        return [(n, children[0][1]) for n, _ in children] if len(children) == 2 else children

    return branch


def gap_between_halves(original):
    def assume(frame, where, literal):
        if literal.side is Side.UPPER:
            literal = replace(literal, point=literal.point + 0.25)
        return original(frame, where, literal)

    return assume


def fact_of_the_other_side(original):
    def fact(self):
        form = original(self)
        weights = {p: -w for p, w in form.weights.items()}
        return replace(form, weights=weights, constant=-form.constant)

    return fact


def cut_too_much(original):
    def cut(frame, where, tensor, index, literal):
        shift = -0.5 if literal.side is Side.LOWER else 0.5
        return original(frame, where, tensor, index, replace(literal, point=literal.point + shift))

    return cut


def citation_without(*skipped: str):
    def break_(original):
        def citation(self, node, number, where):
            why = original(self, node, number, where)
            return None if why is not None and any(word in why for word in skipped) else why

        return citation

    return break_


def entails_reversed(original):
    return lambda self, other: original(other, self)


def no_rest(original):
    def walkers(query_, tables_, *more):
        for number, walker in enumerate(original(query_, tables_, *more)):
            if number == 0:
                yield walker

    return walkers


def claims_anything(original):
    def check_case(walker, *more):
        original(walker, *more)
        walker.rejected[:] = [r for r in walker.rejected if r.node is not None]

    return check_case


def own_of_the_first(original):
    def own(self, values):
        return values[:1]

    return own


def lines_by_wrong_sign(original):
    def lines(self, tensor):
        made = original(self, tensor)
        return frame.Lines(made.above, made.ceiling, made.below, made.floor)

    return lines


def forgets_other_readers(original):
    def accumulate(self, tensor, rows):
        self._coefficients[tensor] = rows

    return accumulate


def without_cost(original):
    def cost(self, tensor):
        vector, flat = original(self, tensor)
        return vector * 0, flat * 0

    return cost


def a_little_more(original):
    def dot_down(self, rows, values):
        return original(self, rows, values) + (1 << 20 if self.name == "exact" else 2.0**-30)

    return dot_down


def narrower(original):
    """Intervals without the radii of coefficients."""

    def interval(self, node, sources):
        terms = tuple(
            t
            if t.map.weight is None
            else Term(t.source, replace(t.map, weight=Enclosure(t.map.weight.value)))
            for t in node.terms
        )
        bare = Linear(node.name, node.shape, terms, node.offset)
        KEPT.append(bare)
        return original(self, bare, sources)

    return interval


KEPT: list = []  # arithmetics know maps by identity


def no_radius_of_offsets(original):
    def offset(self, enclosure):
        return original(self, Enclosure(enclosure.value))

    return offset


def unpaid_adjoint(original):
    def adjoint_cost(self, term, magnitude):
        vector, flat = original(self, term, magnitude)
        return vector * 0, flat * 0

    return adjoint_cost


def nearest_box(original):
    def box(self):
        return tuple(np.array([float(v) for v in side]) for side in (self.lower, self.upper))

    return box


def stale_stop(original):
    """Stopping at a tensor forgets what went around it."""

    def run(self, stop):
        if stop is not None:
            self._rows = self._rows
            result = original(self, stop)
            return result + np.abs(result) + 1

        return original(self, stop)

    return run


def missing_check(*words: str):
    def break_(original):
        def check_(self, *args):
            try:
                return original(self, *args)
            except EvidenceError as error:
                if any(word in str(error) for word in words):
                    return None
                raise

        return check_

    return break_


def empty_at_once(original):
    def improve(self, tensor, lower, upper):
        original(self, tensor, lower, upper)
        low, high = self.bounds[tensor]
        self.empty = self.empty | ~np.asarray(low < high, dtype=bool).all(axis=1)

    return improve


def union_of_rows(original):
    def select(self, tensor, given):
        order, sort = np.array_equal, np.sort
        try:
            np.array_equal = lambda a, b: True if a.dtype.kind == "i" else order(a, b)
            return original(self, tensor, given)
        finally:
            np.array_equal = order
            assert sort is np.sort

    return select


def middle_only(original):
    return lambda network, point: [(centre, F(0)) for centre, _ in original(network, point)]


def not_strict(original):
    def violates(constraint_, x, y):
        value = original(constraint_, x, y)
        return value - F(1, 10**60) if constraint_.strict else value

    return violates


def region_closed(original):
    def why(stated, point):
        cases = [
            replace(c, constraints=(), strict_lower=frozenset(), strict_upper=frozenset())
            for c in stated.property.cases
        ]
        other = query(stated.network, cases)
        return original(other, replace(point, question=other.digest))

    return why


def rounding_down_up(original):
    """The intercept below is rounded up and the one above down."""

    def intercepts(self, arithmetic, below, above, lower, upper):
        class Swapped:
            lift_down = staticmethod(arithmetic.lift_down)
            multiply_down = staticmethod(arithmetic.multiply_up)
            multiply_up = staticmethod(arithmetic.multiply_down)

        return original(self, Swapped, below, above, lower, upper)

    return intercepts


def first_lines(original):
    """Lines are made for the first domain's bounds only."""

    def lines(self, tensor):
        made = original(self, tensor)
        count = len(made.floor)

        def first(numbers):
            return np.repeat(numbers[:1], count, axis=0)

        return frame.Lines(
            tuple(map(first, made.below)),
            first(made.floor),
            tuple(map(first, made.above)),
            first(made.ceiling),
        )

    return lines


SUBSTITUTION = substitution._Substitution
MUTANTS = (
    Mutant("multipliers not clamped", weights_have_their_sign, facts, "combine", clamped_wrong),
    Mutant("all strict", strictness_counts, facts, "combine", always_strict),
    Mutant("strict though unused", strictness_counts, facts, "combine", strict_of_any),
    Mutant("facts reversed", facts_have_their_sign, Facts, "_listed", facts_of_any_sign),
    Mutant(
        "region reversed",
        region_constraints_cut_the_right_side,
        facts,
        "of_constraint",
        region_reversed,
    ),
    Mutant(
        "unsafe as a fact of several disjuncts",
        unsafe_is_a_fact_of_one_disjunct_only,
        Facts,
        "_listed",
        unsafe_of_the_first,
    ),
    Mutant("one disjunct", every_disjunct_is_refuted, Closer, "_judge", only_the_first_disjunct),
    Mutant("NaN closes", contradictions_are_not_numbers, Closer, "_judge", nan_closes, OUTWARD),
    Mutant("zero closes", strictness_counts, Closer, "_judge", zero_closes),
    Mutant("a half twice", splits_cover, Walker, "_branch", other_half_twice),
    Mutant("a gap between halves", splits_cover, tree, "assume", gap_between_halves),
    Mutant(
        "the other side's fact",
        split_facts_have_their_side,
        domain.Literal,
        "fact",
        fact_of_the_other_side,
    ),
    Mutant(
        "cut too much",
        stored_bounds_are_cut_where_they_are_split,
        domain,
        "_cut_bounds",
        cut_too_much,
    ),
    Mutant(
        "cites itself or later",
        lemmas_are_earlier_and_on_the_path,
        Walker,
        "_citation",
        citation_without("earlier"),
    ),
    Mutant(
        "cites off its path",
        lemmas_are_earlier_and_on_the_path,
        Walker,
        "_citation",
        citation_without("path"),
    ),
    Mutant(
        "cites another case",
        lemmas_are_of_the_case_and_the_disjunct,
        Walker,
        "_citation",
        citation_without("case"),
    ),
    Mutant(
        "cites another disjunct",
        lemmas_are_of_the_case_and_the_disjunct,
        Walker,
        "_citation",
        citation_without("disjuncts"),
    ),
    Mutant(
        "entails the reverse",
        lemmas_are_earlier_and_on_the_path,
        domain.Literal,
        "entails",
        entails_reversed,
    ),
    Mutant("cases without trees skipped", all_cases_count, check, "_walkers", no_rest),
    Mutant(
        "no tree for the case", holes_and_missing_trees_count, check, "_check_case", claims_anything
    ),
    Mutant(
        "one disjunct's tree for all",
        lemmas_are_of_the_case_and_the_disjunct,
        check,
        "_check_case",
        claims_anything,
    ),
    Mutant("holes close", holes_and_missing_trees_count, Walker, "_done", constantly(None)),
    Mutant(
        "bounds of the first",
        bounds_stay_on_their_path,
        SUBSTITUTION,
        "_own",
        own_of_the_first,
    ),
    Mutant(
        "lines of the first",
        bounds_stay_on_their_path,
        Relaxations,
        "_lines",
        first_lines,
    ),
    Mutant("lines exchanged", bounds_hold, Relaxations, "_lines", lines_by_wrong_sign),
    Mutant(
        "other readers forgotten",
        bounds_hold,
        SUBSTITUTION,
        "_accumulate",
        forgets_other_readers,
    ),
    Mutant("no cost at all", bounds_hold, Frame, "cost", without_cost),
    Mutant("off by 2**-108", rounding_is_paid, Exact, "dot_down", a_little_more, EXACT),
    Mutant("off by 2**-30", rounding_is_paid, Outward, "dot_down", a_little_more, OUTWARD),
    Mutant("adjoint unpaid (out)", bounds_hold, Outward, "adjoint_cost", unpaid_adjoint, OUTWARD),
    Mutant("adjoint unpaid (exact)", bounds_hold, Exact, "adjoint_cost", unpaid_adjoint, EXACT),
    Mutant("radii unpaid (out)", bounds_hold, Outward, "linear_interval", narrower, OUTWARD),
    Mutant("radii unpaid (exact)", bounds_hold, Exact, "linear_interval", narrower, EXACT),
    Mutant("offset's radius (out)", bounds_hold, Outward, "offset", no_radius_of_offsets, OUTWARD),
    Mutant("offset's radius (exact)", bounds_hold, Exact, "offset", no_radius_of_offsets, EXACT),
    Mutant("intercepts inverted", bounds_hold, Relu, "intercepts", rounding_down_up),
    Mutant(
        "sums rounded up",
        bounds_hold,
        Outward,
        "add_down",
        lambda original: lambda self, a, b: self.add_up(a, b),
        OUTWARD,
    ),
    Mutant(
        "a degenerate box is empty",
        contradictions_are_not_numbers,
        frame.Batch,
        "improve",
        empty_at_once,
        EXACT,
    ),
    Mutant(
        "NaN in hints",
        hints_are_finite,
        tables.Tables,
        "_check_references",
        missing_check("not finite"),
    ),
    Mutant(
        "indices unchecked",
        indices_do_not_wrap,
        tables.Tables,
        "_check_references",
        missing_check("outside"),
    ),
    Mutant(
        "trees not consumed",
        trees_are_consumed,
        tables.Tables,
        "_check_nodes",
        missing_check("exactly one tree"),
    ),
    Mutant("stops for free", bounds_hold, SUBSTITUTION, "run", stale_stop),
    Mutant("rows mixed", rows_keep_their_entries, SUBSTITUTION, "_select", union_of_rows),
    Mutant("enclosures ignored", witnesses_are_decided_exactly, witness, "evaluate", middle_only),
    Mutant("strictness ignored", witnesses_are_decided_exactly, witness, "_largest", not_strict),
    Mutant("region ignored", witnesses_are_decided_exactly, check, "objection", region_closed),
)


@each(MUTANTS)
def test_a_mutant_is_noticed(mutant, arithmetic, monkeypatch):
    notice(mutant, arithmetic, monkeypatch)


def test_a_box_that_is_rounded_to_nearest_is_noticed(monkeypatch):
    from specs.property import Case

    monkeypatch.setattr(Case, "box", nearest_box(Case.box))
    for name in EXACT:
        with pytest.raises(AssertionError):
            the_box_is_rounded_outward(name)
