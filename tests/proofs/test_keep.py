"""Substitutions that pass on some entries of the tensor at which they stop."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.check import check_proof
from proofs.proof import NodeKind, Proof, Side, SlopeHint
from proofs.substitution import Backward
from specs.errors import EvidenceError
from specs.property import constraint
from specs.query import Query
from tests.proofs.contracts import watched
from tests.proofs.helpers import (
    BOTH,
    Net,
    at_least,
    box_case,
    builder,
    extremes,
    query,
    random_network,
    with_arrays,
)
from tests.proofs.mutants import Mutant, each, notice, refused

F = Fraction
SEEDS = st.integers(0, 2**32)


def folded(threshold: Fraction) -> Query:
    """y = relu(x) + relu(-x) on [-1, 1] never reaches a threshold; it reaches 1."""
    net = Net(1)
    hidden = net.relu(net.dense(0, [[1.0], [-1.0]]))
    net.dense(hidden, [[1.0, 1.0]])
    return query(net.done(), [box_case([-1], [1], at_least(0, threshold))])


def resting(stated: Query, tensor: int, keep: object, clips: bool = False) -> Proof:
    """One leaf that stops at a tensor, after a clip perhaps that does so, too."""
    made = builder(stated)
    own = None if keep is None else np.array(keep, dtype=np.uint32)
    hints = made.substitution(stop=tensor, keep=own)
    made.begin_tree()
    if clips:
        made.clip(hints)
    made.close(hints)
    return made.finish()


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize(
    ("keep", "bound"),
    [([0, 1], F(1)), ([1, 0], F(1)), ([0], F(2)), ([1], F(2)), ([], F(2)), (None, F(2))],
)
def test_dropped_entries_count_by_their_intervals(keep, bound, arithmetic):
    """Both lines above add up to 1, a line and an interval to 2 at the end of the box."""
    for margin, verdict in ((F(1, 1000), "valid unsat"), (F(-1, 1000), "invalid")):
        stated = folded(bound + margin)
        found = check_proof(stated, resting(stated, 2, keep), arithmetic=arithmetic)
        assert found.verdict == verdict
    assert found.rejected[0].shortfall == pytest.approx(0.001)


@pytest.mark.parametrize("arithmetic", BOTH)
def test_a_preactivation_is_replaced_by_its_stored_bounds(arithmetic):
    """r0 - r1 = x has the lines x/2 + 1/2 and 0; entry 1 is stopped before its line."""
    stated = folded(F(3, 2) + F(1, 100))
    made = builder(stated)
    slope = SlopeHint(2, Side.UPPER, np.array([0.5, 0.5]))
    hints = made.substitution([slope], stop=1, keep=np.array([0]))
    made.begin_tree()
    made.close(hints)
    assert check_proof(stated, made.finish(), arithmetic=arithmetic).verdict == "invalid"
    wider = folded(F(2) + F(1, 100))
    made = builder(wider)
    made.begin_tree()
    made.close(made.substitution([slope], stop=1, keep=np.array([0])))
    assert check_proof(wider, made.finish(), arithmetic=arithmetic).verdict == "valid unsat"


@pytest.mark.parametrize("arithmetic", BOTH)
@given(seed=SEEDS)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_no_set_of_entries_proves_what_is_reached(arithmetic, seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng, int(rng.integers(1, 3)), radii=0.0)
    if not network.nonlinear:
        return
    size = network.input_size
    free = box_case([-1] * size, [1] * size)
    _, most, at = extremes(network, free)
    stated = query(network, [box_case([-1] * size, [1] * size, at_least(0, most))])
    for tensor in (*network.nonlinear, *network.preactivations):
        count = network.sizes[tensor]
        keep = rng.permutation(count)[: int(rng.integers(0, count + 1))]
        for clips in (False, True):
            with watched(stated, [at]) as watch:
                proof = resting(stated, tensor, keep, clips)
                assert check_proof(stated, proof, arithmetic=arithmetic).verdict == "invalid"
            assert watch.checked


def two_substitutions() -> tuple[Query, Proof]:
    stated = folded(F(3))
    made = builder(stated)
    first = made.substitution(stop=2, keep=np.array([1], dtype=np.uint32))
    made.substitution()
    made.begin_tree()
    made.close(first)
    return stated, made.finish()


def test_the_array_is_left_out_where_nothing_is_kept():
    stated, proof = two_substitutions()
    assert proof.arrays["sub_keep"].tolist() == [0, -1]
    assert check_proof(stated, proof).verdict == "valid unsat"
    assert resting(stated, 2, None).arrays["sub_keep"].size == 0


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"sub_keep": np.array([1, -1], np.int32)}, "sub_keep"),
        ({"sub_keep": np.array([-2, -1], np.int32)}, "sub_keep"),
        ({"sub_keep": np.array([0], np.int32)}, "differ in length"),
        ({"sub_keep": np.array([0, 0], np.int32)}, "entries of no tensor"),
        ({"set_index": np.array([2], np.uint32)}, "outside its tensor"),
        (
            {"set_index": np.array([1, 1], np.uint32), "set_ptr": np.array([0, 2], np.uint32)},
            "repeats",
        ),
        ({"sub_keep": np.array([0, -1], np.int64)}, "sub_keep"),
    ],
)
def test_hostile_sets_are_refused(arrays, says):
    stated, proof = two_substitutions()
    found = check_proof(stated, with_arrays(proof, **arrays))
    assert found.verdict == "unreadable"
    assert says in found.reason


def test_nothing_is_dropped_of_a_tensor_without_bounds():
    stated = folded(F(3))
    found = check_proof(stated, resting(stated, 3, []))
    assert (found.verdict, found.reason.partition(":")[0]) == (
        "invalid",
        "substitution cannot stop at 'n3'",
    )
    with pytest.raises(EvidenceError, match="no tensor"):
        builder(stated).substitution(keep=np.array([0]))


# ------------------------------------------------------------------------ wrong kernels


def dropped_entries_are_not_forgotten(arithmetic: str) -> None:
    stated = folded(F(9, 10))
    for keep in ([], [0], [1], [0, 1]):
        for tensor in (1, 2):
            refused(stated, resting(stated, tensor, keep), arithmetic)
            refused(stated, resting(stated, tensor, keep, clips=True), arithmetic)


def forgets(original):
    def stopped(self, stop, rows):
        known = len(self._amounts)
        rest = original(self, stop, rows)
        del self._amounts[known:]
        return rest

    return stopped


def passes_nothing_on(original):
    return lambda self, stop, rows: original(self, stop, rows) * 0


def other_side(original):
    def stored(self, tensor):
        lower, upper = original(self, tensor)
        return upper, lower

    return stored


MUTANTS = (
    Mutant("drops for free", dropped_entries_are_not_forgotten, Backward, "_stopped", forgets),
    Mutant(
        "loses what is kept",
        dropped_entries_are_not_forgotten,
        Backward,
        "_stopped",
        passes_nothing_on,
    ),
    Mutant("wrong ends", dropped_entries_are_not_forgotten, Backward, "_stored", other_side),
)


@pytest.mark.parametrize("arithmetic", BOTH)
def test_the_kernel_passes(arithmetic):
    dropped_entries_are_not_forgotten(arithmetic)


@each(MUTANTS)
def test_a_mutant_is_noticed(mutant, arithmetic, monkeypatch):
    notice(mutant, arithmetic, monkeypatch)


def test_clips_stop_as_well():
    """relu(2 x) <= x + 1 cuts the box at 0, and x <= -1/2 empties it; an interval cuts nothing."""
    net = Net(1)
    shifted = net.relu(net.dense(0, [[1.0]], [5.0]))  # so that 2 x is no first layer
    net.dense(net.relu(net.dense(shifted, [[2.0]], [-10.0])), [[1.0]])
    both = (*at_least(0, F(1)), constraint({0: F(1)}, {}, F(1, 2)))
    stated = query(net.done(), [box_case([-1], [1], both)])
    for keep, verdict in (([0], "valid unsat"), ([], "invalid")):
        made = builder(stated)
        made.begin_tree()
        made.clip(made.substitution(stop=4, keep=np.array(keep, dtype=np.uint32)))
        made.close(made.substitution(stop=4))
        proof = made.finish()
        assert proof.arrays["node_kind"].tolist() == [NodeKind.CLIP, NodeKind.CLOSE]
        assert check_proof(stated, proof).verdict == verdict
