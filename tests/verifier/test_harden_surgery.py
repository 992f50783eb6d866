"""Restrictions in a graph: what they compute, and that they can be read back and taken out."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from specs.errors import ModelError
from specs.faults.placed import place_model
from specs.onnx_reader import read_model_bytes
from tests.faulty_models import conv_model, dense_model, floats, graph_bytes, model_file, node
from tests.networks import evaluate, serialised
from verifier.harden.surgery import (
    ACTIONS,
    CLIP,
    PREFIX,
    SMOOTH,
    ZERO,
    Restriction,
    behind,
    produced,
    restricted,
    restrictions_of,
    same_question,
    unrestricted,
    with_outputs,
)

DENSE = serialised(onnx.load_from_string(dense_model()).graph)
KINDS = list(itertools.product((CLIP, ZERO), (False, True), (False, True), (False, True)))


def one_tensor() -> bytes:
    """``t = 3 x``, of which ``y`` is twice."""
    stored = {"a": np.float32([3.0]), "b": np.float32([2.0])}
    return graph_bytes([node("Mul", "x a", "t"), node("Mul", "t b", "y")], (1, 4), stored)


def runtime(content: bytes, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"x": row[None].astype(np.float32)}) for row in x]
    return np.array([np.concatenate([part.reshape(-1) for part in row]) for row in rows])


def by_hand(each: Restriction, t: np.ndarray) -> np.ndarray:
    lower = -np.inf if each.lower is None else each.lower
    if each.action == CLIP:
        return np.clip(t, lower, each.upper)
    if each.action == ZERO:
        return np.where((t > each.upper) | (t < lower), 0.0, t)
    gate = 1.0 / (1.0 + np.exp(-20.0 * (t - each.upper)))
    return np.maximum(0.0, t - t * gate)


@pytest.mark.parametrize(("action", "stored", "neurons", "both"), KINDS)
@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_restriction_is_what_it_is_by_hand(action, stored, neurons, both, data):
    """In onnxruntime and in our reader, at values on, within and beyond the bounds."""
    eighths = st.integers(-64, 64).map(lambda k: k / 8.0)
    size = 4 if neurons else 1
    ends = np.array(data.draw(st.lists(st.tuples(eighths, eighths), min_size=size, max_size=size)))
    shape = (1, 4) if neurons else ()
    upper, lower = ends.max(axis=1).reshape(shape), ends.min(axis=1).reshape(shape)
    each = Restriction("t", upper, lower if both else None, action, stored)
    x = np.array(data.draw(st.lists(eighths, min_size=4, max_size=4)))[None]
    wide = np.concatenate([x, np.broadcast_to(upper / 3, (1, 4)), np.zeros((1, 4))])
    content = restricted(one_tensor(), [each])
    t = 3.0 * wide
    ours = evaluate(read_model_bytes(content, None, "m"), wide)
    exact = np.isclose(t, upper) & (t != upper)  # a rounded product beside a jump
    assert np.allclose(np.where(exact, 0, ours), np.where(exact, 0, 2.0 * by_hand(each, t)))
    assert np.allclose(runtime(content, wide)[0], 2.0 * by_hand(each, t)[0], atol=1e-4)


def test_a_smooth_restriction_is_fitact_s():
    each = Restriction("t", np.array([[0.5, 1.0, 2.0, 0.0]]), None, SMOOTH)
    content = restricted(one_tensor(), [each])
    x = np.random.default_rng(0).normal(size=(6, 4))
    assert np.allclose(runtime(content, x), 2.0 * by_hand(each, 3.0 * x), atol=1e-4)
    assert np.allclose(evaluate(read_model_bytes(content, None, "m"), x), runtime(content, x), 1e-3)


def test_values_beyond_float32_are_repaired_and_nan_is_not():
    clip = restricted(one_tensor(), [Restriction("t", np.array(1.0), np.array(0.0))])
    zero = restricted(one_tensor(), [Restriction("t", np.array(1.0), None, ZERO)])
    x = np.array([[np.inf, 1e38, 3e38, np.nan]])
    assert runtime(clip, x)[0, :3].tolist() == [2.0, 2.0, 2.0]
    assert runtime(zero, x)[0, :3].tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(runtime(zero, x)[0, 3])


@pytest.mark.parametrize("make", [dense_model, conv_model], ids=["dense", "conv"])
@pytest.mark.parametrize("stored", [False, True])
def test_names_stay_and_restrictions_come_out_again(make, stored):
    content = make()
    tensors = behind(content, ["Relu"])
    shapes = with_outputs(content, tensors)
    network = read_model_bytes(shapes, None, "m")
    found = []
    for number, (name, output) in enumerate(zip(tensors, network.outputs, strict=True)):
        shape = network.nodes[output].shape if number else ()
        found.append(Restriction(name, np.full(shape, 0.5), None, [CLIP, ZERO][number], stored))
    hardened = restricted(content, found)
    assert set(tensors) <= set(produced(hardened))
    again = restrictions_of(hardened)
    assert [(e.tensor, e.action, e.stored) for e in again] == [
        (e.tensor, e.action, e.stored) for e in found
    ]
    assert all(np.array_equal(a.upper, b.upper) for a, b in zip(again, found, strict=True))
    assert unrestricted(hardened) == onnx.load_from_string(content).SerializeToString()
    placed = place_model(model_file(hardened))
    followed = {name for name in placed.parameters if name.startswith(PREFIX)}
    assert followed == ({f"{PREFIX}{name}/upper" for name in tensors} if stored else set())


def test_an_output_that_is_restricted_keeps_its_name():
    content = dense_model((3, 2))
    hardened = restricted(content, [Restriction("y", np.array(0.25), np.array(-0.25))])
    x = np.random.default_rng(1).normal(size=(20, 3))
    assert [o.name for o in onnx.load_from_string(hardened).graph.output] == ["y"]
    assert np.abs(runtime(hardened, x)).max() <= 0.25
    assert np.allclose(runtime(hardened, x), np.clip(runtime(content, x), -0.25, 0.25))


@pytest.mark.parametrize(
    ("tensor", "upper", "says"),
    [
        ("absent", 1.0, "no operator computes a tensor 'absent'"),
        ("x", 1.0, "no operator computes a tensor 'x'"),
        ("t", 0.1, "no float32 number"),
    ],
    ids=["absent", "input", "inexact"],
)
def test_what_cannot_be_restricted_is_refused(tensor, upper, says):
    with pytest.raises(ModelError, match=says):
        restricted(one_tensor(), [Restriction(tensor, np.array(upper))])


def test_a_hardened_model_is_not_hardened_again():
    each = Restriction("t", np.array(1.0))
    with pytest.raises(ModelError, match="is taken"):
        restricted(restricted(one_tensor(), [each]), [each])
    with pytest.raises(ModelError, match="twice"):
        restricted(one_tensor(), [each, each])


def test_old_operators_are_refused():
    graph = onnx.load_from_string(one_tensor()).graph
    for action, least in ((CLIP, 8), (ZERO, 9)):
        each = Restriction("t", np.array(1.0), None, action)
        assert restrictions_of(restricted(serialised(graph, least), [each]))
        with pytest.raises(ModelError, match="too old"):
            restricted(serialised(graph, least - 1), [each])


@pytest.mark.parametrize(("action", "opset"), [(CLIP, 8), (CLIP, 10), (ZERO, 9)])
def test_operators_without_clips_by_inputs(action, opset):
    graph = onnx.load_from_string(one_tensor()).graph
    each = Restriction("t", np.array(1.0), np.array(-0.5), action)
    hardened = restricted(serialised(graph, opset), [each])
    x = np.array([[1.0, -1.0, 0.25, -0.125]])
    assert np.allclose(runtime(hardened, x), 2.0 * by_hand(each, 3.0 * x))
    assert np.allclose(
        evaluate(read_model_bytes(hardened, None, "m"), x), 2.0 * by_hand(each, 3.0 * x)
    )
    assert [e.action for e in restrictions_of(hardened)] == [action]


@pytest.mark.parametrize(
    ("upper", "lower", "action"),
    [(np.inf, None, CLIP), (0.0, 1.0, CLIP), (1.0, None, "wrap"), (1.0, 0.0, SMOOTH)],
    ids=["infinite", "crossed", "unknown", "smooth"],
)
def test_restrictions_that_make_no_sense(upper, lower, action):
    assert action not in ACTIONS or action in (CLIP, SMOOTH)
    with pytest.raises(ModelError):
        Restriction("t", np.array(upper), None if lower is None else np.array(lower), action)


def test_tampered_restrictions_are_noticed():
    hardened = restricted(one_tensor(), [Restriction("t", np.array(1.0), None, ZERO)])
    model = onnx.load_from_string(hardened)
    where = next(n for n in model.graph.node if n.op_type == "Where")
    where.input[1], where.input[2] = where.input[2], where.input[1]
    with pytest.raises(ModelError, match="not as hardening writes"):
        restrictions_of(model.SerializeToString())


def test_types_other_than_float32():
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, (1, 4))
    y = helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)
    graph = helper.make_graph([node("Relu", "x", "t"), node("Relu", "t", "y")], "g", [x], [y])
    hardened = restricted(serialised(graph), [Restriction("t", np.array(0.1))])
    assert restrictions_of(hardened)[0].upper == 0.1
    session = onnxruntime.InferenceSession(hardened, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.array([[1.0, 0.05, -1.0, 0.1]])})
    assert found.tolist() == [[0.1, 0.05, 0.0, 0.1]]


def test_what_stands_behind_activations():
    nodes = [
        node("Relu", "x", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2, 2]),
        node("Flatten", "p", "f"),
        node("MatMul", "f w", "m"),
        node("Add", "m b", "y"),
    ]
    stored = {"w": floats(np.random.default_rng(0), 2, 2), "b": floats(np.random.default_rng(1), 2)}
    content = graph_bytes(nodes, (1, 2, 2, 2), stored)
    assert behind(content, ["Relu"]) == ["r"]
    assert behind(content, ["Relu"], ["MaxPool", "Flatten", "Add"]) == ["r", "p", "f"]


def test_questions_differ_in_the_order_of_outputs():
    first, second = with_outputs(DENSE, ["h0", "h1"]), with_outputs(DENSE, ["h1", "h0"])
    assert same_question(first, first)
    assert not same_question(first, second)
