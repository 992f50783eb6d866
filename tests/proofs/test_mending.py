"""What is left out above leaves is made up for below them, or comes back."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.draft import Node, draft_of, written
from proofs.oracle import Oracle
from proofs.passes import growth, mending, regrow, thin
from proofs.passes.edits import Work
from proofs.passes.mending import mended
from proofs.proof import NodeKind
from tests.proofs.helpers import verdicts
from tests.proofs.test_minimise import searched, stated
from tests.proofs.test_regrow import (
    LONG,
    SMALLEST,
    SWEPT,
    X,
    Y,
    at_work,
    close,
    needs_x,
    root_of,
    shape,
    split,
    valid,
    wasteful,
)


def swept(node: Node) -> Node:
    return Node(NodeKind.SWEEP, 0, [node])


def settled(work: Work) -> Node:
    """The tree as it is written, once nothing is pending."""
    assert not work.pending
    thin.remove_skipped(work.draft)
    return root_of(work)


def test_only_leaves_sweep():
    work = at_work(needs_x(), wasteful(), SWEPT)
    assert mended(work, [root_of(work)], LONG)
    assert shape(settled(work)) == shape(split(Y, split(X), split(X)))
    assert work.draft.cases[0].prelude == SWEPT
    assert valid(work)


def test_what_fails_is_grown():
    work = at_work(needs_x(), swept(split(Y, swept(split(X)), close())), SWEPT)
    assert len(work.failing([root_of(work)])) == 1
    assert mended(work, [root_of(work)], LONG)
    assert [shape(child) for child in settled(work).children] == [SMALLEST, SMALLEST]
    assert valid(work)


def test_the_box_of_a_leaf_is_where_it_was_swept_last():
    leaf = Node(NodeKind.CLOSE, None)
    ending = Node(NodeKind.SPLIT_NEURON, (0, 0), [leaf, Node(NodeKind.CLOSE, None)])
    left_out = Node(NodeKind.SWEEP, 0, [ending], skipped=True)
    intervals = Node(NodeKind.SWEEP, 1, [left_out])
    box = swept(intervals)
    work = at_work(needs_x(), swept(split(Y, box, close())))
    assert mending._swept(work, leaf) == [box]
    assert mending._swept(work, root_of(work)) == [root_of(work)]
    assert mending._swept(work, split(X)) == []


def test_what_cannot_be_mended_gets_its_sweeps_back():
    tree = swept(split(Y, swept(split(X)), swept(split(Y))))
    question = needs_x(threshold=Fraction(0))  # reached at x = 0
    work = at_work(question, tree, SWEPT)
    failing = len(work.failing([root_of(work)]))
    before = shape(root_of(work))
    assert failing
    mended(work, [root_of(work)], LONG)
    assert len(work.failing([root_of(work)])) == failing
    assert shape(settled(work)) == before


@pytest.mark.parametrize("bad", [1, 2])
def test_nothing_is_done_where_most_leaves_fail(bad):
    sides = [close() if place < bad else swept(split(X)) for place in range(2)]
    work = at_work(needs_x(), swept(split(Y, *sides)), SWEPT)
    before = shape(root_of(work))
    assert mended(work, [root_of(work)], LONG) == (bad == 1)
    assert (shape(settled(work)) == before) == (bad == 2)


def test_without_sweeps_above_leaves_there_is_nothing_to_do():
    work = at_work(needs_x(), split(Y, split(X), split(X)), SWEPT)
    before = shape(root_of(work))
    assert not mended(work, [root_of(work)], LONG)
    assert shape(settled(work)) == before


def test_without_time_leaves_get_their_sweeps_back(monkeypatch):
    replaced = []
    monkeypatch.setattr(Work, "replace", lambda *args: replaced.append(args))
    work = at_work(needs_x(), swept(split(Y, swept(split(X)), close())), SWEPT)
    mended(work, [root_of(work)], time.monotonic() - 1.0)
    assert not replaced
    assert shape(settled(work)) == shape(swept(split(Y, split(X), close())))


def test_a_box_that_needs_many_is_not_grown(monkeypatch):
    monkeypatch.setattr(mending, "BOXES", 1.0)
    tree = swept(split(Y, swept(split(X)), close()))
    work = at_work(needs_x(), tree, SWEPT)
    mended(work, [root_of(work)], LONG)
    assert shape(settled(work)) == shape(swept(split(Y, split(X), close())))


def test_trees_for_which_there_is_no_time_are_mended(monkeypatch):
    monkeypatch.setattr(growth.Growth, "seconds", property(lambda self: LONG))
    work = at_work(needs_x(), wasteful(), SWEPT)
    assert regrow.regrow(work, time.monotonic() + LONG / 2)
    assert shape(settled(work)) == shape(split(Y, split(X), split(X)))
    assert valid(work)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_mended_trees_are_valid_in_both_arithmetics(seed):
    question = stated(seed)
    draft = draft_of(question, searched(question, seed))
    work = Work(draft, Oracle(draft.query))
    mended(work, [tree.root for tree in draft.trees()], LONG)
    assert not work.pending
    made, _ = written(draft)
    for name, checked in verdicts(question, made).items():
        assert checked.verdict == "valid unsat", (name, checked.reason)


@pytest.mark.parametrize(("most", "sweeps"), [(1, 7), (2, 5), (None, 4)])
def test_sweeps_above_few_leaves_are_left_out(most, sweeps):
    work = at_work(needs_x(), wasteful(), SWEPT)
    thin.sweeps(work, [root_of(work)], most)
    thin.remove_skipped(work.draft)
    assert growth.sweeps(root_of(work)) == sweeps
