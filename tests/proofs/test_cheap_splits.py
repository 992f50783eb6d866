"""Splits that nothing needs are found by looking at few leaves, and nothing else goes."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.check import check_proof
from proofs.domain import Literal
from proofs.draft import CaseDraft, Draft, Node, TreeDraft, draft_of, written
from proofs.oracle import Oracle
from proofs.passes import cores, probes, thin
from proofs.passes.edits import Work
from proofs.proof import Fact, NodeKind, Side
from proofs.tables import EMPTY, Step
from proofs.tree import DeadlineError
from proofs.unsafe import Closer
from specs.query import Query
from tests.proofs.helpers import Net, at_least, at_most, box_case, query, verdicts
from tests.proofs.test_minimise import hinted, searched, stated

LONG = 1e9
X, Y = 0, 1
RELU = 1
"""The tensor of the pre-activation of ``needs_x``."""


def needs_x(disjuncts: int = 1) -> Query:
    """x - relu(x) < 1/2 on [-1, 1]: without slopes x has to be split; y does not matter."""
    net = Net(2)
    copy = net.dense(0, [[1.0, 0.0]])
    assert copy == RELU
    net.subtract(copy, net.relu(copy))
    unsafe = (at_least(0, Fraction(1, 2)), at_most(0, Fraction(-2)))[:disjuncts]
    return query(net.done(), [box_case([-1, -1], [1, 1], *unsafe)])


def close() -> Node:
    return Node(NodeKind.SWEEP, 0, [Node(NodeKind.CLOSE, None)])


def split(entry: int, *children: Node) -> Node:
    return Node(NodeKind.SPLIT_INPUT, entry, list(children) or [close(), close()])


def at_work(question: Query, root: Node) -> Work:
    draft = Draft(question, [CaseDraft(0, [], [TreeDraft(root)])])
    return Work(draft, Oracle(question))


def tops_of(work: Work) -> list[Node]:
    return [tree.root for tree in work.draft.trees()]


def leaves(work: Work) -> int:
    return sum(node.leaf for node in work.draft.nodes())


def collapsed(work: Work, until: float | None = None) -> int:
    """How many leaves are left; everything closes that closed, and nothing is pending."""
    before = {id(node) for node in work.failing(tops_of(work))}
    probes.collapse(work, tops_of(work), time.monotonic() + LONG if until is None else until)
    assert {id(node) for node in work.failing(tops_of(work))} <= before
    assert not work.pending
    return leaves(work)


def chain(node: Node, under: Node) -> Node:
    node.children = [under]
    return node


STEP = Step(RELU, None, tuple(Side), EMPTY, None, True)

ABOVE = {
    "nothing": lambda under: under,
    "a sweep": lambda under: Node(NodeKind.SWEEP, 0, [under]),
    "intervals": lambda under: Node(NodeKind.SWEEP, 1, [under]),
    "a clip": lambda under: Node(NodeKind.CLIP, None, [under]),
    "a bound step": lambda under: Node(NodeKind.BOUND, STEP, [under]),
    "what is left out": lambda under: Node(NodeKind.SWEEP, 0, [under], skipped=True),
}
SUPERFLUOUS = {
    "input": lambda one, other: split(Y, one, other),
    "neuron": lambda one, other: Node(
        NodeKind.SPLIT_AT, Literal((((0, 1), 1.0),), 0.25, Side.LOWER), [one, other]
    ),
    "form": lambda one, other: Node(
        NodeKind.SPLIT_AT,
        Literal((((0, 0), 1.0), ((0, 1), 2.0)), 0.5, Side.LOWER),
        [one, other],
    ),
}


@pytest.mark.parametrize("above", list(ABOVE))
@pytest.mark.parametrize("kind", list(SUPERFLUOUS))
@pytest.mark.parametrize("needed", ["input", "neuron"])
def test_a_split_that_nothing_needs_goes(above, kind, needed):
    def half() -> Node:
        node = split(X)
        if needed == "neuron":
            node.kind, node.arg = NodeKind.SPLIT_NEURON, (RELU, 0)
            node.children = [Node(NodeKind.CLIP, None, [under]) for under in node.children]
        return node

    root = ABOVE[above](SUPERFLUOUS[kind](ABOVE[above](half()), half()))
    work = at_work(needs_x(), root)
    assert not work.failing([root])
    assert collapsed(work) == 2
    for checked in verdicts(needs_x(), written(work.draft)[0]).values():
        assert checked.verdict == "valid unsat"


def test_the_other_side_takes_the_place_of_a_split_where_the_first_does_not_close():
    strong = Node(NodeKind.SPLIT_AT, Literal((((0, 1), 1.0),), -0.5, Side.LOWER))
    strong.children = [split(Y), split(X)]  # y is at most -1/2 on the first side: all is well
    net = Net(2)
    copy = net.dense(0, [[1.0, 0.0]])
    less = net.subtract(copy, net.relu(copy))
    net.add(less, net.dense(0, [[0.0, 1.0]]))
    question = query(net.done(), [box_case([-1, -1], [1, 1], at_least(0, Fraction(3, 2)))])
    work = at_work(question, strong)
    assert not work.failing([strong])
    assert collapsed(work) == 2
    assert strong.arg == X


@pytest.mark.parametrize(
    "tree",
    [
        split(X),
        split(X, split(Y), close()),  # a single leaf would stay, or the last split go
        split(X, split(X), split(X)),
    ],
    ids=["two leaves", "one side", "same entry"],
)
def test_what_is_needed_stays(tree):
    work = at_work(needs_x(), tree.copy())
    before = [node.kind for node in work.draft.nodes()]
    assert leaves(work) == collapsed(work) or tree.children[0].arg == X
    after = written(work.draft)[0]
    assert check_proof(needs_x(), after).verdict == "valid unsat"
    if tree.children[0].arg != X:
        assert [node.kind for node in work.draft.nodes()] == before


@pytest.mark.parametrize("open_", [NodeKind.HOLE, NodeKind.CITE], ids=["hole", "citation"])
def test_no_split_goes_above_what_is_open(open_):
    lemma = TreeDraft(split(X))
    root = split(Y, split(X), split(X))
    leaf = next(node for node in root if node.kind is NodeKind.CLOSE)
    leaf.become(Node(open_, lemma if open_ is NodeKind.CITE else 0))
    work = Work(Draft(needs_x(), [CaseDraft(0, [], [lemma, TreeDraft(root)])]), Oracle(needs_x()))
    assert collapsed(work) == 6
    assert sum(node.kind is open_ for node in work.draft.nodes()) == 1


def test_splits_below_a_split_of_the_disjuncts_go():
    inside = [split(Y, split(X), split(X)) for _ in range(2)]
    work = at_work(needs_x(2), Node(NodeKind.SPLIT_DISJUNCT, 0, inside))
    assert collapsed(work) == 4
    assert check_proof(needs_x(2), written(work.draft)[0]).verdict == "valid unsat"


def test_multiples_of_splits_are_of_the_same_splits_after():
    facts = tuple((Fact.SPLIT, place, 2.0 ** -(6 + place)) for place in range(3))
    root = split(X, split(Y, split(X), split(X)), close())
    for node in root.children[0]:
        if node.kind is NodeKind.CLOSE:
            node.arg = replace(EMPTY, multipliers=facts)
    work = at_work(needs_x(), root)
    assert not work.failing([root])
    assert collapsed(work) == 2  # both splits above the last one went
    told = {node.arg.multipliers for node in root if node.kind is NodeKind.CLOSE}
    assert told == {((Fact.SPLIT, 0, 2.0**-8),)}


def wide(depth: int) -> Node:
    """Many splits of y above splits of x."""
    return split(X) if not depth else split(Y, wide(depth - 1), wide(depth - 1))


def test_few_leaves_are_looked_at(monkeypatch):
    looked, close_all = [0], Closer.close

    def counted(self, paths, *args):
        looked[0] += len(paths)
        return close_all(self, paths, *args)

    monkeypatch.setattr(Closer, "close", counted)
    spent = []
    for collapse in (partial(probes.collapse, until=LONG), cores.collapse):
        work = at_work(needs_x(), wide(5))
        looked[0] = 0
        collapse(work, tops_of(work))
        spent.append(looked[0])
    assert 3 * spent[0] < spent[1]


def test_it_gives_up_where_nothing_goes(monkeypatch):
    work, calls = at_work(needs_x(), wide(5)), []

    def none_closes(self, listed):
        calls.append(len(listed))
        return {each for each, _ in listed}

    monkeypatch.setattr(probes._Probes, "_failing", none_closes)
    assert collapsed(work) == 64
    assert calls == [probes.FIRST]


def test_what_collapse_finds_is_found():
    for depth in (1, 2, 3):
        cheap, dear = (at_work(needs_x(), wide(depth)) for _ in range(2))
        cores.collapse(dear, tops_of(dear))
        assert collapsed(cheap) == leaves(dear) == 2


@pytest.mark.parametrize("room", [0, 30, 60, 200])
def test_little_memory_suffices(monkeypatch, room):
    monkeypatch.setattr(probes, "ROOM", room)
    work = at_work(needs_x(), split(Y, wide(3), split(Y, wide(1), wide(2))))
    assert collapsed(work) == 2


def test_what_a_lemma_assumes_counts_as_splits():
    facts = tuple((Fact.SPLIT, place, 2.0 ** -(6 + place)) for place in range(3))
    root = split(Y, split(X), split(X))
    for node in root:
        if node.kind is NodeKind.CLOSE:
            node.arg = replace(EMPTY, multipliers=facts)
    lemma = TreeDraft(root, (Literal((((0, 1), 1.0),), 0.5, Side.LOWER),))
    case = CaseDraft(0, [], [lemma, TreeDraft(split(X))])
    work = Work(Draft(needs_x(), [case]), Oracle(needs_x()))
    assert collapsed(work) == 4
    told = {node.arg.multipliers for node in root if node.kind is NodeKind.CLOSE}
    assert told == {((Fact.SPLIT, 0, 2.0**-6), (Fact.SPLIT, 1, 2.0**-8))}


@given(st.integers(0, 10**6), st.booleans(), st.booleans())
@settings(max_examples=6, deadline=None)
def test_random_proofs_stay_valid(seed, with_hints, thinned):
    question = stated(seed)
    proof = hinted(question, seed) if with_hints else searched(question, seed)
    made = []
    for _ in range(2):
        draft = draft_of(question, proof)
        work = Work(draft, Oracle(draft.query))
        if thinned:
            thin.sweeps(work, tops_of(work))
            work.settle(tops_of(work))
        before = leaves(work)
        assert collapsed(work) <= before
        thin.remove_skipped(draft)
        made.append(written(draft)[0])
    for checked in verdicts(question, made[0]).values():
        assert checked.verdict == "valid unsat", checked.reason
    for name, array in made[0].arrays.items():
        assert np.array_equal(array, made[1].arrays[name])


def test_random_proofs_become_smaller():
    gone = 0
    for seed in range(4):
        draft = draft_of(stated(seed), searched(stated(seed), seed))
        work = Work(draft, Oracle(draft.query))
        gone += leaves(work) - collapsed(work)
    assert gone > 4


def test_with_no_time_nothing_changes():
    work = at_work(needs_x(), wide(4))
    assert collapsed(work, time.monotonic() - 1.0) == 32


@pytest.mark.parametrize("ticks", [2, 5, 10, 20, 40])
def test_it_ends_in_time_and_what_was_done_is_valid(monkeypatch, ticks):
    work = at_work(needs_x(), split(X, wide(4), wide(3)))
    clock = itertools.count()
    monkeypatch.setattr(probes.time, "monotonic", lambda: float(next(clock)))
    probes.collapse(work, tops_of(work), float(ticks))
    monkeypatch.undo()
    assert not work.pending
    assert not work.failing(tops_of(work))
    assert check_proof(needs_x(), written(work.draft)[0]).verdict == "valid unsat"


@pytest.mark.parametrize("calls", [0, 1, 2, 3, 4])
def test_the_oracle_may_run_out_of_time(monkeypatch, calls):
    work = at_work(needs_x(), split(X, wide(4), wide(3)))
    walked, count = Oracle.walked, itertools.count()

    def limited(self, *args):
        if next(count) >= calls:
            raise DeadlineError("over")
        return walked(self, *args)

    monkeypatch.setattr(Oracle, "walked", limited)
    with pytest.raises(DeadlineError):
        probes.collapse(work, tops_of(work), time.monotonic() + LONG)
    assert not work.pending
    assert not work.failing(tops_of(work))


def test_several_cases():
    one = needs_x()
    question = query(one.network, [*one.property.cases, *one.property.cases])
    cases = [CaseDraft(number, [], [TreeDraft(wide(2))]) for number in (0, 1)]
    work = Work(Draft(question, cases), Oracle(question))
    assert collapsed(work) == 4
    assert check_proof(question, written(work.draft)[0]).verdict == "valid unsat"


def test_states_at_splits_are_what_leads_to_them():
    root = split(Y, split(X), split(X))
    work = at_work(needs_x(), root)
    (top,) = work.oracle.states(work.draft, [root])
    inner = {id(child) for child in root.children}
    among = inner | {id(root)}
    failing, states = work.oracle.walked([(top, root)], among, inner)
    assert failing == []
    boxes = [(s.domains.batch.lower[0].tolist(), s.domains.batch.upper[0].tolist()) for s in states]
    assert sorted(boxes) == [([-1.0, -1.0], [1.0, 0.0]), ([-1.0, 0.0], [1.0, 1.0])]


def test_leaves_that_do_not_close_are_named():
    root = split(Y, split(X), close())
    work = at_work(needs_x(), root)
    (top,) = work.oracle.states(work.draft, [root])
    failing, _ = work.oracle.walked([(top, root)])
    assert failing == [root.children[1].children[0]]
