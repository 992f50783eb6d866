"""Small networks, as networks and as the ONNX files they stand for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from specs.enclosure import Enclosure
from specs.linear import MatMul
from specs.network import Input, Linear, Network, Term, Univariate
from specs.property import Case, Constraint, Property
from specs.query import ModelFile, Query


def mlp(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> tuple[Network, ModelFile]:
    """A network of dense layers ``x @ w + b`` with Relu between them, in both forms."""
    nodes = [Input("x", (1, len(weights[0])))]
    graph, initialisers = [], []
    tensor = "x"
    for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
        w32, b32 = np.asarray(w, np.float32), np.asarray(b, np.float32)
        shape = (1, w32.shape[1])
        term = Term(len(nodes) - 1, MatMul(Enclosure(w32.astype(np.float64))))
        nodes.append(Linear(f"z{k}", shape, (term,), Enclosure(b32.astype(np.float64))))
        initialisers += [numpy_helper.from_array(w32, f"w{k}")]
        initialisers += [numpy_helper.from_array(b32, f"b{k}")]
        graph.append(helper.make_node("Gemm", [tensor, f"w{k}", f"b{k}"], [f"z{k}"]))
        tensor = f"z{k}"
        if k < len(weights) - 1:
            nodes.append(Univariate(f"a{k}", shape, len(nodes) - 1, "relu"))
            graph.append(helper.make_node("Relu", [tensor], [f"a{k}"]))
            tensor = f"a{k}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in (("x", len(weights[0])), (tensor, len(biases[-1])))
    ]
    made = helper.make_graph(graph, "mlp", ends[:1], ends[1:], initialisers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    content = model.SerializeToString()
    network = Network(tuple(nodes), (len(nodes) - 1,))
    return network, ModelFile(None, content, hashlib.sha256(content).hexdigest())


def random_mlp(sizes: Sequence[int], seed: int) -> tuple[Network, ModelFile]:
    """A random network with these layer sizes."""
    rng = np.random.default_rng(seed)
    pairs = list(pairwise(sizes))
    return mlp(
        [rng.normal(size=pair) / np.sqrt(pair[0]) for pair in pairs],
        [rng.normal(size=b) / 4 for _, b in pairs],
    )


def box_query(
    made: tuple[Network, ModelFile],
    lower: Sequence[Fraction | int],
    upper: Sequence[Fraction | int],
    unsafe: Sequence[Sequence[Constraint]],
    region: Sequence[Constraint] = (),
) -> Query:
    """A query with one case."""
    network, model = made
    case = Case(
        tuple(map(Fraction, lower)),
        tuple(map(Fraction, upper)),
        tuple(map(tuple, unsafe)),
        tuple(region),
    )
    prop = Property(network.input_size, network.output_size, (case,))
    return Query(network, prop, (model,), prop.digest)


def identity() -> tuple[Network, ModelFile]:
    """``y = relu(x)`` of one number, and again as an affine layer."""
    one, zero = np.ones((1, 1)), np.zeros(1)
    return mlp([one, one], [zero, zero])
