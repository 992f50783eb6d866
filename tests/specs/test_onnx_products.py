"""Products, quotients and matrix products of variable tensors, and what they are recognised as."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from specs.errors import ModelError
from specs.network import Linear, Network, Product, Univariate
from specs.onnx_reader import read_model_bytes
from tests.networks import assert_agrees, evaluate, functions_of, model_bytes

POINTS = 4


def drawn(size: int, low: float = -2, high: float = 2) -> npt.NDArray[np.float32]:
    return np.random.default_rng(3).uniform(low, high, (POINTS, size)).astype(np.float32)


def agrees(content: bytes, low: float = -2, high: float = 2) -> Network:
    size = read_model_bytes(content, None, "m").input_size
    return assert_agrees(content, drawn(size, low, high))


def model(text: str, opset: int = 13) -> bytes:
    """A model in ONNX's text syntax."""
    parsed = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    content: bytes = parsed.SerializeToString()
    return content


def ones(*shape: int) -> npt.NDArray[np.float32]:
    return np.ones(shape, dtype=np.float32)


# --- elementwise ---------------------------------------------------------------------

SHAPES = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((), (2, 3)),
    ((2, 1, 3), (4, 1)),
    ((1,), (1,)),
]


@pytest.mark.parametrize(("left", "right"), SHAPES)
@pytest.mark.parametrize("operator", ["Mul", "Div"])
@pytest.mark.parametrize("opset", [7, 13])
def test_products_and_quotients_broadcast(
    operator: str, left: tuple[int, ...], right: tuple[int, ...], opset: int
) -> None:
    content = model_bytes(operator, [left, right], {}, opset)
    network = agrees(content, 0.5, 2)
    assert functions_of(network) == (
        ["product"] if operator == "Mul" else ["reciprocal", "product"]
    )
    size = math.prod(np.broadcast_shapes(left, right))
    reciprocals = math.prod(right) if operator == "Div" else 0
    assert network.neurons == size + reciprocals


@pytest.mark.parametrize("constant", [np.float32(3), ones(2, 3) * 3, ones(4, 1, 3) / 8])
def test_a_constant_over_a_variable_is_a_reciprocal(constant: Any) -> None:
    network = agrees(model_bytes("Div", [np.asarray(constant), (2, 3)]), 0.5, 2)
    assert functions_of(network) == ["reciprocal"]
    assert network.neurons == 6


def test_a_product_with_itself_is_a_square() -> None:
    for text in (
        "g (float[3] x) => (float[3] y) { y = Mul(x, x) }",
        "g (float[3] x) => (float[3] y) { a = Neg(x)  y = Mul(a, x) }",
        "g (float[3] x) => (float[3] y) <float h = {0.3}> { a = Mul(x, h)  y = Mul(x, a) }",
        "g (float[4] x) => (float[2] y) <int64[2] i = {2, 0}> { a = Gather(x, i)  y = Mul(a, a) }",
    ):
        assert functions_of(agrees(model(text))) == ["power"]


def test_a_quotient_by_itself_is_not_1() -> None:
    """It is not defined at 0, and nothing may hide that."""
    network = agrees(model("g (float[3] x) => (float[3] y) { y = Div(x, x) }"), 0.5, 2)
    assert functions_of(network) == ["reciprocal", "product"]


# --- matrices --------------------------------------------------------------------------

MATRICES = [
    ((2, 3), (3, 4)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((3,), (3,)),
    ((2, 2, 3), (2, 3, 4)),
    ((2, 1, 4, 3), (3, 3, 2)),
    ((4, 3), (2, 3, 1)),
    ((2, 5, 1), (1, 3)),
    ((1, 1), (1, 1)),
    ((5, 3), (3,)),
    ((3,), (2, 3, 2)),
]


@pytest.mark.parametrize(("left", "right"), MATRICES)
def test_matrix_products_mean_what_runtimes_say(
    left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    network = agrees(model_bytes("MatMul", [left, right]))
    (products,) = [node for node in network.nodes if isinstance(node, Product)]
    result = np.matmul(np.ones(left), np.ones(right)).shape
    assert math.prod(products.shape) == math.prod(result) * left[-1]
    assert network.nodes[network.outputs[0]].shape == result


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [
        ([(2, 3), (3, 4)], {}),
        ([(3, 2), (4, 3)], {"transA": 1, "transB": 1, "alpha": 0.5}),
        ([(2, 3), (3, 4), (4,)], {"beta": -2.0}),
        ([(2, 3), (3, 4), ones(2, 1)], {"alpha": -1.5, "beta": 3.0}),
    ],
)
def test_gemm_of_variables(inputs: list[Any], attributes: dict[str, Any]) -> None:
    network = agrees(model_bytes("Gemm", inputs, attributes))
    assert functions_of(network) == ["product"]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 3), max_size=2),
    st.lists(st.booleans(), min_size=2, max_size=2),
    st.tuples(*[st.integers(1, 4)] * 3),
)
def test_any_matrix_product_means_what_runtimes_say(
    batch: list[int], dropped: list[bool], sizes: tuple[int, int, int]
) -> None:
    rows, inner, columns = sizes
    narrow = [1 if drop else extent for drop, extent in zip(dropped, batch, strict=False)]
    left, right = (*batch, rows, inner), (*narrow, inner, columns)
    agrees(model_bytes("MatMul", [left, right]))


@pytest.mark.parametrize(
    ("shape", "axes", "keep"),
    [((2, 3), [1], 1), ((2, 3, 2), [0, 2], 0), ((2, 3), None, 1), ((2, 1), [1], 0)],
)
def test_products_over_axes(shape: tuple[int, ...], axes: Any, keep: int) -> None:
    attributes = {"keepdims": keep, **({} if axes is None else {"axes": axes})}
    network = agrees(model_bytes("ReduceProd", [shape], attributes, 13))
    assert set(functions_of(network)) <= {"product"}


@pytest.mark.parametrize("operator", ["ReduceL1", "ReduceL2", "ReduceSumSquare"])
@pytest.mark.parametrize(("opset", "axes"), [(13, [1]), (18, [0, -1]), (11, None)])
def test_norms_mean_what_runtimes_say(operator: str, opset: int, axes: Any) -> None:
    inputs: list[Any] = [(2, 3, 2)]
    attributes: dict[str, Any] = {"keepdims": 0}
    if axes is not None and opset < 18:
        attributes["axes"] = axes
    elif axes is not None:
        inputs.append(np.array(axes))
    network = agrees(model_bytes(operator, inputs, attributes, opset))
    expected = {"ReduceL1": ["relu"], "ReduceL2": ["power", "sqrt"], "ReduceSumSquare": ["power"]}
    assert functions_of(network) == expected[operator]


# --- recognition -----------------------------------------------------------------------

HEAD = "g (float[1,4] x) => (float[1,4] y)"
RECOGNISED = {
    "silu": (HEAD + "{ s = Sigmoid(x)  y = Mul(x, s) }", ["silu"]),
    "silu, other way round": (HEAD + "{ s = Sigmoid(x)  y = Mul(s, x) }", ["silu"]),
    "silu of a multiple": (
        HEAD + "<float c = {1.702}> { a = Mul(x, c)  s = Sigmoid(a)  y = Mul(x, s) }",
        ["silu"],
    ),
    "multiple of a silu": (
        HEAD + "<float c = {3}> { s = Sigmoid(x)  a = Mul(x, c)  b = Mul(a, s)  y = Neg(b) }",
        ["silu"],
    ),
    "gelu as exporters write it": (
        HEAD
        + """<float r = {1.4142135}, float one = {1}, float h = {0.5}> {
        a = Div(x, r)  e = Erf(a)  b = Add(e, one)  c = Mul(x, b)  y = Mul(c, h) }""",
        ["gelu"],
    ),
    "gelu, halved first": (
        HEAD
        + """<float r = {0.70710677}, float one = {1}, float h = {0.5}> {
        a = Mul(x, r)  e = Erf(a)  b = Add(one, e)  d = Mul(x, h)  y = Mul(b, d) }""",
        ["gelu"],
    ),
    "gelu with a factor of its own": (
        HEAD
        + """<float r = {3}, float h = {0.5}> {
        a = Mul(x, r)  e = Erf(a)  g = Mul(e, h)  b = Add(g, h)  y = Mul(x, b) }""",
        ["gelu"],
    ),
    "mish": (HEAD + "{ s = Softplus(x)  t = Tanh(s)  y = Mul(x, t) }", ["mish"]),
    "cube": (HEAD + "{ s = Mul(x, x)  y = Mul(x, s) }", ["power"]),
    "fourth power": (HEAD + "{ s = Mul(x, x)  y = Mul(s, s) }", ["power"]),
    "powers together": (
        HEAD + "<float m = {2}, float n = {3}> { a = Pow(x, m)  b = Pow(x, n)  y = Mul(a, b) }",
        ["power"],
    ),
    "sigmoid spelt out": (
        HEAD + "<float one = {1}> { n = Neg(x)  e = Exp(n)  a = Add(e, one)  y = Div(one, a) }",
        ["sigmoid"],
    ),
    "sigmoid as a reciprocal": (
        HEAD
        + "<float two = {2}> { e = Exp(x)  f = Mul(e, two)  a = Add(f, two)  y = Reciprocal(a) }",
        ["sigmoid"],
    ),
    "logarithm of a sigmoid": (HEAD + "{ s = Sigmoid(x)  y = Log(s) }", ["softplus"]),
    "softplus spelt out": (
        HEAD + "<float one = {1}> { e = Exp(x)  a = Add(e, one)  y = Log(a) }",
        ["softplus"],
    ),
}


@pytest.mark.parametrize("name", RECOGNISED)
def test_compositions_are_recognised(name: str) -> None:
    text, functions = RECOGNISED[name]
    network = assert_agrees(model(text), drawn(4), reference=2.0**-20 if "Erf" in text else 1e-10)
    assert functions_of(network) == functions


KEPT = {
    "sigmoid of another tensor": (
        "g (float[1,4] x, float[1,4] z) => (float[1,4] y) { s = Sigmoid(z)  y = Mul(x, s) }"
    ),
    "sigmoid of other entries": (
        HEAD
        + """<int64[4] i = {1, 0, 2, 3}> {
        a = Gather<axis = 1>(x, i)  s = Sigmoid(a)  y = Mul(x, s) }"""
    ),
    "sigmoid of unequal multiples": (
        HEAD + "<float[4] c = {1, 2, 1, 1}> { a = Mul(x, c)  s = Sigmoid(a)  y = Mul(x, s) }"
    ),
    "sigmoid of a shifted argument": (
        HEAD + "<float c = {0.5}> { a = Add(x, c)  s = Sigmoid(a)  y = Mul(x, s) }"
    ),
    "shifted factor": (HEAD + "<float c = {0.5}> { s = Sigmoid(x)  a = Add(x, c)  y = Mul(a, s) }"),
    "sigmoid plus 1": (HEAD + "<float c = {1}> { s = Sigmoid(x)  a = Add(s, c)  y = Mul(a, x) }"),
    "gelu with a wrong 1": (
        HEAD
        + """<float r = {1.4142135}, float one = {1.0000001}> {
        a = Div(x, r)  e = Erf(a)  b = Add(e, one)  y = Mul(x, b) }"""
    ),
    "gelu with minus": (HEAD + "<float one = {1}> { e = Erf(x)  b = Sub(one, e)  y = Mul(x, b) }"),
    "mish of twice": (
        HEAD + "<float two = {2}> { s = Softplus(x)  d = Mul(s, two)  t = Tanh(d)  y = Mul(x, t) }"
    ),
    "transposed": (
        "g (float[2,2] x) => (float[2,2] y) { t = Transpose(x)  s = Sigmoid(t)  y = Mul(x, s) }"
    ),
    "square plus 1 times x": (
        HEAD + "<float c = {1}> { s = Mul(x, x)  a = Add(s, c)  y = Mul(x, a) }"
    ),
    "reciprocal of 2 + exp": (
        HEAD + "<float c = {2}> { e = Exp(x)  a = Add(e, c)  y = Reciprocal(a) }"
    ),
    "logarithm of half a sigmoid": (
        HEAD + "<float h = {0.5}> { s = Sigmoid(x)  a = Mul(s, h)  y = Log(a) }"
    ),
    "logarithm of 2 (1 + exp)": (
        HEAD + "<float c = {2}> { e = Exp(x)  f = Mul(e, c)  a = Add(f, c)  y = Log(a) }"
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_only_looks_like_a_function_is_kept(name: str) -> None:
    content = model(KEPT[name])
    size = read_model_bytes(content, None, "m").input_size
    rough = 2.0**-20 if "Erf" in KEPT[name] else 1e-10
    network = assert_agrees(content, drawn(size), reference=rough)
    tight = {"silu", "gelu", "mish", "softplus"} - (
        {"softplus"} if "Softplus" in KEPT[name] else set()
    )
    assert not tight & set(functions_of(network))
    if "reciprocal" in name:
        assert functions_of(network) == ["exp", "reciprocal"]


def test_a_recognised_function_covers_the_stored_constant() -> None:
    """1.4142135 is not the root of 2: the argument of gelu is x times an enclosed number."""
    network = agrees_roughly(RECOGNISED["gelu as exporters write it"][0])
    (gelu,) = [node for node in network.nodes if isinstance(node, Univariate)]
    stretch = network.nodes[gelu.source]
    assert isinstance(stretch, Linear)
    weight = stretch.terms[0].map.weight
    assert weight is not None
    assert weight.radius is not None
    true = math.sqrt(2) / float(np.float32(1.4142135))
    assert true != 1.0
    assert abs(float(weight.value[0]) - true) < 1e-15
    assert 0 < float(weight.radius[0]) < 1e-15


def agrees_roughly(text: str) -> Network:
    return assert_agrees(model(text), drawn(4), reference=None)


def test_a_long_chain_of_squares_stays_small() -> None:
    squares = "  ".join(f"t{i + 1} = Mul(t{i}, t{i})" for i in range(9))
    network = read_model_bytes(
        model(f"g (float[2] t0) => (float[2] t9) {{ {squares} }}"), None, "m"
    )
    exponents = [n.parameters[0] for n in network.nodes if isinstance(n, Univariate)]
    assert max(exponents) <= 64
    x = np.array([[0.9, 1.01]])
    np.testing.assert_allclose(evaluate(network, x), x**512, rtol=1e-10)


# --- what is refused ------------------------------------------------------------------

REFUSED: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("Mul", [(2, 3), (2,)], {}, "broadcast"),
    ("Div", [(2, 3), (2,)], {}, "broadcast"),
    ("Mul", [(2, 3), np.ones(3)], {}, "mixes"),
    ("Div", [(2, 3), np.zeros(3, np.float32)], {}, "divided by 0"),
    ("Div", [np.ones(3, np.int64), (3,)], {}, "mixes"),
    ("MatMul", [(2, 3), (4, 2)], {}, "do not fit"),
    ("MatMul", [(2, 2, 3), (3, 3, 2)], {}, "broadcast"),
    ("MatMul", [(), (3, 3)], {}, "scalar"),
    ("Gemm", [(2, 3), (2, 3)], {}, "do not fit"),
    ("Gemm", [(2, 3), (3, 2), (3,)], {}, "broadcast|does not fit"),
    ("ReduceProd", [(2, 3)], {"axes": [2]}, "axis 2"),
    ("ReduceL2", [(2, 3)], {"axes": [0, 0]}, "twice"),
    ("MatMul", [(2**12, 2**12), (2**12, 2**12)], {}, "too large"),
    ("Mul", [(2**20, 1), (1, 2**20)], {}, "too large"),
    ("ReduceProd", [(2**24,)], {}, "too large"),
]


@pytest.mark.parametrize(("operator", "inputs", "attributes", "reason"), REFUSED)
def test_what_does_not_fit_is_refused(
    operator: str, inputs: list[Any], attributes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(model_bytes(operator, inputs, attributes), None, "m")
