"""What becomes of boxes in a trial is what the kernel makes of the same nodes."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.draft import CaseDraft, Draft, Node, TreeDraft
from proofs.oracle import Oracle, State
from proofs.proof import NodeKind
from proofs.tree import DeadlineError
from proofs.trial import Trial
from specs.query import Query
from tests.proofs.helpers import Net, at_least, box_case, query
from tests.proofs.test_minimise import stated
from tests.proofs.test_regrow import X, Y, needs_x, steep


def close() -> Node:
    return Node(NodeKind.SWEEP, 0, [Node(NodeKind.CLOSE, None)])


def known(question: Query, root: Node, *nodes: Node) -> tuple[Trial, list[State]]:
    oracle = Oracle(question)
    draft = Draft(question, [CaseDraft(0, [], [TreeDraft(root)])])
    states = oracle.states(draft, nodes)
    return oracle.trial(states[0]), states


def same(one, other) -> bool:
    boxes = np.array_equal(one.lower, other.lower) and np.array_equal(one.upper, other.upper)
    return boxes and all(
        np.allclose(end, found, rtol=1e-9, atol=1e-12)
        for tensor, ends in one.bounds.items()
        for end, found in zip(ends, other.bounds[tensor], strict=True)
    )


@given(seed=st.integers(0, 10**6), entry=st.integers(0, 1))
@settings(max_examples=10, deadline=None)
def test_halves_and_sweeps_are_those_of_the_kernel(seed, entry):
    question = stated(seed)
    sides = [close(), close()]
    root = Node(NodeKind.SPLIT_INPUT, entry, sides)
    trial, states = known(question, root, *(side.children[0] for side in sides))
    _, (top,) = known(question, root, root)
    with np.errstate(all="ignore"):
        halves = trial.halves(top.domains, np.array([entry]))
        swept, _ = trial.swept(halves)
    assert len(halves) == 2
    for place, state in enumerate(states):
        assert same(swept.pick(np.array([place])).batch, state.domains.batch)
    before = halves.batch.bounds
    assert all(np.all(before[t][0] <= low) for t, (low, _) in swept.batch.bounds.items())


CANCELS, CROSSES, STABLE = ((1.0, -1.0, 0.0), 0.6), ((0.0, 0.0, 1.0), -0.25), ((0.0, 0.0, 1.0), 9.0)
"""Neurons above x + 2, x + 2 and relu(x): one is stable, as a sweep sees, one is not."""


def layered(*neurons: tuple[tuple[float, ...], float]) -> Query:
    net = Net(1)
    relu = net.relu(net.dense(0, [[1.0], [1.0], [1.0]], [2.0, 2.0, 0.0]))
    rows, offsets = zip(*neurons, strict=True)
    net.dense(net.relu(net.dense(relu, rows, offsets)), [[1.0] * len(neurons)])
    return query(net.done(), [box_case([-1], [1], at_least(0, 100))])


@pytest.mark.parametrize(
    ("neurons", "part"),
    [
        ([CANCELS, CANCELS], 0.0),
        ([CANCELS, CROSSES], 0.5),
        ([CROSSES, STABLE], 1.0),
        ([STABLE, STABLE], 1.0),
        ([CANCELS, STABLE], 0.0),
    ],
)
def test_what_is_stable_after_a_sweep_needs_no_other(neurons, part):
    trial, (state,) = known(layered(*neurons), root := close(), root)
    with np.errstate(all="ignore"):
        swept, again = trial.swept(state.domains)
        _, still = trial.swept(swept)
    assert again.tolist() == [part]
    assert still.tolist() == [1.0]  # all of it, or there was nothing to do


def test_phases_are_those_of_the_kernel():
    question = layered(CANCELS, CROSSES)
    sides = [close(), close()]
    root = Node(NodeKind.SWEEP, 0, [Node(NodeKind.SPLIT_NEURON, (3, 1), sides)])
    trial, states = known(question, root, *sides)
    _, (top,) = known(question, root, root)
    with np.errstate(all="ignore"):
        halves = trial.phases(trial.swept(top.domains)[0], [(3, 1)])
    for place, state in enumerate(states):
        assert same(halves.pick(np.array([place])).batch, state.domains.batch)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_what_lacks_nothing_closes_and_nothing_else(seed):
    question = stated(seed)
    sides = [close(), close()]
    root = Node(NodeKind.SPLIT_INPUT, 0, sides)
    leaves = [side.children[0] for side in sides]
    trial, states = known(question, root, *leaves)
    oracle = Oracle(question)
    draft = Draft(question, [CaseDraft(0, [], [TreeDraft(root)])])
    failing = {id(node) for node in oracle.failing(draft)}
    for state in states:
        with np.errstate(all="ignore"):
            (lacking,) = trial.shortfalls(state.domains, [None])
        assert (lacking > 0) == (id(state.node) in failing)


def test_hints_make_up_for_what_lacks():
    question = needs_x()
    root = close()
    trial, (state,) = known(question, root, root.children[0])
    hints = steep(question)
    assert trial.shortfalls(state.domains, [None])[0] == pytest.approx(0.5, abs=1e-6)
    assert trial.shortfalls(state.domains, [hints])[0] == 0.0


def test_only_what_moves_the_constraint_has_influence():
    question = needs_x()
    root = close()
    trial, (state,) = known(question, root, root.children[0])
    (influence,) = trial.influence(state.domains)
    assert influence[X] > 0
    assert influence[Y] == 0


def test_an_earlier_deadline_counts():
    question = needs_x()
    draft = Draft(question, [CaseDraft(0, [], [TreeDraft(close())])])
    oracle = Oracle(question, deadline=time.monotonic() + 100.0)
    oracle.hurry(time.monotonic() + 200.0)
    oracle.failing(draft)
    oracle.hurry(time.monotonic() - 1.0)
    with pytest.raises(DeadlineError):
        oracle.failing(draft)
    without = Oracle(question)
    without.hurry(time.monotonic() - 1.0)
    assert without.hurried
