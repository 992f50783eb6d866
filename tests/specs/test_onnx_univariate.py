"""Functions of single entries: the network computes what runtimes compute, and folds soundly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper, numpy_helper

from specs.errors import ModelError, UnsupportedOperatorError
from specs.network import Linear, Univariate
from specs.onnx_reader import read_model_bytes
from tests.networks import assert_agrees, evaluate, functions_of, model_bytes, serialised

POINTS = 6


def drawn(size: int, low: float, high: float, seed: int = 2) -> npt.NDArray[np.float32]:
    random = np.random.default_rng(seed)
    return random.uniform(low, high, (POINTS, size)).astype(np.float32)


def f32(*entries: float) -> npt.NDArray[np.float32]:
    return np.array(entries, dtype=np.float32)


def scalar(entry: float) -> npt.NDArray[np.float32]:
    return np.array(entry, dtype=np.float32)


Case = tuple[str, tuple[int, ...], dict[str, Any], tuple[float, float], list[str]]

CASES: list[Case] = [
    ("Sigmoid", (7, 13), {}, (-9, 9), ["sigmoid"]),
    ("Tanh", (7, 13), {}, (-5, 5), ["tanh"]),
    ("Exp", (7, 13), {}, (-5, 3), ["exp"]),
    ("Log", (7, 13), {}, (0.01, 9), ["log"]),
    ("Erf", (9, 13), {}, (-3, 3), ["erf"]),
    ("Sin", (7,), {}, (-9, 9), ["sin"]),
    ("Cos", (7,), {}, (-9, 9), ["cos"]),
    ("Tan", (7,), {}, (-1.5, 1.5), ["tan"]),
    ("Asin", (7,), {}, (-1, 1), ["asin"]),
    ("Acos", (7,), {}, (-1, 1), ["acos"]),
    ("Atan", (7,), {}, (-9, 9), ["atan"]),
    ("Sinh", (9,), {}, (-3, 3), ["sinh"]),
    ("Cosh", (9,), {}, (-3, 3), ["cosh"]),
    ("Asinh", (9,), {}, (-9, 9), ["asinh"]),
    ("Acosh", (9,), {}, (1, 9), ["acosh"]),
    ("Atanh", (9,), {}, (-0.9, 0.9), ["atanh"]),
    ("Reciprocal", (7, 13), {}, (0.25, 4), ["reciprocal"]),
    ("Reciprocal", (13,), {}, (-4, -0.25), ["reciprocal"]),
    ("Sqrt", (7, 13), {}, (0, 9), ["sqrt"]),
    ("Softplus", (7,), {}, (-9, 9), ["softplus"]),
    ("Softsign", (7,), {}, (-9, 9), ["softsign"]),
    ("Elu", (7,), {}, (-3, 3), ["elu"]),
    ("Elu", (7,), {"alpha": 0.1}, (-3, 3), ["elu"]),
    ("Elu", (7,), {"alpha": -0.5}, (-3, 3), ["elu"]),
    ("Selu", (7,), {}, (-3, 3), ["selu"]),
    ("Selu", (7,), {"alpha": 0.75, "gamma": 2.0}, (-3, 3), ["selu"]),
    ("Celu", (12,), {}, (-3, 3), ["elu"]),
    ("Celu", (12,), {"alpha": 0.3}, (-3, 3), ["elu"]),
    ("Gelu", (20,), {}, (-4, 4), ["gelu"]),
    ("Gelu", (20,), {"approximate": "tanh"}, (-4, 4), ["gelu_tanh"]),
    ("HardSwish", (14,), {}, (-5, 5), ["hardswish"]),
    ("Mish", (18,), {}, (-5, 5), ["mish"]),
    ("Swish", (24,), {}, (-5, 5), ["silu"]),
    ("Swish", (24,), {"alpha": -0.3}, (-5, 5), ["silu"]),
    ("Swish", (24,), {"alpha": 0.0}, (-5, 5), []),
    ("Sign", (9, 13), {}, (-2, 2), ["sign"]),
    ("Floor", (7, 13), {}, (-4, 4), ["floor"]),
    ("Ceil", (7, 13), {}, (-4, 4), ["floor"]),
    ("Round", (11,), {}, (-4, 4), ["round"]),
    ("ThresholdedRelu", (10,), {}, (-4, 4), ["relu", "sign", "relu"]),
    ("ThresholdedRelu", (10,), {"alpha": 0.0}, (-4, 4), ["relu"]),
    ("ThresholdedRelu", (10,), {"alpha": -1.5}, (-4, 4), ["relu", "sign", "relu"]),
    ("Shrink", (9,), {}, (-2, 2), ["relu", "sign", "relu", "relu", "sign", "relu"]),
    ("Shrink", (9,), {"lambd": 0.75, "bias": 0.75}, (-2, 2), ["relu", "relu"]),
    ("Shrink", (9,), {"lambd": 1.0, "bias": -0.5}, (-2, 2), ["relu", "sign", "relu"] * 2),
]

ROUGH = {"Erf", "Gelu", "HardSwish"}
"""The reference computes these in float32, or with constants rounded to it."""


@pytest.mark.parametrize(
    ("operator", "opset", "attributes", "ends", "functions"),
    [
        pytest.param(name, opset, attributes, ends, functions, id=f"{name}-{number}-{opset}")
        for number, (name, opsets, attributes, ends, functions) in enumerate(CASES)
        for opset in opsets
    ],
)
def test_a_function_means_what_runtimes_say(
    operator: str,
    opset: int,
    attributes: dict[str, Any],
    ends: tuple[float, float],
    functions: list[str],
) -> None:
    content = model_bytes(operator, [(2, 1, 3)], attributes, opset)
    reference = 2.0**-20 if operator in ROUGH else 1e-10
    network = assert_agrees(content, drawn(6, *ends), reference=reference)
    assert functions_of(network) == functions
    assert network.nodes[network.outputs[0]].shape == (2, 1, 3)


@pytest.mark.parametrize(
    "operator", ["Sign", "Floor", "Ceil", "Round", "ThresholdedRelu", "Shrink"]
)
def test_jumps_take_the_value_that_runtimes_give_them(operator: str) -> None:
    halves = (np.arange(-12, 12) / 4).astype(np.float32).reshape(6, 4)
    content = model_bytes(operator, [(4,)], {}, 13)
    network = assert_agrees(content, halves, runtime=0.0, reference=0.0)
    assert network.neurons


# --- powers --------------------------------------------------------------------------

POWERS: list[tuple[npt.NDArray[Any], tuple[float, float], list[str]]] = [
    (scalar(2), (-2, 2), ["power"]),
    (f32(3), (-2, 2), ["power"]),
    (scalar(5), (-2, 2), ["power"]),
    (scalar(1), (-2, 2), []),
    (scalar(0.5), (0, 4), ["sqrt"]),
    (scalar(1.5), (0, 4), ["sqrt", "power"]),
    (scalar(0.75), (0, 4), ["sqrt", "sqrt", "power"]),
    (scalar(-1), (0.5, 4), ["reciprocal"]),
    (scalar(-2), (-4, -0.5), ["power", "reciprocal"]),
    (scalar(-0.5), (0.5, 4), ["sqrt", "reciprocal"]),
    (scalar(2.2), (0.5, 4), ["log", "exp"]),
    (np.array(3, dtype=np.int64), (-2, 2), ["power"]),
    (np.array([2], dtype=np.int32), (-2, 2), ["power"]),
    (f32(2, 3, 1), (-2, 2), ["power", "power"]),
    (f32(2, 2, 2), (-2, 2), ["power"]),
    (f32(0, 0.5, 2), (0, 3), ["sqrt", "power"]),
    (np.array([[[2]], [[3]]], dtype=np.float32), (-2, 2), ["power", "power"]),
]


@pytest.mark.parametrize(("exponent", "ends", "functions"), POWERS)
def test_powers_mean_what_runtimes_say(
    exponent: npt.NDArray[Any], ends: tuple[float, float], functions: list[str]
) -> None:
    content = model_bytes("Pow", [(2, 1, 3), exponent], {}, 13)
    network = assert_agrees(content, drawn(6, *ends))
    assert functions_of(network) == functions


def test_exponents_are_kept_exactly() -> None:
    network = read_model_bytes(model_bytes("Pow", [(2,), scalar(7)], {}, 13), None, "m")
    node = network.nodes[-1]
    assert isinstance(node, Univariate)
    assert (node.function, node.parameters) == ("power", (7.0,))


@pytest.mark.parametrize(
    ("operator", "opset", "attributes", "expected"),
    [
        ("Elu", 7, {"alpha": 0.1}, (float(np.float32(0.1)),)),
        ("Elu", 7, {}, (1.0,)),
        ("Selu", 7, {}, (float(np.float32(1.6732632)), float(np.float32(1.050701)))),
        ("Selu", 7, {"alpha": 0.3}, (float(np.float32(0.3)), float(np.float32(1.050701)))),
        ("Celu", 12, {"alpha": 0.3}, (1.0,)),
    ],
)
def test_attributes_are_the_stored_floats(
    operator: str, opset: int, attributes: dict[str, Any], expected: tuple[float, ...]
) -> None:
    network = read_model_bytes(model_bytes(operator, [(2,)], attributes, opset), None, "m")
    (node,) = [node for node in network.nodes if isinstance(node, Univariate)]
    assert node.parameters == expected


def test_the_same_function_of_a_tensor_is_made_once() -> None:
    graph = chained(
        helper.make_node("Sigmoid", ["x"], ["a"]),
        helper.make_node("Sigmoid", ["x"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["y"], axis=0),
    )
    network = read_model_bytes(serialised(graph), None, "m")
    assert functions_of(network) == ["sigmoid"]
    assert network.tensors["a"] == network.tensors["b"]


# --- what is refused ------------------------------------------------------------------

REFUSED: list[tuple[str, int, list[Any], dict[str, Any], str]] = [
    ("Celu", 12, [(2,)], {"alpha": 0.0}, "not positive"),
    ("Celu", 12, [(2,)], {"alpha": -1.0}, "not positive"),
    ("Swish", 23, [(2,)], {}, "opset 23 has no operator Swish"),
    ("Swish", 24, [(2,)], {"alpha": float("nan")}, "not finite"),
    ("Shrink", 9, [(2,)], {"lambd": -1.0}, "negative"),
    ("Pow", 13, [scalar(2), (3,)], {}, "input 'i1' is not a constant"),
    ("Pow", 13, [(3,), (3,)], {}, "input 'i1' is not a constant"),
    ("Pow", 13, [(20,), np.arange(20, dtype=np.float32)], {}, "different exponents"),
    ("Gelu", 19, [(2,)], {}, "opset 19 has no operator Gelu"),
    ("Gelu", 20, [(2,)], {"approximate": "sigmoid"}, "approximate"),
    ("Erf", 8, [(2,)], {}, "opset 8 has no operator Erf"),
    ("Sigmoid", 13, [(2,)], {"alpha": 1.0}, "no attribute 'alpha'"),
    ("Elu", 13, [(2,)], {"alpha": float("inf")}, "not finite"),
    ("Selu", 13, [(2,)], {"gamma": float("nan")}, "not finite"),
    ("Shrink", 13, [(2,)], {"lambd": float("inf")}, "not finite"),
    ("Pow", 13, [(2, 3), np.ones(2, np.float32)], {}, "broadcast"),
    ("Pow", 13, [(0, 3), np.ones((0, 3), np.float32)], {}, "broadcast|empty"),
    ("Tanh", 13, [(2,), (2,)], {}, "2 inputs"),
]


@pytest.mark.parametrize(("operator", "opset", "inputs", "attributes", "reason"), REFUSED)
def test_what_has_no_meaning_is_refused(
    operator: str, opset: int, inputs: list[Any], attributes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(model_bytes(operator, inputs, attributes, opset), None, "m")


# --- constants -----------------------------------------------------------------------


def chained(*nodes: Any, constants: Any = None) -> Any:
    stored = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), "g", [x], [y], stored)


def folded(operator: str, values: npt.NDArray[Any], **attributes: Any) -> Linear:
    """``x + f(constants)``."""
    graph = chained(
        helper.make_node(operator, ["c"], ["f"], **attributes),
        helper.make_node("Add", ["x", "f"], ["y"]),
        constants={"c": values},
    )
    network = read_model_bytes(serialised(graph, 24), None, "m")
    (node,) = [node for node in network.nodes if isinstance(node, Linear)]
    assert not network.neurons
    return node


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[2]}")
def test_constants_fold(case: Case) -> None:
    operator, _, attributes, ends, _ = case
    if operator in ("Tan", "Asin", "Acos", "Asinh", "Acosh", "Atanh"):
        with pytest.raises(UnsupportedOperatorError, match="of a constant"):
            folded(operator, np.full(3, sum(ends) / 2, np.float32), **attributes)
        return
    values = drawn(3, *ends)[0]
    found = folded(operator, values, **attributes).offset
    content = model_bytes(operator, [(3,)], attributes, 24)
    network = read_model_bytes(content, None, "m")
    expected = evaluate(network, values[None])[0]
    np.testing.assert_allclose(found.value, expected, rtol=1e-13, atol=1e-15)
    if found.radius is not None:
        assert np.all(found.radius <= 1e-15 * (1 + np.abs(found.value)))


def test_steps_and_rational_functions_of_constants_are_exact() -> None:
    values = f32(-2.5, 0.5, 1.5)
    for operator, expected in (
        ("Floor", [-3, 0, 1]),
        ("Ceil", [-2, 1, 2]),
        ("Round", [-2, 0, 2]),
        ("Sign", [-1, 1, 1]),
        ("ThresholdedRelu", [0, 0, 1.5]),
        ("Shrink", [-2.5, 0, 1.5]),
    ):
        offset = folded(operator, values).offset
        assert offset.exact
        assert offset.value.tolist() == expected


@pytest.mark.parametrize(
    ("operator", "values", "reason"),
    [
        ("Log", f32(1, 0, 2), "logarithm"),
        ("Log", f32(1, -1, 2), "logarithm"),
        ("Sqrt", f32(1, -1, 2), "square root"),
        ("Reciprocal", f32(1, 0, 2), "divided by 0"),
        ("Exp", f32(1, 800, 2), "not finite"),
        ("Exp", f32(1, 1e30, 2), "not finite"),
        ("Cosh", f32(1, -9999, 2), "not finite"),
        ("Sigmoid", np.array([1, 2, 3]), "int64 values"),
    ],
)
def test_constants_outside_a_domain_are_refused(
    operator: str, values: npt.NDArray[Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        folded(operator, values)


def test_a_jump_of_an_uncertain_constant_is_refused() -> None:
    graph = chained(
        helper.make_node("Div", ["c", "d"], ["q"]),
        helper.make_node("Mul", ["q", "d"], ["whole"]),
        helper.make_node("Floor", ["whole"], ["f"]),
        helper.make_node("Add", ["x", "f"], ["y"]),
        constants={"c": scalar(1), "d": scalar(3)},
    )
    with pytest.raises(UnsupportedOperatorError, match="jump"):
        read_model_bytes(serialised(graph, 13), None, "m")
