"""Models read under float semantics: where errors stand, what they are, what is refused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from specs.errors import ModelError, QuestionError, UnsupportedOperatorError
from specs.network import Error, Linear, Perturbed, Product, Univariate
from specs.onnx_reader import read_model_bytes
from specs.perturbation import FORMATS
from specs.property import Case, Property
from specs.query import Query
from tests.networks import model_bytes, serialised, values

FLOAT32 = FORMATS["float32"]
U, TINY = Fraction(FLOAT32.unit), FLOAT32.tiny


def read(content, name="float32"):
    return read_model_bytes(content, None, "m", FORMATS[name])


def single(operator, inputs, attributes=None, opset=13, name="float32", outputs=1):
    return read(model_bytes(operator, inputs, attributes, opset, outputs), name)


def chain(nodes, constants=(), shape=(1, 4), output="y"):
    """A model of several nodes: (operator, inputs, output, attributes)."""
    made = [helper.make_node(op, list(i), [o], **a) for op, i, o, a in nodes]
    stored = [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in constants]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        stored,
    )
    return serialised(graph)


def f32(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def last(network):
    node = network.nodes[network.outputs[0]]
    assert isinstance(node, Perturbed)
    return node.error, network.nodes[node.source]


def test_a_product_with_a_matrix_counts_every_product():
    error, before = last(single("MatMul", [(1, 5), f32(5, 3)]))
    assert isinstance(before, Linear)
    assert 5 * U <= Fraction(error.spread) <= 5 * U * (1 + 10 * U)
    assert np.all(error.base == 0.0)


def test_a_bias_counts_as_a_term():
    bias = np.array([1.0, -2.0, 0.0], dtype=np.float32)
    error, _ = last(single("Gemm", [(1, 5), f32(5, 3), bias]))
    assert 6 * U <= Fraction(error.spread) <= 6 * U * (1 + 10 * U)
    np.testing.assert_allclose(error.base, [1.0, 2.0, 0.0], rtol=1e-6)
    assert np.all(error.base >= np.abs(bias))


def test_flushing_is_paid_for_each_product_and_each_input():
    weight = np.array([[3.0], [-4.0]], dtype=np.float32)
    error, _ = last(single("MatMul", [(1, 2), weight]))
    assert error.floor[0] >= TINY * (3 + 4 + 2 + 1)


def test_weights_that_are_subnormal_may_be_zero():
    weight = np.array([[1.0], [1e-40]], dtype=np.float32)
    _, before = last(single("MatMul", [(1, 2), weight]))
    stored = before.terms[0].map.weight
    assert stored.radius is not None
    assert stored.radius.reshape(-1).tolist() == [0.0, float(weight[1, 0])]


def test_a_bias_added_by_an_operator_of_its_own_is_rounded_by_itself():
    content = chain(
        [("MatMul", ("x", "w"), "h", {}), ("Add", ("h", "b"), "y", {})],
        [("w", f32(4, 3)), ("b", f32(3))],
    )
    network = read(content)
    kinds = [type(node).__name__ for node in network.nodes]
    assert kinds == ["Input", "Linear", "Perturbed", "Linear", "Perturbed"]
    assert [node.name for node in network.nodes][2::2] == ["h", "y"]
    assert all(node.name.startswith("farkas:") for node in network.nodes[1::2])
    assert network.semantics == "float32"
    assert Fraction(last(network)[0].spread) == U


def test_real_semantics_reads_as_before():
    content = chain(
        [("MatMul", ("x", "w"), "h", {}), ("Add", ("h", "b"), "y", {})],
        [("w", f32(4, 3)), ("b", f32(3))],
    )
    network = read_model_bytes(content, None, "m")
    assert [type(node).__name__ for node in network.nodes] == ["Input", "Linear"]
    assert network.semantics == "real"


def test_constants_in_a_tensor_are_not_summed_before_it_is_read():
    """The sum of 1e8 and -1e8 is 0, but its rounding error is that of 2e8."""
    content = chain(
        [("Concat", ("x", "c"), "h", {"axis": 1}), ("Add", ("h", "d"), "y", {})],
        [("c", [[1e8]]), ("d", [[0.0, 0.0, 0.0, 0.0, -1e8]])],
    )
    error, before = last(read(content))
    assert error.base[-1] >= 1e8
    source = read(content).nodes[before.terms[0].source]
    assert isinstance(source, Linear)
    assert source.offset.value[-1] == 1e8


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [("Relu", {}), ("Abs", {}), ("Neg", {}), ("Flatten", {}), ("Transpose", {}), ("Round", {})],
)
def test_operators_that_do_not_round_only_flush_where_they_end(operator, attributes):
    error, _ = last(single(operator, [(2, 3)], attributes))
    assert error.own == error.spread == error.peak == error.lean == 0.0
    assert error.floor.tolist() == [TINY]


def test_operators_that_do_not_round_leave_inner_tensors_alone():
    network = read(chain([("Relu", ("x",), "h", {}), ("Exp", ("h",), "y", {})]))
    assert [type(node).__name__ for node in network.nodes] == [
        *("Input", "Univariate", "Univariate", "Perturbed")
    ]


@pytest.mark.parametrize("operator", ["Floor", "Ceil", "Sign", "Log", "Reciprocal"])
def test_arguments_that_flushing_takes_far_are_flushed_before(operator):
    network = single(operator, [(1, 3)])
    first = network.nodes[1]
    assert isinstance(first, Perturbed)
    assert first.source == 0
    assert first.error.floor.tolist() == [TINY]


def test_two_variables_multiplied_pay_for_flushed_factors():
    error, before = last(single("Mul", [(1, 3), (1, 3)]))
    assert isinstance(before, Product)
    assert error.lean >= TINY
    assert Fraction(error.own) >= U
    error, before = last(read(chain([("Mul", ("x", "x"), "y", {})])))
    assert isinstance(before, Univariate)
    assert error.lean >= TINY


def test_compositions_stay_what_the_graph_computes():
    """x * sigmoid(x) is three roundings, not one function."""
    network = read(chain([("Sigmoid", ("x",), "s", {}), ("Mul", ("x", "s"), "y", {})]))
    assert not [n for n in network.nodes if isinstance(n, Univariate) and n.function == "silu"]
    assert isinstance(last(network)[1], Product)


def test_a_mean_may_overflow_before_it_is_divided():
    error, _ = last(single("AveragePool", [(1, 1, 4, 4)], {"kernel_shape": [2, 2]}))
    assert error.reach >= 4.0
    error, _ = last(single("ReduceMean", [(2, 6)], {"axes": [1]}))
    assert error.reach >= 6.0


def test_batch_normalisation_is_three_terms_even_where_they_are_folded():
    mean = np.array([100.0, 0.0], dtype=np.float32)
    beta = np.array([50.0, 0.0], dtype=np.float32)
    ones = np.ones(2, dtype=np.float32)
    error, before = last(single("BatchNormalization", [(1, 2, 3, 3), ones * 2, beta, mean, ones]))
    assert isinstance(before, Linear)
    assert error.base[0] >= 200.0 * 0.999 + 50.0  # -150 in the folded offset
    assert Fraction(error.spread) >= 5 * U


def test_parameters_are_rounded_to_the_format():
    weight = np.array([[1.0 + 2.0**-20]], dtype=np.float32)
    for name, expected in (("float32", 1.0 + 2.0**-20), ("float16", 1.0), ("bfloat16", 1.0)):
        _, before = last(single("MatMul", [(1, 1), weight], name=name))
        assert before.terms[0].map.weight.value.item() == expected


def test_constants_computed_in_the_graph_are_rounded():
    content = chain(
        [("Div", ("a", "b"), "c", {}), ("Add", ("x", "c"), "y", {})],
        [("a", [1.0]), ("b", [3.0])],
    )
    _, before = last(read(content))
    assert before.offset.radius is not None
    third = np.float32(1.0) / np.float32(3.0)
    assert np.all(np.abs(before.offset.value - third) <= before.offset.radius)


def test_the_middle_of_a_network_is_the_stored_one():
    """Perturbed nodes add nothing at their centre."""
    content = model_bytes("Gemm", [(2, 5), f32(5, 3), f32(3)], {"alpha": 0.5})
    plain = read_model_bytes(content, None, "m")
    x = f32(4, 10).astype(np.float64)
    perturbed = read(content)
    shaped = [n for n in perturbed.nodes if not isinstance(n, Perturbed)]
    assert len(shaped) == len(plain.nodes)
    assert values(plain, x)[-1].shape == (4, 6)


REFUSED = [
    ("LayerNormalization", [(1, 4), f32(4)], {}, 17),
    ("Mish", [(1, 4)], {}, 18),
    ("Tan", [(1, 4)], {}, 13),
    ("InstanceNormalization", [(1, 2, 3), f32(2), f32(2)], {}, 13),
    ("Pow", [(1, 4), np.array(5.0, dtype=np.float32)], {}, 13),
    ("ReduceProd", [(1, 4)], {"axes": [1]}, 13),
]


@pytest.mark.parametrize(("operator", "inputs", "attributes", "opset"), REFUSED)
def test_operators_without_an_error_model_are_refused(operator, inputs, attributes, opset):
    with pytest.raises(UnsupportedOperatorError, match="under float32 semantics") as caught:
        single(operator, inputs, attributes, opset)
    assert "tensor 'o0', node 1 of 1" in str(caught.value)
    read_model_bytes(model_bytes(operator, inputs, attributes, opset), None, "m")


def test_all_refused_operators_are_named_at_once():
    content = chain(
        [("Tan", ("x",), "h", {}), ("Relu", ("h",), "g", {}), ("Acos", ("g",), "y", {})]
    )
    with pytest.raises(UnsupportedOperatorError) as caught:
        read(content)
    assert "tensor 'h', node 1 of 3" in str(caught.value)
    assert "tensor 'y', node 3 of 3" in str(caught.value)


def test_weights_beyond_the_format_are_refused():
    with pytest.raises(ModelError, match="beyond the range of float16"):
        single("MatMul", [(1, 1), np.array([[7e4]], dtype=np.float32)], name="float16")


def test_constants_that_overflow_when_computed_are_refused():
    content = chain([("Mul", ("a", "a"), "c", {}), ("Add", ("x", "c"), "y", {})], [("a", [3e38])])
    with pytest.raises(ModelError, match="beyond the range"):
        read(content)


def test_attributes_below_the_normal_numbers_are_refused():
    single("LeakyRelu", [(1, 3)], {"alpha": 1e-5})
    with pytest.raises(UnsupportedOperatorError, match="'alpha' is no normal number of float16"):
        single("LeakyRelu", [(1, 3)], {"alpha": 1e-5}, name="float16")


@pytest.mark.parametrize("field", ["own", "spread", "peak", "lean", "reach", "limit"])
@pytest.mark.parametrize("number", [-1.0, float("nan")])
def test_an_error_is_not_negative(field, number):
    with pytest.raises(ModelError, match="negative or no number"):
        Error(**{field: number})


@pytest.mark.parametrize("field", ["floor", "base"])
def test_the_parts_of_an_error_are_not_negative(field):
    with pytest.raises(ModelError):
        Error(**{field: np.array([-1.0])})
    with pytest.raises(ModelError):
        Error(**{field: np.array([np.inf])})


def query(network, *perturbations):
    case = Case((Fraction(0),) * network.input_size, (Fraction(1),) * network.input_size, ((),))
    stated = Property(network.input_size, network.output_size, (case,))
    return Query(network, stated, (), "0" * 64, perturbations)


def test_the_digest_covers_the_semantics():
    content = model_bytes("Relu", [(1, 3)])
    digests = {query(read_model_bytes(content, None, "m")).digest}
    for name, format in FORMATS.items():
        stated = query(read(content, name), format)
        assert stated.semantics == name
        digests.add(stated.digest)
    assert len(digests) == 1 + len(FORMATS)


def test_a_query_and_its_network_agree_on_the_semantics():
    content = model_bytes("Relu", [(1, 3)])
    with pytest.raises(QuestionError, match="read under real semantics, the query states float32"):
        query(read_model_bytes(content, None, "m"), FLOAT32)
    with pytest.raises(QuestionError, match="read under float16 semantics"):
        query(read(content, "float16"))
    with pytest.raises(QuestionError, match="several perturbations"):
        query(read(content), FLOAT32, FLOAT32)


def test_a_factor_that_makes_weights_tiny_is_refused():
    weight = np.full((3, 2), 2.0**-100, dtype=np.float32)
    single("Gemm", [(1, 3), weight], {"alpha": 0.5})
    with pytest.raises(UnsupportedOperatorError, match="weights that it makes tiny"):
        single("Gemm", [(1, 3), weight], {"alpha": 2.0**-26})


def test_forms_of_other_arithmetic_are_not_taken_for_the_graph():
    """Neither a sum of squares, nor a softmax whose sunk entries are computed apart."""
    content = chain(
        [
            ("MatMul", ("x", "w"), "h", {}),
            ("Mul", ("x", "h"), "p", {}),
            ("ReduceSum", ("p",), "y", {}),
        ],
        [("w", np.eye(4) * 2)],
    )
    assert isinstance(last(read(content))[1], Linear)
    assert [n for n in read(content).nodes if isinstance(n, Product)]
    content = chain(
        [("Concat", ("x", "c"), "h", {"axis": 1}), ("Softmax", ("h",), "y", {"axis": 1})],
        [("c", [[-1e9]])],
    )
    gaps = [n for n in read(content).nodes if isinstance(n, Perturbed) and n.error.peak]
    assert len(gaps) == 1


def product_of_constants(left, right):
    """The enclosure of a stored matrix times another, and whatever order sums it up."""
    nodes = [("MatMul", ["a", "b"], "c", {}), ("Add", ["x", "c"], "y", {})]
    network = read(chain(nodes, [("a", left), ("b", right)], shape=(len(left), right.shape[1])))
    offsets = [n.offset for n in network.nodes if isinstance(n, Linear) and n.offset.value.any()]
    (offset,) = offsets
    return offset.value.reshape(len(left), -1), offset.radius.reshape(len(left), -1)


@pytest.mark.parametrize("seed", range(5))
def test_a_product_of_constants_holds_in_every_order(seed):
    left, right = f32(3, 40, seed=seed), f32(40, 2, seed=seed + 9)
    value, radius = product_of_constants(left, right)
    rng = np.random.default_rng(seed)
    furthest = np.zeros_like(value)
    for _ in range(50):
        order = rng.permutation(40)
        total = np.zeros((3, 2), dtype=np.float32)
        for k in order:
            total = total + left[:, k : k + 1] * right[k]
        off = np.abs(total.astype(np.float64) - value)
        furthest = np.maximum(furthest, off)
    assert np.all(furthest <= radius)
    assert np.all(furthest > 0)
    sizes = np.abs(left.astype(np.float64)) @ np.abs(right.astype(np.float64))
    assert np.all(radius <= 41 * FLOAT32.unit * sizes)


def test_what_cancels_in_a_product_of_constants_may_be_lost():
    value, radius = product_of_constants(np.array([[1e8, 1.0, -1e8]]), np.ones((3, 1)))
    assert value == 1.0
    assert radius >= 1.0


def test_a_product_of_constants_must_not_overflow_in_any_order():
    left, right = np.array([[3e38, 3e38, -3e38]]), np.ones((3, 1))
    with pytest.raises(ModelError, match="beyond the range"):
        product_of_constants(left, right)
    value, _ = product_of_constants(left / 10, right)
    assert np.isclose(value, 3e37)


def test_a_sum_of_constants_holds_in_every_order():
    stored = np.array([[1e8, 1.0, -1e8], [3.0, 4.0, 0.1]], np.float32)
    nodes = [("ReduceSum", ["a", "axes"], "c", {"keepdims": 1}), ("Add", ["x", "c"], "y", {})]
    made = [helper.make_node(op, list(i), [o], **a) for op, i, o, a in nodes]
    constants = {"a": stored, "axes": np.array([1], np.int64)}
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 1))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    network = read(serialised(graph))
    (offset,) = [n.offset for n in network.nodes if isinstance(n, Linear) and n.offset.value.any()]
    exact = stored.astype(np.float64).sum(1)
    assert np.all(np.abs(offset.value - exact) < 1e-15)
    assert offset.radius[0] >= 1.0
    assert 2 * FLOAT32.unit * 7.1 <= offset.radius[1] <= 4 * FLOAT32.unit * 7.1
