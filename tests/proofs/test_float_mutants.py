"""Error models with something left out are noticed by evaluations that they do not enclose.

Numbers are far above the smallest normal one, unless flushing is what a case is about: in
float16 it costs as much as rounding does near 1.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from proofs import frame as frames
from specs.network import Error
from specs.onnx_reader import read_model_bytes
from specs.perturbation import FORMATS, Rounding
from specs.reader import builder, floats
from tests.proofs.test_float_soundness import enclosures
from tests.rounded import Graph, Machine

HALF, SINGLE = FORMATS["float16"], FORMATS["float32"]


def escapes(graph, points, seeds=range(12)):
    """How many evaluations lie outside what the kernel encloses."""
    network = read_model_bytes(graph.model(), None, "m", graph.format)
    count = 0
    for x in points:
        found = enclosures(network, x, x)
        if found is None:
            continue
        for seed in seeds:
            machine = Machine(graph.format, np.random.default_rng(seed), bool(seed % 2), False)
            got = graph.run(machine, x)
            for tensor, (name, _, _) in zip(network.outputs, graph.steps, strict=True):
                value, (low, high) = got[name].reshape(-1), found[tensor]
                count += int(np.sum((value < low) | (value > high)))
    return count


def points(count, width=2, format=HALF, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [format.rounded((1.0 + rng.random(width)) * scale) for _ in range(count)]


def product_and_bias():
    graph = Graph(HALF, np.random.default_rng(1), (1, 1))
    graph.gemm(1)
    weight, bias = (graph.constants[name] for name in ("c0", "c1"))
    weight[...], bias[...] = 1.0 + 341 * 2.0**-10, HALF.rounded(1.49 * 2.0**-2)
    return graph, points(300, 1, scale=256.0)


def long_sum():
    """1 + u' + u' + ...: each addition loses u'."""
    graph = Graph(HALF, np.random.default_rng(2), (1, 3))
    graph.put("ReduceSum", ["x"], (1, 1), lambda m, x: m.add_up(x.reshape(-1, 1)).reshape(1, 1))
    near = 256.0 * HALF.unit * (1 - 2.0**-10)
    return graph, [np.array([256.0, near, near]), np.array([near, 256.0, near])]


def small_products():
    graph = Graph(SINGLE, np.random.default_rng(3), (1, 2))
    weight = np.full((2, 1), 2.0**-70)
    graph.constants["w"] = weight
    graph.put("MatMul", ["x", "w"], (1, 1), lambda m, x: m.dot(weight, x[0][:, None])[None])
    return graph, points(20, 2, SINGLE, scale=2.0**-60)


def small_inputs():
    graph = Graph(SINGLE, np.random.default_rng(4), (1, 2))
    weight = np.full((2, 1), 2.0**20)
    graph.constants["w"] = weight
    graph.put("MatMul", ["x", "w"], (1, 1), lambda m, x: m.dot(weight, x[0][:, None])[None])
    return graph, points(20, 2, SINGLE, scale=2.0**-128)


def small_weights():
    graph = Graph(SINGLE, np.random.default_rng(5), (1, 1))
    weight = np.full((1, 1), 2.0**-127)
    graph.constants["w"] = weight
    graph.put("MatMul", ["x", "w"], (1, 1), lambda m, x: m.dot(weight, x[0][:, None])[None])
    return graph, points(20, 1, SINGLE, scale=2.0**20)


def small_factors():
    graph = Graph(SINGLE, np.random.default_rng(6), (1, 2))
    graph.put("Split", ["x"], (1, 1), None, axis=1)
    graph.nodes, graph.steps = [], []
    from onnx import helper

    graph.nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1),
        helper.make_node("Mul", ["a", "b"], ["t0"]),
    ]
    graph.steps = [("t0", "x", lambda m, x: m.round(m.read(x[:, :1]) * m.read(x[:, 1:])))]
    return graph, [np.array([2.0**-127, 2.0**40]), np.array([2.0**40, 2.0**-127])]


def folded_normalisation():
    """The mean and beta cancel in the folded offset, not in the evaluation."""
    graph = Graph(HALF, np.random.default_rng(7), (1, 1, 2, 2))
    graph.normalise()
    for name, value in zip(("c0", "c1", "c2", "c3"), (1.0, 1000.0, 1000.0, 1.0), strict=True):
        graph.constants[name][...] = value
    return graph, points(60, 4)


CASES = {
    made.__name__: made
    for made in (
        *(product_and_bias, long_sum, small_products, small_inputs, small_weights),
        *(small_factors, folded_normalisation),
    )
}


@pytest.mark.parametrize("name", CASES)
def test_the_error_models_enclose_these_cases(name):
    assert escapes(*CASES[name]()) == 0


def without(monkeypatch, **parts):
    """Errors in which some parts are 0."""
    for module in (builder, floats):
        original = module.linear_error
        monkeypatch.setattr(
            module,
            "linear_error",
            lambda *a, _original=original, **k: dataclasses.replace(_original(*a, **k), **parts),
        )


def fewer(terms, factors):
    def mutate(monkeypatch):
        original = Rounding.share
        monkeypatch.setattr(
            Rounding, "share", lambda self, n, k: original(self, n - terms, max(0, k - factors))
        )

    return mutate


def no_flushing(monkeypatch):
    without(monkeypatch, floor=np.zeros(1))


def no_constants(monkeypatch):
    """The bias is neither counted nor measured."""
    original = floats.linear_error

    def mutant(node, format, factors, **more):
        zero = np.zeros(node.offset.shape)
        return original(node, format, factors, **{**more, "base": zero})

    monkeypatch.setattr(floats, "linear_error", mutant)


def weights_kept(monkeypatch):
    monkeypatch.setattr(
        Rounding,
        "stored",
        lambda self, values: dataclasses.replace(STORED(self, values), radius=None),
    )


STORED = Rounding.stored


def no_lean(monkeypatch):
    original = floats.product_error
    monkeypatch.setattr(
        floats, "product_error", lambda f: dataclasses.replace(original(f), lean=0.0)
    )


def folded_offset(monkeypatch):
    """What batch normalisation folds is taken for what it computes with."""
    original = floats.linear_error

    def mutant(node, format, factors, **more):
        return original(node, format, factors, **{**more, "base": None})

    monkeypatch.setattr(floats, "linear_error", mutant)


def size_of_the_result(monkeypatch):
    """Errors relative to the sum instead of the sum of magnitudes."""
    original = frames.radius

    def mutant(arithmetic, error: Error, before, magnitude, read):
        moved = dataclasses.replace(error, own=error.spread, spread=0.0)
        return original(arithmetic, moved, before, magnitude, read)

    monkeypatch.setattr(frames, "radius", mutant)


MUTANTS = [
    (fewer(1, 0), "long_sum"),
    (fewer(0, 1), "product_and_bias"),
    (no_constants, "product_and_bias"),
    (no_flushing, "small_products"),
    (no_flushing, "small_inputs"),
    (weights_kept, "small_weights"),
    (no_lean, "small_factors"),
    (folded_offset, "folded_normalisation"),
    (size_of_the_result, "folded_normalisation"),
]


@pytest.mark.parametrize(("mutate", "name"), MUTANTS)
def test_what_is_left_out_is_noticed(mutate, name, monkeypatch):
    mutate(monkeypatch)
    assert escapes(*CASES[name]()) > 0


def test_overflow_goes_unnoticed_without_a_limit(monkeypatch):
    graph = Graph(HALF, np.random.default_rng(8), (1, 4))
    graph.constants["w"] = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    graph.put("MatMul", ["x", "w"], (1, 1), None)
    large = np.full(4, 60000.0)
    assert enclosures(read_model_bytes(graph.model(), None, "m", HALF), large, large) is None
    without(monkeypatch, limit=np.inf)
    network = read_model_bytes(graph.model(), None, "m", HALF)
    assert enclosures(network, large, large) is not None
