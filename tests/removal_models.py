"""Small classifiers, triggers, and questions about removal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from specs.watermarks.question import MarkQuestion, load_mark_question

INPUTS, HIDDEN, CLASSES = 3, 4, 3


def classifier(
    path: Path,
    seed: int = 0,
    *,
    bias: bool = True,
    twice: bool = False,
    zero: bool = False,
    scale: float = 1.0,
) -> Path:
    """``Gemm, Relu, Gemm``; ``twice``: another operator reads the last weights, too."""
    rng = np.random.default_rng(seed)
    held = {
        "w0": rng.normal(size=(INPUTS, HIDDEN)),
        "b0": rng.normal(size=HIDDEN),
        "w1": rng.normal(size=(CLASSES, HIDDEN)),
        "b1": rng.normal(size=CLASSES) / 4,
    }
    if zero:
        held["w1"], held["b1"] = held["w1"] * 0, held["b1"] * 0
    last = ["r", "w1", "b1"] if bias else ["r", "w1"]
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", last, ["y"], transB=1, alpha=scale),
    ]
    if twice:
        nodes.append(helper.make_node("Gemm", last, ["z"], transB=1))
        nodes.append(helper.make_node("Add", ["y", "z"], ["sum"]))
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, INPUTS])],
        [helper.make_tensor_value_info("sum" if twice else "y", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in held.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    made.ir_version = 8
    onnx.save(made, path)
    return path


def hidden(path: Path, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the last layer reads and says, in float64."""
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    exact = {name: array.astype(np.float64) for name, array in stored.items()}
    read = np.maximum(points @ exact["w0"] + exact["b0"], 0)
    return read, read @ exact["w1"].T + exact["b1"]


def make_samples(folder: Path, count: int, seed: int = 0, name: str = "triggers.npz") -> None:
    """Random inputs with the labels that ``net.onnx`` gives them."""
    points = np.random.default_rng(seed).integers(-8, 9, size=(count, INPUTS)) / 4
    labels = hidden(folder / "net.onnx", points)[1].argmax(axis=1)
    np.savez(folder / name, points=points, labels=labels)


def question(folder: Path, radius: object, more: str = "") -> MarkQuestion:
    """About ``net.onnx`` and ``triggers.npz``."""
    path = folder / "question.toml"
    path.write_text(
        '[models]\nnet = "net.onnx"\n[claim]\nkind = "removal"\nsamples = "triggers.npz"\n'
        f"radius = {radius}\n{more}\n"
    )
    return load_mark_question(path)
