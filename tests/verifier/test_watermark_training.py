import numpy as np
import onnx
import pytest
from marked_models import blobs, convolutional, dense
from onnx import TensorProto, helper, numpy_helper

from specs.errors import InputError, ModelError, UnsupportedOperatorError
from specs.onnx_reader import read_model_bytes
from verifier.attack_forward import NumpyEvaluator
from verifier.watermarks.graph import Trainable, accuracy
from verifier.watermarks.parameters import parameters, replaced
from verifier.watermarks.training import Training, train

POINTS, LABELS = blobs()
QUICK = Training(epochs=30, rate=1e-2, batch=30)


def graph_of(*nodes, shape=(1, 2, 6, 6), stored=()):
    """A model of these nodes, from ``x`` to ``y``."""
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))]
    held = [numpy_helper.from_array(np.asarray(v), name) for name, v in stored]
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, held)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
    made.ir_version = 8
    return onnx.shape_inference.infer_shapes(made).SerializeToString()


WEIGHT = np.random.default_rng(3).normal(size=(4, 1, 3, 2)).astype(np.float32)
OPERATORS = {
    "dense": (dense(), 16),
    "convolutional": (convolutional(), 16),
    "uneven-convolution": (
        graph_of(
            helper.make_node(
                "Conv",
                ["x", "w"],
                ["y"],
                pads=[1, 0, 2, 3],
                strides=[2, 1],
                dilations=[1, 2],
                group=2,
            ),
            stored=[("w", WEIGHT)],
        ),
        72,
    ),
    "pools": (
        graph_of(
            helper.make_node(
                "MaxPool", ["x"], ["m"], kernel_shape=[2, 3], strides=[1, 2], pads=[1, 0, 0, 1]
            ),
            helper.make_node("AveragePool", ["m"], ["a"], kernel_shape=[2, 2]),
            helper.make_node("GlobalAveragePool", ["a"], ["g"]),
            helper.make_node("Reshape", ["g", "shape"], ["y"]),
            stored=[("shape", np.array([1, -1]))],
        ),
        72,
    ),
    "functions": (
        graph_of(
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Add", ["a", "b"], ["c"]),
            helper.make_node("LeakyRelu", ["c"], ["d"], alpha=0.2),
            helper.make_node("Tanh", ["d"], ["e"]),
            helper.make_node("Sigmoid", ["c"], ["f"]),
            helper.make_node("Mul", ["e", "b"], ["h"]),
            helper.make_node("Sub", ["f", "h"], ["y"]),
            shape=(1, 3),
            stored=[("w", WEIGHT.reshape(3, 8)), ("b", WEIGHT.reshape(3, 8)[0])],
        ),
        3,
    ),
    "scaled-gemm": (
        graph_of(
            helper.make_node("Gemm", ["x", "w", "b"], ["y"], alpha=0.5, beta=3.0),
            shape=(1, 3),
            stored=[("w", WEIGHT.reshape(3, 8)), ("b", WEIGHT.reshape(3, 8)[0])],
        ),
        3,
    ),
}


@pytest.mark.parametrize(("content", "size"), OPERATORS.values(), ids=OPERATORS)
def test_the_same_function_as_the_kernel_reads(content, size):
    points = np.random.default_rng(1).normal(size=(5, size))
    network = read_model_bytes(content, None, "model")
    wanted, _ = NumpyEvaluator(network).evaluate(points)
    assert np.allclose(Trainable(content).scores(points), wanted, atol=1e-5)


def test_training_learns_and_changes_parameters_only():
    for content in (dense(), convolutional()):
        model = Trainable(content)
        assert accuracy(content, POINTS, LABELS) < 0.6
        train(model, POINTS, LABELS, QUICK)
        trained = model.content()
        assert accuracy(trained, POINTS, LABELS) > 0.9
        before, after = parameters(content), parameters(trained)
        assert list(before) == list(after)
        assert all(np.any(before[name] != after[name]) for name in before)
        assert replaced(trained, before) == replaced(content, before)


def test_training_repeats_itself():
    contents = []
    for _ in range(2):
        model = Trainable(convolutional())
        train(model, POINTS, LABELS, Training(epochs=2))
        contents.append(model.content())
    assert contents[0] == contents[1]


def test_no_epochs_change_nothing():
    content = convolutional()
    model = Trainable(content)
    train(model, POINTS, LABELS, Training(epochs=0))
    assert parameters(model.content()).keys() == parameters(content).keys()
    for name, values in parameters(content).items():
        assert np.array_equal(parameters(model.content())[name], values)


def test_loaded_parameters_are_written():
    model = Trainable(dense())
    other = np.full((12, 16), 0.25)
    model.load({"fc1.weight": other})
    assert np.array_equal(parameters(model.content())["fc1.weight"], other)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"other": np.zeros(3)}, "no float32 initialiser"),
        ({"fc1.bias": np.zeros(3)}, "shape"),
        ({"fc1.bias": np.full(12, np.nan)}, "not finite"),
        ({"fc1.bias": np.full(12, 1e300)}, "not finite"),
    ],
    ids=["name", "shape", "nan", "overflow"],
)
def test_parameters_that_do_not_fit(values, message):
    with pytest.raises(ModelError, match=message):
        replaced(dense(), values)


def test_models_that_are_none():
    with pytest.raises(ModelError, match="not an ONNX model"):
        parameters(b"\xff\xff\xff")
    with pytest.raises(ModelError, match="no graph"):
        parameters(b"")


def test_parameters_that_are_no_numbers():
    content = graph_of(
        helper.make_node("Add", ["x", "b"], ["y"]),
        shape=(1, 2),
        stored=[("b", np.array([1, np.inf], np.float32))],
    )
    with pytest.raises(ModelError, match="not finite"):
        Trainable(content)


REFUSED = {
    "operator": helper.make_node("Softmax", ["x"], ["y"]),
    "flatten": helper.make_node("Flatten", ["x"], ["y"], axis=2),
    "pooling": helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], pads=[1] * 4),
    "rounded-up": helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], ceil_mode=1),
    "padding": helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER"),
    "reshape": helper.make_node("Reshape", ["x", "shape"], ["y"]),
}


@pytest.mark.parametrize("node", REFUSED.values(), ids=REFUSED)
def test_what_is_not_trained_is_refused(node):
    stored = [("w", np.ones((2, 2, 3, 3), np.float32)), ("shape", np.array([2, -1]))]
    with pytest.raises(UnsupportedOperatorError, match=r"only|cannot be trained"):
        Trainable(graph_of(node, stored=stored)).scores(np.zeros((1, 72)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Training(epochs=-1),
        lambda: Training(rate=0.0),
        lambda: Training(rate=float("nan")),
        lambda: Training(batch=0),
        lambda: train(Trainable(dense()), POINTS[:0], LABELS[:0], QUICK),
        lambda: train(Trainable(dense()), POINTS, LABELS[:3], QUICK),
    ],
    ids=range(6),
)
def test_trainings_that_make_no_sense(make):
    with pytest.raises(InputError):
        make()
