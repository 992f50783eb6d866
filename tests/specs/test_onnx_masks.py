"""Minus infinities before a Softmax, and only there."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper, numpy_helper

from specs.errors import ModelError
from specs.network import Network
from specs.onnx_reader import read_model_bytes
from tests.networks import (
    assert_agrees,
    evaluate,
    functions_of,
    model_bytes,
    serialised,
)

INF = np.inf


def f32(*entries: Any) -> npt.NDArray[np.float32]:
    return np.array(entries, dtype=np.float32)


CAUSAL = f32([0, -INF, -INF], [0.5, 0, -INF], [0, 0, -1])
TRIANGLE = np.tri(3, dtype=np.bool_)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def model(
    *nodes: Any, opset: int = 13, shape: tuple[int, ...] = (2, 3, 3), **constants: Any
) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return serialised(graph, opset)


def agrees(content: bytes) -> Network:
    x = np.random.default_rng(1).normal(size=(4, 18)).astype(np.float32)
    return assert_agrees(content, x)


SOFTMAX = node("Softmax", "m", "y", axis=-1)
ACCEPTED: dict[str, bytes] = {
    "added": model(node("Add", "x c", "m"), SOFTMAX, c=CAUSAL),
    "added, other way round": model(node("Add", "c x", "m"), SOFTMAX, c=CAUSAL),
    "added twice": model(node("Add", "x c", "e"), node("Add", "e c", "m"), SOFTMAX, c=CAUSAL),
    "numbers added later": model(
        node("Add", "x c", "e"), node("Add", "e d", "m"), SOFTMAX, c=CAUSAL, d=f32(1, 2, 3)
    ),
    "chosen": model(node("Where", "b x c", "m"), SOFTMAX, b=TRIANGLE, c=np.float32(-INF)),
    "filled": model(node("Where", "b c x", "m"), SOFTMAX, b=~TRIANGLE, c=np.float32(-INF)),
    "a mask that is computed": model(
        node("Where", "b z c", "d"),
        node("Add", "x d", "m"),
        SOFTMAX,
        b=TRIANGLE,
        c=np.float32(-INF),
        z=np.float32(0),
    ),
    "a triangle of them": model(
        node("Trilu", "c k", "d"),
        node("Add", "x d", "m"),
        SOFTMAX,
        opset=14,
        c=np.full((3, 3), -INF, np.float32),
        k=np.array(1),
    ),
    "another axis": model(
        node("Add", "x c", "m"), node("Softmax", "m", "y", axis=1), c=CAUSAL.T.copy()
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_masked_entries_have_no_weight(name: str) -> None:
    network = agrees(ACCEPTED[name])
    assert functions_of(network) == ["exp", "reciprocal"]
    # Per matrix: 0 + 2 + 6 exponentials and 1 + 2 + 3 reciprocals.
    assert network.neurons == 2 * (8 + 6)
    x = np.random.default_rng(2).normal(size=(1, 18))
    assert np.count_nonzero(evaluate(network, x)) == 12


def test_opsets_before_13_flatten() -> None:
    content = model(node("Add", "x c", "m"), node("Softmax", "m", "y", axis=2), opset=11, c=CAUSAL)
    x = np.random.default_rng(1).normal(size=(4, 18)).astype(np.float32)
    assert_agrees(content, x)


def test_attention_takes_them_as_a_mask() -> None:
    inputs: list[Any] = [(1, 2, 3, 4)] * 3
    content = model_bytes("Attention", [*inputs, CAUSAL], {}, 23)
    x = np.random.default_rng(1).normal(size=(4, 72)).astype(np.float32)
    assert_agrees(content, x)


def test_safe_softmax_is_a_softmax() -> None:
    """Exporters guard rows without entries by IsNaN; a real number never is."""
    content = model(
        node("Softmax", "x", "s", axis=-1),
        node("IsNaN", "s", "n"),
        node("Where", "n z s", "y"),
        z=np.float32(0),
    )
    assert functions_of(agrees(content)) == ["exp", "reciprocal"]


def test_bounds_of_a_clip_may_be_infinite() -> None:
    content = model(node("Clip", "x c", "y"), c=np.float32(-INF))
    assert not agrees(content).neurons


def test_an_infinite_constant_is_known_as_such() -> None:
    content = model(node("IsInf", "c", "b"), node("Where", "b z x", "y"), c=CAUSAL, z=np.float32(0))
    network = agrees(content)
    assert not network.neurons
    assert np.count_nonzero(evaluate(network, np.ones((1, 18)))) == 12


REFUSED: dict[str, tuple[bytes, str]] = {
    "output": (model(node("Add", "x c", "y"), c=CAUSAL), "output 'y' holds minus infinities"),
    "relu": (
        model(node("Add", "x c", "m"), node("Relu", "m", "y"), c=CAUSAL),
        "input 'm' holds minus infinities",
    ),
    "product": (
        model(node("Add", "x c", "m"), node("Mul", "m x", "y"), c=CAUSAL),
        "input 'm' holds minus infinities",
    ),
    "transposed": (
        model(node("Add", "x c", "m"), node("Transpose", "m", "y"), c=CAUSAL),
        "input 'm' holds minus infinities",
    ),
    "concatenated": (
        model(node("Add", "x c", "m"), node("Concat", "x m", "y", axis=0), c=CAUSAL),
        "input 'm' holds minus infinities",
    ),
    "variable condition": (
        model(node("Less", "x z", "b"), node("Where", "b x c", "m"), SOFTMAX, z=f32(0), c=CAUSAL),
        "not finite",
    ),
    "logarithm": (
        model(node("Add", "x c", "m"), node("LogSoftmax", "m", "y"), c=CAUSAL),
        "logarithm of a masked entry",
    ),
    "whole row": (model(node("Add", "x c", "m"), SOFTMAX, c=f32(-INF)), "over no entries"),
    "subtracted": (model(node("Sub", "x c", "m"), SOFTMAX, c=CAUSAL), "not finite"),
    "scaled": (model(node("Mul", "x c", "y"), c=CAUSAL), "not finite"),
    "weights": (model(node("MatMul", "x c", "y"), c=CAUSAL), "not finite"),
    "padding": (
        model(node("Pad", "x p c", "y"), p=np.array([0] * 5 + [1]), c=np.float32(-INF)),
        "not finite",
    ),
    "upper bound of a clip": (
        model(helper.make_node("Clip", ["x", "", "c"], ["y"]), c=np.float32(-INF)),
        "not finite",
    ),
    "plus infinity": (model(node("Add", "x c", "m"), SOFTMAX, c=f32(INF)), "not finite"),
    "no number": (model(node("Add", "x c", "m"), SOFTMAX, c=f32(np.nan)), "not finite"),
    "exponent": (model(node("Pow", "x c", "y"), c=np.float32(-INF)), "power of inf"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_elsewhere_they_are_refused(name: str) -> None:
    content, reason = REFUSED[name]
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(content, None, "m")


@pytest.mark.parametrize(("fmod", "divisor"), [(0, 3), (0, -3), (1, 3), (1, -3)])
def test_remainders_of_constant_integers(fmod: int, divisor: int) -> None:
    """Exporters compute shapes with them."""
    dividend = np.array([7, -7, 5])
    content = model(
        node("Mod", "a d", "r", fmod=fmod),
        node("Cast", "r", "f", to=TensorProto.FLOAT),
        node("Add", "x f", "y"),
        a=dividend,
        d=np.array(divisor),
    )
    assert not agrees(content).neurons


def test_remainders_of_real_numbers_have_no_rule() -> None:
    for constants in ({"d": np.float32(2)}, {"x0": f32(1), "d": np.float32(2)}):
        first = "x" if len(constants) == 1 else "x0"
        content = model(
            node("Mod", f"{first} d", "r", fmod=1), node("Add", "x r", "y"), **constants
        )
        with pytest.raises(ModelError, match=r"not a constant|no rule"):
            read_model_bytes(content, None, "m")


# --- huge negative numbers ---------------------------------------------------------------

LOWEST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize("depth", [LOWEST, -1e9, -1e5])
@pytest.mark.parametrize("axis", [-1, 1])
def test_sunk_entries_overflow_nowhere(depth: float, axis: int) -> None:
    mask = np.where(np.isneginf(CAUSAL), depth, CAUSAL).astype(np.float32)
    mask = mask if axis == -1 else mask.T.copy()
    content = model(node("Add", "x c", "m"), node("Softmax", "m", "y", axis=axis), c=mask)
    with np.errstate(over="raise"):
        network = agrees(content)
    assert functions_of(network) == ["exp", "reciprocal", "product"]
    # Per matrix: 2 + 4 + 6 exponentials, 1 + 2 + 3 reciprocals and 2 + 1 products.
    assert network.neurons == 2 * (12 + 6 + 3)


@pytest.mark.parametrize("depth", [-4, -30, -5000])
def test_probabilities_of_sunk_entries_are_not_dropped(depth: float) -> None:
    """Whatever formula is taken, their probability is what it is."""
    mask = f32([0, depth, depth])
    content = model(node("Add", "x c", "m"), SOFTMAX, c=mask)
    network = read_model_bytes(content, None, "m")
    x = np.zeros((1, 18))
    x[0, 1], x[0, 2] = -depth, 1 - depth  # the inputs undo the mask
    expected = np.exp([0.0, 0.0, 1.0]) / (2 + np.e)
    np.testing.assert_allclose(evaluate(network, x)[0, :3], expected, rtol=1e-12)
    assert ("product" in functions_of(network)) == (depth == -5000)


def test_both_kinds_of_masks_together() -> None:
    mask = f32([0, LOWEST, -INF], [LOWEST, 0, 0], [-INF, -INF, 0])
    network = agrees(model(node("Add", "x c", "m"), SOFTMAX, c=mask))
    assert functions_of(network) == ["exp", "reciprocal", "product"]


def test_a_row_that_is_sunk_as_a_whole_is_not_sunk() -> None:
    mask = f32([LOWEST] * 3, [0, 0, 0], [0, LOWEST, LOWEST])
    content = model(node("Add", "x c", "m"), SOFTMAX, c=mask)
    network = read_model_bytes(content, None, "m")
    # In float32 and float64 the mask swallows the inputs; real numbers keep them apart.
    assert network.neurons == 2 * (6 + 6 + 2 + 3 + 3 + 1 + 2)


def test_attention_takes_huge_numbers_as_a_mask() -> None:
    inputs: list[Any] = [(1, 2, 3, 4)] * 3
    mask = np.where(TRIANGLE, 0, LOWEST).astype(np.float32)
    content = model_bytes("Attention", [*inputs, mask], {}, 23)
    x = np.random.default_rng(1).normal(size=(4, 72)).astype(np.float32)
    network = assert_agrees(content, x)
    assert functions_of(network) == ["product", "exp", "reciprocal", "product", "product"]


def test_two_entries_need_no_other_formula() -> None:
    content = model(node("Add", "x c", "m"), SOFTMAX, shape=(9, 2), c=f32([0, LOWEST]))
    assert functions_of(agrees(content)) == ["sigmoid"]
