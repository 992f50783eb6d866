"""Trees that are grown anew close, with less to sweep and not many more leaves."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.check import check_proof
from proofs.draft import CaseDraft, Draft, Node, TreeDraft, draft_of, slope_block, written
from proofs.minimise import minimise
from proofs.oracle import Oracle
from proofs.passes import growth, pool, regrow, thin
from proofs.passes.edits import Work
from proofs.passes.pool import Pool
from proofs.proof import Fact, NodeKind, Proof, Side, SlopeHint
from proofs.tables import EMPTY, Substitution
from proofs.tree import DeadlineError
from proofs.trial import Trial
from specs.network import Univariate
from specs.query import Query
from tests.proofs.helpers import Net, at_least, box_case, query, verdicts
from tests.proofs.test_minimise import searched, stated

LONG = 1e9
X, Y = 0, 1
SWEPT = [(NodeKind.SWEEP, 0)]


def needs_x(disjuncts: int = 1, inputs: int = 2, threshold: Fraction = Fraction(1, 2)) -> Query:
    """x - relu(x) < 1/2 on [-1, 1], and -relu(x) < 1/4; no other input matters."""
    net = Net(inputs)
    copy = net.dense(0, [[1.0] + [0.0] * (inputs - 1)])
    relu = net.relu(copy)
    net.subtract(net.dense(copy, [[1.0], [0.0]]), net.dense(relu, [[1.0], [1.0]]))
    unsafe = (at_least(0, threshold), at_least(1, Fraction(1, 4)))[:disjuncts]
    return query(net.done(), [box_case([-1] * inputs, [1] * inputs, *unsafe)])


def steep(question: Query) -> Substitution:
    """With the line x below relu(x), x - relu(x) is at most 0, and -relu(x) may be 1."""
    (tensor,) = (t for t, node in enumerate(question.network.nodes) if isinstance(node, Univariate))
    block = slope_block(SlopeHint(tensor, Side.LOWER, np.array([1.0])))
    return replace(EMPTY, blocks=(block,))


def close(hints: Substitution | None = None) -> Node:
    return Node(NodeKind.SWEEP, 0, [Node(NodeKind.CLOSE, hints)])


def split(entry: int, *children: Node) -> Node:
    return Node(NodeKind.SPLIT_INPUT, entry, list(children) or [close(), close()])


def wasteful() -> Node:
    """x is split below y, everything is swept twice."""
    below = [Node(NodeKind.SWEEP, 0, [split(X)]) for _ in range(2)]
    return Node(NodeKind.SWEEP, 0, [split(Y, *below)])


def at_work(question: Query, root: Node, prelude=(), *lemmas: TreeDraft) -> Work:
    case = CaseDraft(0, list(prelude), [*lemmas, TreeDraft(root)])
    draft = Draft(question, [case])
    return Work(draft, Oracle(question))


def root_of(work: Work) -> Node:
    return work.draft.cases[0].refutation().root


def shape(node: Node) -> list[tuple[NodeKind, object]]:
    return [(n.kind, n.arg) for n in node]


def valid(work: Work) -> bool:
    proof, _ = written(work.draft)
    found = verdicts(work.draft.query, proof)
    return all(checked.verdict == "valid unsat" for checked in found.values())


SMALLEST = [
    (NodeKind.SPLIT_INPUT, X),
    (NodeKind.SWEEP, 0),
    (NodeKind.CLOSE, None),
    (NodeKind.SWEEP, 0),
    (NodeKind.CLOSE, None),
]


def test_what_does_not_matter_is_not_split():
    work = at_work(needs_x(), wasteful(), SWEPT)
    assert valid(work)
    regrow.regrow(work, LONG)
    assert shape(root_of(work)) == SMALLEST
    assert work.draft.cases[0].prelude == []
    assert valid(work)
    assert not work.pending


def test_hints_of_old_leaves_close_larger_boxes():
    question = needs_x()
    hints = steep(question)
    work = at_work(question, split(X, close(hints), close()))
    regrow.regrow(work, LONG)
    assert [kind for kind, _ in shape(root_of(work))] == [NodeKind.SWEEP, NodeKind.CLOSE]
    assert valid(work)


def test_each_disjunct_closes_with_hints_of_its_own():
    question = needs_x(disjuncts=2)
    hints = steep(question)
    work = at_work(question, split(X, split(Y), close(hints)))
    assert valid(work)
    regrow.regrow(work, LONG)
    kinds = [kind for kind, _ in shape(root_of(work))]
    assert kinds == [
        NodeKind.SWEEP,
        NodeKind.SPLIT_DISJUNCT,
        NodeKind.CLOSE,
        NodeKind.CLOSE,
    ]
    first, second = root_of(work).children[0].children
    assert first.arg is not None
    assert second.arg is None
    assert valid(work)


@pytest.mark.parametrize(
    "root",
    [
        lambda: split(X, split(Y), Node(NodeKind.HOLE, 0)),
        lambda: split(X, split(Y), close()),
    ],
    ids=["hole", "small"],
)
def test_sweeps_never_become_more(root):
    work = at_work(needs_x(), root())
    before = growth.sweeps(root_of(work))
    regrow.regrow(work, LONG)
    assert growth.sweeps(root_of(work)) <= before


def wide(leaves: int, sweeps: int) -> Node:
    """A tree of so many leaves and sweeps, not that they would be of use."""
    node = Node(NodeKind.CLOSE, None)
    for _ in range(leaves - 1):
        node = Node(NodeKind.SPLIT_INPUT, X, [node, Node(NodeKind.CLOSE, None)])
    for _ in range(sweeps):
        node = Node(NodeKind.SWEEP, 0, [node])
    return node


@pytest.mark.parametrize(
    ("boxes", "leaves", "open_", "done", "hopeless"),
    [
        (9, 12, 0, True, False),
        (10, 10, 0, False, True),  # as many sweeps as before
        (5, 13, 0, False, True),  # many more leaves
        (5, 5, 5, False, True),  # what is open has a leaf each
        (5, 5, 4, False, False),
    ],
)
def test_a_tree_has_fewer_boxes_than_there_were_sweeps(boxes, leaves, open_, done, hopeless):
    tree = growth.Tree.of(wide(10, 10))
    tree.boxes, tree.leaves, tree.open, tree.volume = boxes, leaves, open_, 1.0
    assert (tree.done, tree.hopeless) == (done, hopeless)


def test_many_boxes_in_a_small_part_of_the_volume_are_hopeless():
    tree = growth.Tree.of(wide(100, 100))
    tree.boxes = tree.leaves = growth.SURE
    tree.volume, tree.open = 0.5, 1
    assert not tree.hopeless
    tree.volume = 0.2
    assert tree.hopeless


def test_what_cannot_be_closed_stays_as_it_is():
    question = needs_x(threshold=Fraction(0))  # reached at x = 0
    work = at_work(question, split(Y, split(X), split(Y)), SWEPT)
    before, failing = shape(root_of(work)), len(work.failing([root_of(work)]))
    assert failing
    assert not regrow.regrow(work, LONG)
    assert shape(root_of(work)) == before
    assert work.draft.cases[0].prelude == SWEPT
    assert len(work.failing([root_of(work)])) == failing
    assert not work.pending


def test_what_does_not_close_yet_may_be_closed():
    work = at_work(needs_x(), split(Y, split(Y), split(Y)), SWEPT)
    assert work.failing([root_of(work)])
    assert regrow.regrow(work, LONG)
    assert shape(root_of(work)) == SMALLEST
    assert valid(work)


def test_a_tree_that_fails_where_it_is_put_is_taken_back(monkeypatch):
    monkeypatch.setattr(Trial, "shortfalls", lambda self, domains, hints: np.zeros(len(domains)))
    work = at_work(needs_x(), wasteful(), SWEPT)
    before = shape(root_of(work))
    assert not regrow.regrow(work, LONG)
    assert shape(root_of(work)) == before
    assert work.draft.cases[0].prelude == SWEPT
    assert not work.pending


def test_a_hole_is_no_place_to_grow():
    work = at_work(needs_x(), split(Y, wasteful(), Node(NodeKind.HOLE, 0)), SWEPT)
    regrow.regrow(work, LONG)
    first, second = root_of(work).children
    assert shape(first) == SMALLEST
    assert second.kind is NodeKind.HOLE
    assert work.draft.cases[0].prelude == SWEPT


def test_cases_with_lemmas_stay_as_they_are():
    work = at_work(needs_x(), wasteful(), SWEPT, TreeDraft(split(X), ()))
    before = shape(root_of(work))
    regrow.regrow(work, LONG)
    assert shape(root_of(work)) == before


@pytest.mark.parametrize(("inputs", "grown"), [(regrow.NARROW, True), (regrow.NARROW + 1, False)])
def test_boxes_with_many_inputs_stay_as_they_are(inputs, grown):
    work = at_work(needs_x(inputs=inputs), wasteful(), SWEPT)
    regrow.regrow(work, LONG)
    assert (shape(root_of(work)) == SMALLEST) == grown
    assert work.draft.cases[0].prelude == ([] if grown else SWEPT)


def test_nothing_is_done_without_time():
    work = at_work(needs_x(), wasteful(), SWEPT)
    before = shape(root_of(work))
    regrow.regrow(work, time.monotonic() - 1.0)
    regrow.regrow(work, time.monotonic() + 1e-6)
    assert shape(root_of(work)) == before
    assert work.draft.cases[0].prelude == SWEPT


def test_the_oracles_own_deadline_leaves_the_proof_as_it_was():
    question = needs_x()
    work = at_work(question, wasteful(), SWEPT)
    work.oracle = Oracle(question, deadline=time.monotonic() - 1.0)
    before = shape(root_of(work))
    with pytest.raises(DeadlineError):
        regrow.regrow(work, LONG)
    work.give_up()
    assert shape(root_of(work)) == before
    assert work.draft.cases[0].prelude == SWEPT


def test_of_large_trees_subtrees_are_grown(monkeypatch):
    monkeypatch.setattr(regrow, "LARGEST", 4)
    work = at_work(needs_x(), split(Y, wasteful(), wasteful()), SWEPT)
    regrow.regrow(work, LONG)
    assert [shape(child) for child in root_of(work).children] == [SMALLEST, SMALLEST]
    assert work.draft.cases[0].prelude == SWEPT
    assert valid(work)


def test_it_ends_where_little_is_gained(monkeypatch):
    monkeypatch.setattr(regrow, "LARGEST", 2)
    monkeypatch.setattr(regrow, "ENOUGH", 2)
    tried = []
    grown = regrow._grown
    monkeypatch.setattr(regrow, "_grown", lambda *args: tried.append(args) or grown(*args))
    work = at_work(needs_x(), split(Y, split(X), split(Y, split(X), split(X))))
    regrow.regrow(work, LONG)
    assert len(tried) == 1
    assert valid(work)


@pytest.mark.parametrize(("kept", "sweeps"), [(1.0, 3), (-1.0, 2)])
def test_a_sweep_that_lasts_stays_above_a_split(monkeypatch, kept, sweeps):
    monkeypatch.setattr(growth, "KEPT", kept)
    work = at_work(needs_x(), wasteful(), SWEPT)
    regrow.regrow(work, LONG)
    assert growth.sweeps(root_of(work)) == sweeps
    assert (root_of(work).kind is NodeKind.SWEEP) == (kept > 0)
    assert valid(work)


def test_hints_of_old_leaves_in_the_same_place_are_tried(monkeypatch):
    monkeypatch.setattr(Pool, "_favourites", lambda self: [])
    question = needs_x()
    hints = steep(question)
    work = at_work(question, split(X, close(hints), close()))
    regrow.regrow(work, LONG)
    assert [kind for kind, _ in shape(root_of(work))] == [NodeKind.SWEEP, NodeKind.CLOSE]


def test_halves_lie_where_the_old_tree_was_split_alike():
    left, right = split(Y), split(X)
    old = split(X, left, Node(NodeKind.SWEEP, 0, [right]))
    assert growth._old_halves(old, X) == [left, right]
    assert growth._old_halves(old, Y) == [old, old]
    assert growth._old_halves(None, X) == [None, None]
    leaf = close()  # SWEEP 0 is no split of input 0
    assert growth._old_halves(leaf, 0) == [leaf, leaf]
    larger = Node(NodeKind.SPLIT_NEURON, (1, 0), [close(), split(Y)])
    assert growth._first_split(larger) is larger.children[1]
    assert growth._first_split(close()) is None


def test_hints_say_nothing_of_splits_that_are_gone():
    question = needs_x()
    own = replace(steep(question), multipliers=((Fact.SPLIT, 0, 1.0), (Fact.LOWER, 0, 0.5)))
    root = split(X, close(own), close())
    (known,) = Pool(at_work(question, root).oracle, [root])._favourites()
    assert known.hints.multipliers == ((Fact.LOWER, 0, 0.5),)


def test_what_has_no_disjunct_is_closed_without_hints():
    assert shape(growth._joined([])) == [(NodeKind.CLOSE, None)]


def test_hints_that_close_most_are_tried_first():
    made = object.__new__(Pool)
    made._everywhere = [pool._Hints(EMPTY, tries=9, wins=wins) for wins in range(8)]
    made._everywhere[2].tries = 0
    assert [known.wins for known in made._favourites()] == [7, 6, 2]


@given(seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_grown_trees_are_valid_in_both_arithmetics(seed):
    question = stated(seed)
    proof = searched(question, seed)
    draft = draft_of(question, proof)
    work = Work(draft, Oracle(draft.query))
    regrow.regrow(work, LONG)
    made, _ = written(draft)
    assert made.leaves <= max(proof.leaves, growth.MORE * proof.leaves)
    for name, checked in verdicts(question, made).items():
        assert checked.verdict == "valid unsat", (name, checked.reason)


def test_the_same_tree_is_grown_every_time():
    question = stated(3)
    made = []
    for _ in range(2):
        draft = draft_of(question, searched(question, 3))
        regrow.regrow(Work(draft, Oracle(draft.query)), LONG)
        made.append(written(draft)[0])
    assert all(np.array_equal(a, made[1].arrays[name]) for name, a in made[0].arrays.items())


def test_default_effort_grows_trees():
    question = needs_x()
    proof, _ = written(at_work(question, wasteful(), SWEPT).draft)
    smaller = minimise(question, proof).proof
    assert isinstance(smaller, Proof)
    assert smaller.leaves == 2
    assert check_proof(question, smaller).verdict == "valid unsat"
    nodes = list(draft_of(question, smaller).nodes())
    assert [n.kind for n in thin.below(nodes[:1])] == [kind for kind, _ in SMALLEST]
