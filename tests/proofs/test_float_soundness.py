"""Whatever a float evaluation gives lies in what the kernel encloses.

Boxes are single points, so that nothing but the errors themselves can make room; every
inner tensor is an output.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.bounds import bound_rows, propagate
from proofs.check import ARITHMETICS
from proofs.evaluate import evaluate
from proofs.frame import Batch, Frame, Relaxations
from proofs.proof import Side
from specs.errors import EvidenceError, ModelError, UnsupportedOperatorError
from specs.onnx_reader import read_model_bytes
from specs.perturbation import FORMATS
from tests.rounded import Graph, Machine, drawn

SEEDS = st.integers(0, 2**32 - 1)


def enclosures(network, lower, upper, arithmetic="outward"):
    """Bounds of all outputs, by intervals and by substitution; ``None``: may overflow."""
    frame = Frame(network, ARITHMETICS[arithmetic]())
    low, high = np.asarray(lower, float).reshape(1, -1), np.asarray(upper, float).reshape(1, -1)
    batch = Batch(low, high, {}, np.zeros(1, dtype=bool))
    with np.errstate(all="ignore"):
        propagate(frame, batch, record=True)
        if frame.overflow() is not None:
            return None
        lines, found = Relaxations(frame, batch), {}
        for tensor in network.outputs:
            entry = np.arange(network.sizes[tensor])
            ends = bound_rows(frame, lines, tensor, np.zeros_like(entry), entry)
            floats = frame.arithmetic.floats_down, frame.arithmetic.floats_up
            found[tensor] = [f(ends[side]) for f, side in zip(floats, Side, strict=True)]
    return found


def inputs(rng, format, size, scale):
    x = rng.normal(size=size) * scale * 4.0 ** rng.integers(-3, 3, size)
    return format.rounded(x)


def at_point(network, point):
    """The witness evaluation, with all of the real line where balls become too wide for it."""
    try:
        return evaluate(network, point)
    except EvidenceError:
        return [(Fraction(0), Fraction(2) ** 200)] * network.output_size


def run(seed, format, scale, arithmetic="outward"):
    """How many evaluations were compared."""
    rng = np.random.default_rng(seed)
    graph = drawn(format, rng, scale)
    try:
        network = read_model_bytes(graph.model(), None, "m", format)
    except (ModelError, UnsupportedOperatorError):  # attributes beyond a short format
        return 0
    x = inputs(rng, format, network.input_size, scale)
    found = enclosures(network, x, x, arithmetic)
    if found is None:
        return 0
    point = [Fraction(float(v)) for v in x]
    exactly = at_point(network, point)
    edges = np.cumsum([0, *(network.sizes[t] for t in network.outputs)])
    compared = 0
    for _ in range(6):
        machine = Machine(format, rng, bool(rng.random() < 0.5), bool(rng.random() < 0.5))
        got = graph.run(machine, x)
        for place, (tensor, step) in enumerate(zip(network.outputs, graph.steps, strict=True)):
            name, value = step[0], got[step[0]].reshape(-1)
            low, high = found[tensor]
            assert np.all(low <= value), (name, low, value)
            assert np.all(value <= high), (name, value, high)
            for v, (centre, radius) in zip(
                value, exactly[edges[place] : edges[place + 1]], strict=True
            ):
                assert abs(Fraction(float(v)) - centre) <= radius
            compared += 1
    return compared


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_every_evaluation_of_a_random_graph_is_enclosed(name, seed):
    run(seed, FORMATS[name], 1.0)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, exponent=st.sampled_from([-130, -100, -64, -40, 20]))
def test_tiny_and_large_numbers_are_enclosed(seed, exponent):
    run(seed, FORMATS["float32"], 2.0**exponent)
    run(seed, FORMATS["float16"], 2.0 ** (exponent / 9))


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_exact_arithmetic_encloses_them_too(seed):
    run(seed, FORMATS["float32"], 1.0, "exact")
    run(seed, FORMATS["bfloat16"], 1.0, "exact")


def test_most_graphs_are_compared():
    assert sum(run(seed, FORMATS["float32"], 1.0) > 0 for seed in range(40)) >= 30


@pytest.mark.parametrize("name", FORMATS)
def test_both_arithmetics_agree_on_the_errors(name):
    rng = np.random.default_rng(3)
    for _ in range(5):
        graph = drawn(FORMATS[name], rng)
        try:
            network = read_model_bytes(graph.model(), None, "m", FORMATS[name])
        except UnsupportedOperatorError:
            continue
        x = inputs(rng, FORMATS[name], network.input_size, 1.0)
        both = [enclosures(network, x - 0.25, x + 0.25, a) for a in ARITHMETICS]
        assert (both[0] is None) == (both[1] is None)
        if both[0] is None:
            continue
        for tensor in network.outputs:
            first, second = (found[tensor] for found in both)
            width = first[1] - first[0] + FORMATS[name].unit * np.abs(first[1])
            for one, other in zip(first, second, strict=True):
                assert np.all(np.abs(one - other) <= 0.01 * width + 1e-16)


def cancelling(count, format):
    """A sum whose terms are far larger than its value."""
    rng = np.random.default_rng(count)
    graph = Graph(format, rng, (1, count))
    name = "w"
    signs = np.where(np.arange(count) % 2, -1.0, 1.0).reshape(-1, 1)
    graph.constants[name] = signs
    graph.put("MatMul", ["x", name], (1, 1), lambda m, x: m.dot(signs, x[0][:, None])[None])
    return graph


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [2, 3, 8, 33])
def test_cancellation_is_paid_for_by_what_cancels(name, count):
    format = FORMATS[name]
    graph = cancelling(count, format)
    network = read_model_bytes(graph.model(), None, "m", format)
    x = format.rounded(1.0 + np.random.default_rng(count).random(count) * 8 * format.unit)
    found = enclosures(network, x, x)
    assert found is not None
    ((low, high),) = found.values()
    values = []
    for seed in range(200):
        machine = Machine(format, np.random.default_rng(seed), False, bool(seed % 2))
        values.append(float(graph.run(machine, x)["t0"].reshape(())))
    assert low <= min(values)
    assert max(values) <= high
    assert high - low <= 4.0 * count * format.unit * np.sum(np.abs(x)) + 1e-30


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_what_may_overflow_is_found(arithmetic):
    format = FORMATS["float32"]
    graph = cancelling(4, format)
    network = read_model_bytes(graph.model(), None, "m", format)
    fine = np.full(4, 2.0**97)
    assert enclosures(network, fine, fine, arithmetic) is not None
    graph = Graph(FORMATS["float16"], np.random.default_rng(0), (1, 4))
    graph.constants["w"] = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    graph.put("MatMul", ["x", "w"], (1, 1), None)
    network = read_model_bytes(graph.model(), None, "m", FORMATS["float16"])
    for size, fits in ((16000.0, True), (16400.0, False), (60000.0, False)):
        x = np.full(4, size)
        assert (enclosures(network, x, x, arithmetic) is not None) is fits
    with pytest.raises(EvidenceError, match="overflow is not excluded at the witness"):
        evaluate(network, [Fraction(60000)] * 4)
    assert evaluate(network, [Fraction(16000)] * 4)[0][0] == 0
