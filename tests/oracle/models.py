"""Small models with random weights, as files that both readers read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from tests.networks import serialised

SEQUENCE, WIDTH, HEADS = 3, 4, 2


class Graph:
    """A graph under construction; tensors go by their names."""

    def __init__(self, seed: int, *shape: int) -> None:
        self._random = np.random.default_rng(seed)
        self._shape = shape
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The output of a new node."""
        name = f"{operator.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, value: npt.ArrayLike) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        """Drawn at random, in float32 as in a model file."""
        return self.constant((self._random.normal(size=shape) * scale).astype(np.float32))

    def dense(self, tensor: str, before: int, after: int, scale: float = 1.0) -> str:
        weight = self.weight(after, before, scale=scale / math.sqrt(before))
        return self.add("Gemm", tensor, weight, self.weight(after, scale=0.3), transB=1)

    def conv(self, tensor: str, before: int, after: int, **attributes: Any) -> str:
        weight = self.weight(after, before, 3, 3, scale=1 / math.sqrt(9 * before))
        bias = self.weight(after, scale=0.3)
        return self.add("Conv", tensor, weight, bias, kernel_shape=[3, 3], **attributes)

    def rows(self, tensor: str, before: int, after: int) -> str:
        """The same dense layer for every row of a matrix, without offset."""
        return self.add("MatMul", tensor, self.weight(before, after, scale=before**-0.5))

    def finished(self, output: str) -> bytes:
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, self._shape)
        found = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        return serialised(
            helper.make_graph(self._nodes, "g", [given], [found], self._constants), opset=13
        )


Model = Callable[[int], bytes]


def feedforward(*widths: int, activation: str = "Relu", **attributes: Any) -> Model:
    """Dense layers with an activation between them."""

    def make(seed: int) -> bytes:
        graph, last = Graph(seed, 1, widths[0]), "x"
        for depth, after in enumerate(widths[1:]):
            if depth:
                last = graph.add(activation, last, **attributes)
            last = graph.dense(last, widths[depth], after)
        return graph.finished(last)

    return make


def convolutional(seed: int) -> bytes:
    """Strides, padding, then dense layers."""
    graph = Graph(seed, 1, 2, 7, 7)
    last = graph.add("Relu", graph.conv("x", 2, 4, strides=[2, 2], pads=[1, 1, 1, 1]))
    last = graph.add("Relu", graph.conv(last, 4, 4, pads=[1, 1, 1, 1]))
    last = graph.add("Relu", graph.dense(graph.add("Flatten", last), 64, 12))
    return graph.finished(graph.dense(last, 12, 4))


def pooled(operator: str) -> Model:
    """A convolution whose activations are pooled in disjoint windows."""

    def make(seed: int) -> bytes:
        graph = Graph(seed, 1, 1, 8, 8)
        last = graph.add("Relu", graph.conv("x", 1, 3, pads=[1, 1, 1, 1]))
        last = graph.add(operator, last, kernel_shape=[2, 2], strides=[2, 2])
        last = graph.add("Relu", graph.dense(graph.add("Flatten", last), 48, 10))
        return graph.finished(graph.dense(last, 10, 3))

    return make


def residual(seed: int) -> bytes:
    """Two blocks that add their input, one of them through a convolution."""
    graph = Graph(seed, 1, 2, 6, 6)
    start = graph.add("Relu", graph.conv("x", 2, 3, pads=[1, 1, 1, 1]))
    inner = graph.add("Relu", graph.conv(start, 3, 3, pads=[1, 1, 1, 1]))
    last = graph.add("Add", graph.conv(inner, 3, 3, pads=[1, 1, 1, 1]), start)
    last = graph.add("Relu", last)
    inner = graph.add("Relu", graph.conv(last, 3, 4, strides=[2, 2], pads=[1, 1, 1, 1]))
    inner = graph.conv(inner, 4, 4, pads=[1, 1, 1, 1])
    short = graph.conv(last, 3, 4, strides=[2, 2], pads=[1, 1, 1, 1])
    last = graph.add("Flatten", graph.add("Relu", graph.add("Add", inner, short)))
    return graph.finished(graph.dense(last, 36, 3))


def branches(operator: str, positive: bool = False) -> Model:
    """Two branches that meet in an operator; the second one is positive if asked for."""

    def make(seed: int) -> bytes:
        graph = Graph(seed, 1, 4)
        hidden = graph.add("Relu", graph.dense("x", 4, 8))
        left, right = graph.dense(hidden, 8, 6), graph.dense(hidden, 8, 6, 0.5)
        if positive:
            shift = graph.constant(np.full(6, 2.0, dtype=np.float32))
            right = graph.add("Add", graph.add("Relu", right), shift)
        last = graph.add("Relu", graph.dense(graph.add(operator, left, right), 6, 6))
        return graph.finished(graph.dense(last, 6, 2))

    return make


def through(*operators: str, shift: float = 0.0) -> Model:
    """Elementwise operators, one after the other, between dense layers with a Relu.

    The first one's argument is shifted, and positive if the shift is: then a Relu comes first.
    """

    def make(seed: int) -> bytes:
        graph = Graph(seed, 1, 4)
        last = graph.dense(graph.add("Relu", graph.dense("x", 4, 8)), 8, 6)
        if shift:
            by = graph.constant(np.full(6, shift, dtype=np.float32))
            last = graph.add("Add", graph.add("Relu", last), by)
        for operator in operators:
            last = graph.add(operator, last)
        return graph.finished(graph.dense(last, 6, 2))

    return make


def squares(seed: int) -> bytes:
    """A tensor times itself."""
    graph = Graph(seed, 1, 4)
    last = graph.dense(graph.add("Relu", graph.dense("x", 4, 8)), 8, 6)
    return graph.finished(graph.dense(graph.add("Mul", last, last), 6, 2))


def softmax(seed: int) -> bytes:
    """Softmax as the last activation but one."""
    graph = Graph(seed, 1, 4)
    last = graph.dense(graph.add("Relu", graph.dense("x", 4, 8)), 8, 5)
    return graph.finished(graph.dense(graph.add("Softmax", last, axis=1), 5, 3))


def attention(seed: int) -> bytes:
    """One head of self-attention over three tokens, with its residual, then a dense layer."""
    graph = Graph(seed, 1, SEQUENCE, WIDTH)
    query, key, value = (graph.rows("x", WIDTH, WIDTH) for _ in range(3))
    scores = graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 2, 1]))
    scaled = graph.add("Mul", scores, graph.constant(np.float32(WIDTH**-0.5)))
    mixed = graph.add("MatMul", graph.add("Softmax", scaled, axis=2), value)
    last = graph.add("Add", graph.rows(mixed, WIDTH, WIDTH), "x")
    last = graph.add("Relu", graph.dense(graph.add("Flatten", last), SEQUENCE * WIDTH, 8))
    return graph.finished(graph.dense(last, 8, 2))
