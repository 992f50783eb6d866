"""Reading and writing entries at constant places; running sums; positions of extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper, numpy_helper

from specs.errors import ModelError, UnsupportedOperatorError
from specs.onnx_reader import read_model_bytes
from tests.networks import assert_agrees, evaluate, model_bytes, serialised


def drawn(*shape: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ints(*entries: Any) -> npt.NDArray[np.int64]:
    return np.array(entries, dtype=np.int64)


AXIS = np.array(1)

CASES: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    ("GatherND", 11, [(2, 3, 4), ints([0, 1], [1, -1])], {}),
    ("GatherND", 13, [(2, 3, 4), ints([[0, 1, 2]], [[1, 2, -4]])], {}),
    ("GatherND", 13, [(2, 3, 4), ints([1], [-1])], {"batch_dims": 1}),
    ("GatherND", 13, [(2, 3, 4), ints([[1, 0], [2, 3]], [[0, 0], [1, 1]])], {"batch_dims": 1}),
    ("GatherND", 13, [(2, 2, 3), ints([[0], [1]], [[2], [0]])], {"batch_dims": 2}),
    ("ScatterND", 11, [(4, 3), ints([1], [-1]), (2, 3)], {}),
    ("ScatterND", 16, [(4, 3), ints([1, 1], [0, 2], [1, 1]), (3,)], {"reduction": "add"}),
    ("ScatterND", 13, [(4, 3), ints([1, 1], [0, 2]), drawn(2)], {}),
    ("ScatterND", 13, [drawn(4, 3), ints([1, 1], [0, 2]), (2,)], {}),
    ("ScatterElements", 11, [(3, 3), ints([1, 0, 2], [0, 2, -2]), (2, 3)], {}),
    ("ScatterElements", 16, [(1, 5), ints([1, 3]), drawn(1, 2)], {"axis": 1}),
    ("ScatterElements", 16, [(1, 5), ints([1, 1]), drawn(1, 2)], {"axis": -1, "reduction": "add"}),
    ("Trilu", 14, [(2, 3, 4)], {}),
    ("Trilu", 14, [(2, 3, 4), np.array(-1)], {"upper": 0}),
    ("Trilu", 14, [(3, 3), np.array(1)], {}),
    ("Trilu", 14, [(3, 3), np.array(-9)], {}),
    ("CumSum", 14, [(2, 3), AXIS], {}),
    ("CumSum", 11, [(2, 3, 2), np.array(0)], {"exclusive": 1, "reverse": 1}),
    ("CumSum", 14, [(2, 3), np.array(-1)], {"reverse": 1}),
    ("CumSum", 14, [(2, 3), AXIS], {"exclusive": 1}),
]


@pytest.mark.parametrize(("operator", "opset", "inputs", "attributes"), CASES)
def test_an_operator_means_what_runtimes_say(
    operator: str, opset: int, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    content = model_bytes(operator, inputs, attributes, opset)
    size = read_model_bytes(content, None, "m").input_size
    assert not assert_agrees(content, drawn(3, size, seed=4)).neurons


def test_the_old_scatter_is_the_same() -> None:
    inputs: list[Any] = [(1, 5), ints([1, 3]), drawn(1, 2)]
    content = model_bytes("Scatter", inputs, {"axis": 1}, 9)
    assert_agrees(content, drawn(3, 5, seed=4), reference=None)


REFUSED: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("GatherND", [(2, 3), ints([0, 3])], {}, "outside"),
    ("GatherND", [(2, 3), ints([0, 0, 0])], {}, "do not fit"),
    ("GatherND", [(2, 3), ints([0], [1])], {"batch_dims": 2}, "2 batch axes"),
    ("GatherND", [(3, 3), ints([0], [1])], {"batch_dims": 1}, "do not fit"),
    ("GatherND", [(2, 3), drawn(1, 1)], {}, "not integers"),
    ("ScatterND", [(2, 3), ints([0]), (2,)], {}, "updates of shape"),
    ("ScatterND", [(2, 3), ints([2]), (1, 3)], {}, "outside"),
    ("ScatterND", [(2, 3), ints([0], [0]), (2, 3)], {}, "two updates"),
    ("ScatterND", [(2, 3), ints([0]), (1, 3)], {"reduction": "mul"}, "reduction 'mul'"),
    ("ScatterND", [(2, 3), ints([0]), np.ones((1, 3))], {}, "mixes"),
    ("ScatterElements", [(2, 3), ints([0, 1]), (1, 3)], {}, "do not fit"),
    ("ScatterElements", [(2, 3), ints([0, 1, 2]), (1, 3)], {}, "outside"),
    ("ScatterElements", [(2, 3), ints([0, 0]), (1, 2)], {"axis": 1}, "two updates"),
    ("ScatterElements", [(2, 3), ints([0, 0]), (1, 2)], {"reduction": "max"}, "reduction 'max'"),
    ("Trilu", [(3,)], {}, "triangle"),
    ("Trilu", [(3, 3), drawn(1)], {}, "single integer"),
    ("CumSum", [(3, 3), np.array(2)], {}, "axis 2"),
    ("CumSum", [(3, 3), ints(0, 1)], {}, "single integer"),
    ("CumSum", [(1, 2**14), AXIS], {}, "too large"),
]


@pytest.mark.parametrize(("operator", "inputs", "attributes", "reason"), REFUSED)
def test_what_does_not_fit_is_refused(
    operator: str, inputs: list[Any], attributes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(model_bytes(operator, inputs, attributes, 18), None, "m")


@pytest.mark.parametrize(("operator", "word"), [("ArgMax", "largest"), ("ArgMin", "smallest")])
def test_a_predicted_class_is_a_matter_of_the_property(operator: str, word: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=f"end the model at 'i0'.*{word}"):
        read_model_bytes(model_bytes(operator, [(1, 10)], {"axis": 1}, 13), None, "m")


@pytest.mark.parametrize("keep", [0, 1])
def test_positions_of_extremes_of_constants(keep: int) -> None:
    nodes = [
        helper.make_node("ArgMax", ["c"], ["i"], axis=1, keepdims=keep),
        helper.make_node("Gather", ["x", "i"], ["y"], axis=0),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([[1, 5, 5], [7, 2, 3]], np.float32), "c")],
    )
    network = read_model_bytes(serialised(graph), None, "m")
    assert network.nodes[network.outputs[0]].shape == ((2, 1) if keep else (2,))
    assert evaluate(network, np.array([[10.0, 20.0, 30.0]])).tolist() == [[20.0, 10.0]]
    assert_agrees(serialised(graph), drawn(2, 3))
