"""What the reader merges or looks through, no fault may slip through."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from proofs.check import check_proof, check_witness
from proofs.witness import Witness
from specs.errors import UnsupportedOperatorError
from specs.faults.exact import WordFault
from specs.faults.memory import Quantised
from specs.faults.models import ActivationFaults, BitFlips, WeightBox, Where
from specs.faults.placed import place_model
from tests.faulty_models import graph_bytes, model_file, node
from tests.proofs.faulty import faulty_query
from tests.proofs.helpers import at_least, box_case

F = Fraction
RELU = node("Relu", "x", "a")


def any_of(*tensors: str) -> ActivationFaults:
    return ActivationFaults(1, F(0), F(8), Where(tensors or None))


def refuted(nodes, shape, model, stored, fault, point, bound) -> None:
    """A fault that violates the property is a witness, and the property is not proved."""
    content = graph_bytes(nodes, shape, {k: np.asarray(v) for k, v in stored.items()})
    size = int(np.prod(shape))
    query = faulty_query(content, model, [box_case([0] * size, [1] * size, at_least(0, bound))])
    witness = Witness(query.digest, 0, 0, tuple(map(F, point)), tuple(fault))
    assert check_witness(query, witness).verdict == "valid sat"
    assert check_proof(query, None).verdict == "invalid"


@pytest.mark.parametrize("named", [(), ("a",), ("b",), ("a", "b")], ids=str)
def test_two_operators_that_compute_the_same_fail_apart(named):
    nodes = [RELU, node("Relu", "x", "b"), node("Sub", "a b", "d"), node("Abs", "d", "y")]
    struck = named[0] if named else "a"
    refuted(nodes, (1, 1), any_of(*named), {}, [WordFault(struck, 0, (), F(8))], [0], 4)


@pytest.mark.parametrize("operator", ["Identity", "Flatten", "Neg"])
def test_a_further_name_of_a_tensor_is_a_tensor_of_its_own(operator):
    nodes = [RELU, node(operator, "a", "b"), node("Abs", "b", "c"), node("Sub", "c a", "y")]
    refuted(nodes, (1, 1), any_of("b"), {}, [WordFault("b", 0, (), F(8))], [0], 4)


def test_a_part_of_a_tensor_that_several_read():
    nodes = [
        RELU,
        node("Slice", "a one two one", "v"),
        node("Identity", "v", "w"),
        node("Relu", "v", "r"),
        node("Neg", "r", "n"),
        node("Slice", "a one two one", "u"),
        node("Sub", "w u", "d"),
        node("Add", "d d", "e"),
        node("Add", "e n", "y"),
    ]
    stored = {"one": [1], "two": [2]}
    refuted(nodes, (1, 2), any_of("v"), stored, [WordFault("v", 0, (), F(8))], [0, 0], 4)


def test_pooling_does_not_look_through_a_faulty_relu():
    nodes = [
        RELU,
        node("MaxPool", "a", "b", kernel_shape=[2, 2]),
        node("MaxPool", "x", "c", kernel_shape=[2, 2]),
        node("Sub", "b c", "y"),
    ]
    refuted(nodes, (1, 1, 2, 2), any_of("a"), {}, [WordFault("a", 0, (), F(8))], [0] * 4, 4)


def test_activations_of_operators_that_are_written_by_several_functions():
    nodes = [
        node("Constant", "", "lo", value_float=0.0),
        node("Constant", "", "hi", value_float=6.0),
        node("Clip", "x lo hi", "a"),
        node("Neg", "a", "b"),
        node("Neg", "b", "y"),
    ]
    refuted(nodes, (1, 1), any_of(), {}, [WordFault("a", 0, (), F(8))], [0], 4)


WEIGHTS = {
    # by name: nodes behind x, stored numbers, the word that is struck, a bound
    "silu": (
        [node("Mul", "x w", "k"), node("Sigmoid", "x", "s"), node("Mul", "k s", "y")],
        {"w": np.float32([1])},
    ),
    "gelu": (
        [
            node("Mul", "x c", "e"),
            node("Erf", "e", "f"),
            node("Add", "f o", "g"),
            node("Mul", "x w", "k"),
            node("Mul", "k g", "y"),
        ],
        {"c": np.float32([0.5]), "o": np.float32([1]), "w": np.float32([1])},
    ),
    "square": (
        [node("Mul", "x w", "k"), node("Mul", "k x", "y")],
        {"w": np.float32([1])},
    ),
    "form": (
        [
            node("MatMul", "x w", "k"),
            node("Mul", "k x", "p"),
            node("Constant", "", "axes", value_ints=[1]),
            node("ReduceSum", "p axes", "y", keepdims=1),
        ],
        {"w": np.float32([[1]])},
    ),
    "softplus": (
        [
            node("Exp", "x", "e"),
            node("Add", "e w", "k"),
            node("Log", "k", "y"),
        ],
        {"w": np.float32([1])},
    ),
    "sigmoid": (
        [
            node("Exp", "x", "e"),
            node("Add", "e w", "k"),
            node("Reciprocal", "k", "i"),
            node("Mul", "i n", "y"),
        ],
        {"w": np.float32([1]), "n": np.float32([-1])},
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_what_is_recognised_does_not_swallow_a_parameter(name):
    nodes, stored = WEIGHTS[name]
    placed = place_model(model_file(graph_bytes(nodes, (1, 1), stored)))
    assert {place.tensor for place in placed.places} == set(stored)
    model = BitFlips(1, Quantised(4, True, (0.5,)), Where(("w",), bits=(2,)))
    fault = [WordFault("w", 0, (2,))]
    # the stored 1 is 0b0010 and becomes 0b0110, that is 3
    bound = {"silu": F(2), "gelu": F(3), "square": F(5, 2), "form": F(5, 2)}
    bound |= {"softplus": F(3, 2), "sigmoid": F(-1, 4)}
    refuted(nodes, (1, 1), model, stored, fault, [1], bound[name])


def branch(nodes, output="r", stored=()):
    value = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(np.float32(v), n) for n, v in stored]
    return helper.make_graph(nodes, output, [], [value], constants)


def chosen(then, other, output="v"):
    return helper.make_node("If", ["c"], [output], then_branch=then, else_branch=other)


def test_a_parameter_that_a_branch_hands_on_is_followed():
    through = chosen(branch([node("Identity", "w", "r")]), branch([node("Neg", "w", "s")], "s"))
    stored = {"c": np.array(True), "w": np.float32([[1]]), "b": np.float32([1])}
    nodes = [through, node("MatMul", "x v", "m"), node("Add", "m b", "y")]
    model = BitFlips(1, Quantised(4, True, (0.5,)))
    refuted(nodes, (1, 1), model, stored, [WordFault("w", 0, (2,))], [1], F(7, 2))


def test_a_parameter_inside_a_branch_is_refused():
    inside = branch([node("MatMul", "x v", "r")], stored=[("v", [[1]])])
    nodes = [chosen(inside, branch([node("Neg", "x", "s")], "s"), "m"), node("Add", "m b", "y")]
    stored = {"c": np.array(True), "b": np.float32([1])}
    content = graph_bytes(nodes, (1, 1), stored)
    with pytest.raises(UnsupportedOperatorError, match="initialiser 'v' of its branch"):
        place_model(model_file(content))
    assert set(place_model(model_file(content), ("b",)).parameters) == {"b"}


def test_integers_are_followed_where_nothing_is_named():
    nodes = [
        node("Constant", "", "s", value_float=1.0),
        node("DequantizeLinear", "q s", "w"),
        node("MatMul", "x w", "y"),
    ]
    stored = {"q": np.array([[1]], dtype=np.int8)}
    model = BitFlips(1, where=Where(bits=(1,)))
    refuted(nodes, (1, 1), model, stored, [WordFault("q", 0, (1,))], [1], 3)
    wide = graph_bytes(nodes, (1, 1), {"q": np.array([[1]], dtype=np.int32)})
    with pytest.raises(UnsupportedOperatorError, match="'q' holds integers without a rule"):
        place_model(model_file(wide))
    assert not place_model(model_file(wide), ()).parameters


def test_a_box_of_weights_is_of_recognised_ones_too():
    nodes, stored = WEIGHTS["silu"]
    fault = [WordFault("w", 0, (), F(2))]
    refuted(nodes, (1, 1), WeightBox(F(1)), stored, fault, [1], F(5, 4))
