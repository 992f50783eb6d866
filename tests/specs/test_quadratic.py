"""Definite quadratic forms become sums of squares; others stay what they are."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from specs.network import Network, Product, Univariate
from specs.onnx_reader import read_model_bytes
from specs.reader.operators.quadratic import factorised
from tests.networks import evaluate, serialised


def model(weight: np.ndarray, *, shared: bool = True) -> Network:
    """``sum_i a_i (a W)_i``; of two inputs unless ``shared``."""
    size = len(weight)
    second = "a" if shared else "b"
    nodes = [
        helper.make_node("MatMul", [second, "w"], ["image"]),
        helper.make_node("Mul", ["a", "image"], ["products"]),
        helper.make_node("ReduceSum", ["products"], ["y"], keepdims=0),
    ]
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name in dict.fromkeys(("a", second))
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = numpy_helper.from_array(weight.astype(np.float32), "w")
    graph = helper.make_graph(nodes, "g", shapes, [out], [stored])
    return read_model_bytes(serialised(graph), None, "test")


def definite(rng: np.random.Generator, size: int, sign: float = 1.0) -> np.ndarray:
    root = rng.normal(size=(size, size))
    skew = rng.normal(size=(size, size))
    return sign * (root @ root.T + 0.1 * np.eye(size)) + skew - skew.T


def kinds(network: Network) -> list[str]:
    nodes = [node for node in network.nodes if isinstance(node, Univariate | Product)]
    return [node.function if isinstance(node, Univariate) else "product" for node in nodes]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([1.0, -1.0]))
def test_a_definite_form_is_a_sum_of_squares(seed: int, size: int, sign: float) -> None:
    rng = np.random.default_rng(seed)
    weight = definite(rng, size, sign).astype(np.float32)
    network = model(weight)
    assert kinds(network) == ["power"]
    x = rng.normal(size=(5, size))
    wanted = np.einsum("bi,ij,bj->b", x, weight.astype(np.float64), x)
    np.testing.assert_allclose(evaluate(network, x)[:, 0], wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "weight",
    [np.diag([1.0, -1.0]), np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, 0.0])],
    ids=["indefinite", "without a diagonal", "singular"],
)
def test_other_forms_stay_products(weight: np.ndarray) -> None:
    assert kinds(model(weight)) == ["product"]


def test_forms_of_two_tensors_stay_products() -> None:
    assert kinds(model(np.eye(2) * 3.0, shared=False)) == ["product"]


def test_large_forms_stay_products() -> None:
    assert kinds(model(np.eye(30) * 3.0)) == ["product"]


def test_the_factors_are_exact() -> None:
    rng = np.random.default_rng(0)
    weight = [[Fraction(float(v)) for v in row] for row in definite(rng, 4)]
    found = factorised(weight)
    assert found is not None
    lower, pivots = found
    for i in range(4):
        for j in range(4):
            sums = sum((lower[i][k] * pivots[k] * lower[j][k] for k in range(4)), Fraction(0))
            assert sums == (weight[i][j] + weight[j][i]) / 2


def test_a_weight_known_by_an_enclosure_keeps_its_radius() -> None:
    """``W = R / 3`` is no float: squares with a coefficient 0 and a radius stand for the rest."""
    nodes = [
        helper.make_node("Div", ["r", "three"], ["w"]),
        helper.make_node("MatMul", ["a", "w"], ["image"]),
        helper.make_node("Mul", ["image", "a"], ["products"]),
        helper.make_node("ReduceSum", ["products"], ["y"], keepdims=0),
    ]
    shape = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 2])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [
        numpy_helper.from_array(np.array([[2.0, 1.0], [1.0, 2.0]], np.float32), "r"),
        numpy_helper.from_array(np.array(3.0, np.float32), "three"),
    ]
    graph = helper.make_graph(nodes, "g", [shape], [out], stored)
    network = read_model_bytes(serialised(graph), None, "test")
    assert kinds(network) == ["power", "power"]
    weights = [t.map.weight for n in network.nodes for t in getattr(n, "terms", ())]
    spread = [w for w in weights if w is not None and not np.any(w.value)]
    assert len(spread) == 1
    assert spread[0].radius is not None
    assert np.all((spread[0].radius > 0) & (spread[0].radius < 1e-15))
