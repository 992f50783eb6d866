"""What onnxruntime and torch compute, in many orders of summation, is enclosed."""

from __future__ import annotations

import itertools

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from specs.onnx_reader import read_model_bytes
from specs.perturbation import FORMATS
from tests.networks import serialised
from tests.proofs.test_float_soundness import enclosures

FLOAT32 = FORMATS["float32"]


def dense(rng, sizes, scale):
    """Weights with large entries that cancel, and the model."""
    weights, nodes, current = [], [], "x"
    for k, (a, b) in enumerate(itertools.pairwise(sizes)):
        w = rng.normal(size=(a, b)) * scale ** rng.normal(size=(a, 1))
        w[1::2] = -w[: a - a % 2 : 2][: len(w[1::2])] * (1 + 1e-3 * rng.normal(size=(a // 2, b)))
        weights.append((w.astype(np.float32), rng.normal(size=b).astype(np.float32)))
        nodes.append(helper.make_node("MatMul", [current, f"w{k}"], [f"m{k}"]))
        nodes.append(helper.make_node("Add", [f"m{k}", f"b{k}"], [f"a{k}"]))
        current = f"a{k}"
        if k < len(sizes) - 2:
            nodes.append(helper.make_node("Relu", [current], [f"r{k}"]))
            current = f"r{k}"
    stored = [numpy_helper.from_array(w, f"w{k}") for k, (w, _) in enumerate(weights)]
    stored += [numpy_helper.from_array(b, f"b{k}") for k, (_, b) in enumerate(weights)]
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, sizes[0]))
    out = helper.make_tensor_value_info(current, TensorProto.FLOAT, None)
    return weights, serialised(helper.make_graph(nodes, "g", [shape], [out], stored))


def runtime(content, x):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def in_some_order(rng, weights, x):
    """torch, with every sum permuted, and cut into blocks that are added at the end."""
    value = torch.tensor(x)
    for k, (w, b) in enumerate(weights):
        order = rng.permutation(len(w))
        blocks = np.array_split(order, rng.integers(1, 5))
        parts = [value[:, block] @ torch.tensor(w[block]) for block in blocks]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        value = total + torch.tensor(b)
        if k < len(weights) - 1:
            value = torch.relu(value)
    return value.numpy()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_dense_networks_in_many_orders(seed, scale):
    rng = np.random.default_rng(seed)
    weights, content = dense(rng, (24, 60, 40, 5), scale)
    network = read_model_bytes(content, None, "m", FLOAT32)
    seen = set()
    for _ in range(4):
        x = rng.normal(size=(1, 24)).astype(np.float32)
        found = enclosures(network, x, x)
        assert found is not None
        ((low, high),) = found.values()
        results = [runtime(content, x), *(in_some_order(rng, weights, x) for _ in range(30))]
        for result in results:
            assert np.all(low <= result[0])
            assert np.all(result[0] <= high)
        seen.update(float(result[0, 0]) for result in results)
    assert len(seen) > 8  # orders do matter


def convolutional(rng):
    w, b = rng.normal(size=(6, 4, 3, 3)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    v = rng.normal(size=(5, 6, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("AveragePool", ["s"], ["p"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["p", "v"], ["y"], strides=[2, 2]),
    ]
    stored = [numpy_helper.from_array(a, n) for a, n in ((w, "w"), (b, "b"), (v, "v"))]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 9, 9))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        stored,
    )
    return (w, b, v), serialised(graph)


def by_torch(weights, x, channels_last):
    w, b, v = map(torch.tensor, weights)
    value = torch.tensor(x)
    if channels_last:
        value = value.to(memory_format=torch.channels_last)
    value = torch.sigmoid(torch.nn.functional.conv2d(value, w, b, padding=1))
    value = torch.nn.functional.avg_pool2d(value, 3, 1, 1, count_include_pad=False)
    return torch.nn.functional.conv2d(value, v, stride=2).numpy()


@pytest.mark.parametrize("seed", range(4))
def test_convolutions_of_two_runtimes(seed):
    rng = np.random.default_rng(seed)
    weights, content = convolutional(rng)
    network = read_model_bytes(content, None, "m", FLOAT32)
    x = rng.normal(size=(1, 4, 9, 9)).astype(np.float32) * 3
    found = enclosures(network, x, x)
    assert found is not None
    ((low, high),) = found.values()
    results = [runtime(content, x)]
    for dnn, last in itertools.product((False, True), (False, True)):
        with torch.backends.mkldnn.flags(enabled=dnn):
            results.append(by_torch(weights, x, last))
    for result in results:
        assert np.all(low <= result.reshape(-1))
        assert np.all(result.reshape(-1) <= high)
    assert np.max(high - low) < 1e-2
