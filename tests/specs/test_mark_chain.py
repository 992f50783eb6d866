"""Model files as chains of layers, and what is none."""

from __future__ import annotations

import numpy as np
import pytest

from specs.errors import ModelError, UnsupportedOperatorError
from specs.watermarks.chain import FIXED, POSITIVE, SIGNED, differing
from tests.layered_models import Maker, chain_of, folded, layered


def test_layers_of_a_dense_model():
    found = chain_of(layered("dense")).layers
    assert [layer.weight.shape for layer in found] == [(6, 5), (4, 6), (3, 4)]
    assert [layer.activation for layer in found] == ["Relu", "Relu", ""]
    assert [layer.weight_name for layer in found] == ["one.w", "two.w", "three.w"]


def test_a_product_and_a_sum_are_a_layer():
    found = chain_of(layered("bare")).layers
    assert [(layer.units, layer.bias_name, layer.transposed) for layer in found] == [
        (6, "one.b", True),
        (3, "two.b", True),
    ]


def test_a_flattened_image_belongs_to_channels():
    found = chain_of(layered("conv")).layers
    assert [layer.spread for layer in found] == [1, 1, 9]
    assert [layer.norm is not None for layer in found] == [True, True, False]
    assert [layer.positive for layer in found] == [True, False, False]
    assert np.array_equal(found[1].bias, np.zeros(5))


@pytest.mark.parametrize(
    ("kind", "factors"), [("Relu", POSITIVE), ("Tanh", SIGNED), ("Sigmoid", FIXED)]
)
def test_what_passes_an_activation(kind, factors):
    made = Maker((1, 4), 0).gemm(4, 4, "a").add(kind).gemm(4, 2, "b").model((1, 2))
    assert chain_of(made).layers[0].factors == factors


def test_a_maximum_behind_an_odd_function_fixes_signs():
    made = Maker((1, 1, 4, 4), 0).conv(1, 2, "a").add("Tanh")
    made.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).add("Flatten")
    assert chain_of(made.gemm(8, 2, "b").model((1, 2))).layers[0].factors == FIXED


def test_equal_structures_do_not_differ():
    assert differing(chain_of(layered("conv", 1)), chain_of(layered("conv", 2))) is None


def test_a_folded_normalisation_is_no_difference():
    owner = chain_of(layered("conv", 1))
    assert differing(owner, chain_of(folded(owner))) is None


def test_spelled_out_defaults_are_no_difference():
    short = Maker((1, 1, 4, 4), 0).conv(1, 2, "a").add("Relu").add("Flatten").gemm(32, 2, "b")
    long = Maker((1, 1, 4, 4), 0)
    read = [long.store("a.w", long.draw(2, 1, 3, 3)), long.store("a.b", long.draw(2))]
    long.add("Conv", *read, pads=[1] * 4, strides=[1, 1], group=1, kernel_shape=[3, 3])
    long.add("Relu").add("Flatten", axis=1).gemm(32, 2, "b")
    assert differing(chain_of(short.model((1, 2))), chain_of(long.model((1, 2)))) is None


@pytest.mark.parametrize("what", ["slope", "stride", "layers", "width", "input"])
def test_what_differs_is_said(what):
    def make(slope=0.25, stride=1, more=False, width=2, scale=1.0):
        made = Maker((1, 1, 4, 4), 0)
        made.add("Mul", made.store("scale", np.array(scale)))
        read = [made.store("a.w", made.draw(width, 1, 3, 3))]
        made.add("Conv", *read, pads=[1] * 4, strides=[stride, stride])
        made.add("LeakyRelu", alpha=slope).add("Flatten")
        size = width * (16 if stride == 1 else 4)
        if more:
            made.gemm(size, size, "more").add("Relu")
        return chain_of(made.gemm(size, 2, "b").model((1, 2)))

    change = {
        "slope": {"slope": 0.125},
        "stride": {"stride": 2},
        "layers": {"more": True},
        "width": {"width": 3},
        "input": {"scale": 2.0},
    }[what]
    assert differing(make(), make(**change)) is not None


def _residual() -> bytes:
    made = Maker((1, 4), 0).gemm(4, 4, "a")
    made.add("Relu").nodes.append(
        type(made.nodes[0])(op_type="Add", input=["t0", "t1"], output=["sum"])
    )
    made.tensor = "sum"
    return made.model((1, 4))


def _grouped() -> bytes:
    made = Maker((1, 2, 4, 4), 0)
    made.add("Conv", made.store("a.w", made.draw(2, 1, 3, 3)), group=2)
    return made.add("Flatten").gemm(8, 2, "b").model((1, 2))


def _late_norm() -> bytes:
    made = Maker((1, 1, 4, 4), 0).conv(1, 2, "a").add("Relu").norm(2, "a")
    return made.add("Flatten").gemm(32, 2, "b").model((1, 2))


def _transposed() -> bytes:
    made = Maker((1, 1, 4, 4), 0).conv(1, 2, "a").add("Relu").add("Transpose", perm=[0, 2, 3, 1])
    return made.add("Flatten").gemm(32, 2, "b").model((1, 2))


def _mixed() -> bytes:
    made = Maker((1, 4), 0).gemm(4, 6, "a").add("Relu")
    made.add("Reshape", made.store("s", np.array([-1, 3])))
    return made.gemm(3, 2, "b").model((2, 2))


def _halved() -> bytes:
    """A batch of two made of one image: rows of 16 of 32 numbers, two channels each."""
    made = Maker((1, 1, 4, 4), 0).conv(1, 4, "a").add("Relu")
    made.add("Reshape", made.store("s", np.array([-1, 32])))
    return made.gemm(32, 2, "b").model((2, 2))


def _merged() -> bytes:
    """A batch of two inputs merged into one row."""
    made = Maker((1, 32), 0).add("Reshape", "s0")
    made.store("s0", np.array([2, 1, 4, 4]))
    made.conv(1, 2, "a").add("Relu").add("Reshape", made.store("s", np.array([1, 64])))
    return made.gemm(64, 2, "b").model((1, 2))


def _broadcast() -> bytes:
    made = Maker((1, 4), 0)
    made.add("Add", made.store("c", made.draw(2, 4)))
    return made.gemm(4, 2, "b").model((2, 2))


def _column() -> bytes:
    made = Maker((1, 4), 0).add("MatMul", "w")
    made.store("w", made.draw(4, 2))
    return made.add("Add", made.store("b", made.draw(2, 1))).model((2, 2))


def _scaled() -> bytes:
    made = Maker((1, 4), 0)
    made.add("Gemm", made.store("w", made.draw(4, 2)), made.store("b", made.draw(2)), alpha=2.0)
    return made.model((1, 2))


NO_CHAINS = {
    "sum of two tensors": _residual,
    "groups": _grouped,
    "normalisation behind an activation": _late_norm,
    "transposed": _transposed,
    "units mixed": _mixed,
    "a batch of one image": _halved,
    "a batch merged": _merged,
    "a batch by a constant": _broadcast,
    "a bias that makes a batch": _column,
    "a factor": _scaled,
}


@pytest.mark.parametrize("what", list(NO_CHAINS))
def test_what_is_no_chain_is_refused(what):
    with pytest.raises(UnsupportedOperatorError):
        chain_of(NO_CHAINS[what]())


def test_a_variance_that_is_not_positive_is_refused():
    made = Maker((1, 1, 4, 4), 0).conv(1, 2, "a").norm(2, "a").add("Flatten").gemm(32, 2, "b")
    for tensor in made.stored:
        if tensor.name == "a.var":
            tensor.raw_data = np.array([1.0, -1.0], np.float32).tobytes()
    with pytest.raises(ModelError):
        chain_of(made.model((1, 2)))
