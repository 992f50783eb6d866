"""Small quantised networks, made with ``onnx.helper``, and what onnxruntime computes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tests.networks import serialised

Array = npt.NDArray[Any]
KINDS = {"int8": np.int8, "uint8": np.uint8}


class Layers:
    """A model under construction; ``last`` is the name of the tensor that comes next."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.shape = shape
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.last = "x"
        self.step: tuple[str, str] = ("", "")

    def stored(self, value: Any, kind: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=kind), name))
        return name

    def add(self, operator: str, *more: str, first: bool = True, **attributes: Any) -> Layers:
        name = f"t{len(self.nodes)}"
        inputs = [self.last, *more] if first else list(more)
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        self.last = name
        return self

    def parameters(self, scale: Any, zero: Any, kind: str) -> tuple[str, str]:
        return self.stored(scale), self.stored(zero, KINDS[kind])

    def quantize(self, scale: float, zero: int, kind: str = "uint8") -> Layers:
        self.step = self.parameters(scale, zero, kind)
        return self.add("QuantizeLinear", *self.step)

    def dequantize(self) -> Layers:
        return self.add("DequantizeLinear", *self.step)

    def weights(self, shape: tuple[int, ...], kind: str) -> Array:
        limits = np.iinfo(KINDS[kind])
        return self.random.integers(limits.min, limits.max + 1, shape)

    def qlinear_matmul(
        self,
        shape: tuple[int, int],
        scale: float,
        zero: int,
        *,
        kind: str,
        weight: str,
        columns: bool,
    ) -> Layers:
        """With random weights, and a step for each column if wanted."""
        w = self.stored(self.weights(shape, weight), KINDS[weight])
        spread = shape[1] if columns else ()
        steps = self.random.uniform(0.005, 0.02, spread)
        zeros = np.zeros(spread) if columns else self.random.integers(0, 5)
        result = self.parameters(scale, zero, kind)
        self.add("QLinearMatMul", *self.step, w, *self.parameters(steps, zeros, weight), *result)
        self.step = result
        return self

    def qlinear_conv(
        self,
        shape: tuple[int, ...],
        scale: float,
        zero: int,
        kind: str,
        weight: str,
        **attributes: Any,
    ) -> Layers:
        w = self.stored(self.weights(shape, weight), KINDS[weight])
        steps = self.parameters(self.random.uniform(0.005, 0.02), 0, weight)
        bias = self.stored(self.random.integers(-2000, 2000, shape[0]), np.int32)
        result = self.parameters(scale, zero, kind)
        self.add("QLinearConv", *self.step, w, *steps, *result, bias, **attributes)
        self.step = result
        return self

    def dense(self, shape: tuple[int, int], scale: float, zero: int, kind: str) -> Layers:
        """Dequantised, multiplied in floats by dequantised weights, quantised again."""
        self.dequantize()
        left = self.last
        w = self.stored(self.weights(shape, "int8"), np.int8)
        steps = self.stored(self.random.uniform(0.005, 0.02, shape[1]))
        self.add("DequantizeLinear", w, steps, first=False, axis=1)
        right, self.last = self.last, left
        self.add("MatMul", right)
        self.add("Add", self.stored(self.random.normal(size=shape[1])))
        self.add("Relu")
        return self.quantize(scale, zero, kind)

    def content(self, kind: int = TensorProto.FLOAT, opset: int = 19) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(self.last, kind, None)],
            self.constants,
        )
        return serialised(graph, opset)


def runtime(content: bytes, points: Array, optimised: bool = False) -> Array:
    """What onnxruntime computes, a row for each point."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    rows = [
        session.run(None, {given.name: point.astype(np.float32).reshape(given.shape)})[0]
        for point in points
    ]
    return np.array([row.reshape(-1) for row in rows])


def written(folder: Path, content: bytes, text: str) -> list[Path]:
    """A question's two files."""
    model, stated = folder / "n.onnx", folder / "p.vnnlib"
    model.write_bytes(content)
    stated.write_text(text)
    return [model, stated]


def box_property(low: Sequence[float], high: Sequence[float], outputs: int, unsafe: str) -> str:
    """A box of inputs and an assertion about the outputs, in VNN-LIB."""
    lines = [f"(declare-const X_{i} Real)" for i in range(len(low))]
    lines += [f"(declare-const Y_{j} Real)" for j in range(outputs)]
    for i, (least, most) in enumerate(zip(low, high, strict=True)):
        lines += [f"(assert (>= X_{i} {least:.9f}))", f"(assert (<= X_{i} {most:.9f}))"]
    return "\n".join([*lines, f"(assert {unsafe})"]) + "\n"
