"""The fold trap: a batch normalisation that was folded into a marked tensor is noticed."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from specs.errors import ModelError
from verifier.watermarks.fold_trap import folding

DRAW = np.random.default_rng(4)
WEIGHT = DRAW.normal(size=(4, 2, 3, 3)).astype(np.float32)
NORM = {
    "scale": np.array([0.5, -1.5, 2.0, -0.25], np.float32),
    "shift": DRAW.normal(size=4).astype(np.float32),
    "mean": DRAW.normal(size=4).astype(np.float32),
    "variance": DRAW.uniform(0.5, 2, 4).astype(np.float32),
}
FACTORS = NORM["scale"] / np.sqrt(NORM["variance"] + 1e-3)


def model(weight=WEIGHT, *, name="w", norm=True, extra=None):
    stored = {name: weight, **(extra or {})}
    nodes = [helper.make_node("Conv", ["x", name], ["c"])]
    if norm:
        stored |= NORM
        nodes.append(helper.make_node("BatchNormalization", ["c", *NORM], ["y"], epsilon=1e-3))
    else:
        nodes.append(helper.make_node("Relu", ["c"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, key) for key, values in stored.items()],
    )
    return helper.make_model(graph).SerializeToString()


def test_the_same_model_is_not_folded():
    found = folding(model(), model(), "w")
    assert found.unchanged
    assert not found.folded
    assert found.tensor == "w"
    assert found.same_name
    assert "unchanged" in found.in_words()


@pytest.mark.parametrize("name", ["w", "conv_fused"], ids=["kept-name", "new-name"])
def test_a_folded_tensor_is_found_and_explained(name):
    other = DRAW.normal(size=WEIGHT.shape).astype(np.float32)
    folded = (WEIGHT * FACTORS[:, None, None, None]).astype(np.float32)
    found = folding(model(), model(folded, name=name, norm=False, extra={"other": other}), "w")
    assert found.folded
    assert found.explained
    assert found.multiple
    assert not found.unchanged
    assert found.tensor == name
    assert found.same_name == (name == "w")
    np.testing.assert_allclose(found.factors, FACTORS, rtol=1e-5)
    assert "exactly as the owner's parameters say; 2 of 4 channels changed sign" in found.in_words()
    restored = folded / found.expected[:, None, None, None]
    np.testing.assert_allclose(restored, WEIGHT, rtol=1e-6)


def test_a_rescaled_tensor_is_no_folded_one():
    found = folding(model(), model(WEIGHT * np.float32(2)), "w")
    assert not found.folded
    assert found.multiple
    assert not found.explained
    assert "rescaled" in found.in_words()


def test_a_tensor_that_was_changed_is_no_multiple():
    changed = WEIGHT + np.float32(0.1) * DRAW.normal(size=WEIGHT.shape).astype(np.float32)
    found = folding(model(), model(changed), "w")
    assert not found.multiple
    assert not found.unchanged
    assert "changed" in found.in_words()
    gone = folding(model(), model(changed, norm=False), "w")
    assert gone.folded
    assert not gone.explained
    assert "not by the factors" in gone.in_words()


def test_without_a_normalisation_nothing_is_folded():
    found = folding(model(norm=False), model(norm=False), "w")
    assert not found.folded
    assert found.expected is None
    assert not found.explained


def test_channels_of_zeros_have_no_factor():
    weight = WEIGHT.copy()
    weight[1] = 0
    folded = (weight * FACTORS[:, None, None, None]).astype(np.float32)
    found = folding(model(weight), model(folded, norm=False), "w")
    assert found.factors[1] == 0
    assert found.explained
    away = folding(model(), model(weight), "w")
    assert away.factors[1] == 0
    assert away.distance == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("owner", "suspect", "tensor", "message"),
    [
        (b"\xff", model(), "w", "not an ONNX model"),
        (model(), b"\xff", "w", "not an ONNX model"),
        (model(), model(), "v", "no initializer 'v'"),
        (model(), model(), "scale", "no initializer 'scale' of floats and two axes"),
        (model(), model(WEIGHT[:2], norm=False), "w", "no initializer of shape"),
    ],
    ids=["owner", "suspect", "tensor", "vector", "shape"],
)
def test_what_cannot_be_compared_is_refused(owner, suspect, tensor, message):
    with pytest.raises(ModelError, match=message):
        folding(owner, suspect, tensor)
