"""Float64 evaluation stays within its error of the exact one; so do bounds of sensitivity."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.evaluate import evaluate
from specs.enclosure import Enclosure
from specs.errors import FarkasError
from specs.faults.memory import Quantised, store
from specs.faults.placed import place_model
from specs.linear import MatMul
from specs.network import Error, Input, Linear, Network, Perturbed, Term
from specs.onnx_reader import read_model_bytes
from tests.faulty_models import conv_model, dense_model, floats, graph_bytes, model_file, node
from verifier.faults.floats import Floats, Tensor, ends, exact_tensor, joined, judged, relu
from verifier.faults.sensitivity import sensitivities


def smooth_model():
    rng = np.random.default_rng(5)
    stored = {"w": floats(rng, 4, 5), "v": floats(rng, 5, 3)}
    nodes = [
        node("MatMul", "x w", "a"),
        node("Sigmoid", "a", "s"),
        node("Tanh", "a", "t"),
        node("Add", "s t", "u"),
        node("MatMul", "u v", "y"),
    ]
    return graph_bytes(nodes, (1, 4), stored)


def product_model():
    rng = np.random.default_rng(6)
    nodes = [node("MatMul", "x w", "a"), node("Mul", "a x", "y")]
    return graph_bytes(nodes, (1, 3), {"w": floats(rng, 3, 3)})


MODELS = {
    "dense": dense_model(),
    "conv": conv_model(),
    "smooth": smooth_model(),
    "product": product_model(),
}
NETWORKS = {name: place_model(model_file(content)).network for name, content in MODELS.items()}
EVALUATORS = {name: Floats(network) for name, network in NETWORKS.items()}


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(MODELS)),
    seed=st.integers(0, 2**16),
    size=st.sampled_from([0.0, 1e-300, 1e-20, 1.0, 1e3, 1e18]),
)
def test_outputs_lie_within_their_error(name, seed, size):
    network = NETWORKS[name]
    points = np.random.default_rng(seed).normal(size=(2, network.input_size)) * size
    tensors = EVALUATORS[name].run(points)
    outputs = joined([tensors[number] for number in network.outputs])
    lower, upper = ends(outputs)
    for row, point in enumerate(points):
        exact = evaluate(network, [Fraction(float(x)) for x in point])
        for k, (value, radius) in enumerate(exact):
            if np.isfinite(lower[row, k]):
                assert Fraction(lower[row, k]) <= value + radius
            if np.isfinite(upper[row, k]):
                assert value - radius <= Fraction(upper[row, k])
    if name in ("dense", "conv") and size == 1.0:
        assert np.all(upper - lower < 1e-6)


def test_an_error_that_is_too_small_would_be_noticed():
    network = NETWORKS["dense"]
    points = np.random.default_rng(0).normal(size=(20, 6))
    tensors = EVALUATORS["dense"].run(points)
    outputs = joined([tensors[number] for number in network.outputs])
    tight = Tensor(outputs.value, outputs.error * 0)
    missed = 0
    for row, point in enumerate(points):
        exact = evaluate(network, [Fraction(float(x)) for x in point])
        missed += sum(Fraction(v) != e for v, (e, _) in zip(tight.value[row], exact, strict=True))
    assert missed > 10


@pytest.mark.parametrize("name", MODELS)
def test_from_any_tensor_on_the_outputs_are_the_same(name):
    network, evaluator = NETWORKS[name], EVALUATORS[name]
    point = np.random.default_rng(1).normal(size=(1, network.input_size))
    known = dict(enumerate(evaluator.run(point)))
    whole = joined([known[number] for number in network.outputs])
    for number in range(len(network.nodes)):
        again = evaluator.outputs(known, number)
        np.testing.assert_allclose(again.value, whole.value, rtol=1e-12)
        same = evaluator.outputs_with(
            known, {number: network.nodes[number]} if number not in network.inputs else {}
        )
        np.testing.assert_allclose(same.value, whole.value, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["dense", "conv"]),
    seed=st.integers(0, 2**16),
    size=st.sampled_from([1e-20, 1.0, 1e18]),
)
def test_sharp_errors_hold_and_are_no_wider(name, seed, size):
    network, evaluator = NETWORKS[name], EVALUATORS[name]
    point = np.random.default_rng(seed).normal(size=(1, network.input_size)) * size
    point[0, 0] *= 1e12
    known = dict(enumerate(evaluator.run(point)))
    first = next(i for i, node in enumerate(network.nodes) if isinstance(node, Linear))
    instead = {first: network.nodes[first]}
    outputs = evaluator.outputs_with(known, instead, sharp=True)
    exact = evaluate(network, [Fraction(float(x)) for x in point[0]])
    lower, upper = ends(outputs)
    for k, (value, radius) in enumerate(exact):
        assert Fraction(lower[0, k]) <= value + radius
        assert value - radius <= Fraction(upper[0, k])
    wide = evaluator.outputs_with(known, instead)
    assert np.all(outputs.error <= wide.error * (1 + 1e-6))


def test_nodes_with_other_constants_replace_their_own():
    placed = place_model(model_file(conv_model()))
    evaluator = Floats(placed.network)
    known = dict(enumerate(evaluator.run(np.ones((1, 72)))))
    values = placed.parameters["gamma"].values * 3
    other = placed.with_values({"gamma": values})
    number = placed.of["gamma"][0].node
    found = evaluator.outputs_with(known, {number: other.nodes[number]})
    tensors = Floats(other).run(np.ones((1, 72)))
    np.testing.assert_allclose(found.value, tensors[other.outputs[0]].value, rtol=1e-12)
    assert not np.allclose(found.value, known[placed.network.outputs[0]].value)


def test_what_is_negative_for_certain_is_exactly_zero():
    value = np.array([[-1.0, -1.0, 1.0, 0.0, -1.0]])
    error = np.array([[0.5, 2.0, 0.5, 0.0, np.nan]])
    found = relu(Tensor(value, error))
    assert found.value.tolist() == [[0.0, 0.0, 1.0, 0.0, 0.0]]
    assert found.error[0, :4].tolist() == [0.0, 2.0, 0.5, 0.0]
    assert np.isnan(found.error[0, 4])
    wild = relu(Tensor(np.array([[-np.inf, np.nan, np.nan]]), np.array([[np.inf, np.inf, np.nan]])))
    assert not np.any(np.isfinite(wild.error))


def test_what_is_not_known_is_not_judged():
    values = np.array([[2.0, 1.0], [2.0, 1.0], [1.0, 2.0], [2.0, 1.0], [1.0, 1.0], [np.inf, 1.0]])
    errors = np.array([[0.1], [0.6], [0.1], [np.nan], [0.0], [np.inf]])
    good, wrong = judged(Tensor(values, errors), np.zeros(6, dtype=np.int64))
    assert good.tolist() == [True, False, False, False, False, False]
    assert wrong.tolist() == [False, False, True, False, False, False]
    assert ends(exact_tensor(values[:1]))[0].tolist() == [[2.0, 1.0]]


def test_perturbed_networks_are_refused():
    linear = Linear("y", (2,), (Term(0, MatMul(Enclosure(np.eye(2)))),), Enclosure(np.zeros(2)))
    nodes = (Input("x", (2,)), linear, Perturbed("z", (2,), 1, Error(own=0.5)))
    with pytest.raises(FarkasError, match="real semantics"):
        Floats(Network(nodes, (2,), semantics="float32"))


@pytest.mark.parametrize("name", ["dense", "conv", "smooth"])
def test_no_change_of_a_tensor_moves_a_margin_further(name):
    network, evaluator = NETWORKS[name], EVALUATORS[name]
    rng = np.random.default_rng(2)
    tight = 0.0
    for label in range(network.output_size):
        rows = sensitivities(network, label)
        known = dict(enumerate(evaluator.run(rng.normal(size=(1, network.input_size)))))
        before = joined([known[i] for i in network.outputs]).value[0]
        for number in range(len(network.nodes)):
            for scale in (1e-3, 1.0, 100.0):
                step = rng.normal(size=known[number].value.shape) * scale
                step *= rng.random(step.shape) < 0.5
                moved = Tensor(known[number].value + step, known[number].error)
                after = evaluator.outputs({**known, number: moved}, number).value[0]
                change = np.delete((after[label] - after) - (before[label] - before), label)
                bound = rows[number] @ np.abs(step[0])
                assert np.all(np.abs(change) <= bound * (1 + 1e-9) + 1e-9)
                tight = max(tight, float((np.abs(change) / np.maximum(bound, 1e-9)).max()))
    assert tight > 0.9


def test_functions_of_unknown_slope_have_no_sensitivity():
    assert sensitivities(NETWORKS["product"], 0) is None
    exponential = graph_bytes([node("Exp", "x", "y")], (1, 2), {})
    assert sensitivities(read_model_bytes(exponential, None, "m"), 0) is None


def test_a_memory_s_network_is_the_one_evaluated():
    placed = place_model(model_file(dense_model()))
    memory = store(placed, Quantised(4))
    point = np.ones((1, 6))
    network = memory.network
    found = Floats(network).run(point)[network.outputs[0]].value
    assert not np.allclose(found, EVALUATORS["dense"].run(point)[5].value, atol=1e-3)
