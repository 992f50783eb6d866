"""Comparisons of variable tensors, what is made of them, and choices between tensors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from onnx import parser

from specs.errors import ModelError
from specs.network import Network
from specs.onnx_reader import read_model_bytes
from tests.networks import (
    evaluate,
    functions_of,
    onnxruntime_outputs,
    reference_outputs,
)


def model(text: str, opset: int = 16) -> bytes:
    parsed = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    content: bytes = parsed.SerializeToString()
    return content


def grid(size: int) -> npt.NDArray[np.float32]:
    """Small multiples of 1/2: many entries are equal to each other and to 0."""
    return (np.random.default_rng(2).integers(-2, 3, (40, size)) / 2).astype(np.float32)


def agrees(text: str, reference: bool = True) -> Network:
    """Exactly, ties included."""
    content = model(text)
    network = read_model_bytes(content, None, "m")
    x = grid(network.input_size)
    ours = evaluate(network, x)
    np.testing.assert_array_equal(ours, onnxruntime_outputs(content, x))
    if reference:
        np.testing.assert_array_equal(ours, reference_outputs(content, x))
    return network


TWO = "g (float[3] x, float[3] z) => (float[3] y)"
COMPARISONS = {
    "Greater": ["sign", "relu"],
    "Less": ["sign", "relu"],
    "GreaterOrEqual": ["sign", "relu"],
    "LessOrEqual": ["sign", "relu"],
    "Equal": ["sign", "power"],
}


@pytest.mark.parametrize("operator", COMPARISONS)
def test_comparisons(operator: str) -> None:
    text = TWO + f"{{ c = {operator}(x, z)  y = Cast<to = 1>(c) }}"
    assert functions_of(agrees(text)) == COMPARISONS[operator]
    text = "g (float[2,3] x) => (float[2,3] y) <float[3] h = {0.5, 0, -1}>"
    for order in ("h, x", "x, h"):
        agrees(text + f"{{ c = {operator}({order})  y = Cast<to = 1>(c) }}")


def test_truth_values_may_be_outputs() -> None:
    agrees("g (float[3] x, float[3] z) => (bool[3] y) { y = Less(x, z) }")


@pytest.mark.parametrize("connective", ["And", "Or", "Xor"])
def test_connectives(connective: str) -> None:
    agrees(
        TWO + f"{{ a = Less(x, z)  n = Neg(x)  b = Greater(z, n)  c = {connective}(a, b)"
        "  d = Not(c)  y = Cast<to = 1>(d) }"
    )
    agrees(
        TWO + "<bool[3] k = {1, 0, 1}>"
        f"{{ a = Less(x, z)  c = {connective}(k, a)  y = Cast<to = 1>(c) }}"
    )


def test_truth_values_of_real_numbers() -> None:
    network = agrees("g (float[3] x) => (float[3] y) { c = Cast<to = 9>(x)  y = Cast<to = 1>(c) }")
    assert functions_of(network) == ["sign", "power"]


def test_truth_values_move() -> None:
    agrees(
        """g (float[2,3] x) => (float[6] y) <float h = {0}, int64[1] s = {6}> {
        c = Less(x, h)  t = Transpose(c)  r = Reshape(t, s)  y = Cast<to = 1>(r) }"""
    )


CHOICES = {
    "both variable": (
        "{ c = Less(x, z)  y = Where(c, x, z) }",
        ["sign", "relu", "product", "product"],
    ),
    "left constant": (
        "<float k = {2}> { c = Less(x, z)  y = Where(c, k, z) }",
        ["sign", "relu", "product"],
    ),
    "both constant": (
        "<float k = {2}, float l = {3}> { c = Less(x, z)  y = Where(c, k, l) }",
        ["sign", "relu"],
    ),
    "broadcast": (
        "<float[1] k = {2}> { c = Greater(x, k)  y = Where(c, z, x) }",
        ["sign", "relu", "product", "product"],
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choices(name: str) -> None:
    text, functions = CHOICES[name]
    assert functions_of(agrees(TWO + text)) == functions


def test_constant_conditions_choose_entries() -> None:
    text = "<float[3] k = {1, 2, 3}, float t = {2}> { c = Less(k, t)  y = Where(c, x, z) }"
    assert not agrees(TWO + text).neurons


def test_comparisons_of_quantised_values() -> None:
    agrees(
        """g (float[3] x, float[3] z) => (float[3] y) <float s = {0.5}, int8 o = {1}> {
        a = QuantizeLinear(x, s, o)  b = QuantizeLinear(z, s, o)
        c = Equal(a, b)  y = Cast<to = 1>(c) }""",
        reference=False,
    )


REFUSED = {
    "numbers as a condition": (TWO + "{ y = Where(x, x, z) }", "not Boolean"),
    "numbers negated": (TWO + "{ c = Not(x)  y = Cast<to = 1>(c) }", "not Boolean"),
    "numbers connected": (TWO + "{ c = And(x, z)  y = Cast<to = 1>(c) }", "not Boolean"),
    "types mixed": (
        TWO + "<int64[3] k = {1, 2, 3}> { c = Less(x, k)  y = Cast<to = 1>(c) }",
        "mixes",
    ),
    "chosen integers": (
        TWO + "<int64 k = {1}, int64 l = {2}> { c = Less(x, z)  y = Where(c, k, l) }",
        "no rule for int64",
    ),
    "sums of truth values": (TWO + "{ c = Less(x, z)  y = Add(c, c) }", "no rule for a variable"),
    "truth values rectified": (TWO + "{ c = Less(x, z)  y = Relu(c) }", "no rule for a variable"),
    "shapes": (
        "g (float[3] x, float[2] z) => (float[3] y) { c = Less(x, z)  y = Cast<to = 1>(c) }",
        "broadcast",
    ),
    "uncertain constants": (
        TWO
        + """<float k = {1}, float l = {3}> {
        t = Div(k, l)  c = Less(t, k)  y = Where(c, x, z) }""",
        "enclosure",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused(name: str) -> None:
    text, reason = REFUSED[name]
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(model(text), None, "m")
