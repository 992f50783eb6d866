"""Small chains as model files, for tests of watermarks."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SIDE = 4
"""Pixels of a side of the convolutional model's images."""
CLASSES = 4


def _model(nodes, stored, shape):
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
    model.ir_version = 8
    return model.SerializeToString()


def dense(seed=0, inputs=SIDE * SIDE, width=12):
    """Gemm, Relu, Gemm, Relu, Gemm."""
    draw = np.random.default_rng(seed)
    sizes = [inputs, width, width, CLASSES]
    stored, nodes, tensor = {}, [], "x"
    for number in range(1, 4):
        before, after = sizes[number - 1], sizes[number]
        weight = draw.normal(size=(after, before)) / np.sqrt(before)
        stored[f"fc{number}.weight"] = weight.astype(np.float32)
        stored[f"fc{number}.bias"] = draw.normal(size=after).astype(np.float32) * np.float32(0.1)
        result = "y" if number == 3 else f"fc{number}"
        read = [tensor, f"fc{number}.weight", f"fc{number}.bias"]
        nodes.append(helper.make_node("Gemm", read, [result], transB=1))
        tensor = f"relu{number}"
        if number < 3:
            nodes.append(helper.make_node("Relu", [result], [tensor]))
    return _model(nodes, stored, (1, inputs))


def convolutional(seed=0, channels=6):
    """Conv, BatchNormalization, Relu, the same again, Flatten, Gemm."""
    draw = np.random.default_rng(seed)
    stored, nodes, tensor, before = {}, [], "x", 1
    for number in (1, 2):
        weight = draw.normal(size=(channels, before, 3, 3)) / np.sqrt(9 * before)
        stored |= {
            f"conv{number}.weight": weight.astype(np.float32),
            f"norm{number}.scale": draw.uniform(0.5, 2, channels).astype(np.float32),
            f"norm{number}.shift": draw.normal(size=channels).astype(np.float32),
            f"norm{number}.mean": draw.normal(size=channels).astype(np.float32),
            f"norm{number}.variance": draw.uniform(0.5, 2, channels).astype(np.float32),
        }
        read = [tensor, f"conv{number}.weight"]
        nodes.append(helper.make_node("Conv", read, [f"conv{number}"], pads=[1, 1, 1, 1]))
        norm = [f"norm{number}.{part}" for part in ("scale", "shift", "mean", "variance")]
        nodes.append(
            helper.make_node("BatchNormalization", [f"conv{number}", *norm], [f"norm{number}"])
        )
        nodes.append(helper.make_node("Relu", [f"norm{number}"], [f"relu{number}"]))
        tensor, before = f"relu{number}", channels
    nodes.append(helper.make_node("Flatten", [tensor], ["flat"]))
    size = channels * SIDE * SIDE
    stored["fc.weight"] = (draw.normal(size=(size, CLASSES)) / np.sqrt(size)).astype(np.float32)
    stored["fc.bias"] = draw.normal(size=CLASSES).astype(np.float32)
    nodes.append(helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["y"]))
    return _model(nodes, stored, (1, 1, SIDE, SIDE))


def blobs(count=120, seed=0, spread=0.15):
    """Points ``(count, SIDE**2)`` around one random centre for each class, and their labels."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).uniform(size=(CLASSES, SIDE * SIDE))
    labels = np.arange(count) % CLASSES
    points = centres[labels] + spread * draw.normal(size=(count, SIDE * SIDE))
    return points.astype(np.float32).astype(np.float64), labels
