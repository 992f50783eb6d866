"""Ranges of activations, against exact evaluation of values inside and beyond."""

from __future__ import annotations

import numpy as np
import pytest

from specs.enclosure import Enclosure
from specs.faults.placed import place_model
from specs.linear import Scale
from specs.network import Linear, Network, Term, moved
from tests.faulty_models import conv_model, dense_model, floats, graph_bytes, model_file, node
from verifier.certify.faults.stand import label_at, labels_at, stands
from verifier.faults.floats import Floats
from verifier.faults.judge import exact_outputs, exact_verdict
from verifier.faults.ranges import vulnerability_ranges

LIMITS = (-50.0, 50.0)


def smooth():
    rng = np.random.default_rng(3)
    nodes = [node("MatMul", "x w", "a"), node("Tanh", "a", "h0"), node("MatMul", "h0 v", "y")]
    return graph_bytes(nodes, (1, 3), {"w": floats(rng, 3, 4), "v": floats(rng, 4, 3)})


MODELS = {
    "dense": (dense_model((4, 5, 4, 3)), ("h0", "h1", "z0")),
    "convolutional": (conv_model(), ("h", "r")),
    "smooth": (smooth(), ("h0",)),
}


def replaced(network: Network, number: int, entry: int, value: float) -> Network:
    """The network in which an entry of a tensor has a value, whatever is computed."""
    size = network.sizes[number]
    keep, offset = np.ones(size), np.zeros(size)
    keep[entry], offset[entry] = 0.0, value
    nodes = list(network.nodes)
    before = nodes[number]
    nodes.append(before)
    mask = Linear(
        "faulty", before.shape, (Term(number, Scale(Enclosure(keep))),), Enclosure(offset)
    )
    made = []
    for place, each in enumerate(network.nodes):
        made.append(moved_behind(each, number))
        if place == number:
            made.append(mask)
    outputs = tuple(o + (o >= number) for o in network.outputs)
    return Network(tuple(made), outputs)


def moved_behind(each, number):
    return moved(each, lambda source: source + (source >= number))


def found_for(content, name, seed=0):
    network = place_model(model_file(content), ()).network
    rng = np.random.default_rng(seed)
    point = rng.normal(size=network.input_size).astype(np.float32).astype(np.float64)
    label = label_at(network, point)
    assert label is not None
    tensors = Floats(network).run(point[None], sharp=True)
    number = network.tensors[name]
    ranges = vulnerability_ranges(Floats(network), dict(enumerate(tensors)), number, label, LIMITS)
    return network, number, point, label, ranges


CASES = [(kind, name) for kind, (_, names) in MODELS.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_ranges_against_exact_evaluation(kind, name):
    network, number, point, label, found = found_for(MODELS[kind][0], name)
    rng = np.random.default_rng(1)
    assert np.all(found.lower <= found.value)
    assert np.all(found.value <= found.upper)
    for entry in rng.permutation(found.value.size)[:4]:
        ends = found.lower[entry], found.upper[entry]
        inside = [*ends, *rng.uniform(*ends, size=4)]
        outside = [v for v in (found.below[entry], found.above[entry]) if np.isfinite(v)]
        for value, wanted in [(v, True) for v in inside] + [(v, False) for v in outside]:
            faulty = replaced(network, number, int(entry), float(value))
            assert exact_verdict(exact_outputs(faulty, point), label) is wanted
        for value in outside:
            assert not ends[0] <= value <= ends[1]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_ranges_are_nearly_as_large_as_they_can_be(kind, name):
    _, _, _, _, found = found_for(MODELS[kind][0], name)
    width = np.maximum(found.upper - found.lower, 1e-3)
    gaps = np.minimum(found.above, LIMITS[1]) - found.upper
    gaps = gaps + found.lower - np.maximum(found.below, LIMITS[0])
    assert np.median(gaps / width) < 0.05


@pytest.mark.parametrize(("start", "passes"), [(1.0, False), (0.45, True)])
def test_a_search_may_pass_over_what_lies_between(start, passes):
    """A bump: values about 3 change the prediction, greater ones do not."""
    nodes = [
        node("MatMul", "x one", "a"),
        node("Relu", "a", "h"),
        node("MatMul", "h spread", "s"),
        node("Add", "s shift", "t"),
        node("Relu", "t", "u"),
        node("MatMul", "u weigh", "m"),
        node("Add", "m c", "y"),
    ]
    stored = {
        "one": np.ones((1, 1), np.float32),
        "spread": np.ones((1, 3), np.float32),
        "shift": np.array([-2, -3, -4], np.float32),
        "weigh": np.array([[0, 1], [0, -2], [0, 1]], np.float32),
        "c": np.array([0.5, 0], np.float32),
    }
    network = place_model(model_file(graph_bytes(nodes, (1, 1), stored)), ()).network
    point = np.array([start])
    floats_, number = Floats(network), network.tensors["h"]
    tensors = dict(enumerate(floats_.run(point[None], sharp=True)))
    found = vulnerability_ranges(floats_, tensors, number, 0, (0.0, 64.0))
    assert 2.45 < found.upper[0] < 2.5
    assert found.lower[0] == 0.0
    assert 2.5 <= found.above[0] < 2.6
    assert found.overstated_one_way[0]  # the margin does not fall there: nothing is looked at
    # Steps of a quarter of the value, doubled: 3 is hit from 1; from 0.45 come 2.25 and 4.05.
    assert bool(found.overstated[0]) is passes


def test_predictions_and_ties():
    network = place_model(model_file(dense_model((2, 3, 2), seed=4)), ()).network
    points = np.random.default_rng(0).normal(size=(5, 2))
    labels = labels_at(network, points)
    for point, label in zip(points, labels, strict=True):
        outputs = exact_outputs(network, point)
        assert label == max(range(2), key=lambda k: outputs[k][0])
    flipped = np.array([1 - label for label in labels])
    assert stands(network, points, flipped) == [False] * 5
    tie = graph_bytes([node("MatMul", "x w", "y")], (1, 1), {"w": np.ones((1, 2), np.float32)})
    network = place_model(model_file(tie), ()).network
    assert labels_at(network, np.array([[1.0]])) == [None]
    assert stands(network, np.array([[1.0]]), np.array([0])) == [False]
