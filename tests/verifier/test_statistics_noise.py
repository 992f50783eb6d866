"""Noise: what it depends on, where it lies, how it is distributed; black boxes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from scipy import stats

from specs.errors import InputError
from tests.faulty_models import dense_model, graph_bytes, node
from verifier.statistics.blackbox import (
    BlackBox,
    black_box_file,
    classes,
    device_of,
    prefers,
    read_black_box,
)
from verifier.statistics.noise import BATCH, BLOCK, KINDS, Around, Stream, batched, gaussian

POINT = np.array([0.5, 0.0, 0.97, 0.25])
UNIT = (Fraction(0), Fraction(1))


def drawn(around: Around, stream: Stream, start: int, stop: int, dtype=np.float32):
    return np.concatenate(list(around.samples(POINT, stream, start, stop, dtype)))


@given(st.integers(0, 300), st.integers(1, 200), st.sampled_from(KINDS))
@settings(max_examples=30, deadline=None)
def test_a_sample_depends_on_seed_name_and_number_alone(start, count, kind):
    around = Around(kind, Fraction(1, 10), valid=UNIT)
    stream = Stream(3, "here", 4)
    whole = drawn(around, stream, 0, 500)
    assert np.array_equal(drawn(around, stream, start, start + count), whole[start : start + count])
    noisy = np.concatenate(list(gaussian(POINT, 1.0, stream, 0, 500, np.float64)))
    part = np.concatenate(list(gaussian(POINT, 1.0, stream, start, start + count, np.float64)))
    assert np.array_equal(part, noisy[start : start + count])


@pytest.mark.parametrize("other", [Stream(4, "here", 4), Stream(3, "there", 4)])
def test_other_streams_are_others(other):
    around = Around("uniform", Fraction(1, 10))
    mine = drawn(around, Stream(3, "here", 4), 0, 100)
    assert not np.any(mine == drawn(around, other, 0, 100))


def test_blocks_do_not_repeat():
    around = Around("normal", Fraction(1, 10), Fraction(1, 10))
    samples = drawn(around, Stream(0, "x", 4), 0, 5 * BLOCK, np.float64)
    assert len(np.unique(samples[:, 0])) == 5 * BLOCK
    assert Stream(0, "x", 1 << 21).block == 2
    assert Stream(0, "x", 1 << 40).block == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_samples_lie_in_the_box_exactly(kind, dtype):
    around = Around(kind, Fraction(3, 100), Fraction(2), UNIT)
    samples = drawn(around, Stream(0, "x", 4), 0, 2000, dtype)
    assert samples.dtype == dtype
    for column, centre in zip(samples.astype(np.float64).T, POINT, strict=True):
        for end in (column.min(), column.max()):
            assert abs(Fraction(end) - Fraction(centre)) <= around.radius
            assert 0 <= end <= 1
        on_edge = np.mean(column == column.max())
        assert kind == "uniform" or on_edge > 0.1  # what falls outside is clamped


def test_distributions_are_those_that_are_stated():
    count, radius = 4000, Fraction(1, 8)
    for kind, law in (
        ("uniform", stats.uniform(-0.125, 0.25)),
        ("normal", stats.norm(scale=0.0125)),
        ("laplace", stats.laplace(scale=0.0125)),
    ):
        spread = Fraction(1) if kind == "uniform" else Fraction(1, 10)
        samples = drawn(Around(kind, radius, spread), Stream(1, kind, 4), 0, count, np.float64)
        for column in (samples - POINT).T:
            inside = column[np.abs(column) < float(radius)]
            assert stats.kstest(inside, law.cdf).pvalue > 1e-4
        assert np.abs(np.corrcoef(samples.T) - np.eye(4)).max() < 0.1
    noisy = np.concatenate(list(gaussian(POINT, 0.5, Stream(1, "g", 4), 0, count, np.float64)))
    assert stats.kstest((noisy - POINT).ravel(), stats.norm(scale=0.5).cdf).pvalue > 1e-4


def test_uniform_noise_is_uniform_on_what_is_valid():
    """No mass lies on the edge, as it would if samples outside were clamped."""
    samples = drawn(Around("uniform", Fraction(1, 4), valid=UNIT), Stream(0, "x", 4), 0, 4000)
    assert np.mean(samples[:, 1] == 0) < 0.01
    assert stats.kstest(samples[:, 1], stats.uniform(0, 0.25).cdf).pvalue > 1e-4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Around("cauchy", Fraction(1)), "noise 'cauchy'; there are uniform"),
        (lambda: Around("normal", Fraction(0)), "radius 0"),
        (lambda: Around("normal", Fraction(1), Fraction(-1)), "spread -1"),
        (
            lambda: Around("uniform", Fraction(1, 10**12)).box(np.array([0.1]), np.float32),
            "no float32 number lies between",
        ),
        (
            lambda: Around("uniform", Fraction(1, 10), valid=UNIT).box(np.array([3.0]), np.float64),
            "no float64 number lies between 2.9 and 1, where input 0",
        ),
        (lambda: device_of("cuda"), "onnxruntime has"),
    ],
)
def test_noise_of_nonsense(wrong, message):
    with pytest.raises(InputError, match=message):
        wrong()


def test_batches_hold_the_same_samples():
    blocks = [np.full((BLOCK, 3), k, np.float32) for k in range(40)]
    pieces = list(batched(blocks))
    assert max(map(len, pieces)) <= BATCH
    assert len(pieces) < 5
    assert np.array_equal(np.concatenate(pieces), np.concatenate(blocks))
    assert list(batched([])) == []


# ---------------------------------------------------------------------------------- black boxes


def write(tmp_path, content: bytes):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    return path


def test_a_box_runs_batches_as_single_inputs(tmp_path):
    box = read_black_box(write(tmp_path, dense_model()))
    points = np.random.default_rng(0).normal(size=(70, 6)).astype(np.float32)
    assert box.batched
    assert (box.size, box.outputs, box.dtype) == (6, 3, np.float32)
    together, alone = box.run(points), np.concatenate([box.run(row[None]) for row in points])
    assert together.shape == (70, 3)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    assert box.run(points[:0]).shape == (0, 3)


def mixing(tmp_path):
    """The output is the sum over the batch, repeated: batches are no single runs."""
    nodes = [
        node("ReduceSum", "x axes", "s", keepdims=1),
        node("Add", "x s", "y"),
    ]
    stored = {"axes": np.array([0], np.int64)}
    return write(tmp_path, graph_bytes(nodes, (1, 4), stored))


def fixed(tmp_path):
    """A Reshape that allows one input only."""
    nodes = [node("Reshape", "x shape", "y")]
    return write(tmp_path, graph_bytes(nodes, (1, 4), {"shape": np.array([1, 4], np.int64)}))


@pytest.mark.parametrize("make", [mixing, fixed])
def test_what_does_not_run_in_batches_is_run_alone(tmp_path, make):
    path = make(tmp_path)
    box = read_black_box(path)
    assert not box.batched
    points = np.arange(12, dtype=np.float32).reshape(3, 4)
    session = onnxruntime.InferenceSession(path.read_bytes())
    wanted = [session.run(None, {"x": row[None]})[0][0] for row in points]
    assert np.array_equal(box.run(points), wanted)
    assert box.run(points[:0]).shape == (0, 4)


def test_models_that_are_no_boxes(tmp_path):
    with pytest.raises(InputError, match=r"absent\.onnx: no such file"):
        read_black_box(tmp_path / "absent.onnx")
    with pytest.raises(InputError, match="cannot be read"):
        read_black_box(write(tmp_path, b"\xff\xffnothing"))
    two = helper.make_model(
        helper.make_graph(
            [helper.make_node("Add", ["a", "b"], ["y"])],
            "g",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 2)) for n in "ab"],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2))],
        ),
        opset_imports=[helper.make_opsetid("", 15)],
        ir_version=8,
    )
    with pytest.raises(InputError, match="2 inputs; wanted: one"):
        read_black_box(write(tmp_path, two.SerializeToString()))
    integers = helper.make_model(
        helper.make_graph(
            [helper.make_node("Abs", ["a"], ["y"])],
            "g",
            [helper.make_tensor_value_info("a", TensorProto.INT64, (1, 2))],
            [helper.make_tensor_value_info("y", TensorProto.INT64, (1, 2))],
        ),
        opset_imports=[helper.make_opsetid("", 15)],
        ir_version=8,
    )
    with pytest.raises(InputError, match="not a tensor of floats"):
        read_black_box(write(tmp_path, integers.SerializeToString()))
    unknown = graph_bytes([node("NoSuchOperator", "x", "y")], (1, 2), {})
    with pytest.raises(InputError, match="onnxruntime refuses"):
        read_black_box(write(tmp_path, unknown))
    open_shape = graph_bytes([node("Relu", "x", "y")], (1, "width"), {})
    with pytest.raises(InputError, match="an input of shape"):
        read_black_box(write(tmp_path, open_shape))


def test_external_data_are_part_of_a_box(tmp_path):
    weights = np.eye(4, dtype=np.float32)
    model = onnx.ModelProto.FromString(
        graph_bytes([node("MatMul", "x w", "y")], (1, 4), {"w": weights})
    )
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    box = read_black_box(path)
    assert box.batched
    assert np.array_equal(box.run(weights), weights)
    digest = box.model.digest
    (tmp_path / "w.bin").write_bytes((2 * weights).tobytes())
    assert black_box_file(path).digest != digest
    assert numpy_helper.to_array(onnx.load(path).graph.initializer[0])[0, 0] == 2.0
    (tmp_path / "w.bin").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        read_black_box(path)


def test_ties_and_what_is_no_number_are_failures():
    scores = np.array([[1, 0, 0], [1, 1, 0], [np.nan, 0, 0], [1, np.nan, 0], [np.inf, np.inf, 0]])
    assert prefers(scores, 0).tolist() == [True, False, False, False, False]
    assert classes(scores).tolist() == [0, 0, -1, -1, 0]


def test_the_device_is_one_that_is_there(monkeypatch):
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert device_of("cpu") == "cpu"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    assert device_of("cuda") == "cuda"
    asked = []
    monkeypatch.setattr(
        "verifier.statistics.blackbox.load",
        lambda model, optimised=True, providers=(): asked.append(providers) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        BlackBox(None, "cuda")
    assert asked == [["CUDAExecutionProvider"]]


@pytest.mark.parametrize("works", [True, False], ids=["works", "does not"])
def test_a_device_that_does_not_work_is_not_chosen(monkeypatch, works):
    """A runtime built for CUDA lists it on machines without, and then uses the CPU."""
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)

    class Session:
        def get_providers(self):
            return there if works else there[1:]

    monkeypatch.setattr("verifier.statistics.blackbox.load", lambda *given: Session())
    assert device_of("auto") == ("cuda" if works else "cpu")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_runtime_without_the_device_does_not_choose_it(monkeypatch):
    there = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in there:
        pytest.skip("onnxruntime has CUDA here")
    listed = ["CUDAExecutionProvider", *there]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    assert device_of("auto") == "cpu"


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_device_that_the_runtime_leaves_out_is_an_error(tmp_path):
    """It falls back to the CPU with a warning only: the results would be those of the CPU."""
    there = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in there:
        pytest.skip("onnxruntime has CUDA here")
    model = black_box_file(write(tmp_path, dense_model()))
    with pytest.raises(InputError, match="could not run it on 'cuda'"):
        BlackBox(model, "cuda")
