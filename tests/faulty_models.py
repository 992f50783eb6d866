"""Small models with stored parameters of every kind that faults may strike."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from specs.query import ModelFile
from tests.networks import serialised

Array = npt.NDArray[Any]


def model_file(content: bytes) -> ModelFile:
    return ModelFile(None, content, "0" * 64)


def graph_bytes(
    nodes: list[Any],
    shape: tuple[int, ...],
    stored: dict[str, Array],
    opset: int = 13,
    output: str = "y",
) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    return serialised(helper.make_graph(nodes, "g", [x], [y], constants), opset)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(operator, names, [output], **attributes)


def floats(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    return rng.normal(size=shape).astype(np.float32)


def dense_model(sizes: tuple[int, ...] = (6, 5, 4, 3), seed: int = 0, scale: float = 1.0) -> bytes:
    """Gemm and Relu, in turn; the last has no Relu."""
    rng = np.random.default_rng(seed)
    nodes, stored, before = [], {}, "x"
    for number, (inner, outer) in enumerate(itertools.pairwise(sizes)):
        stored[f"w{number}"] = (floats(rng, outer, inner) * scale).astype(np.float32)
        stored[f"b{number}"] = floats(rng, outer)
        last = number == len(sizes) - 2
        name = "y" if last else f"z{number}"
        nodes.append(node("Gemm", f"{before} w{number} b{number}", name, transB=1))
        if not last:
            nodes.append(node("Relu", name, f"h{number}"))
        before = f"h{number}"
    return graph_bytes(nodes, (1, sizes[0]), stored)


def conv_model(seed: int = 0) -> bytes:
    """Convolutions with padding, stride and groups, batch normalisation, a shortcut, a Gemm."""
    rng = np.random.default_rng(seed)
    stored = {
        "k0": floats(rng, 4, 2, 3, 3),
        "c0": floats(rng, 4),
        "gamma": floats(rng, 4),
        "beta": floats(rng, 4),
        "mean": floats(rng, 4),
        "var": np.abs(floats(rng, 4)) + np.float32(0.1),
        "k1": floats(rng, 4, 2, 3, 3),
        "w": floats(rng, 36, 3),
        "b": floats(rng, 3),
        "shape": np.array([1, 36], dtype=np.int64),
    }
    nodes = [
        node("Conv", "x k0 c0", "a", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", "a gamma beta mean var", "n"),
        node("Relu", "n", "h"),
        node("Conv", "h k1", "d", pads=[1, 1, 1, 1], group=2),
        node("Add", "d h", "e"),
        node("Relu", "e", "r"),
        node("Reshape", "r shape", "f"),
        node("MatMul", "f w", "m"),
        node("Add", "m b", "y"),
    ]
    return graph_bytes(nodes, (1, 2, 6, 6), stored)


def quantised_model(seed: int = 0) -> bytes:
    """A Gemm whose weight is stored in int8, with a scale per channel."""
    rng = np.random.default_rng(seed)
    stored = {
        "q": rng.integers(-128, 128, size=(3, 4)).astype(np.int8),
        "scale": np.abs(floats(rng, 3)) + np.float32(0.01),
        "zero": np.array([0, 3, -5], dtype=np.int8),
        "b": floats(rng, 3),
    }
    nodes = [
        node("DequantizeLinear", "q scale zero", "w", axis=0),
        node("Transpose", "w", "t", perm=[1, 0]),
        node("Gemm", "x t b", "y", alpha=0.3, beta=-2.5),
    ]
    return graph_bytes(nodes, (1, 4), stored)
