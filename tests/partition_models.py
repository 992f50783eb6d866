"""Small networks whose probabilities of a violation are known, questions, and partitions."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from proofs.partitions.evidence import Kind, PartitionEvidence
from specs.network import Network
from specs.probability import Distribution, ProbabilityQuestion, Sampling
from specs.property import Case, Conjunction, Property, constraint
from specs.query import ModelFile, Query

UNIFORM = Distribution("uniform")


def unsafe_above(threshold: object, output: int = 0, strict: bool = False) -> Conjunction:
    """Unsafe where the output is at least a threshold."""
    return (constraint({}, {output: Fraction(-1)}, Fraction(threshold), strict),)  # type: ignore[arg-type]


def question(
    network: Network,
    lower: list[object],
    upper: list[object],
    *unsafe: Conjunction,
    at_most: object = 1,
    at_least: object = None,
    distribution: Distribution = UNIFORM,
    sampling: Sampling | None = None,
) -> ProbabilityQuestion:
    """A question about a network that was built here."""
    case = Case(tuple(map(Fraction, lower)), tuple(map(Fraction, upper)), tuple(unsafe))  # type: ignore[arg-type]
    stated = Property(network.input_size, network.output_size, (case,))
    query = Query(network, stated, (ModelFile(None, b"", "0"),), stated.digest)
    most, least = (None if end is None else Fraction(end) for end in (at_most, at_least))  # type: ignore[arg-type]
    return ProbabilityQuestion(query, distribution, most, least, sampling, "built")


def partition(
    asked: object, text: str, *splits: tuple[int, float], claims: str = "unsat", **arrays
):
    """A partition written in pre-order: ``/`` splits, ``s`` safe, ``u`` unsafe, ``o`` open."""
    kinds = {"/": Kind.SPLIT, "s": Kind.SAFE, "u": Kind.UNSAFE, "o": Kind.OPEN}
    made = {"kind": np.array([kinds[letter] for letter in text], dtype=np.uint8)}
    if splits:
        made["axis"] = np.array([axis for axis, _ in splits], dtype=np.int32)
        made["point"] = np.array([point for _, point in splits])
    return PartitionEvidence(asked.digest, claims, {**made, **arrays})  # type: ignore[attr-defined]


def model(path: Path, *layers: np.ndarray) -> Path:
    """A fully connected network without offsets, with Relus between the layers ``(in, out)``."""
    nodes, held, name = [], [], "x"
    for number, weight in enumerate(layers):
        held.append(numpy_helper.from_array(np.asarray(weight, np.float32), f"w{number}"))
        last = number == len(layers) - 1
        made = "y" if last else f"h{number}"
        nodes.append(helper.make_node("MatMul", [name, f"w{number}"], [made]))
        if not last:
            nodes.append(helper.make_node("Relu", [made], [f"r{number}"]))
        name = f"r{number}"
    sizes = layers[0].shape[0], layers[-1].shape[1]
    ends = [
        helper.make_tensor_value_info(end, TensorProto.FLOAT, [1, size])
        for end, size in zip("xy", sizes, strict=True)
    ]
    graph = helper.make_graph(nodes, "small", [ends[0]], [ends[1]], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


def reciprocals(path: Path) -> Path:
    """``1 / x0 + 1 / x1``."""
    weight = numpy_helper.from_array(np.ones((2, 1), np.float32), "w")
    nodes = [
        helper.make_node("Reciprocal", ["x"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(end, TensorProto.FLOAT, [1, size])
        for end, size in (("x", 2), ("y", 1))
    ]
    graph = helper.make_graph(nodes, "reciprocals", [ends[0]], [ends[1]], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path
