"""Small chains of layers, and function-preserving changes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from specs.query import ModelFile
from specs.watermarks.chain import Chain, read_chain
from verifier.watermarks.rewriting import Parts, parts_of, rewritten

KINDS = ("dense", "bare", "conv")


class Maker:
    """Puts nodes in a row."""

    def __init__(self, shape: Sequence[int], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = list(shape)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.tensor = "x"

    def store(self, name: str, values: np.ndarray) -> str:
        kind = np.int64 if values.dtype.kind in "iu" else np.float32
        self.stored.append(numpy_helper.from_array(values.astype(kind), name))
        return name

    def draw(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape).astype(np.float32)

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: object) -> Maker:
        result = name or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.tensor, *inputs], [result], **attributes))
        self.tensor = result
        return self

    def gemm(self, ins: int, outs: int, name: str) -> Maker:
        weight = self.store(f"{name}.w", self.draw(outs, ins))
        return self.add("Gemm", weight, self.store(f"{name}.b", self.draw(outs)), transB=1)

    def matmul(self, ins: int, outs: int, name: str) -> Maker:
        self.add("MatMul", self.store(f"{name}.w", self.draw(ins, outs)))
        return self.add("Add", self.store(f"{name}.b", self.draw(outs)))

    def conv(self, ins: int, outs: int, name: str, *, bias: bool = True, pads: int = 1) -> Maker:
        read = [self.store(f"{name}.w", self.draw(outs, ins, 3, 3))]
        read += [self.store(f"{name}.b", self.draw(outs))] if bias else []
        return self.add("Conv", *read, pads=[pads] * 4)

    def norm(self, units: int, name: str) -> Maker:
        rows = [self.draw(units) for _ in range(3)] + [np.exp(self.draw(units))]
        keys = ("scale", "offset", "mean", "var")
        read = [self.store(f"{name}.{key}", row) for key, row in zip(keys, rows, strict=True)]
        return self.add("BatchNormalization", *read, epsilon=1e-5)

    def model(self, outputs: Sequence[int]) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "chain",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(self.tensor, TensorProto.FLOAT, list(outputs))],
            self.stored,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
        made.ir_version = 8
        onnx.checker.check_model(made)
        return made.SerializeToString()


def layered(kind: str = "dense", seed: int = 0) -> bytes:
    """A model of one of ``KINDS``."""
    if kind == "dense":
        made = Maker((1, 5), seed).gemm(5, 6, "one").add("Relu").gemm(6, 4, "two").add("Relu")
        return made.gemm(4, 3, "three").model((1, 3))
    if kind == "bare":
        made = Maker((1, 5), seed).matmul(5, 6, "one").add("LeakyRelu", alpha=0.25)
        return made.matmul(6, 3, "two").model((1, 3))
    made = Maker((1, 1, 6, 6), seed).conv(1, 4, "one").norm(4, "one").add("Relu")
    made.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    made.conv(4, 5, "two", bias=False).norm(5, "two").add("LeakyRelu", alpha=0.25)
    return made.add("Flatten").gemm(45, 3, "three").model((1, 3))


def file_of(content: bytes) -> ModelFile:
    return ModelFile(None, content, hashlib.sha256(content).hexdigest())


def chain_of(content: bytes) -> Chain:
    return read_chain(file_of(content))


def moved(
    chain: Chain,
    orders: Sequence[np.ndarray],
    factors: Sequence[np.ndarray],
    inner: Sequence[np.ndarray] | None = None,
) -> bytes:
    """The model with units permuted and rescaled.

    ``inner``: what a normalised unit's weights are multiplied by, undone by its normalisation.
    """
    layers = []
    last = len(chain.layers) - 1
    before = np.arange(chain.layers[0].weight.shape[1])
    scale = np.ones(before.size)
    for place, layer in enumerate(chain.layers):
        own, factor = np.arange(layer.units), np.ones(layer.units)
        if place < last:
            own, factor = orders[place], factors[place]
        if place:
            before = (before[:, None] * layer.spread + np.arange(layer.spread)).reshape(-1)
            scale = np.repeat(scale, layer.spread)
        held = parts_of(layer)
        s = factor if layer.norm is None else np.ones(layer.units)
        if layer.norm is not None and inner is not None and place < last:
            s = inner[place]
        ones = (1,) * (layer.weight.ndim - 2)
        weight = held.weight[own][:, before] * s.reshape(-1, 1, *ones)
        weight = weight / scale.reshape(1, -1, *ones)
        norm = held.norm
        if norm is not None and layer.norm is not None:
            eps = float(layer.norm.epsilon)
            variance = norm[3][own]
            if np.any(np.abs(s) != 1):
                variance = (variance + eps) * s**2 - eps
            scales = norm[0][own] * factor * np.sign(s)
            norm = (scales, norm[1][own] * factor, norm[2][own] * s, variance)
        layers.append(Parts(weight, held.bias[own] * s, norm))
        before, scale = own, factor
    return rewritten(chain, layers)


def drawn(
    chain: Chain, seed: int, *, exact: bool = True, signs: bool = True
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """A random symmetry: permutations, factors, and inner factors of normalised units."""
    rng = np.random.default_rng((seed, 7))
    orders, factors, inner = [], [], []
    for layer in chain.layers[:-1]:
        orders.append(rng.permutation(layer.units))
        powers = rng.integers(-3, 4, layer.units)
        factors.append(2.0**powers if exact else np.exp(rng.normal(size=layer.units)))
        drawn_signs = rng.choice([-1.0, 1.0], layer.units) if signs else np.ones(layer.units)
        inner.append(drawn_signs if exact else drawn_signs * np.exp(rng.normal(size=layer.units)))
    return orders, factors, inner


def folded(chain: Chain, bias_name: str = "folded") -> bytes:
    """The model as an exporter writes it: normalisation folded into what stands before."""
    model = onnx.ModelProto.FromString(chain.model.content)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for place, layer in enumerate(chain.layers):
        if layer.norm is None:
            continue
        norm = layer.norm
        gain = norm.scale / np.sqrt(norm.variance + float(norm.epsilon))
        weight = layer.weight * gain.reshape(-1, *(1,) * (layer.weight.ndim - 1))
        bias = norm.offset + gain * (layer.bias - norm.mean)
        held = {layer.weight_name: weight, f"{bias_name}{place}": bias}
        tensors[layer.weight_name].CopyFrom(
            numpy_helper.from_array(weight.astype(np.float32), layer.weight_name)
        )
        name = f"{bias_name}{place}"
        model.graph.initializer.append(numpy_helper.from_array(held[name].astype(np.float32), name))
        readers = {node.input[1]: node for node in model.graph.node if len(node.input) > 1}
        linear = readers[layer.weight_name]
        del linear.input[2:]
        linear.input.append(name)
        gone = next(
            n
            for n in model.graph.node
            if n.op_type == "BatchNormalization" and n.input[1] == norm.names[0]
        )
        linear.output[0] = gone.output[0]
        model.graph.node.remove(gone)
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model.SerializeToString()
