"""Softmax and its logarithms over any axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.errors import ModelError
from specs.network import Network, Univariate
from specs.onnx_reader import read_model_bytes
from tests.networks import assert_agrees, evaluate, functions_of, model_bytes


def drawn(size: int, spread: float = 3.0) -> npt.NDArray[np.float32]:
    return (np.random.default_rng(4).normal(size=(4, size)) * spread).astype(np.float32)


def agrees(
    operator: str, shape: tuple[int, ...], attributes: dict[str, Any], opset: int, *more: Any
) -> Network:
    content = model_bytes(operator, [shape, *more], attributes, opset)
    # The reference has only the meaning of opset 13 on.
    judged = opset >= 13 or "Reduce" in operator
    size = int(np.prod(shape))
    return assert_agrees(content, drawn(size), reference=1e-10 if judged else None)


LONG = {"Softmax": ["exp", "reciprocal"], "LogSoftmax": ["exp", "log"]}
SHORT = {"Softmax": ["sigmoid"], "LogSoftmax": ["softplus"]}


@pytest.mark.parametrize("operator", LONG)
@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 5), 1), ((2, 5), -2), ((2, 3, 4), 1), ((3, 2, 4), 0), ((4,), -1)]
)
def test_one_axis(operator: str, shape: tuple[int, ...], axis: int) -> None:
    network = agrees(operator, shape, {"axis": axis}, 13)
    count = shape[axis]
    assert functions_of(network) == (LONG if count > 2 else SHORT)[operator]
    size = int(np.prod(shape))
    assert network.neurons == (size * (count - 1) + size if count > 2 else size)


@pytest.mark.parametrize("operator", LONG)
@pytest.mark.parametrize("opset", [7, 11, 12])
@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 5), 1), ((2, 5), 0), ((2, 3, 4), 1), ((1, 2, 2), None), ((2, 3), 2)]
)
def test_opsets_before_13_flatten(
    operator: str, opset: int, shape: tuple[int, ...], axis: int | None
) -> None:
    attributes = {} if axis is None else {"axis": axis}
    if axis == len(shape):
        with pytest.raises(ModelError, match="does not depend"):
            read_model_bytes(model_bytes(operator, [shape], attributes, opset), None, "m")
        return
    network = agrees(operator, shape, attributes, opset)
    trailing = int(np.prod(shape[1 if axis is None else axis :]))
    exponentials = [n for n in network.nodes if isinstance(n, Univariate) and n.function == "exp"]
    assert sum(np.prod(n.shape) for n in exponentials) == np.prod(shape) * (trailing - 1)


def test_the_default_axis_is_the_last_from_13_on() -> None:
    network = agrees("Softmax", (2, 3, 4), {}, 13)
    assert network.neurons == 24 * 3 + 24


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_any_softmax_means_what_runtimes_say(shape: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    if shape[axis] == 1:
        shape[axis] = 3
    agrees(data.draw(st.sampled_from(sorted(LONG))), tuple(shape), {"axis": axis}, 13)


def test_probabilities_of_far_inputs_neither_overflow_nor_vanish_together() -> None:
    content = model_bytes("Softmax", [(1, 4)], {}, 13)
    network = read_model_bytes(content, None, "m")
    with np.errstate(over="ignore"):
        found = evaluate(network, np.array([[600.0, 0.0, 599.0, -600.0]]))
    np.testing.assert_allclose(found.sum(), 1.0)
    np.testing.assert_allclose(found[0, 0] / found[0, 2], np.e)


REDUCTIONS = [
    ((2, 3), {}, 13, ["exp", "log"]),
    ((2, 3, 4), {"axes": [1]}, 11, ["exp", "log"]),
    ((2, 3, 4), {"axes": [0, 2], "keepdims": 0}, 13, ["exp", "log"]),
    ((5, 2), {"axes": [-1]}, 13, ["softplus"]),
    ((5, 1), {"axes": [1]}, 13, []),
]


@pytest.mark.parametrize(("shape", "attributes", "opset", "functions"), REDUCTIONS)
def test_logarithms_of_sums_of_exponentials(
    shape: tuple[int, ...], attributes: dict[str, Any], opset: int, functions: list[str]
) -> None:
    assert functions_of(agrees("ReduceLogSumExp", shape, attributes, opset)) == functions


def test_axes_as_an_input() -> None:
    axes = np.array([0, -1])
    network = agrees("ReduceLogSumExp", (2, 3, 2), {"keepdims": 0}, 18, axes)
    assert network.nodes[network.outputs[0]].shape == (3,)


def test_the_logarithm_of_a_sum() -> None:
    content = model_bytes("ReduceLogSum", [(2, 3)], {"axes": [1]}, 13)
    network = assert_agrees(content, np.abs(drawn(6)))
    assert functions_of(network) == ["log"]


REFUSED: list[tuple[str, list[Any], dict[str, Any], int, str]] = [
    ("Softmax", [(2, 3)], {"axis": 2}, 13, "axis 2"),
    ("Softmax", [(2, 3)], {"axis": 3}, 11, "axis 3"),
    ("LogSoftmax", [(2, 3)], {"axis": -3}, 13, "axis -3"),
    ("Softmax", [(2, 1)], {}, 13, "does not depend"),
    ("Softmax", [(1, 2**20)], {}, 13, "too large"),
    ("LogSoftmax", [(2**12, 2**12)], {}, 11, "too large"),
    ("ReduceLogSumExp", [(2, 3)], {"axes": [2]}, 13, "axis 2"),
    ("ReduceLogSumExp", [(2, 3)], {"axes": [1, -1]}, 13, "twice"),
    ("Softmax", [(2, 3), (2, 3)], {}, 13, "2 inputs"),
    ("Softmax", [(2, 3)], {"axes": [1]}, 13, "no attribute 'axes'"),
]


@pytest.mark.parametrize(("operator", "inputs", "attributes", "opset", "reason"), REFUSED)
def test_what_has_no_meaning_is_refused(
    operator: str, inputs: list[Any], attributes: dict[str, Any], opset: int, reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(model_bytes(operator, inputs, attributes, opset), None, "m")
