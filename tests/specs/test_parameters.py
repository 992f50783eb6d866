"""Where initialisers stand in a network, against the network of a rewritten model."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from proofs.evaluate import evaluate
from specs.errors import ModelError, QuestionError, UnsupportedOperatorError
from specs.faults.placed import constants_at, place_model, read_placed, rewritten
from specs.onnx_reader import read_model_bytes, read_tracked
from specs.perturbation import FORMATS
from specs.reader.graph import build_network
from specs.reader.parameters import Tracker
from specs.reader.tensors import ExternalData
from tests.faulty_models import (
    conv_model,
    dense_model,
    floats,
    graph_bytes,
    model_file,
    node,
    quantised_model,
)
from tests.networks import onnxruntime_outputs

RNG = np.random.default_rng(3)


def transposed_model():
    stored = {"k": floats(RNG, 4, 1, 3, 3), "c": floats(RNG, 2)}
    made = node("ConvTranspose", "x k c", "y", strides=[2, 1], pads=[1, 0, 1, 0], group=2)
    return graph_bytes([made], (1, 4, 3, 2), stored)


def elementwise_model():
    """Sums, differences and products with constants on either side; one is used twice."""
    stored = {"a": floats(RNG, 2, 3), "s": floats(RNG, 1), "d": floats(RNG, 3)}
    nodes = [
        node("Add", "x a", "p"),
        node("Sub", "d p", "q"),
        node("Mul", "s q", "r"),
        node("Relu", "r", "h"),
        node("Mul", "h d", "m"),
        node("Sub", "m a", "y"),
    ]
    return graph_bytes(nodes, (2, 3), stored)


def left_model():
    """A constant on the left of a product, made by moving a stored one."""
    stored = {"w": floats(RNG, 2, 12), "shape": np.array([4, 6], dtype=np.int64)}
    nodes = [
        node("Reshape", "w shape", "v"),
        node("Transpose", "v", "t", perm=[1, 0]),
        node("MatMul", "t x", "y"),
    ]
    return graph_bytes(nodes, (4, 3), stored)


def gemm_model():
    stored = {"w": floats(RNG, 4, 3), "b": floats(RNG, 1)}
    return graph_bytes([node("Gemm", "x w b", "y", alpha=0.7, beta=-1.5)], (2, 4), stored)


MODELS = {
    "dense": (dense_model(), None),
    "conv": (conv_model(), None),
    "transposed": (transposed_model(), None),
    "elementwise": (elementwise_model(), None),
    "left": (left_model(), None),
    "gemm": (gemm_model(), None),
    "quantised": (quantised_model(), ("q", "b")),
}


def exact(network, point):
    return evaluate(network, [Fraction(float(x)) for x in point])


def agree(one, other):
    assert len(one) == len(other)
    for (a, r), (b, s) in zip(one, other, strict=True):
        assert abs(a - b) <= r + s
        assert max(r, s) <= (1 + abs(a)) * Fraction(1, 10**9)


@pytest.mark.parametrize("name", MODELS)
def test_following_parameters_does_not_change_the_function(name):
    content, tensors = MODELS[name]
    placed = place_model(model_file(content), tensors)
    point = RNG.normal(size=placed.network.input_size).astype(np.float32)
    plain = read_model_bytes(content, None, "m")
    agree(exact(placed.network, point), exact(plain, point))
    assert not plain.perturbed
    assert len(plain.nodes) <= len(placed.network.nodes)


@pytest.mark.parametrize("name", MODELS)
def test_other_values_give_the_network_of_the_rewritten_model(name):
    content, tensors = MODELS[name]
    placed = place_model(model_file(content), tensors)
    point = RNG.normal(size=placed.network.input_size).astype(np.float32)
    before = exact(placed.network, point)
    moved = 0
    for parameter in placed.parameters.values():
        entries = RNG.choice(parameter.size, size=min(4, parameter.size), replace=False)
        for entry in entries:
            values = parameter.values.copy()
            values[entry] = values[entry] + 3 if parameter.kind == "int8" else 2.75
            changed = {parameter.name: values}
            found = exact(placed.with_values(changed), point)
            written = rewritten(placed.model, changed)
            agree(found, exact(read_model_bytes(written, None, "m"), point))
            moved += [a for a, _ in found] != [a for a, _ in before]
            theirs = onnxruntime_outputs(written, point[None])[0]
            np.testing.assert_allclose([float(a) for a, _ in found], theirs, rtol=1e-3, atol=1e-3)
    assert moved >= 3


@pytest.mark.parametrize("name", MODELS)
def test_places_are_what_stands_there(name):
    content, tensors = MODELS[name]
    placed = place_model(model_file(content), tensors)
    assert {place.tensor for place in placed.places} == set(placed.parameters)
    for place in placed.places:
        constants = constants_at(placed.network.nodes[place.node], place)
        held = place.entries >= 0
        if place.function != "linear":
            continue
        values = placed.parameters[place.tensor].values[place.entries]
        rest = 0.0 if place.rest is None else place.rest.value
        np.testing.assert_allclose(
            constants.value[held], (place.factor.value * values + rest)[held], rtol=1e-15
        )
        assert not np.any(constants.value[~held])


def test_what_places_say_of_a_convolution_with_normalisation():
    placed = place_model(model_file(conv_model()))
    said = {(p.tensor, p.result, p.term, p.function) for p in placed.places}
    assert ("k0", "a", 0, "linear") in said
    assert ("c0", "a", None, "linear") in said
    assert ("var", "n", 0, "inverse root") in said
    assert ("mean", "n", None, "linear") in said
    assert [p.operator for p in placed.of["k1"]] == ["Conv (tensor 'd', node 4 of 9)"]
    assert placed.channels("k0").tolist() == np.repeat(np.arange(4), 18).tolist()
    assert placed.channels("gamma").tolist() == [0, 1, 2, 3]
    assert placed.channels("w").tolist() == [0, 1, 2] * 36
    assert "shape" not in placed.parameters


def test_a_parameter_may_stand_in_several_places_and_channels():
    placed = place_model(model_file(elementwise_model()))
    assert [p.result for p in placed.of["a"]] == ["p", "y"]
    assert [p.result for p in placed.of["d"]] == ["q", "m"]
    assert placed.channels("s").tolist() == [-1]
    assert placed.channels("d").tolist() == [0, 1, 2]


def test_what_nothing_reads_has_no_place():
    stored = {"a": floats(RNG, 3), "idle": floats(RNG, 2), "dead": floats(RNG, 3)}
    nodes = [node("Add", "x a", "y"), node("Add", "x dead", "z")]
    placed = place_model(model_file(graph_bytes(nodes, (1, 3), stored)))
    assert placed.of["idle"] == placed.of["dead"] == ()
    assert placed.channels("idle").tolist() == [-1, -1]
    assert placed.parameters["idle"].size == 2


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [node("PRelu", "x w", "y")],
            r"PRelu \(tensor 'y', node 1 of 1\): parameter 'w' at",
        ),
        ([node("Div", "x w", "y")], r"Div .*parameter 'w' at input 1 has no rule for faults"),
        ([node("Exp", "w", "e"), node("Add", "x e", "y")], "Exp .*parameter 'w' at input 0"),
        ([node("Add", "w w", "e"), node("Add", "x e", "y")], "Add .*parameter 'w' at input 0"),
        ([node("Max", "x w", "y")], "Max .*parameter 'w' at input 1"),
        ([node("Clip", "x l", "y")], "Clip .*parameter 'l' at input 1"),
        ([node("Concat", "x w", "y", axis=0)], "Concat .*parameter 'w' at input 1"),
    ],
)
def test_an_operator_without_a_rule_is_named(nodes, message):
    content = graph_bytes(
        nodes, (1, 3), {"w": floats(RNG, 1, 3), "l": np.float32([[0]]).reshape(())}
    )
    with pytest.raises(UnsupportedOperatorError, match=message):
        place_model(model_file(content))
    read_tracked(content, None, "m", ())


def test_names_and_types_are_checked(tmp_path):
    content = conv_model()
    with pytest.raises(ModelError, match="there is no initialiser 'k7'"):
        place_model(model_file(content), ("k0", "k7"))
    with pytest.raises(UnsupportedOperatorError, match="int64 has no rule for faults"):
        place_model(model_file(content), ("shape",))
    with pytest.raises(UnsupportedOperatorError, match="not followed in float32"):
        build_network(_parsed(content), 1, ExternalData(None), FORMATS["float32"], Tracker(None))
    (tmp_path / "n.onnx").write_bytes(content)
    assert read_placed(tmp_path / "n.onnx", ("k0",)).parameters.keys() == {"k0"}
    with pytest.raises(UnsupportedOperatorError, match="parameter 'scale' at input 1"):
        place_model(model_file(quantised_model()))


def test_wrong_values_are_refused():
    placed = place_model(model_file(conv_model()))
    with pytest.raises(QuestionError, match="parameter 'nobody': 1 values"):
        placed.with_values({"nobody": np.zeros(1)})
    with pytest.raises(QuestionError, match="parameter 'var': 3 values"):
        placed.with_values({"var": np.zeros(3)})
    with pytest.raises(ModelError, match="entry 1 of 'var' has no root"):
        placed.with_values({"var": np.array([1.0, -1.0, 1.0, 1.0])})
    with pytest.raises(ModelError, match="not finite"):
        placed.with_values({"c0": np.array([1.0, np.nan, 1.0, 1.0])})
    with pytest.raises(ModelError, match="no initialiser 'nobody'"):
        rewritten(placed.model, {"nobody": np.zeros(1)})


def _parsed(content):
    from onnx import ModelProto

    return ModelProto.FromString(content)
