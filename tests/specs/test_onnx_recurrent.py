"""Recurrent layers of fixed length, unrolled."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.errors import ModelError
from specs.network import Network
from specs.onnx_reader import read_model_bytes
from tests.networks import assert_agrees, functions_of, model_bytes

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
SECONDS = 20


def drawn(*shape: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return (0.7 * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def layer(
    operator: str,
    length: int = 3,
    batch: int = 2,
    inputs: int = 2,
    hidden: int = 3,
    bias: bool = True,
    hidden_state: str = "",
    cell: bool = False,
    peepholes: bool = False,
    lengths: Any = None,
    opset: int = 14,
    **attributes: Any,
) -> bytes:
    """A model of one layer; ``hidden_state`` is '', 'constant' or 'variable'."""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[operator] * hidden
    swapped = bool(attributes.get("layout"))
    state = (batch, directions, hidden) if swapped else (directions, batch, hidden)
    given: list[Any] = [
        (batch, length, inputs) if swapped else (length, batch, inputs),
        drawn(directions, rows, inputs, seed=2),
        drawn(directions, rows, hidden, seed=3),
        drawn(directions, 2 * rows, seed=4) if bias else None,
        lengths,
        {"": None, "constant": drawn(*state, seed=5), "variable": state}[hidden_state],
    ]
    if operator == "LSTM":
        given.append(drawn(*state, seed=6) if cell else None)
        given.append(drawn(directions, 3 * hidden, seed=7) if peepholes else None)
    while given[-1] is None:
        given.pop()
    outputs = 3 if operator == "LSTM" else 2
    attributes = {"hidden_size": hidden, **attributes}
    return model_bytes(operator, given, attributes, opset, outputs)


def agrees(content: bytes, runtime: bool = True, reference: bool = True) -> Network:
    size = read_model_bytes(content, None, "m").input_size
    return assert_agrees(
        content,
        2 * drawn(4, size, seed=9),
        runtime=2.0**-18 if runtime else None,
        reference=1e-10 if reference else None,
    )


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
def test_directions_and_layouts(operator: str, direction: str, layout: int) -> None:
    stated = {"direction": direction, "layout": layout} if layout else {"direction": direction}
    # onnxruntime lacks the other layout.
    agrees(layer(operator, hidden_state="constant", cell=True, **stated), runtime=not layout)


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("opset", [7, 14, 22])
def test_opsets(operator: str, opset: int) -> None:
    agrees(layer(operator, opset=opset))


@pytest.mark.parametrize("operator", GATES)
def test_what_may_be_left_out(operator: str) -> None:
    agrees(layer(operator, bias=False))
    agrees(layer(operator, bias=False, hidden_state="variable"))
    agrees(layer(operator, lengths=np.array([3, 3], np.int32)))
    agrees(layer(operator, length=1, batch=1, inputs=1, hidden=1))


@pytest.mark.parametrize("operator", ["RNN", "GRU"])
def test_clipped_arguments(operator: str) -> None:
    # The reference forgets the clip.
    agrees(layer(operator, clip=0.5), reference=False)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_gru_linear_before_reset(direction: str) -> None:
    agrees(layer("GRU", linear_before_reset=1, direction=direction))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm_peepholes(direction: str) -> None:
    agrees(layer("LSTM", peepholes=True, cell=True, direction=direction))


@pytest.mark.parametrize("peepholes", [False, True])
def test_lstm_with_coupled_gates(peepholes: bool) -> None:
    # The reference forgets to couple them.
    agrees(layer("LSTM", peepholes=peepholes, cell=True, input_forget=1), reference=False)


ACTIVATIONS: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {"activations": ["Relu"]}),
    ("RNN", {"activations": ["Sigmoid"]}),
    ("RNN", {"activations": ["LeakyRelu"]}),
    ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.2]}),
    ("RNN", {"activations": ["Elu"]}),
    ("RNN", {"activations": ["Softsign"]}),
    ("RNN", {"activations": ["Softplus"]}),
    ("RNN", {"activations": ["HardSigmoid"]}),
    ("RNN", {"activations": ["HardSigmoid"], "activation_alpha": [0.4], "activation_beta": [0.1]}),
    ("RNN", {"activations": ["Affine"], "activation_alpha": [0.4], "activation_beta": [0.1]}),
    ("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [0.4], "activation_beta": [0.7]}),
    ("GRU", {"activations": ["HardSigmoid", "Relu"], "activation_alpha": [0.3]}),
    ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Relu"]}),
    (
        "LSTM",
        {
            "activations": ["Sigmoid", "Tanh", "Relu", "HardSigmoid", "Softsign", "Tanh"],
            "direction": "bidirectional",
        },
    ),
]


@pytest.mark.parametrize(("operator", "attributes"), ACTIVATIONS)
def test_activations(operator: str, attributes: dict[str, Any]) -> None:
    # The reference knows Tanh, Sigmoid and Affine only, or ignores the choice.
    agrees(layer(operator, **attributes), reference=False)


def test_the_default_lstm_makes_the_nodes_of_its_equations() -> None:
    network = agrees(layer("LSTM", length=2, hidden_state="constant", cell=True))
    step = ["product"] * 3 + ["sigmoid"] * 3 + ["tanh"] * 2
    # The first cell is constant: its product with the forget gate is linear.
    assert sorted([*functions_of(network), "product"]) == sorted(step * 2)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(sorted(GATES)),
    st.tuples(*[st.integers(1, 3)] * 4),
    st.sampled_from(["forward", "reverse", "bidirectional"]),
    st.booleans(),
)
def test_any_size(operator: str, sizes: tuple[int, ...], direction: str, bias: bool) -> None:
    length, batch, inputs, hidden = sizes
    agrees(layer(operator, length, batch, inputs, hidden, bias=bias, direction=direction))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("LSTM", {"clip": 0.5}, "clip of an LSTM"),
    ("RNN", {"clip": -1.0}, "clip -1.0"),
    ("RNN", {"clip": float("nan")}, "clip nan"),
    ("RNN", {"direction": "sideways"}, "direction 'sideways'"),
    ("RNN", {"hidden_size": 4}, "hidden_size"),
    ("RNN", {"layout": 2}, "layout 2"),
    ("RNN", {"layout": 0, "opset": 7}, "no attribute 'layout'"),
    ("RNN", {"activations": ["ThresholdedRelu"]}, "'ThresholdedRelu' has no rule"),
    ("RNN", {"activations": ["Gelu"]}, "'Gelu' has no rule"),
    ("RNN", {"activations": ["Tanh", "Tanh"]}, "2 activations instead of 1"),
    ("GRU", {"activations": ["Tanh"]}, "1 activations instead of 2"),
    ("RNN", {"activations": ["Affine"]}, "without a finite alpha"),
    ("RNN", {"activations": ["Elu"], "activation_alpha": [float("inf")]}, "without a finite alpha"),
    ("GRU", {"activations": ["Tanh", "Elu"], "activation_alpha": [0.5]}, "read in several ways"),
    ("RNN", {"activation_alpha": [0.5]}, "read in several ways"),
    ("RNN", {"lengths": np.array([3, 2], np.int32)}, "shorter than 3"),
    ("RNN", {"lengths": np.array([3], np.int32)}, "sequence_lens of shape"),
    ("LSTM", {"length": 10**9, "batch": 1}, "too large"),
    ("RNN", {"length": 10**5, "batch": 1, "inputs": 1, "hidden": 1}, "too large"),
    ("GRU", {"linear_before": 1}, "no attribute 'linear_before'"),
]


@pytest.mark.parametrize(("operator", "given", "reason"), REFUSED)
def test_what_has_no_rule_is_refused(operator: str, given: dict[str, Any], reason: str) -> None:
    content = layer(operator, **given)
    began = time.process_time()
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(content, None, "m")
    assert time.process_time() - began < SECONDS


W, R = drawn(1, 3, 2), drawn(1, 3, 3)
SHAPES: list[tuple[list[Any], str]] = [
    ([(3, 2), W, R], "operands of shapes"),
    ([(3, 2, 4), W, R], "weights of shape"),
    ([(3, 2, 2), W, drawn(1, 3, 2)], "recurrence weights of shape"),
    ([(3, 2, 2), drawn(2, 3, 2), R], "weights of shape"),
    ([(3, 2, 2), W, R, drawn(1, 3)], "biases of shape"),
    ([(3, 2, 2), W, R, None, None, drawn(1, 1, 3)], "initial state of shape"),
    ([(3, 2, 2), (1, 3, 2), R], "not a constant"),
    ([(3, 2, 2), W.astype(np.float64), R], "mixes"),
    ([(3, 2, 2), W[0], R], "operands of shapes"),
]


@pytest.mark.parametrize(("inputs", "reason"), SHAPES)
def test_operands_that_do_not_fit_are_refused(inputs: list[Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(model_bytes("RNN", inputs, {}, 14, 2), None, "m")


def test_long_sequences_cost_linear_time() -> None:
    began = time.process_time()
    network = read_model_bytes(layer("LSTM", length=500, batch=1), None, "m")
    assert time.process_time() - began < SECONDS
    assert len(network.nodes) < 500 * 24
