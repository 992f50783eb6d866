"""What has no rule, or breaks one, is refused by name; hostile files cost little."""

from __future__ import annotations

import itertools
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import GraphProto, TensorProto, defs, helper, numpy_helper

from specs.errors import ModelError, UnsupportedOperatorError
from specs.onnx_reader import read_model_bytes
from specs.reader.calls import RULES
from specs.reader.graph import OPSETS
from tests.networks import model_bytes, serialised

SECONDS = 20
X = (1, 2, 5, 6)


def ones(*shape: int) -> npt.NDArray[np.float32]:
    return np.ones(shape, dtype=np.float32)


def ints(*entries: int) -> npt.NDArray[np.int64]:
    return np.array(entries, dtype=np.int64)


def floats(*entries: float) -> npt.NDArray[np.float32]:
    return np.array(entries, dtype=np.float32)


Refused = tuple[str, int, list[Any], dict[str, Any], str]

BROKEN: list[Refused] = [
    ("MatMul", 13, [(2, 3), ones(4, 2)], {}, "do not fit"),
    ("MatMul", 13, [(2, 3), ones()], {}, "scalar"),
    ("Gemm", 13, [(2, 3), ones(3, 4), ones(3)], {}, "broadcast|does not fit"),
    ("Gemm", 13, [(2, 3, 1), ones(3, 4)], {}, "not matrices"),
    ("Gemm", 13, [(2, 3), ones(3, 4)], {"gamma": 1.0}, "no attribute 'gamma'"),
    ("Gemm", 13, [(2, 3), ones(3, 4)], {"alpha": 1}, "wrong type"),
    ("Gemm", 13, [(2, 3), ones(3, 4).astype(np.float64)], {}, "mixes"),
    ("Gemm", 13, [(2, 3)], {}, "1 inputs"),
    ("Add", 13, [(2, 3), ones(2)], {}, "broadcast"),
    ("Add", 7, [(2, 3), ones(3)], {"broadcast": 1}, "no attribute 'broadcast'"),
    ("Add", 13, [(2, 3), np.array([np.nan], np.float32)], {}, "initialiser 'i1'.*not finite"),
    ("Div", 13, [(2,), floats(1, 0)], {}, "divided by 0"),
    ("BatchNormalization", 13, [X, *[ones(2)] * 3, floats(-1, 1)], {}, "square root"),
    ("BatchNormalization", 13, [X, *[ones(3)] * 4], {}, "channels"),
    ("Reshape", 13, [(2, 3), ints(4, -1)], {}, "cannot become"),
    ("Reshape", 13, [(2, 3), ints(-1, -1)], {}, "cannot become"),
    ("Reshape", 13, [(2, 3), ints(-2, -3)], {}, "not a shape"),
    ("Reshape", 13, [(2, 3), ints(1, 1, 0, 6)], {}, "axis 2"),
    ("Reshape", 13, [(2, 3), floats(6)], {}, "integers"),
    ("Squeeze", 13, [(2, 3), ints(0)], {}, "not all 1"),
    ("Squeeze", 13, [(1, 3)], {"axes": [0]}, "no attribute 'axes'"),
    ("Unsqueeze", 13, [(2, 3), ints(0, 0)], {}, "twice"),
    ("Unsqueeze", 11, [(2, 3)], {}, "'axes' is missing"),
    ("Transpose", 13, [(2, 3)], {"perm": [0, 0]}, "permutation"),
    ("Slice", 13, [(2, 3), ints(0), ints(1), ints(0), ints(0)], {}, "do not fit"),
    ("Slice", 13, [(2, 3), ints(0), ints(1), ints(2)], {}, "axis 2"),
    ("Slice", 13, [(2, 3), ints(1), ints(1)], {}, "is empty"),
    ("Gather", 13, [(2, 3), ints(2)], {}, "outside"),
    ("Gather", 13, [(2, 3), floats(1)], {}, "not integers"),
    ("GatherElements", 13, [(2, 3), ints(0)], {}, "do not fit"),
    ("Split", 13, [(5,)], {}, "cannot be split"),
    ("Split", 13, [(6,), ints(1, 2, 4)], {}, "do not fit"),
    ("Concat", 13, [(2, 3), (3, 3)], {"axis": 1}, "do not fit"),
    ("Concat", 13, [(2, 3), (2, 3)], {}, "'axis' is missing"),
    ("Pad", 13, [(2, 3), ints(0, 0, 1)], {}, "do not fit"),
    ("Pad", 13, [(2, 3), ints(-3, 0, 2, 0)], {}, "cut more"),
    ("Pad", 13, [(2, 3), ints(2, 0, 0, 0)], {"mode": "reflect"}, "exceed"),
    ("Pad", 13, [(2, 3), ints(1, 0, 0, 0)], {"mode": "wrap"}, "no mode 'wrap'"),
    ("Expand", 13, [(2, 3), ints(2, 4)], {}, "broadcast"),
    ("Tile", 13, [(2, 3), ints(2, -1)], {}, "do not fit"),
    ("DepthToSpace", 13, [(1, 3, 2, 2)], {"blocksize": 2}, "do not fit"),
    ("Conv", 13, [X, ones(4, 3, 2, 2)], {}, "does not fit"),
    ("Conv", 13, [X, ones(4, 2, 2)], {}, "does not fit"),
    ("Conv", 13, [X, ones(4, 2, 9, 2)], {}, "does not fit axis 0"),
    ("Conv", 13, [X, ones(4, 2, 2, 2)], {"strides": [0, 1]}, "invalid"),
    ("Conv", 13, [X, ones(4, 2, 2, 2)], {"pads": [1, -1, 0, 0]}, "pads"),
    ("Conv", 13, [X, ones(4, 2, 2, 2)], {"group": 0}, "divisible"),
    ("Conv", 13, [X, ones(4, 2, 2, 2)], {"kernel_shape": [2, 3]}, "differs"),
    ("Conv", 13, [X, ones(4, 2, 2, 2)], {"auto_pad": "MAYBE"}, "auto_pad"),
    ("Conv", 13, [X, ones(4, 2, 2, 2), ones(3)], {}, "bias"),
    ("Conv", 13, [(2, 0, 3), ones(4, 2, 2)], {}, "empty|fixed size"),
    ("ConvTranspose", 13, [X, ones(2, 3, 2, 2)], {"pads": [9, 0, 0, 0]}, "spatial shape"),
    ("AveragePool", 13, [X], {}, "'kernel_shape' is missing"),
    ("AveragePool", 13, [X], {"kernel_shape": [2]}, "invalid"),
    ("AveragePool", 11, [X], {"kernel_shape": [2, 2], "dilations": [2, 2]}, "no attribute"),
    ("MaxPool", 13, [X], {"kernel_shape": [2, 2], "pads": [2, 0, 0, 0]}, "padding altogether"),
    ("GlobalLpPool", 13, [(2, 3)], {}, "no spatial axes"),
    ("ReduceSum", 13, [(2, 3), ints(2)], {}, "axis 2"),
    ("ReduceMean", 18, [(2, 3)], {"axes": [0]}, "no attribute 'axes'"),
    ("PRelu", 13, [(2, 3), ones(4)], {}, "broadcast|do not fit"),
    ("PRelu", 13, [(3,), ones(2, 3)], {}, "do not fit"),
    ("Clip", 13, [(2,), floats(1)[0:1].reshape(()), np.float32(0)], {}, "exceeds"),
    ("Clip", 13, [(2,), floats(1, 2)], {}, "single"),
    ("Relu", 13, [(2, 3), ones(1)], {}, "2 inputs"),
    ("Where", 16, [(3,), ones(3), ones(3)], {}, "not Boolean"),
    ("Resize", 13, [X, floats(), floats(), ints(1, 2, 3)], {}, "sizes"),
    ("Resize", 13, [X, floats(), floats(1, 1, 0, 1)], {}, "scales"),
    ("Resize", 13, [X, floats(), floats(1, 1, 0.1, 1)], {}, "cannot become"),
    ("Resize", 13, [X, floats()], {}, "scales or sizes"),
    ("Upsample", 10, [X, floats(1, 1, 2, 2)], {}, "no longer has"),
    ("Upsample", 9, [X, floats(1, 1, 0.5, 1)], {}, "shrinks"),
]

WITHOUT_RULE: list[Refused] = [
    ("Det", 13, [(3, 3)], {}, "Det has no rule"),
    ("Pow", 13, [ones(3), (3,)], {}, "input 'i1' is not a constant"),
    ("Conv", 13, [X, (4, 2, 2, 2)], {}, "input 'i1' is not a constant"),
    ("BatchNormalization", 14, [X, *[ones(2)] * 4], {"training_mode": 1}, "inference"),
    ("Cast", 13, [(2,)], {"to": TensorProto.FLOAT16}, "rounds"),
    ("Cast", 13, [(2,)], {"to": TensorProto.INT64}, "rounds"),
    ("Resize", 13, [X, floats(), floats(1, 1, 2, 2)], {"mode": "cubic"}, "mode 'cubic'"),
    ("LpPool", 13, [X], {"kernel_shape": [2, 2], "p": 3}, "order 3"),
    ("GlobalLpPool", 13, [X], {"p": 0}, "order 0"),
    ("Upsample", 9, [X, floats(1, 1, 1.5, 1)], {}, "depends on rounding"),
    (
        "Resize",
        13,
        [X, floats(), floats(1, 1, 2, 2)],
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
        "tf_crop_and_resize",
    ),
    ("Resize", 18, [X, floats(), floats(1, 1, 0.5, 1)], {"mode": "linear", "antialias": 1}, "anti"),
    ("Resize", 10, [X, floats(1, 1, 0.4, 1)], {}, "rounding"),
    ("Pad", 13, [(3, 3), ints(-1, 0, 0, 0)], {"mode": "reflect"}, "negative pads"),
    (
        "MaxPool",
        13,
        [X],
        {"kernel_shape": [2, 2], "dilations": [2, 2], "auto_pad": "SAME_UPPER"},
        "several ways",
    ),
    (
        "Conv",
        13,
        [X, ones(1, 2, 1, 1)],
        {"auto_pad": "SAME_LOWER", "strides": [3, 3]},
        "several ways",
    ),
    (
        "ConvTranspose",
        7,
        [X, ones(2, 1, 2, 2)],
        {"output_shape": [5, 6]},
        "uneven automatic padding",
    ),
    ("Dropout", 13, [(3,), np.float32(0.5), np.array(True)], {}, "training"),
]


@pytest.mark.parametrize(("operator", "opset", "inputs", "attributes", "reason"), BROKEN)
def test_a_broken_node_is_named(
    operator: str, opset: int, inputs: list[Any], attributes: dict[str, Any], reason: str
) -> None:
    inputs = [np.asarray(i) if isinstance(i, np.generic) else i for i in inputs]
    outputs = 3 if operator == "Split" else 1
    with pytest.raises(ModelError, match=reason) as caught:
        read_model_bytes(model_bytes(operator, inputs, attributes, opset, outputs), None, "m")
    assert not isinstance(caught.value, UnsupportedOperatorError)
    if not {"initialiser", "input", "output"} & set(str(caught.value).split()):
        assert f"{operator} (tensor 'o0', node 1 of 1)" in str(caught.value)


@pytest.mark.parametrize(("operator", "opset", "inputs", "attributes", "reason"), WITHOUT_RULE)
def test_what_has_no_rule_is_named(
    operator: str, opset: int, inputs: list[Any], attributes: dict[str, Any], reason: str
) -> None:
    inputs = [np.asarray(i) if isinstance(i, np.generic) else i for i in inputs]
    with pytest.raises(UnsupportedOperatorError, match=reason) as caught:
        read_model_bytes(model_bytes(operator, inputs, attributes, opset), None, "m")
    assert f"{operator} (tensor 'o0', node 1 of 1)" in str(caught.value)


def chain(*nodes: Any, shape: Any = (2, 3), constants: Any = None, result: str = "y") -> GraphProto:
    """A graph from input ``x`` to ``result``."""
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    made = [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)]
    stored = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    return helper.make_graph(list(nodes), "g", given, made, stored)


def node(operator: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(operator, names, outputs.split(), **attributes)


GRAPHS: list[tuple[str, GraphProto]] = [
    ("not defined before", chain(node("Relu", "a", "b"), node("Relu", "b", "a"), result="a")),
    ("not defined before", chain(node("Relu", "z"))),
    ("defined twice", chain(node("Relu", "x"), node("Abs", "x"))),
    ("defined twice", chain(node("Relu", "x", "x"), result="x")),
    ("defined twice", chain(node("Relu", "x"), constants={"y": ones(1)})),
    ("reserved", chain(node("Relu", "x", "farkas:y"), result="farkas:y")),
    ("not defined", chain(node("Relu", "x"), result="nowhere")),
    ("does not depend", chain(node("Relu", "c"), constants={"c": ones(2)})),
    ("further output", chain(node("MaxPool", "x", "m y", kernel_shape=[2]), shape=(1, 1, 4))),
    ("no fixed size", chain(node("Relu", "x"), shape=(1, None))),
    ("no fixed size", chain(node("Relu", "x"), shape=(1, 0))),
    ("too large", chain(node("Relu", "x"), shape=(2**40, 2**40))),
    ("too large", chain(node("Relu", "x"), shape=(1,) * 40)),
]


@pytest.mark.parametrize(("reason", "graph"), GRAPHS)
def test_a_broken_graph_is_refused(reason: str, graph: GraphProto) -> None:
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(serialised(graph), None, "m")


def test_two_constants_of_one_name_are_refused() -> None:
    graph = chain(node("Add", "x c"), constants={"c": ones(3)})
    graph.initializer.append(numpy_helper.from_array(ones(3) * 2, "c"))
    with pytest.raises(ModelError, match="two initialisers are called 'c'"):
        read_model_bytes(serialised(graph), None, "m")


def test_all_reasons_are_named_even_behind_each_other() -> None:
    graph = chain(
        node("Det", "x", "a"),
        node("Pow", "a x", "b"),
        node("Foo", "b", "c"),
        node("Relu", "c", "d"),
        node("Pow", "d a"),
    )
    with pytest.raises(UnsupportedOperatorError) as caught:
        read_model_bytes(serialised(graph), None, "m")
    for operator, tensor in (("Det", "a"), ("Pow", "b"), ("Foo", "c"), ("Pow", "y")):
        assert f"{operator} (tensor '{tensor}'" in str(caught.value)
    assert "Relu (" not in str(caught.value)


@pytest.mark.parametrize("opset", [1, 6, OPSETS[-1] + 1, -1, 2**40])
def test_other_opsets_are_refused(opset: int) -> None:
    with pytest.raises(ModelError, match="opset"):
        read_model_bytes(serialised(chain(node("Relu", "x")), opset), None, "m")


def refusals(*nodes: Any, foreign: bool = False, **constants: Any) -> list[str]:
    """The lines of a refusal, one for each reason."""
    graph = chain(*nodes, constants=constants)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("ours", 1)]
    model = helper.make_model(graph, ir_version=8, opset_imports=imports)
    if foreign:
        model.functions.append(helper.make_function("f", "Own", ["a"], ["b"], [], imports[:1]))
        model.graph.sparse_initializer.add()
        model.graph.initializer.append(stored("text", TensorProto.STRING, string_data=[b"a"]))
        whole = helper.make_tensor_value_info("whole", TensorProto.INT64, [2])
        model.graph.input.append(whole)
    with pytest.raises(UnsupportedOperatorError) as caught:
        read_model_bytes(model.SerializeToString(), None, "m")
    head, *lines = str(caught.value).split("\n  ")
    assert head.endswith("operators without a rule:")
    return [line.split(", node")[0] for line in lines]


def test_reasons_behind_several_outputs_are_named() -> None:
    found = refusals(
        node("TopK", "x k", "a i"),
        node("Det", "a", "b"),
        node("ArgMax", "a", "j"),
        node("NonZero", "a", "n"),
        node("Conv", "a a", "c"),
        node("Resize", "d - - s", "e", mode="cubic"),
        node("Unique", "a", "u v w"),
        node("Reshape", "x r", "d"),
        node("Sum", "b c"),
        k=ints(2),
        r=ints(1, 1, 2, 3),
        s=ints(1, 1, 4, 6),
    )
    # What no output needs is not read: only TopK, Det and the convolution count.
    assert [line.split(":")[0] for line in found] == [
        "TopK (tensor 'a'",
        "Det (tensor 'b'",
        "Conv (tensor 'c'",
    ]


def test_reasons_behind_attributes_and_other_domains_are_named() -> None:
    found = refusals(
        helper.make_node("Foo", ["x", "x"], ["a", "b"], domain="ours"),
        node("Reshape", "b r", "d"),
        node("Resize", "d - - s", "e", mode="cubic"),
        node("Reshape", "e t", "f"),
        node("ReduceProd", "f", "g", axes=[1]),
        node("MatMul", "a q", "h"),
        node("Celu", "h", "i", alpha=-1.0),
        node("Neg", "i", "j"),
        helper.make_node("Softmax", ["j"], ["l"], domain="com.example"),
        node("Pow", "l a", "m"),
        node("Hardmax", "m", "o"),
        node("Pad", "o p", "w", mode="sideways"),
        node("Sum", "w f"),
        r=ints(1, 1, 2, 3),
        s=ints(1, 1, 4, 6),
        t=ints(4, 6),
        q=ones(3, 3),
        p=ints(0, 0, 0, 0),
    )
    assert [line.split(" (")[0] for line in found] == [
        "Foo",
        "Resize",
        "Celu",
        "Softmax",
        "Pow",
        "Hardmax",
        "Pad",
    ]


def test_foreign_parts_and_operators_are_named_together() -> None:
    found = refusals(
        helper.make_node("Own", ["x"], ["a"], domain="ours"),
        node("Gather", "a whole", "b"),
        node("Det", "b", "c"),
        node("Concat", "c text", "d", axis=0),
        node("Hardmax", "x", "e"),
        node("Sum", "d e"),
        foreign=True,
    )
    assert len(found) == 7
    for part in ("sparse_initializer", "functions of its own", "'text'", "input 'whole'"):
        assert any(part in line for line in found[:4])
    assert [line.split(" (")[0] for line in found[4:]] == ["Own", "Det", "Hardmax"]


def test_an_error_that_no_stand_in_explains_is_an_error() -> None:
    graph = chain(
        node("Det", "x", "a"),
        node("Reshape", "x r", "b"),
        node("Sum", "a b"),
        constants={"r": ints(5, 5)},
    )
    with pytest.raises(ModelError, match="cannot become") as caught:
        read_model_bytes(serialised(graph), None, "m")
    assert not isinstance(caught.value, UnsupportedOperatorError)


NEW_ATTRIBUTES = {
    "Cast": {"round_mode"},
    "DequantizeLinear": {"output_dtype"},
    "QuantizeLinear": {"precision"},
}
"""Read since the rules were held against opset 21; the others have no new attributes."""


@pytest.mark.parametrize("operator", sorted(RULES))
def test_later_opsets_change_no_meaning_unseen(operator: str) -> None:
    """An operator's later version has the inputs, outputs and attributes that rules know."""
    newest = min(OPSETS[-1], defs.onnx_opset_version())
    assert newest >= 21
    new = defs.get_schema(operator, max_inclusive_version=newest, domain="")
    try:
        old = defs.get_schema(operator, max_inclusive_version=21, domain="")
    except defs.SchemaError:
        return
    added = set(new.attributes) - set(old.attributes)
    assert added <= NEW_ATTRIBUTES.get(operator, set())
    assert len(new.inputs) == len(old.inputs)
    assert len(new.outputs) == len(old.outputs)
    for name in set(new.attributes) & set(old.attributes):
        defaults = [schema.attributes[name].default_value for schema in (old, new)]
        assert defaults[0] == defaults[1]


def stored(name: str = "c", kind: int = TensorProto.FLOAT, **fields: Any) -> TensorProto:
    tensor = TensorProto(name=name, data_type=kind)
    for field, value in fields.items():
        if isinstance(value, list):
            getattr(tensor, field).extend(value)
        else:
            setattr(tensor, field, value)
    return tensor


TENSORS: list[tuple[str, TensorProto]] = [
    ("bytes of raw data", stored(dims=[3], raw_data=b"\0" * 8)),
    ("2 values", stored(dims=[3], float_data=[1.0, 2.0])),
    ("several kinds", stored(dims=[2], float_data=[1.0, 2.0], raw_data=b"\0" * 8)),
    ("instead of", stored(dims=[2], double_data=[1.0, 2.0])),
    ("not finite", stored(dims=[1], float_data=[float("inf")])),
    ("negative|shape", stored(dims=[-1], float_data=[1.0])),
    ("too large", stored(dims=[2**62, 4], raw_data=b"")),
    ("no array's|too large", stored(dims=[0, 2**62, 2**62], raw_data=b"")),
    ("range of float16", stored(dims=[1], kind=TensorProto.FLOAT16, int32_data=[70000])),
    ("range of int8", stored(dims=[1], kind=TensorProto.INT8, int32_data=[200])),
    ("other than 0 and 1", stored(dims=[1], kind=TensorProto.BOOL, raw_data=b"\2")),
    ("2\\*\\*63", stored(dims=[1], kind=TensorProto.UINT64, uint64_data=[2**63])),
    ("element type 8", stored(dims=[1], kind=TensorProto.STRING, string_data=[b"a"])),
    ("was not read from a folder", stored(dims=[1], data_location=TensorProto.EXTERNAL)),
]


@pytest.mark.parametrize(("reason", "tensor"), TENSORS)
def test_a_broken_constant_is_named(reason: str, tensor: TensorProto) -> None:
    graph = chain(node("Add", "x c"))
    graph.initializer.append(tensor)
    with pytest.raises(ModelError, match=f"{reason}") as caught:
        read_model_bytes(serialised(graph), None, "m")
    assert "'c'" in str(caught.value)


def doubling(count: int) -> list[Any]:
    names = ["x", *(f"t{i}" for i in range(count)), "y"]
    return [node("Add", f"{a} {a}", b) for a, b in itertools.pairwise(names)]


def bomb(operator: str, inputs: str, **attributes: Any) -> Any:
    return (
        node(operator, inputs, "b", **attributes),
        node("ReduceSum", "b", "t"),
        node("Add", "x t"),
    )


BOMBS: dict[str, GraphProto] = {
    "fill": chain(*bomb("ConstantOfShape", "s"), constants={"s": ints(2**20, 2**20)}),
    "expand": chain(*bomb("Expand", "x s"), constants={"s": ints(2**30, 2, 3)}),
    "tile": chain(*bomb("Tile", "x s"), constants={"s": ints(2**20, 2**20)}),
    "pad": chain(*bomb("Pad", "x s"), constants={"s": ints(2**30, 0, 0, 0)}),
    "resize": chain(*bomb("Resize", "x r r s"), constants={"r": floats(), "s": ints(2**33, 3)}),
    "resize-rows": chain(
        *bomb("Resize", "x r r s"), constants={"r": floats(), "s": ints(2**22, 3)}
    ),
    "range": chain(
        node("Range", "a e d", "i"),
        node("Cast", "i", "f", to=1),
        node("ReduceSum", "f", "s"),
        node("Add", "x s"),
        constants={"a": np.array(0), "e": np.array(2**62), "d": np.array(1)},
    ),
    "window": chain(
        node("ConstantOfShape", "s", "w"),
        node("Conv", "x w"),
        shape=(1, 1, 1000, 1000),
        constants={"s": ints(1, 1, 500, 500)},
    ),
    "pool": chain(node("MaxPool", "x", kernel_shape=[999, 999]), shape=(1, 1, 1000, 1000)),
    "maximum": chain(node("ReduceMax", "x", axes=[0]), shape=(2**24, 1)),
    "softmax": chain(node("Softmax", "x", axis=1), shape=(1, 2**20)),
    "squares": chain(node("MatMul", "x x"), shape=(2**12, 2**12)),
    "outer": chain(node("Einsum", "x x", equation="ij,kl->ijkl"), shape=(2**10, 2**10)),
    "sums": chain(node("CumSum", "x a"), shape=(1, 2**20), constants={"a": np.array(1)}),
    "recurrent": chain(node("RNN", "x w w"), shape=(2**20, 1, 1), constants={"w": ones(1, 1, 1)}),
    "attention": chain(node("Attention", "x x x"), shape=(1, 1, 2**13, 1)),
    "exponentials": chain(
        node("Range", "a e d", "i"),
        node("Cast", "i", "f", to=1),
        node("Tanh", "f", "t"),
        node("ReduceSum", "t", "s"),
        node("Add", "x s"),
        constants={"a": np.array(0), "e": np.array(2**20), "d": np.array(1)},
    ),
    "norms": chain(node("ReduceProd", "x", axes=[0]), shape=(2**22, 1)),
    "quantised": chain(
        node("Expand", "x s", "b"),
        node("QuantizeLinear", "b t"),
        constants={"s": ints(2**28, 2, 3), "t": np.float32(1)},
    ),
    "fold": chain(
        node("ConstantOfShape", "s", "w"),
        node("MatMul", "w w", "b"),
        node("ReduceSum", "b", "s2"),
        node("Add", "x s2"),
        constants={"s": ints(7000, 7000)},
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_cannot_claim_much(name: str) -> None:
    """In a process of its own: neither two gigabytes of memory nor many seconds."""
    content = serialised(BOMBS[name], 23 if name == "attention" else 13)
    assert len(content) < 1000
    limits = {resource.RLIMIT_AS: 4 * 2**30, resource.RLIMIT_CPU: SECONDS}

    def limited() -> None:
        for kind, most in limits.items():
            resource.setrlimit(kind, (most, most))

    done = subprocess.run(
        [sys.executable, "-c", READ_STANDARD_INPUT],
        input=content,
        capture_output=True,
        timeout=SECONDS * 10,  # machines stall; what counts is processor time
        preexec_fn=limited,
    )
    assert done.stdout == b"ModelError\n", done.stderr


READ_STANDARD_INPUT = """
import sys
from specs.errors import ModelError
from specs.onnx_reader import read_model_bytes
from specs.reader.calls import RULES
from specs.reader.graph import OPSETS
try:
    read_model_bytes(sys.stdin.buffer.read(), None, "m")
except ModelError as error:
    print(type(error).__name__ if "too large" in str(error) else error)
"""


LONG = {
    "doubling": doubling(60),
    "sums": [node("Add", "x x", "t0"), *(node("Add", f"t{i} x", f"t{i + 1}") for i in range(3000))],
    "deep": [node("Relu", "x", "t0"), *(node("Relu", f"t{i}", f"t{i + 1}") for i in range(3000))],
    "wide": [node("Concat", " ".join(["x"] * 3000), "t3000", axis=0)],
}


@pytest.mark.parametrize("nodes", LONG.values(), ids=LONG)
def test_long_graphs_are_read_in_linear_time(nodes: list[Any]) -> None:
    started = time.process_time()
    network = read_model_bytes(serialised(chain(*nodes, result=nodes[-1].output[0])), None, "m")
    assert time.process_time() - started < SECONDS
    assert max(len(getattr(n, "terms", ())) for n in network.nodes) <= 3000
    assert len(network.nodes) <= len(nodes) + 2


SOUND = [
    chain(
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("MaxPool", "c", "p", kernel_shape=[2, 2]),
        node("Reshape", "p s", "r"),
        node("Gemm", "r m", transB=1),
        shape=(1, 1, 3, 3),
        constants={"w": ones(2, 1, 3, 3), "s": ints(1, -1), "m": ones(2, 8)},
    ),
    chain(
        node("Transpose", "x", "t", perm=[1, 0]),
        node("MatMul", "x t", "g"),
        node("Softmax", "g", "p", axis=1),
        node("Einsum", "p x", "e", equation="ij,jk->ik"),
        node("LayerNormalization", "e n", "l"),
        node("QuantizeLinear", "l s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("Pow", "d k", "w"),
        node("Gelu", "w"),
        shape=(2, 3),
        constants={
            "n": ones(3),
            "s": np.float32(0.5),
            "z": np.array(3, np.int8),
            "k": floats(1, 2, 3),
        },
    ),
    chain(
        node("LSTM", "x w r", "a b c", hidden_size=1),
        node("Less", "a c", "t"),
        node("Where", "t a c", "u"),
        node("Div", "u a"),
        shape=(2, 1, 1),
        constants={"w": ones(1, 4, 1), "r": ones(1, 4, 1)},
    ),
]


@pytest.mark.parametrize("graph", SOUND, ids=["image", "attention", "recurrent"])
def test_sound_files_are_read(graph: GraphProto) -> None:
    assert read_model_bytes(serialised(graph, 20), None, "m").neurons


@pytest.mark.parametrize("graph", SOUND, ids=["image", "attention", "recurrent"])
@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_files_are_refused_or_read(graph: GraphProto, data: st.DataObject) -> None:
    content = bytearray(serialised(graph, 20))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    kept = data.draw(st.integers(0, 1)) or data.draw(st.floats(0, 1))
    try:
        read_model_bytes(bytes(content[: int(len(content) * kept)]), None, "m")
    except ModelError:
        return
