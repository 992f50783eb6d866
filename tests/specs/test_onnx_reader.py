"""Files, names, shape subgraphs and random graphs."""

from __future__ import annotations

import gzip
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from specs.errors import ModelError
from specs.network import Input, Linear, Network, Univariate
from specs.onnx_reader import read_model, read_model_bytes
from tests.networks import (
    evaluate,
    model_bytes,
    onnxruntime_outputs,
    reference_outputs,
    serialised,
)


def read(text: str) -> tuple[Network, bytes]:
    """A model in ONNX's text syntax."""
    content = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]> {text}')
    written: bytes = content.SerializeToString()
    return read_model_bytes(written, None, "m"), written


def agrees(network: Network, content: bytes, points: int = 3) -> None:
    """Both runtimes compute the same from multiples of 1/8."""
    drawn = np.random.default_rng(5).integers(-16, 17, (points, network.input_size)) / 8
    ours = evaluate(network, drawn)
    for theirs in (onnxruntime_outputs(content, drawn), reference_outputs(content, drawn)):
        assert theirs.shape == ours.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2.0**-18 * (1 + np.abs(ours).max()))


def small() -> bytes:
    return model_bytes("Gemm", [(1, 2), np.ones((2, 2), np.float32)])


# --- files ---------------------------------------------------------------------------


def test_a_packed_file_is_the_same_model(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(small())
    (tmp_path / "b.onnx.gz").write_bytes(gzip.compress(small()))
    plain, packed = read_model(tmp_path / "a.onnx")[1], read_model(tmp_path / "b.onnx.gz")[1]
    unnamed = read_model(tmp_path / "b.onnx")[1]
    assert plain.digest == packed.digest == unnamed.digest == hashlib.sha256(small()).hexdigest()
    assert plain.content == packed.content == unnamed.content == small()


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "text": (b"hello world, this is no model", "not an ONNX model|no graph"),
    "cut": (small()[:-20], "not an ONNX model"),
    "cut-gzip": (gzip.compress(small())[:-12], "cannot be read"),
    "bad-gzip": (gzip.compress(small())[:20] + b"?" * 40, "cannot be read"),
    "no-graph": (onnx.ModelProto(ir_version=8).SerializeToString(), "no graph"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_file_is_refused(name: str, tmp_path: Path) -> None:
    content, reason = UNREADABLE[name]
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=reason) as caught:
        read_model(tmp_path / "m.onnx")
    assert "m.onnx" in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "not a regular file"), (tmp_path / "no", "no such file")):
        with pytest.raises(ModelError, match=reason):
            read_model(path)
    with pytest.raises(ModelError, match="cannot be read"):
        read_model(tmp_path / ("n" * 1000))


def external_model(entries: dict[str, str]) -> bytes:
    model = onnx.load_from_string(small())
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)
    content: bytes = model.SerializeToString()
    return content


def test_external_data_are_read_and_hashed(tmp_path: Path) -> None:
    weight = np.array([[1, 2], [3, 4]], np.float32)
    (tmp_path / "m.onnx").write_bytes(external_model({"location": "d/w", "offset": "4"}))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "w").write_bytes(b"skip" + weight.tobytes() + b"tail")
    network, file = read_model(tmp_path / "m.onnx")
    np.testing.assert_array_equal(evaluate(network, np.eye(2)), weight)
    (tmp_path / "d" / "w").write_bytes(b"skip" + (weight + 1).tobytes())
    changed, other = read_model(tmp_path / "m.onnx")
    np.testing.assert_array_equal(evaluate(changed, np.eye(2)), weight + 1)
    assert file.digest != other.digest


EXTERNAL = [
    ({"location": "../secret"}, "below the model's folder"),
    ({"location": "/etc/hostname"}, "below the model's folder"),
    ({"location": "a/../../secret"}, "below the model's folder"),
    ({"location": "link"}, "lead out of"),
    ({"location": "C:\\w"}, "below the model's folder"),
    ({"location": ""}, "below the model's folder"),
    ({"location": "missing"}, "cannot be found"),
    ({"location": "."}, "missing or too short"),
    ({"location": "w", "offset": "1"}, "too short"),
    ({"location": "w", "offset": "-1"}, "offset"),
    ({"location": "w", "length": "8"}, "needs 16"),
    ({"location": "w", "where": "there"}, "unknown entry 'where'"),
]


@pytest.mark.parametrize(("entries", "reason"), EXTERNAL)
def test_external_data_elsewhere_are_refused(
    entries: dict[str, str], reason: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (tmp_path / "secret", folder / "w"):
        path.write_bytes(b"\0" * 16)
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "m.onnx").write_bytes(external_model(entries))
    with pytest.raises(ModelError, match=reason):
        read_model(folder / "m.onnx")


def test_data_both_inside_and_outside_are_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(small())
    model.graph.initializer[0].external_data.add(key="location", value="w")
    (tmp_path / "w").write_bytes(b"\0" * 16)
    with pytest.raises(ModelError, match="external data"):
        read_model_bytes(model.SerializeToString(), tmp_path, "m")


# --- stored numbers --------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("raw", [True, False])
def test_stored_numbers_are_exact(kind: Any, raw: bool) -> None:
    numbers = np.array([0.1, -1 / 3, np.finfo(kind).tiny, np.finfo(kind).max, -0.0], kind)
    data = numbers.tobytes() if raw else numbers
    proto_kind = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    tensor = helper.make_tensor("c", proto_kind, [5], data, raw=raw)
    assert np.array_equal(offset_of(tensor), numbers.astype(np.float64))


def test_stored_bfloat16_are_exact() -> None:
    bits = np.array([0x3DCD, 0xBEAB, 0x0080, 0x7F7F, 0x0001], np.uint16)
    truth = (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    tensor = TensorProto(name="c", data_type=TensorProto.BFLOAT16, dims=[5])
    tensor.raw_data = bits.tobytes()
    assert np.array_equal(offset_of(tensor), truth)
    tensor.ClearField("raw_data")
    tensor.int32_data.extend(bits.tolist())
    assert np.array_equal(offset_of(tensor), truth)


def offset_of(tensor: TensorProto) -> npt.NDArray[np.float64]:
    """The offset of ``x + c`` when read from a file."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "c"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", tensor.data_type, [5])],
        [helper.make_tensor_value_info("y", tensor.data_type, None)],
        [tensor],
    )
    last = read_model_bytes(serialised(graph), None, "m").nodes[-1]
    assert isinstance(last, Linear)
    assert last.offset.exact
    return last.offset.value


# --- graphs --------------------------------------------------------------------------

GRAPHS = {
    "several inputs and outputs": """
        g (float[1,2] a, float[1,3] b) => (float[1,5] y, float[1,2] z) {
            c = Concat<axis = 1>(a, b)  y = Relu(c)  z = Neg(a) }""",
    "shape subgraph": """
        g (float[N,2,3,4] x) => (float[N,24] y) <int64[1] zero = {0}, int64[1] rest = {-1}> {
            s = Shape(x)  n = Gather<axis = 0>(s, zero)  t = Concat<axis = 0>(n, rest)
            y = Reshape(x, t) }""",
    "computed sizes": """
        g (float[1,2,3] x) => (float[1,6] y) <int64 two = {2}, int64 one = {1}> {
            s = Shape(x)  a = Gather<axis = 0>(s, two)  b = Gather<axis = 0>(s, one)
            p = Mul(a, b)  q = Unsqueeze(p, ax)  m = Unsqueeze(minus, ax)
            t = Concat<axis = 0>(m, q)
            ax = Constant<value_ints = [0]>()  minus = Constant<value_int = -1>()
            y = Reshape(x, t) }""",
    "constant of shape": """
        g (float[2,3] x) => (float[2,3] y) {
            s = Shape(x)  c = ConstantOfShape<value = float[1] {0.5}>(s)  y = Add(x, c) }""",
    "range and where": """
        g (float[4] x) => (float[4] y)
        <int64 a = {0}, int64 e = {4}, int64 d = {1}, int64 h = {2}> {
            i = Range(a, e, d)  m = Less(i, h)  n = Neg(x)  y = Where(m, x, n) }""",
    "folded constants": """
        g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {1, 2, 3, 4}, float[1] h = {0.5}> {
            t = Transpose(w)  u = Mul(t, h)  v = MatMul(x, u)  y = Div(v, h) }""",
    "residual": """
        g (float[1,2,3,3] x) => (float[1,2,3,3] y) <float[2,2,1,1] w = {1, -2, 0.5, 3}> {
            a = Conv(x, w)  b = Relu(a)  c = Conv(b, w)  d = Add(c, x)
            e = Relu(d)  y = Sub(e, b) }""",
    "pieces of one tensor": """
        g (float[1,6] x) => (float[1,8] y) <int64[2] k = {2, 4}> {
            a, b = Split<axis = 1>(x, k)  r = Relu(b)  y = Concat<axis = 1>(b, a, a) }""",
    "an input that is an output": "g (float[2] x) => (float[2] x, float[2] y) { y = Relu(x) }",
    "dead nodes": "g (float[2] x) => (float[2] y) { d = Foo(x)  y = Relu(x) }",
    "twice the same": """
        g (float[2] x) => (float[2] y) { a = Add(x, x)  b = Add(a, a)  y = Sub(b, a) }""",
}


@pytest.mark.parametrize("name", sorted(set(GRAPHS) - {"dead nodes", "computed sizes"}))
def test_a_graph_means_what_runtimes_say(name: str) -> None:
    agrees(*read(GRAPHS[name]))


def test_nodes_that_no_output_needs_may_be_unknown() -> None:
    network, _ = read(GRAPHS["dead nodes"])
    assert [node.name for node in network.nodes] == ["x", "y"]


def test_nodes_out_of_order_are_refused() -> None:
    with pytest.raises(ModelError, match=r"reads '\w+', which is not defined before it"):
        read(GRAPHS["computed sizes"])


def test_constants_listed_as_inputs_stay_constants() -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "c"], ["y"])],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("c", "x")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.array([1, 2], np.float32), "c")],
    )
    network = read_model_bytes(serialised(graph), None, "m")
    assert [node.name for node in network.nodes if isinstance(node, Input)] == ["x"]
    agrees(network, serialised(graph))


def test_tensors_keep_their_names() -> None:
    network, _ = read(
        """g (float[1,4] x) => (float[2,2] y)
        <float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}, int64[2] s = {2, 1}, float[2] c = {1, 2}> {
            m = MatMul(x, w)  b = Add(m, c)  r = Relu(b)  v = Reshape(r, s)  y = Add(v, c) }"""
    )
    assert [node.name for node in network.nodes] == ["x", "b", "r", "y"]
    assert dict(network.aliases) == {"v": 2}
    assert isinstance(network.nodes[1], Linear)
    assert isinstance(network.nodes[2], Univariate)


STEPS = ("dense", "relu", "leaky", "add", "scale", "reshape", "turn", "cut", "join", "clip", "max")


@st.composite
def random_graph(draw: st.DrawFn) -> bytes:
    """A chain with shortcuts over matrices of 12 entries, all operators exact in float32."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    nodes, constants, shapes = [], [], {"x": (3, 4)}

    def constant(values: npt.NDArray[Any]) -> str:
        name = f"c{len(constants)}"
        kind = np.int64 if values.dtype.kind == "i" else np.float32
        constants.append(numpy_helper.from_array(values.astype(kind), name))
        return name

    def add(operator: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        name = f"t{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        shapes[name] = shape
        return name

    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=8)):
        x = draw(st.sampled_from(list(shapes)))
        rows, columns = shape = shapes[x]
        twins = [name for name in shapes if shapes[name] == shape]
        if step == "dense":
            weight = constant(random.integers(-1, 2, (columns, 4)) / 2)
            add("MatMul", [x, weight], (rows, 4))
        elif step == "relu":
            add("Relu", [x], shape)
        elif step == "leaky":
            add("LeakyRelu", [x], shape, alpha=0.5)
        elif step in ("add", "max"):
            y = draw(st.sampled_from(twins))
            add("Sub" if step == "add" else "Max", [x, y], shape)
        elif step == "scale":
            add("Mul", [x, constant(random.integers(-2, 3, (columns,)) / 2)], shape)
        elif step == "reshape":
            size = math.prod(shape)
            extent = draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
            add("Reshape", [x, constant(np.array([extent, -1]))], (extent, size // extent))
        elif step == "turn":
            add("Transpose", [x], (columns, rows))
        elif step == "cut":
            stop = draw(st.integers(1, columns))
            edges = [constant(np.array([n])) for n in (0, stop, 1)]
            add("Slice", [x, *edges], (rows, stop))
        elif step == "join":
            y = draw(st.sampled_from(twins))
            add("Concat", [x, y], (2 * rows, columns), axis=0)
        else:
            ends = [constant(np.array(n)) for n in (-0.5, 1.25)]
            add("Clip", [x, *ends], shape)
    last = nodes[-1].output[0]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (3, 4))],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        constants,
    )
    return serialised(graph)


@settings(deadline=None, max_examples=150)
@given(random_graph())
def test_random_graphs_mean_what_runtimes_say(content: bytes) -> None:
    agrees(read_model_bytes(content, None, "m"), content, points=2)
