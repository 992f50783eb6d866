"""Two evaluations must agree before a point is a witness."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from specs.property import Case, Property, constraint
from specs.query import ModelFile, Query
from tests.verifier.small import box_query, identity, mlp
from verifier.attack_confirm import Confirm
from verifier.replay import Replay, ReplayError

pytest.importorskip("onnxruntime")

F = Fraction


def at_least(threshold: Fraction, strict: bool = False) -> list[list]:
    return [[constraint({}, {0: F(-1)}, threshold, strict)]]


def test_a_violation_at_zero_tolerance_is_confirmed() -> None:
    query = box_query(identity(), [0], [1], at_least(F(1)))
    confirm = Confirm(query)
    found = confirm(0, 0, np.array([1.0]))
    assert found is not None
    assert found.witness.point == (F(1),)
    assert found.checked.verdict == "valid sat"
    assert found.replay.violated
    assert found.replay.inside
    assert confirm.doubt is None


def test_a_strict_constraint_is_met_strictly() -> None:
    query = box_query(identity(), [0], [1], at_least(F(1), strict=True))
    confirm = Confirm(query)
    assert confirm(0, 0, np.array([1.0])) is None
    assert confirm.doubt is None


def test_a_point_outside_is_moved_inside_first() -> None:
    query = box_query(identity(), [0], [1], at_least(F(1, 2)))
    found = Confirm(query)(0, 0, np.array([7.5]))
    assert found is not None
    assert found.witness.point == (F(1),)


def test_one_sided_violations_are_doubts() -> None:
    # In float32 1e8 + 1 - 1e8 is 0: exactly, the output is x.
    made = mlp([np.ones((1, 1)), np.ones((1, 1))], [np.array([1e8]), np.array([-1e8])])
    exact_only = box_query(made, [0], [1], at_least(F(1)))
    confirm = Confirm(exact_only)
    assert confirm(0, 0, np.array([1.0])) is None
    assert confirm.doubt is not None
    assert "onnxruntime's replay" in confirm.doubt
    replay_only = box_query(made, [0], [1], [[constraint({0: F(-1)}, {0: F(1)}, F(1, 2))]])
    confirm = Confirm(replay_only)
    assert confirm(0, 0, np.array([1.0])) is None
    assert confirm.doubt is not None
    assert "its exact evaluation does not" in confirm.doubt


def test_a_degenerate_region_is_witnessed_by_its_rational() -> None:
    query = box_query(identity(), [F(1, 10)], [F(1, 10)], at_least(F(1, 20)))
    found = Confirm(query)(0, 0, np.array([0.1]))
    assert found is not None
    assert found.witness.point == (F(1, 10),)
    assert found.degenerate == 1
    assert not found.replay.inside


def test_anywhere_finds_case_and_disjunct() -> None:
    network, model = identity()
    cases = [
        Case((F(k),), (F(k + 1),), ((constraint({}, {}, F(1)),), tuple(at_least(F(k))[0])))
        for k in range(5)
    ]
    prop = Property(1, 1, tuple(cases))
    confirm = Confirm(Query(network, prop, (model,), prop.digest))
    found = confirm.anywhere(np.array([3.25]))
    assert found is not None
    assert (found.witness.case, found.witness.disjunct) == (3, 1)
    assert confirm.anywhere(np.array([-3.0])) is None


def test_a_model_that_cannot_be_replayed_is_a_doubt() -> None:
    network, model = identity()
    broken = dataclasses.replace(model, content=b"not a model")
    prop = Property(1, 1, (Case((F(0),), (F(1),), tuple(map(tuple, at_least(F(1))))),))
    query = Query(network, prop, (broken,), prop.digest)
    with pytest.raises(ReplayError, match="refuses the model"):
        Replay(query)
    confirm = Confirm(query)
    assert confirm(0, 0, np.array([1.0])) is None
    assert confirm.doubt is not None
    assert "cannot be replayed" in confirm.doubt


def test_two_copies_are_replayed_each_on_its_slice() -> None:
    network, model = identity()
    from specs.linear import Gather
    from specs.network import Input, Linear, Network, Term

    # Stands for two copies of the identity; the replay reads the model file twice.
    first, second = Input("x", (1, 1)), Input("x2", (1, 1))
    copies = [
        Linear(name, (1, 1), (Term(k, Gather(np.array([0]), 1)),), network.nodes[1].offset)
        for k, name in enumerate(("y", "y2"))
    ]
    both = Network((first, second, *copies), (2, 3))
    lower = tuple([F(0)] * 2)
    unsafe = ((constraint({}, {0: F(1), 1: F(-1)}, F(1, 2)),),)
    prop = Property(2, 2, (Case(lower, (F(1), F(1)), unsafe),))
    query = Query(both, prop, (model, model), prop.digest)
    y = Replay(query).run(np.array([0.25, 0.75], np.float32))
    assert y.tolist() == [0.25, 0.75]
    found = Confirm(query)(0, 0, np.array([0.0, 1.0]))
    assert found is not None


def test_replay_refuses_another_number_of_outputs() -> None:
    network, model = identity()
    wide = mlp([np.ones((1, 2))], [np.zeros(2)])[1]
    prop = Property(1, 1, ())
    query = Query(network, prop, (ModelFile(None, wide.content, wide.digest),), prop.digest)
    assert model.digest != wide.digest
    with pytest.raises(ReplayError, match="2 outputs"):
        Replay(query).run(np.zeros(1, np.float32))


def test_a_query_without_files_cannot_be_replayed() -> None:
    network, _ = identity()
    prop = Property(1, 1, ())
    with pytest.raises(ReplayError, match="no model file"):
        Replay(Query(network, prop, (), prop.digest))
