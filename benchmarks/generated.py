"""Random networks, each the same for the same arguments, and questions about them.

A network comes with the ONNX file that it was read from, so that it passes through the
reader like any other and its witnesses can be replayed.  Weights are scaled so that
activations keep their size from layer to layer (He et al., *Delving deep into
rectifiers*, 2015).
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from specs.network import Network
from specs.onnx_reader import read_model_bytes
from specs.property import Case, Constraint, Property
from specs.query import ModelFile, Query

Model = tuple[Network, ModelFile]
Image = tuple[int, int, int]
"""Channels, height, width."""


class _Layers:
    """Collects the nodes of a model; a method adds one and names its result."""

    def __init__(self, shape: Sequence[int], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._shape = [1, *shape]
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def dense(self, source: str, rows: int, columns: int) -> str:
        weight = self._rng.normal(size=(rows, columns)) * (2 / rows) ** 0.5
        return self._node("Gemm", source, *self._stored(weight, columns))

    def conv(self, source: str, before: int, after: int, stride: int) -> str:
        """A convolution of 3 by 3 that keeps the image's size, or halves it by stride 2."""
        weight = self._rng.normal(size=(after, before, 3, 3)) * (2 / (9 * before)) ** 0.5
        pads = [1, 1, 1, 1] if stride == 1 else [0, 0, 1, 1]
        constants = self._stored(weight, after)
        return self._node("Conv", source, *constants, strides=[stride, stride], pads=pads)

    def relu(self, source: str) -> str:
        return self._node("Relu", source)

    def add(self, first: str, second: str) -> str:
        return self._node("Add", first, second)

    def max_pool(self, source: str, kernel: int) -> str:
        """The maxima of windows side by side."""
        return self._node(
            "MaxPool", source, kernel_shape=[kernel, kernel], strides=[kernel, kernel]
        )

    def image(self, source: str, shape: Image) -> str:
        """A flat tensor as an image."""
        self._constants.append(numpy_helper.from_array(np.array([1, *shape]), f"s{source}"))
        return self._node("Reshape", source, f"s{source}")

    def flatten(self, source: str) -> str:
        return self._node("Flatten", source)

    def model(self, result: str, outputs: int, name: str) -> Model:
        """The network whose output is tensor ``result``."""
        ends = [
            helper.make_tensor_value_info(tensor, TensorProto.FLOAT, shape)
            for tensor, shape in (("x", self._shape), (result, [1, outputs]))
        ]
        graph = helper.make_graph(self._nodes, name, ends[:1], ends[1:], self._constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        content = made.SerializeToString()
        digest = hashlib.sha256(content).hexdigest()
        return read_model_bytes(content, None, name), ModelFile(None, content, digest)

    def _stored(self, weight: np.ndarray, outputs: int) -> list[str]:
        names = []
        for values in (weight, 0.3 * self._rng.normal(size=outputs)):
            names.append(f"c{len(self._constants)}")
            stored = numpy_helper.from_array(values.astype(np.float32), names[-1])
            self._constants.append(stored)
        return names

    def _node(self, operator: str, *sources: str, **attributes: Any) -> str:
        name = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, sources, [name], **attributes))
        return name


def dense(sizes: Sequence[int], seed: int = 0) -> Model:
    """Dense layers with Relu between them; ``sizes`` from the inputs to the outputs."""
    layers, last = _Layers(sizes[:1], seed), "x"
    for layer, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        last = layers.dense(layers.relu(last) if layer else last, rows, columns)
    return layers.model(last, sizes[-1], "x".join(map(str, sizes)))


def convolutional(image: Image, channels: Sequence[int], hidden: int, outputs: int) -> Model:
    """Convolutions of stride 2, a dense layer of size ``hidden``, outputs."""
    layers, last = _Layers(image, 0), "x"
    before, height, width = image
    for after in channels:
        last = layers.relu(layers.conv(last, before, after, 2))
        before, height, width = after, math.ceil(height / 2), math.ceil(width / 2)
    last = layers.relu(layers.dense(layers.flatten(last), before * height * width, hidden))
    return layers.model(layers.dense(last, hidden, outputs), outputs, "convolutional")


def residual(image: Image, channels: int, blocks: int, outputs: int) -> Model:
    """A convolution of stride 2, blocks of two convolutions beside a shortcut, outputs."""
    layers = _Layers(image, 0)
    last = layers.relu(layers.conv("x", image[0], channels, 2))
    for _ in range(blocks):
        inner = layers.relu(layers.conv(last, channels, channels, 1))
        last = layers.relu(layers.add(layers.conv(inner, channels, channels, 1), last))
    size = channels * math.ceil(image[1] / 2) * math.ceil(image[2] / 2)
    return layers.model(layers.dense(layers.flatten(last), size, outputs), outputs, "residual")


def windows(count: int, kernel: int) -> Model:
    """The maxima of so many windows, each a channel of the input."""
    layers = _Layers((count, kernel, kernel), 0)
    pooled = layers.flatten(layers.max_pool("x", kernel))
    return layers.model(pooled, count, f"windows of {kernel} by {kernel}")


def pooled_dense(inputs: int, count: int, kernel: int, seed: int) -> Model:
    """The maxima of windows of a dense layer's results, and a dense layer to one output."""
    layers = _Layers((inputs,), seed)
    first = layers.dense("x", inputs, count * kernel**2)
    last = layers.max_pool(layers.image(first, (count, kernel, kernel)), kernel)
    return layers.model(layers.dense(layers.flatten(last), count, 1), 1, "pooled dense")


def pooled_convolutional(image: Image, channels: Sequence[int], kernel: int, seed: int) -> Model:
    """Convolutions, each with Relu and a pool behind it, and a dense layer to one output."""
    layers, last = _Layers(image, seed), "x"
    before, height, width = image
    for after in channels:
        last = layers.max_pool(layers.relu(layers.conv(last, before, after, 1)), kernel)
        before, height, width = after, height // kernel, width // kernel
    last = layers.dense(layers.flatten(last), before * height * width, 1)
    return layers.model(last, 1, "pooled convolutional")


def above(model: Model, centre: Sequence[float], radius: float, minimum: float) -> Query:
    """Whether output 0 is at least ``minimum`` in the box of a radius around a centre."""
    network, file = model
    low, high = ([Fraction(float(c)) + side * Fraction(radius) for c in centre] for side in (-1, 1))
    unsafe = Constraint((), ((0, Fraction(1)),), Fraction(-minimum), strict=True)
    stated = Property(network.input_size, network.output_size, (Case(low, high, ((unsafe,),)),))
    title = f"{file.digest[:8]} above {minimum:.4g}"
    return Query(network, stated, (file,), stated.digest, title=title)
