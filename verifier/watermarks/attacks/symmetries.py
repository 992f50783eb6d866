"""Symmetries: the same function with other parameters, which erases a mark without any loss.

Units of a layer are permuted, multiplied by factors that the next layer undoes, and, where a batch
normalisation follows, the weights of a unit change their sign, and so does the normalisation.
Folding a normalisation into the weights before it is what exporters do without any bad intent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, NodeProto, numpy_helper

from specs.enclosure import FloatArray
from specs.errors import InputError, ModelError
from specs.linear import IndexArray
from specs.query import ModelFile
from specs.watermarks.chain import FIXED, POSITIVE, Chain, Layer, read_chain
from verifier.watermarks.parameters import model_of
from verifier.watermarks.rewriting import Parts, parts_of, rewritten

SCALES = ("none", "powers", "any")


@dataclass(frozen=True)
class Moving:
    """Which symmetries are used.

    Attributes:
        permute: the units of every hidden layer.
        scales: of units: ``none``, ``powers`` of two (nothing is rounded unless a number is
            subnormal), or ``any`` positive ones (parameters are rounded to what the file stores).
        flip: signs of normalised units.
        seed: of everything.

    Raises:
        InputError: other scales.
    """

    permute: bool = True
    scales: str = "powers"
    flip: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.scales not in SCALES or self.seed < 0:
            raise InputError(f"scales '{self.scales}' are none of {', '.join(SCALES)}")


def moved(content: bytes, moving: Moving) -> bytes:
    """A model file with the same function and other parameters.

    Raises:
        ModelError: it is no chain of layers.
    """
    chain = _chain(content)
    draw = np.random.default_rng(moving.seed)
    order = np.arange(chain.layers[0].weight.shape[1])
    factor = np.ones(order.size)
    layers = []
    for place, layer in enumerate(chain.layers):
        hidden = place < len(chain.layers) - 1
        before = order if not place else _spread(order, layer.spread)
        undo = factor if not place else np.repeat(factor, layer.spread)
        order = np.arange(layer.units)
        if hidden and moving.permute:
            order = draw.permutation(layer.units)
        factor = _drawn(draw, layer, moving) if hidden else np.ones(layer.units)
        sign = np.ones(layer.units)
        if hidden and moving.flip and layer.norm is not None:
            sign = draw.choice([-1.0, 1.0], layer.units)
        layers.append(_moved(parts_of(layer), order, before, undo, factor, sign))
    return rewritten(chain, layers)


def _moved(
    held: Parts,
    order: IndexArray,
    before: IndexArray,
    undo: FloatArray,
    factor: FloatArray,
    sign: FloatArray,
) -> Parts:
    """A layer's parameters: units in a new order, times factors; inputs likewise, undone."""
    ones = (1,) * (held.weight.ndim - 2)
    weight = held.weight[order][:, before] / undo.reshape(1, -1, *ones)
    if held.norm is None:
        return Parts(weight * factor.reshape(-1, 1, *ones), held.bias[order] * factor)
    scale, offset, mean, variance = (row[order] for row in held.norm)
    norm = (scale * sign * factor, offset * factor, mean * sign, variance)
    return Parts(weight * sign.reshape(-1, 1, *ones), held.bias[order] * sign, norm)


def _drawn(draw: np.random.Generator, layer: Layer, moving: Moving) -> FloatArray:
    """Factors of a layer's units that its activation lets pass."""
    if moving.scales == "none" or layer.factors == FIXED:
        return np.ones(layer.units)
    if layer.factors != POSITIVE:
        return draw.choice([-1.0, 1.0], layer.units)
    if moving.scales == "powers":
        return 2.0 ** draw.integers(-2, 3, layer.units)
    return np.exp(draw.normal(size=layer.units))


def _spread(order: IndexArray, spread: int) -> IndexArray:
    """Places of inputs, of which so many in a row belong to a unit of the layer before."""
    return (order[:, None] * spread + np.arange(spread)).reshape(-1)


def folded(content: bytes) -> bytes:
    """A model file with every batch normalisation folded into the layer before it.

    The weights keep their name, as some exporters have it; the bias gets one of its own.

    Raises:
        ModelError: it is no chain of layers.
    """
    chain = _chain(content)
    model = model_of(content)
    graph = model.graph
    stored: dict[str, FloatArray] = {}
    for layer in chain.layers:
        if layer.norm is None:
            continue
        norm = layer.norm
        gain = norm.scale / np.sqrt(norm.variance + float(norm.epsilon))
        weight = layer.weight * gain.reshape(-1, *(1,) * (layer.weight.ndim - 1))
        stored[layer.weight_name] = weight.T if layer.transposed else weight
        bias = f"{layer.weight_name}.folded_bias"
        stored[bias] = norm.offset + gain * (layer.bias - norm.mean)
        linear = _only(node for node in graph.node if layer.weight_name in node.input)
        if linear.op_type not in ("Conv", "Gemm"):
            raise ModelError(f"a normalisation behind {linear.op_type} is not folded here")
        gone = _only(node for node in graph.node if norm.names[0] in node.input)
        del linear.input[2:]
        linear.input.append(bias)
        linear.output[0] = gone.output[0]
        graph.node.remove(gone)
    _store(graph, stored)
    return bytes(model.SerializeToString())


def _only(nodes: Iterable[NodeProto]) -> NodeProto:
    found = list(nodes)
    if len(found) != 1:
        raise ModelError("a parameter of a normalisation is read by several operators")
    return found[0]


def _store(graph: GraphProto, values: Mapping[str, FloatArray]) -> None:
    """Replace initialisers, add new ones, and drop those that nothing reads any more."""
    read = {name for node in graph.node for name in node.input}
    kept = []
    for tensor in graph.initializer:
        if tensor.name in values:
            kept.append(
                numpy_helper.from_array(values[tensor.name].astype(np.float32), tensor.name)
            )
        elif tensor.name in read:
            kept.append(tensor)
    known = {tensor.name for tensor in kept}
    for name, new in values.items():
        if name not in known:
            kept.append(numpy_helper.from_array(new.astype(np.float32), name))
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _chain(content: bytes) -> Chain:
    return read_chain(ModelFile(None, content, hashlib.sha256(content).hexdigest()))
