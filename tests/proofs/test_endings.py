"""Trees of splits of neurons close what nearly closes, and only that."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.draft import CaseDraft, Draft, Node, TreeDraft, written
from proofs.oracle import Oracle
from proofs.passes import endings
from proofs.passes.endings import endings as ended
from proofs.proof import NodeKind
from proofs.tables import Substitution
from specs.query import Query
from tests.proofs.helpers import Net, at_least, box_case, query, verdicts
from tests.proofs.test_minimise import stated
from tests.proofs.test_regrow import needs_x, steep

SWEPT = Node(NodeKind.SWEEP, 0, [Node(NodeKind.CLOSE, None)])


def sums(threshold: object) -> Query:
    """relu(x + y) + relu(x - y) on [-1, 1], which is 2 at most."""
    net = Net(2)
    relu = net.relu(net.dense(0, [[1.0, 1.0], [1.0, -1.0]]))
    net.dense(relu, [[1.0, 1.0]])
    unsafe = at_least(0, Fraction(threshold))
    return query(net.done(), [box_case([-1, -1], [1, 1], unsafe)])


def root(question: Query):
    """The root of a case after a sweep, and who says what closes."""
    oracle = Oracle(question)
    top = SWEPT.copy()
    (state,) = oracle.states(Draft(question, [CaseDraft(0, [], [TreeDraft(top)])]), [top])
    trial = oracle.trial(state)
    return trial, trial.swept(state.domains)[0]


def ending(question: Query, hints: Substitution | None = None) -> Node | None:
    trial, domains = root(question)
    with np.errstate(all="ignore"):
        shortfall = trial.shortfalls(domains, [hints])
        (found,) = ended(trial, domains, shortfall, [hints])
    return found


def closes(question: Query, found: Node) -> bool:
    tree = TreeDraft(Node(NodeKind.SWEEP, 0, [found]))
    proof, _ = written(Draft(question, [CaseDraft(0, [], [tree])]))
    return all(c.verdict == "valid unsat" for c in verdicts(question, proof).values())


def kinds(node: Node) -> list[NodeKind]:
    return [under.kind for under in node]


def test_a_box_that_nearly_closes_needs_no_split_of_an_input():
    question = sums("5/2")  # both upper lines allow 3
    assert not closes(question, Node(NodeKind.CLOSE, None))
    found = ending(question)
    assert found is not None
    assert kinds(found).count(NodeKind.SPLIT_NEURON) == 2
    assert kinds(found).count(NodeKind.CLOSE) == 3
    assert closes(question, found)


@pytest.mark.parametrize("threshold", [2, "3/2"], ids=["reached", "exceeded"])
def test_what_is_false_has_no_ending(threshold):
    assert ending(sums(threshold)) is None


def test_endings_have_few_leaves(monkeypatch):
    monkeypatch.setattr(endings, "LEAVES", 2)
    assert ending(sums("5/2")) is None


def test_where_no_neuron_is_worth_it_none_is_split():
    # x - relu(x) loses nothing to an upper line: splitting the neuron alone would not do.
    assert ending(needs_x()) is None


def test_leaves_close_without_hints_where_they_can():
    question = sums("5/2")
    found = ending(question, steep(question))
    assert found is not None
    assert all(node.arg is None for node in found if node.kind is NodeKind.CLOSE)
    assert closes(question, found)


def test_losses_are_those_at_upper_lines():
    trial, domains = root(sums("5/2"))
    with np.errstate(all="ignore"):
        (found,) = trial.losses(domains, 5)
        (first,) = trial.losses(domains, 1)
    assert [place for _, place in found] == [(1, 0), (1, 1)]
    assert [loss for loss, _ in found] == pytest.approx([1.0, 1.0])  # both lines are 1 above 0
    assert first == found[:1]


def test_lines_below_lose_nothing_to_their_intercepts():
    trial, domains = root(needs_x())
    (found,) = trial.losses(domains, 5)
    assert [loss for loss, _ in found] == [0.0]


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_endings_are_valid_in_both_arithmetics(seed):
    question = stated(2 * (seed // 2))  # of a single disjunct
    if (found := ending(question)) is not None:
        assert sum(node.leaf for node in found) <= endings.LEAVES
        assert closes(question, found)


def test_some_boxes_end_that_way():
    made = [ending(stated(seed)) for seed in range(0, 60, 2)]
    assert any(found is not None and len(list(found)) > 1 for found in made)
