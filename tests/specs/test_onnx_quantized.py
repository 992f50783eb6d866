"""Quantised operators: exact steps, rounding half to even, saturation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper, numpy_helper

from specs.errors import ModelError, UnsupportedOperatorError
from specs.network import Linear, Network
from specs.onnx_reader import read_model_bytes
from tests.networks import (
    evaluate,
    functions_of,
    onnxruntime_outputs,
    reference_outputs,
    serialised,
)

KINDS = {"uint8": np.uint8, "int8": np.int8, "uint16": np.uint16, "int16": np.int16}


def f32(*entries: float) -> npt.NDArray[np.float32]:
    return np.array(entries, dtype=np.float32)


def scalar(entry: float, kind: Any = np.float32) -> npt.NDArray[Any]:
    return np.array(entry, dtype=kind)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(operator, names, [output], **attributes)


def model(
    *nodes: Any,
    shape: tuple[int, ...] = (2, 3),
    opset: int = 21,
    kind: int = TensorProto.FLOAT,
    **constants: Any,
) -> bytes:
    """From ``x`` to ``y``."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return serialised(graph, opset)


def drawn(size: int, spread: float = 3.0) -> npt.NDArray[np.float32]:
    return (np.random.default_rng(7).normal(size=(8, size)) * spread).astype(np.float32)


def agrees(
    content: bytes, tolerance: float = 1e-6, reference: bool = True, spread: float = 3.0
) -> Network:
    """Runtimes compute the same: a wrong step would differ by a whole step."""
    network = read_model_bytes(content, None, "m")
    x = drawn(network.input_size, spread)
    ours = evaluate(network, x)
    judges = [onnxruntime_outputs(content, x)]
    if reference:
        judges.append(reference_outputs(content, x))
    for theirs in judges:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * (1 + np.abs(ours).max()))
    return network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zero", [0, 3, 100])
def test_quantising_and_back(kind: str, zero: int) -> None:
    content = model(
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "y"),
        s=scalar(0.05),
        z=scalar(zero, KINDS[kind]),
    )
    network = agrees(content, spread=6.0)
    assert functions_of(network) == ["relu", "relu", "round"]


@pytest.mark.parametrize("opset", [10, 13, 19])
def test_earlier_opsets_quantise_alike(opset: int) -> None:
    content = model(
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "y"),
        opset=opset,
        s=scalar(0.05),
        z=scalar(-9, np.int8),
    )
    agrees(content, reference=opset >= 19)


def test_without_a_zero_point_it_is_a_byte() -> None:
    content = model(
        node("QuantizeLinear", "x s", "q"), node("DequantizeLinear", "q s", "y"), s=scalar(0.125)
    )
    agrees(content, tolerance=0.0)


def test_the_type_may_be_an_attribute() -> None:
    content = model(
        node("QuantizeLinear", "x s", "q", output_dtype=TensorProto.INT8),
        node("DequantizeLinear", "q s", "y"),
        opset=21,
        s=scalar(0.125),
    )
    network = agrees(content, tolerance=0.0, reference=False)
    low = evaluate(network, np.full((1, 6), -1e6))
    assert np.all(low == -128 * 0.125)


def test_an_output_may_be_quantised() -> None:
    content = model(
        node("QuantizeLinear", "x s z", "y"),
        kind=TensorProto.UINT8,
        s=scalar(0.25),
        z=scalar(9, np.uint8),
    )
    agrees(content, tolerance=0.0)


def test_ties_round_to_even_before_the_zero_point_is_added() -> None:
    content = model(
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s", "y"),
        s=scalar(1),
        z=scalar(1, np.int8),
    )
    network = read_model_bytes(content, None, "m")
    x = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, 300.0]])
    assert evaluate(network, x).tolist() == [[1, 3, 3, 1, -1, 127]]
    np.testing.assert_array_equal(evaluate(network, x), onnxruntime_outputs(content, x))


@pytest.mark.parametrize(("axis", "count"), [(0, 2), (1, 3), (-1, 3)])
def test_steps_by_axis(axis: int, count: int) -> None:
    content = model(
        node("QuantizeLinear", "x s z", "q", axis=axis),
        node("DequantizeLinear", "q s z", "y", axis=axis),
        s=f32(0.25, 0.5, 0.0625)[:count],
        z=np.array([0, 5, -7], np.int8)[:count],
    )
    agrees(content, tolerance=0.0)


def test_steps_by_block() -> None:
    content = model(
        node("QuantizeLinear", "x s z", "q", axis=1, block_size=2),
        node("DequantizeLinear", "q s z", "y", axis=1, block_size=2),
        shape=(2, 5),
        opset=21,
        s=np.array([[0.25, 0.5, 1], [2, 0.125, 1]], np.float32),
        z=np.array([[0, 5, -7], [1, 2, 3]], np.int8),
    )
    agrees(content, tolerance=0.0)


def test_integers_may_move_between() -> None:
    content = model(
        node("QuantizeLinear", "x s z", "q"),
        node("MaxPool", "q", "p", kernel_shape=[2, 2]),
        node("Transpose", "p", "t", perm=[0, 1, 3, 2]),
        node("Concat", "t t", "c", axis=1),
        node("Reshape", "c r", "f"),
        node("DequantizeLinear", "f s z", "y"),
        shape=(1, 1, 3, 4),
        s=scalar(0.125),
        z=scalar(3, np.uint8),
        r=np.array([1, -1]),
    )
    agrees(content, tolerance=0.0, reference=False)


def test_bytes_become_real_numbers_exactly() -> None:
    content = model(
        node("QuantizeLinear", "x s z", "q"),
        node("Cast", "q", "y", to=TensorProto.FLOAT),
        s=scalar(0.125),
        z=scalar(3, np.int8),
    )
    agrees(content, tolerance=0.0)


# --- weights ---------------------------------------------------------------------------

WEIGHTS = np.random.default_rng(3).integers(-128, 128, (3, 4)).astype(np.int8)


def test_stored_weights_are_exact() -> None:
    content = model(
        node("DequantizeLinear", "w s z", "d", axis=1),
        node("MatMul", "x d", "y"),
        w=WEIGHTS,
        s=f32(0.1, 0.2, 0.3, 0.7),
        z=np.array([1, -2, 3, 127], np.int8),
    )
    network = agrees(content)
    (mapping,) = [n for n in network.nodes if isinstance(n, Linear)]
    weight = mapping.terms[0].map.weight
    assert weight is not None
    assert weight.exact
    steps = f32(0.1, 0.2, 0.3, 0.7).astype(np.float64)
    whole = WEIGHTS.astype(np.float64) - [1, -2, 3, 127]
    assert np.array_equal(weight.value, whole * steps)


def test_constants_are_quantised_as_they_are_stored() -> None:
    weights = (np.random.default_rng(2).normal(size=(3, 4))).astype(np.float32)
    content = model(
        node("QuantizeLinear", "w s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("MatMul", "x d", "y"),
        w=weights,
        s=scalar(0.013),
        z=scalar(0, np.int8),
    )
    assert not agrees(content).neurons


BIAS = np.array([100, -200, 300, 0], np.int32)


@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_quantised_convolutions(by_channel: bool, bias: bool) -> None:
    weight = np.random.default_rng(5).integers(-128, 128, (4, 2, 2, 2)).astype(np.int8)
    steps = f32(0.0117, 0.0213, 0.0051, 0.0307) if by_channel else scalar(0.0117)
    zeros = np.zeros(4, np.int8) if by_channel else scalar(0, np.int8)
    content = model(
        node("QuantizeLinear", "x s z", "q"),
        node("QLinearConv", "q s z w ws wz t u" + (" b" if bias else ""), "c", pads=[1, 0, 0, 1]),
        node("DequantizeLinear", "c t u", "y"),
        shape=(1, 2, 3, 3),
        s=scalar(0.0625),
        z=scalar(12, np.uint8),
        w=weight,
        ws=steps,
        wz=zeros,
        t=scalar(0.25),
        u=scalar(100, np.uint8),
        **({"b": BIAS} if bias else {}),
    )
    agrees(content, tolerance=0.0, reference=False)


@pytest.mark.parametrize("variable", [False, True])
def test_quantised_matrix_products(variable: bool) -> None:
    square = model(
        node("QuantizeLinear", "x s z", "q"),
        *([node("Transpose", "q", "v", perm=[1, 0])] if variable else []),
        node("QLinearMatMul", "q s z " + ("v s z" if variable else "w ws wz") + " t u", "c"),
        node("DequantizeLinear", "c t u", "y"),
        s=scalar(0.0625),
        z=scalar(-3, np.int8),
        w=WEIGHTS,
        ws=scalar(0.5),
        wz=scalar(1, np.int8),
        t=scalar(0.75),
        u=scalar(5, np.int8),
    )
    agrees(square, tolerance=0.0, reference=False)


def test_quantised_matrix_products_by_column() -> None:
    content = model(
        node("QuantizeLinear", "x s z", "q"),
        node("QLinearMatMul", "q s z w ws wz t u", "c"),
        node("DequantizeLinear", "c t u", "y"),
        s=scalar(0.0625),
        z=scalar(-3, np.int8),
        w=WEIGHTS,
        ws=f32(0.5, 0.25, 1, 2),
        wz=np.zeros(4, np.int8),
        t=scalar(4),
        u=scalar(5, np.int8),
    )
    agrees(content, tolerance=0.0, reference=False)


def test_integer_products() -> None:
    content = model(
        node("QuantizeLinear", "x s z", "q"),
        node("MatMulInteger", "q w z wz", "y"),
        kind=TensorProto.INT32,
        s=scalar(0.0625),
        z=scalar(33, np.uint8),
        w=WEIGHTS,
        wz=scalar(7, np.int8),
    )
    agrees(content, tolerance=0.0)


def test_integer_convolutions() -> None:
    weight = np.random.default_rng(5).integers(0, 256, (2, 1, 2, 2)).astype(np.uint8)
    content = model(
        node("QuantizeLinear", "x s z", "q"),
        node("ConvInteger", "q w z wz", "y", pads=[0, 1, 0, 1]),
        shape=(1, 1, 3, 3),
        kind=TensorProto.INT32,
        s=scalar(0.0625),
        z=scalar(33, np.uint8),
        w=weight,
        wz=scalar(7, np.uint8),
    )
    agrees(content, tolerance=0.0, reference=False)


# --- what is refused ------------------------------------------------------------------

Q = node("QuantizeLinear", "x s z", "q")
DYNAMIC = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
GIVEN = {"s": scalar(0.5), "z": scalar(1, np.int8)}
REFUSED: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("dynamic", [DYNAMIC, node("Identity", "q", "y")], {}, "depends on the input"),
    (
        "int32",
        [node("QuantizeLinear", "x s z", "y")],
        {"s": scalar(1), "z": scalar(0, np.int32)},
        "int32",
    ),
    ("zero step", [node("QuantizeLinear", "x s", "y")], {"s": scalar(0)}, "divided by 0"),
    ("variable step", [node("QuantizeLinear", "x x", "y")], {}, "not a constant"),
    ("real zero", [node("QuantizeLinear", "x s s", "y")], {"s": scalar(1)}, "float32"),
    (
        "add",
        [Q, node("Add", "q q", "y")],
        GIVEN,
        "Add .*no rule for a variable tensor of type int8",
    ),
    ("relu", [Q, node("Relu", "q", "y")], GIVEN, "no rule for a variable tensor of type int8"),
    ("mean", [Q, node("ReduceMean", "q", "y")], GIVEN, "no rule for a variable tensor"),
    ("matmul", [Q, node("MatMul", "q q", "y")], GIVEN, "no rule for a variable tensor"),
    ("to half", [Q, node("Cast", "q", "y", to=TensorProto.FLOAT16)], GIVEN, "rounds"),
    ("to int", [Q, node("Cast", "q", "y", to=TensorProto.INT32)], GIVEN, "rounds"),
    (
        "other type",
        [Q, node("DequantizeLinear", "q s u", "y")],
        {**GIVEN, "u": scalar(1, np.uint8)},
        "mixes",
    ),
    ("shape", [node("QuantizeLinear", "x s", "y")], {"s": f32(1, 2)}, "do not fit axis 1"),
    (
        "zero shape",
        [node("QuantizeLinear", "x s z", "y", axis=0)],
        {"s": f32(1, 2), "z": scalar(1, np.int8)},
        "zero point of shape",
    ),
    ("axis", [node("QuantizeLinear", "x s", "y", axis=5)], {"s": f32(1, 2)}, "axis 5"),
    ("real input", [node("DequantizeLinear", "x s", "y")], {"s": scalar(1)}, "float32 integers"),
    (
        "overflow",
        [Q, node("MatMulInteger", "q w", "y")],
        {**GIVEN, "w": np.zeros((40000, 1), np.int8), "shape": (1, 40000)},
        "overflow",
    ),
    (
        "bias",
        [Q, node("QLinearConv", "q s z w s z s z b", "y")],
        {
            **GIVEN,
            "w": np.ones((1, 1, 1, 1), np.int8),
            "b": np.ones(2, np.int32),
            "shape": (1, 1, 2, 2),
        },
        "bias",
    ),
]


@pytest.mark.parametrize(("name", "nodes", "given", "reason"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_has_no_rule_is_refused(
    name: str, nodes: list[Any], given: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(model(*nodes, **given), None, "m")


@pytest.mark.parametrize("block", [-2, 1, 3])
def test_blocks_that_do_not_fit_are_refused(block: int) -> None:
    content = model(
        node("QuantizeLinear", "x s", "y", axis=1, block_size=block),
        shape=(2, 5),
        opset=21,
        kind=TensorProto.UINT8,
        s=np.ones((2, 3), np.float32),
    )
    with pytest.raises(ModelError, match="blocks"):
        read_model_bytes(content, None, "m")


def test_four_bits_have_no_rule() -> None:
    content = model(
        node("QuantizeLinear", "x s", "y", output_dtype=TensorProto.INT4),
        opset=21,
        kind=TensorProto.INT4,
        s=scalar(1),
    )
    with pytest.raises(UnsupportedOperatorError, match="quantisation to type"):
        read_model_bytes(content, None, "m")
