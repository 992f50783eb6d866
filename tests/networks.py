"""What a network computes, in plain float64; and small models with their runtimes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from specs.network import Input, Linear, Network


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
        elif node.function == "relu":
            tensors.append(np.maximum(tensors[node.source], 0.0))
        else:
            raise ValueError(f"no formula for '{node.function}'")
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


def onnxruntime_outputs(content: bytes, x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """What onnxruntime computes without graph optimisations, one row per row of ``x``."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return _rows(onnx.load_from_string(content), x, lambda feed: session.run(None, feed))


def reference_outputs(content: bytes, x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The same by the reference evaluator of ONNX."""
    evaluator = ReferenceEvaluator(content)
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
