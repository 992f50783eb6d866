"""An If whose condition is a constant is the branch that it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import GraphProto, TensorProto, helper, numpy_helper

from specs.errors import ModelError, UnsupportedOperatorError
from specs.network import Network
from specs.onnx_reader import read_model_bytes
from tests.networks import assert_agrees, functions_of, serialised

REAL = TensorProto.FLOAT


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def branch(*nodes: Any, outputs: str = "b", **constants: Any) -> GraphProto:
    made = [helper.make_tensor_value_info(name, REAL, None) for name in outputs.split()]
    stored = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    return helper.make_graph(list(nodes), "branch", [], made, stored)


RELU = branch(node("Relu", "h", "b"))
TANH = branch(node("Tanh", "h", "b"))


def chosen(then: GraphProto = RELU, other: GraphProto = TANH, outputs: str = "a") -> Any:
    return node("If", "c", outputs, then_branch=then, else_branch=other)


def model(*nodes: Any, **constants: Any) -> bytes:
    """From ``x`` to ``y``, both of shape (2, 3); ``h`` is ``-x``."""
    stored = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(
        [node("Neg", "x", "h"), *nodes],
        "g",
        [helper.make_tensor_value_info("x", REAL, [2, 3])],
        [helper.make_tensor_value_info("y", REAL, None)],
        stored,
    )
    return serialised(graph, 16)


def agrees(content: bytes) -> Network:
    x = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    return assert_agrees(content, x)


LAST = node("Neg", "a", "y")


@pytest.mark.parametrize(("condition", "function"), [(True, "relu"), (False, "tanh")])
def test_a_constant_condition_chooses(condition: bool, function: str) -> None:
    network = agrees(model(chosen(), LAST, c=np.array(condition)))
    assert functions_of(network) == [function]
    assert "b" in network.tensors
    assert "a" in network.tensors


def test_a_condition_may_be_computed_from_shapes() -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("Size", "s", "r"),
        node("Equal", "r two", "c"),
        chosen(),
        LAST,
    ]
    assert functions_of(agrees(model(*nodes, two=np.array(2)))) == ["relu"]


def test_branches_have_constants_and_several_outputs() -> None:
    then = branch(node("Mul", "h k", "p"), node("Relu", "p", "q"), outputs="p q", k=np.float32(3))
    other = branch(node("Relu", "h", "u"), node("Tanh", "h", "v"), outputs="u v")
    nodes = [chosen(then, other, "a d"), node("Sub", "a d", "y")]
    assert functions_of(agrees(model(*nodes, c=np.array(True)))) == ["relu"]


def test_branches_nest() -> None:
    inner = branch(
        node(
            "If",
            "d",
            "b",
            then_branch=branch(node("Exp", "h", "e"), outputs="e"),
            else_branch=branch(node("Sin", "h", "f"), outputs="f"),
        )
    )
    content = model(chosen(inner), LAST, c=np.array([True]), d=np.array(False))
    assert functions_of(agrees(content)) == ["sin"]


def test_the_other_branch_may_be_unknown() -> None:
    other = branch(node("Det", "h", "b"))
    network = read_model_bytes(model(chosen(RELU, other), LAST, c=np.array(True)), None, "m")
    assert functions_of(network) == ["relu"]


def test_what_only_a_branch_reads_is_live() -> None:
    nodes = [node("Exp", "x", "e"), chosen(branch(node("Add", "e h", "b"))), LAST]
    assert functions_of(agrees(model(*nodes, c=np.array(True)))) == ["exp"]


REFUSED: dict[str, tuple[bytes, str]] = {
    "variable condition": (
        model(
            node("ReduceSum", "x", "t", keepdims=0), node("Cast", "t", "c", to=9), chosen(), LAST
        ),
        "depends on the inputs",
    ),
    "two conditions": (model(chosen(), LAST, c=np.array([True, False])), "single truth value"),
    "a number": (model(chosen(), LAST, c=np.array(1)), "single truth value"),
    "operator": (
        model(chosen(branch(node("Det", "h", "b"))), LAST, c=np.array(True)),
        "Det .tensor 'b', node 1 of 1.: Det has no rule",
    ),
    "undefined": (
        model(chosen(branch(node("Relu", "z", "b"))), LAST, c=np.array(True)),
        "reads 'z', which is not defined",
    ),
    "undefined output": (
        model(chosen(branch(node("Relu", "h", "b"), outputs="w")), LAST, c=np.array(True)),
        "'w' of its branch is not defined",
    ),
    "what is around it": (
        model(chosen(branch(outputs="h")), LAST, c=np.array(True)),
        "'h' of its branch is not defined in it",
    ),
    "shadowed": (
        model(chosen(branch(node("Relu", "x", "h"), outputs="h")), LAST, c=np.array(True)),
        "'h' is defined twice",
    ),
    "shadowed by a constant": (
        model(chosen(branch(node("Relu", "h", "b"), c=np.float32(1))), LAST, c=np.array(True)),
        "two initialisers are called 'c'",
    ),
    "reserved": (
        model(
            chosen(branch(node("Relu", "h", "farkas:b"), outputs="farkas:b")),
            LAST,
            c=np.array(True),
        ),
        "reserved",
    ),
    "outputs": (
        model(chosen(branch(node("Relu", "h", "b"), outputs="b h")), LAST, c=np.array(True)),
        "its branch has 2 outputs",
    ),
    "names from a branch": (
        model(chosen(), node("Neg", "b", "y"), node("Neg", "a", "z"), c=np.array(True)),
        "reads 'b', which is not defined",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused(name: str) -> None:
    content, reason = REFUSED[name]
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(content, None, "m")


def test_reasons_in_branches_and_behind_them_are_named() -> None:
    content = model(
        chosen(branch(node("Hardmax", "h", "b"))),
        node("Det", "a", "d"),
        node("Neg", "d", "y"),
        c=np.array(True),
    )
    with pytest.raises(UnsupportedOperatorError) as caught:
        read_model_bytes(content, None, "m")
    assert "Hardmax (tensor 'b'" in str(caught.value)
    assert "Det (tensor 'd'" in str(caught.value)


def test_a_branch_with_inputs_is_refused() -> None:
    given = helper.make_graph(
        [node("Relu", "h", "b")],
        "branch",
        [helper.make_tensor_value_info("i", REAL, [1])],
        [helper.make_tensor_value_info("b", REAL, None)],
    )
    with pytest.raises(ModelError, match="graph without inputs"):
        read_model_bytes(model(chosen(given), LAST, c=np.array(True)), None, "m")


def test_sparse_constants_of_a_branch_have_no_rule() -> None:
    sparse = branch(node("Relu", "h", "b"))
    sparse.sparse_initializer.add()
    with pytest.raises(UnsupportedOperatorError, match="sparse_initializer"):
        read_model_bytes(model(chosen(sparse), LAST, c=np.array(True)), None, "m")
