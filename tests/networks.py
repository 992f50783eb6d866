"""What a network computes, in plain float64; and small models with their runtimes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from scipy import special

from specs.network import Input, Linear, Network, Product, Univariate
from specs.onnx_reader import read_model_bytes

FUNCTIONS: dict[str, Callable[..., npt.NDArray[np.float64]]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "erf": special.erf,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "reciprocal": lambda x: 1.0 / x,
    "sqrt": np.sqrt,
    "power": lambda x, n: x**n,
    "softplus": lambda x: np.logaddexp(0.0, x),
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "elu": lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)),
    "selu": lambda x, alpha, gamma: gamma * np.where(x > 0, x, alpha * np.expm1(x)),
    "gelu": lambda x: x * special.ndtr(x),
    "gelu_tanh": lambda x: 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * special.expit(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0.0, x)),
    "hardswish": lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "sign": np.sign,
    "floor": np.floor,
    "round": np.rint,
}
"""The functions of univariate nodes, in float64."""


def evaluate(network: Network, x: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The outputs ``(batch, output_size)`` at inputs ``(batch, input_size)``."""
    tensors = values(network, x)
    return np.concatenate([tensors[number] for number in network.outputs], axis=1)


def values(network: Network, x: npt.ArrayLike) -> list[npt.NDArray[np.float64]]:
    """Every tensor ``(batch, size)`` at inputs ``(batch, input_size)``.

    Constants that are enclosures count as their midpoints.
    """
    given = np.asarray(x, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != network.input_size:
        raise ValueError(f"inputs of shape {given.shape} for {network.input_size} entries")
    edges = np.cumsum([network.sizes[number] for number in network.inputs])
    parts = iter(np.split(given, edges[:-1], axis=1))
    tensors: list[Any] = []
    for node in network.nodes:
        if isinstance(node, Input):
            tensors.append(next(parts))
        elif isinstance(node, Linear):
            total = np.repeat(node.offset.value[None], len(given), axis=0)
            for term in node.terms:
                weight = None if term.map.weight is None else term.map.weight.value
                total = total + term.map.forward(tensors[term.source], weight, np.matmul)
            tensors.append(total)
        elif isinstance(node, Product):
            tensors.append(tensors[node.left] * tensors[node.right])
        else:
            function = FUNCTIONS[node.function]
            tensors.append(function(tensors[node.source], *node.parameters))
    return tensors


def model_bytes(
    operator: str,
    inputs: Sequence[tuple[int, ...] | npt.NDArray[Any] | None],
    attributes: Mapping[str, Any] | None = None,
    opset: int = 13,
    outputs: int = 1,
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """A model of a single node; shapes are inputs, arrays constants, ``None`` left out."""
    names, variables, constants = [], [], []
    for number, given in enumerate(inputs):
        names.append("" if given is None else f"i{number}")
        if isinstance(given, tuple):
            variables.append(helper.make_tensor_value_info(names[-1], kind, given))
        elif given is not None:
            constants.append(numpy_helper.from_array(given, names[-1]))
    results = [f"o{number}" for number in range(outputs)]
    node = helper.make_node(operator, names, results, **(attributes or {}))
    stated = [helper.make_tensor_value_info(name, kind, None) for name in results]
    graph = helper.make_graph([node], "g", variables, stated, constants)
    return serialised(graph, opset)


def serialised(graph: onnx.GraphProto, opset: int = 13) -> bytes:
    """A model file of a graph."""
    imports = [helper.make_opsetid("", opset)]
    content: bytes = helper.make_model(
        graph, ir_version=8, opset_imports=imports
    ).SerializeToString()
    return content


def in_float64(content: bytes) -> bytes:
    """The same model with every float32 type and constant widened to float64."""
    model = onnx.load_from_string(content)
    _widen_graph(model.graph)
    widened: bytes = model.SerializeToString()
    return widened


def _widen_graph(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _widen(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del graph.value_info[:]
    for node in graph.node:
        _widen_node(node)


def _widen_node(node: onnx.NodeProto) -> None:
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = numpy_helper.from_array(np.zeros(1))
        node.attribute.append(helper.make_attribute("value", zero))
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            _widen(attribute.t)
        elif attribute.type == AttributeProto.GRAPH:
            _widen_graph(attribute.g)
        elif attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            values = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            tensor = numpy_helper.from_array(np.array(values, dtype=np.float64))
            attribute.CopyFrom(helper.make_attribute("value", tensor))


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        wide = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def onnxruntime_outputs(content: bytes, x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """What onnxruntime computes without graph optimisations, one row per row of ``x``."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return _rows(onnx.load_from_string(content), x, lambda feed: session.run(None, feed))


class BatchNormalization(OpRun):  # type: ignore[misc]
    """In inference; the reference computes training statistics for opsets 9 to 13."""

    op_domain = ""

    def _run(self, x: Any, scale: Any, bias: Any, mean: Any, var: Any, **attributes: Any) -> Any:
        along = (-1,) + (1,) * (x.ndim - 2)
        factor = (scale / np.sqrt(var + attributes["epsilon"])).reshape(along)
        return ((x - mean.reshape(along)) * factor + bias.reshape(along),)


def reference_outputs(content: bytes, x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The same by the reference evaluator of ONNX."""
    evaluator = ReferenceEvaluator(content, new_ops=[BatchNormalization])
    return _rows(onnx.load_from_string(content), x, lambda feed: evaluator.run(None, feed))


def _rows(
    model: onnx.ModelProto,
    x: npt.NDArray[Any],
    run: Callable[[dict[str, Any]], Any],
) -> npt.NDArray[np.float64]:
    stored = {tensor.name for tensor in model.graph.initializer}
    rows = []
    for row in x:
        feed, start = {}, 0
        for value in model.graph.input:
            if value.name in stored:
                continue
            tensor = value.type.tensor_type
            shape = [d.dim_value or 1 for d in tensor.shape.dim]
            stop = start + int(np.prod(shape))
            kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            feed[value.name] = row[start:stop].reshape(shape).astype(kind)
            start = stop
        results = [np.asarray(result, dtype=np.float64).reshape(-1) for result in run(feed)]
        rows.append(np.concatenate(results))
    return np.array(rows)


def assert_agrees(
    content: bytes,
    x: npt.NDArray[Any],
    runtime: float | None = 2.0**-18,
    reference: float | None = 1e-10,
) -> Network:
    """The network of a model computes what onnxruntime does, and the reference in float64.

    Args:
        x: inputs, ``(batch, input_size)``, float32 numbers.
        runtime, reference: tolerance relative to the largest result, as much again being
            allowed in absolute terms; ``None``: the judge lacks the operator.
    """
    network = read_model_bytes(content, None, "m")
    ours = evaluate(network, x)
    judges = []
    if runtime is not None:
        judges.append((onnxruntime_outputs(content, x), runtime))
    if reference is not None:
        judges.append((reference_outputs(in_float64(content), x), reference))
    assert judges
    assert np.all(np.isfinite(ours))
    for theirs, tolerance in judges:
        assert theirs.shape == ours.shape
        atol = tolerance * (1 + np.abs(ours).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)
    return network


def functions_of(network: Network) -> list[str]:
    """The functions of the univariate nodes, and ``product`` for products, in order."""
    return [
        node.function if isinstance(node, Univariate) else "product"
        for node in network.nodes
        if isinstance(node, Univariate | Product)
    ]
