"""Hardened models that are called certified, and those that are not what hardening writes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from proofs.evaluate import evaluate
from specs.builders import box
from specs.errors import InputError
from specs.onnx_reader import read_model_bytes
from tests.faulty_models import dense_model, graph_bytes, node
from tests.verifier.random_graphs import random_graph
from verifier.harden.certified import Ends
from verifier.harden.files import check_hardened, contents
from verifier.harden.harden import Hardened
from verifier.harden.schemes import from_ends, subject
from verifier.harden.surgery import PREFIX, Restriction, behind, produced, restricted
from verifier.harden.theorem import Theorem, beyond, probe, proved

WIDE = 64.0
"""Bounds that the activations of random graphs seldom reach."""


def same(first, second, x) -> bool:
    """Whether two models have the same outputs at an input, within their enclosures."""
    point = [Fraction(float(v)) for v in x]
    outputs = [evaluate(read_model_bytes(c, None, "net"), point) for c in (first, second)]
    pairs = zip(*outputs, strict=True)
    return all(abs(a[0] - b[0]) <= a[1] + b[1] < Fraction(1, 10**60) for a, b in pairs)


def hardened(folder: Path, content: bytes, tensors, per, action, stored=False):
    """A model with wide bounds and their proof beside it; ``None``: the kernel has none."""
    (folder / "n.onnx").write_bytes(content)
    read = probe(content, [name for name in produced(content) if name in tensors])
    count = read.network.output_size
    ends = Ends(np.full(count, -WIDE), np.full(count, WIDE))
    found = from_ends(subject(content, read), ends, per=per, action=action)
    found = [Restriction(e.tensor, e.upper, e.lower, e.action, stored) for e in found]
    domain = box(read.network.input_size, -1, 1)
    theorem = proved(read, beyond(read, found), [domain], ["remark"], 0.0)
    if not isinstance(theorem, Theorem):
        return None
    made = restricted(content, found)
    files = contents(folder / "h.onnx", Hardened(made, tuple(found), theorem, None, {}))
    for path, held in files.items():
        path.write_bytes(held)
    return made


def test_tensors_that_the_reader_holds_in_another_shape(tmp_path):
    """Four entries that are multiplied as a row elsewhere: bounds keep the file's shape."""
    nodes = [
        node("Add", "x c", "t"),
        node("MatMul", "t w", "m"),
        node("ReduceSum", "t", "s", axes=[0], keepdims=1),
        node("Add", "m s", "y"),
    ]
    stored = {"c": np.arange(4, dtype=np.float32), "w": np.ones((4, 4), np.float32)}
    content = graph_bytes(nodes, (4,), stored, opset=11)
    made = hardened(tmp_path, content, ["t", "m"], "neuron", "clip")
    assert made is not None
    assert check_hardened(tmp_path / "n.onnx", tmp_path / "h.onnx").verdict == "valid unsat"
    assert same(content, made, [0.5, -0.25, 0.75, 1.0])


def test_two_relus_of_one_tensor_in_two_shapes(tmp_path):
    nodes = [
        node("Reshape", "x shape", "r"),
        node("Relu", "r", "u"),
        node("Relu", "x", "t"),
        node("MatMul", "u w", "m"),
        node("ReduceSum", "t", "s", axes=[0], keepdims=1),
        node("Add", "m s", "y"),
    ]
    stored = {"w": np.ones((4, 4), np.float32), "shape": np.array([1, 4], np.int64)}
    content = graph_bytes(nodes, (4,), stored, opset=11)
    made = hardened(tmp_path, content, behind(content, ["Relu"]), "neuron", "zero")
    assert made is not None
    assert same(content, made, [0.5, -0.25, 0.75, 1.0])


@pytest.mark.parametrize("seed", range(12))
def test_certified_models_are_the_same_on_the_domain(seed, tmp_path):
    """Random graphs: shortcuts, ties, tensors that are outputs, with and without a batch axis."""
    onnxruntime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(seed)
    dtype = [np.float32, np.float64][seed % 2]
    content, names = random_graph(rng, dtype=dtype, opset=(9, 11, 13)[seed % 3], batch=seed % 4 > 1)
    chosen = rng.choice(names, size=int(rng.integers(1, len(names) + 1)), replace=False)
    per, action = ("layer", "neuron")[seed // 2 % 2], ("clip", "zero")[seed // 3 % 2]
    made = hardened(tmp_path, content, set(chosen), per, action, stored=seed % 5 == 0)
    if made is None:
        return  # some entry does exceed the bounds
    assert check_hardened(tmp_path / "n.onnx", tmp_path / "h.onnx").verdict == "valid unsat"
    x = rng.uniform(-1, 1, size=read_model_bytes(content, None, "n").input_size).astype(dtype)
    assert same(content, made, x)
    runs = []
    for model in (content, made):
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        (entry,) = session.get_inputs()
        runs.append(session.run(None, {entry.name: x.reshape(entry.shape)}))
    for first, second in zip(*runs, strict=True):
        assert first.shape == second.shape
        assert np.allclose(first, second)


def changed_bounds(model, change) -> bytes:
    """The model in which each stored bound is changed."""
    for each in model.graph.node:
        if each.name.startswith(PREFIX) and each.op_type == "Constant":
            tensor = each.attribute[0].t
            array = np.asarray(change(numpy_helper.to_array(tensor)))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model.SerializeToString()


def without_attributes(model) -> bytes:
    for each in model.graph.node:
        if each.name.startswith(PREFIX):
            del each.attribute[:]
    return model.SerializeToString()


def passed_by(model) -> bytes:
    """A later operator reads what has not been restricted."""
    last = model.graph.node[-1]
    last.input[0] = next(n.output[0] for n in model.graph.node if n.output[0].endswith("before"))
    return model.SerializeToString()


def with_one_more(model) -> bytes:
    name = PREFIX + "more/restricted"
    model.graph.node.append(helper.make_node("Identity", ["y"], [name], name=name))
    return model.SerializeToString()


def without_the_last(model) -> bytes:
    for each in model.graph.node:
        if each.name.endswith("/restricted"):
            each.op_type = "Max"
    return model.SerializeToString()


MUTANTS = {
    "tighter": lambda m: changed_bounds(m, lambda b: b / 64),
    "larger": lambda m: changed_bounds(m, lambda b: b * 2),
    "stacked": lambda m: changed_bounds(m, lambda b: np.stack([b, b])),
    "axis": lambda m: changed_bounds(m, lambda b: b[None]),
    "empty": lambda m: changed_bounds(m, lambda b: b[:0]),
    "nan": lambda m: changed_bounds(m, lambda b: b * np.float32(np.nan)),
    "double": lambda m: changed_bounds(m, lambda b: b.astype(np.float64)),
    "attributes": without_attributes,
    "passed by": passed_by,
    "more": with_one_more,
    "maximum": without_the_last,
}


@pytest.mark.parametrize("kind", sorted(MUTANTS))
def test_what_hardening_did_not_write_is_refused(kind, tmp_path):
    nodes = [node("MatMul", "x w", "m"), node("Relu", "m", "h"), node("Add", "h c", "y")]
    stored = {"w": np.ones((2, 3), np.float32), "c": np.ones(3, np.float32)}
    content = graph_bytes(nodes, (1, 2), stored)
    made = hardened(tmp_path, content, ["m", "h"], "neuron", "clip")
    assert made is not None
    target = tmp_path / "h.onnx"
    target.write_bytes(MUTANTS[kind](onnx.ModelProto.FromString(made)))
    with pytest.raises(InputError):
        check_hardened(tmp_path / "n.onnx", target)


@pytest.mark.parametrize("name", ["h.bounds.onnx", "h.bounds.1.vnnlib", "h.bounds.1.farkas"])
def test_a_file_of_the_theorem_is_missing(name, tmp_path):
    assert hardened(tmp_path, dense_model((2, 3, 2)), ["h0"], "layer", "clip") is not None
    (tmp_path / name).unlink()
    with pytest.raises(InputError):
        check_hardened(tmp_path / "n.onnx", tmp_path / "h.onnx")
