"""Every operator and attribute means what onnxruntime and the ONNX reference say.

Inputs and constants are multiples of 1/8 of at most 4, so that sums and products of them
are exact in float32.  What remains to be rounded (averages, quotients, batch
normalisation, PRelu chains) takes fewer than 16 operations, each of which errs by at most
2**-24 of the largest result; hence the tolerance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    RuntimeException,
)
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplemented_

from specs.errors import ModelError
from specs.onnx_reader import read_model_bytes
from tests.networks import evaluate, model_bytes, onnxruntime_outputs, reference_outputs

TOLERANCE = 2.0**-20
RuntimeErrors = (Fail, InvalidArgument, InvalidGraph, NotImplemented_, RuntimeException)
"""onnxruntime refuses more than the standard does, dilations with SAME padding say."""
POINTS = 4
EVERY = tuple(range(7, 27))


def eighths(*shape: int, seed: int = 1) -> npt.NDArray[np.float32]:
    """Multiples of 1/8 in [-4, 4]."""
    drawn = np.random.default_rng(seed).integers(-32, 33, shape)
    return np.asarray(drawn / 8, dtype=np.float32)


def ints(*entries: int) -> npt.NDArray[np.int64]:
    return np.array(entries, dtype=np.int64)


def floats(*entries: float) -> npt.NDArray[np.float32]:
    return np.array(entries, dtype=np.float32)


def scalar(entry: float) -> npt.NDArray[np.float32]:
    return np.array(entry, dtype=np.float32)


Case = tuple[str, tuple[int, ...], list[Any], dict[str, Any]]

X = (1, 2, 5, 6)

DENSE: list[Case] = [
    ("MatMul", (7, 9, 13), [(2, 3), eighths(3, 4)], {}),
    ("MatMul", (13,), [eighths(4, 3), (3, 2)], {}),
    ("MatMul", (13,), [(3,), eighths(3, 4)], {}),
    ("MatMul", (13,), [(2, 3), eighths(3)], {}),
    ("MatMul", (13,), [eighths(3), (3, 4)], {}),
    ("MatMul", (13,), [(2, 5, 3), eighths(3, 4)], {}),
    ("MatMul", (13,), [(2, 5, 3), eighths(2, 3, 4)], {}),
    ("MatMul", (13,), [(5, 3), eighths(2, 3, 4)], {}),
    ("MatMul", (13,), [eighths(2, 4, 5), (2, 5, 3)], {}),
    ("MatMul", (13,), [eighths(2, 1, 4, 5), (3, 5, 2)], {}),
    ("MatMul", (13,), [eighths(4, 5), (2, 3, 5, 1)], {}),
    ("MatMul", (13,), [eighths(4, 5), (2, 5, 3)], {}),
    ("Gemm", (7, 9, 11, 13), [(2, 3), eighths(3, 4), eighths(4)], {}),
    ("Gemm", (7, 13), [(2, 3), eighths(4, 3), eighths(2, 1)], {"transB": 1}),
    ("Gemm", (13,), [(3, 2), eighths(3, 4), eighths(2, 4)], {"transA": 1}),
    ("Gemm", (13,), [eighths(2, 3), (3, 4), scalar(0.5)], {"alpha": 0.5, "beta": -2.0}),
    ("Gemm", (13,), [eighths(3, 2), (4, 3), None], {"transA": 1, "transB": 1, "alpha": 2.0}),
    ("Gemm", (13,), [(2, 3), eighths(3, 4), (2, 4)], {"alpha": -1.5, "beta": 0.25}),
    ("Gemm", (11,), [(2, 3), eighths(3, 4)], {"beta": 3.0}),
    *(
        (
            "BatchNormalization",
            EVERY,
            [shape, eighths(2), eighths(2, seed=2), eighths(2, seed=3), floats(0.5, 2)],
            {"epsilon": 0.25},
        )
        for shape in [X, (3, 2), (1, 2, 4)]
    ),
    (
        "BatchNormalization",
        (9, 15),
        [X, eighths(2), eighths(2, seed=2), eighths(2, seed=3), floats(0, 3)],
        {},
    ),
]

ARITHMETIC: list[Case] = [
    *((op, (7, 13, 14), [(2, 3), eighths(2, 3)], {}) for op in ("Add", "Sub", "Mul")),
    *((op, (7, 14), [eighths(3), (2, 1)], {}) for op in ("Add", "Sub", "Mul")),
    *((op, (14,), [(2, 1, 3), (4, 1)], {}) for op in ("Add", "Sub")),
    *((op, (14,), [(2, 3), scalar(-1)], {}) for op in ("Add", "Sub", "Mul", "Div")),
    *((op, (14,), [scalar(1), (2, 3)], {}) for op in ("Add", "Sub", "Mul")),
    ("Div", (7, 14), [(2, 3), floats(3, -0.125, 7)], {}),
    ("Div", (14,), [(3,), eighths(2, 3) + 8], {}),
    ("Neg", (7, 13), [(2, 3)], {}),
    ("Sum", (8, 13), [(2, 3), eighths(3), (2, 1)], {}),
    ("Sum", (7,), [(2, 3)], {}),
    ("Mean", (8, 13), [(2, 3), eighths(3), (2, 1)], {}),
    ("Identity", (7, 16), [(2, 3)], {}),
    ("Dropout", (7, 10), [(2, 3)], {"ratio": 0.25}),
    ("Dropout", (12, 13), [(2, 3), scalar(0.5)], {}),
    ("Where", (9, 16), [np.array([[True], [False]]), (2, 3), eighths(3)], {}),
    ("Where", (16,), [np.array([True, False, True]), (2, 3), (1, 3)], {}),
    ("Cast", (9, 13, 19), [(2, 3)], {"to": TensorProto.FLOAT}),
]

LAYOUT: list[Case] = [
    ("Reshape", (7, 13, 14), [(2, 6), ints(3, -1)], {}),
    ("Reshape", (13,), [(2, 6), ints(0, 2, 3)], {}),
    ("Reshape", (14,), [(2, 6), ints(12, 1)], {"allowzero": 1}),
    *(("Flatten", (9, 13), [X], {"axis": axis}) for axis in (0, 1, 3, 4)),
    ("Flatten", (11,), [X], {"axis": -1}),
    ("Squeeze", (7, 11), [(1, 3, 1)], {"axes": [2]}),
    ("Squeeze", (7, 13), [(1, 3, 1)], {}),
    ("Squeeze", (13,), [(1, 3, 1), ints(-1, 0)], {}),
    ("Unsqueeze", (7, 11), [(3, 2)], {"axes": [3, 0]}),
    ("Unsqueeze", (13,), [(3, 2), ints(-1, 1)], {}),
    ("Transpose", (7, 13), [X], {}),
    ("Transpose", (13,), [X], {"perm": [0, 3, 1, 2]}),
    ("Slice", (7, 9), [X], {"starts": [1, -4], "ends": [9, -1], "axes": [2, 3]}),
    ("Slice", (9,), [(4, 3)], {"starts": [1], "ends": [3]}),
    ("Slice", (10, 13), [X, ints(0, 5), ints(5, -99), ints(2, -1), ints(2, -2)], {}),
    ("Slice", (13,), [X, ints(-1), ints(-(2**63)), ints(3), ints(-1)], {}),
    ("Slice", (13,), [X, ints(1), ints(2**63 - 1), ints(-2)], {}),
    ("Slice", (13,), [(4, 3), ints(1, 0), ints(3, 2)], {}),
    ("Gather", (7, 13), [(4, 3), ints(2, 0, 2)], {}),
    ("Gather", (11, 13), [(4, 3), np.array([[0, -1], [1, -2]])], {"axis": -1}),
    ("Gather", (13,), [(4, 3), np.array(1)], {"axis": 1}),
    ("GatherElements", (11, 13), [(3, 2), np.array([[0, 1], [2, -1]])], {}),
    ("GatherElements", (13,), [(3, 2), np.array([[0, 1, 0], [1, 1, 0]])], {"axis": 1}),
    ("Split", (7, 11), [(2, 6)], {"axis": 1, "split": [1, 2, 3]}),
    ("Split", (13,), [(2, 6), ints(3, 2, 1)], {"axis": -1}),
    ("Split", (7, 13), [(6, 2)], {}),
    ("Split", (18,), [(7, 2)], {"num_outputs": 3}),
    ("Concat", (7, 13), [(2, 3), eighths(2, 1), (2, 2)], {"axis": 1}),
    ("Concat", (13,), [eighths(1, 3), (2, 3)], {"axis": -2}),
    ("Pad", (7, 10), [(2, 3)], {"pads": [1, 0, 2, 1], "value": 0.5}),
    ("Pad", (7,), [(4, 3)], {"pads": [1, 2, 2, 0], "mode": "reflect"}),
    ("Pad", (10,), [(4, 3)], {"pads": [-1, 2, -2, 0]}),
    ("Pad", (11, 13), [(2, 3), ints(1, 0, 2, 1), scalar(-1)], {}),
    ("Pad", (11, 21), [(2, 3), ints(1, 4, 2, 1)], {"mode": "edge"}),
    ("Pad", (13,), [(2, 3), ints(-1, 1, 0, 0)], {}),
    ("Pad", (18,), [(2, 3), ints(1, 2), scalar(2), ints(-1)], {}),
    ("Pad", (19,), [(2, 3), ints(1, 2, 0, 3)], {"mode": "wrap"}),
    ("Expand", (8, 13), [(3, 1), ints(2, 1, 4)], {}),
    ("Tile", (7, 13), [(2, 3), ints(2, 1)], {}),
    ("DepthToSpace", (7, 11, 13), [(1, 8, 2, 3)], {"blocksize": 2}),
    ("DepthToSpace", (11,), [(1, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", (7, 13), [(1, 2, 4, 6)], {"blocksize": 2}),
]

WINDOWS: list[Case] = [
    ("Conv", (7, 11), [X, eighths(4, 2, 3, 2), eighths(4)], {}),
    ("Conv", (11,), [X, eighths(4, 1, 3, 3)], {"group": 2, "pads": [1, 0, 2, 1]}),
    ("Conv", (11,), [X, eighths(3, 2, 2, 3)], {"strides": [2, 3], "dilations": [2, 1]}),
    ("Conv", (11,), [X, eighths(3, 2, 2, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", (11,), [X, eighths(3, 2, 2, 3)], {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    ("Conv", (11,), [X, eighths(3, 2, 2, 3)], {"auto_pad": "VALID", "kernel_shape": [2, 3]}),
    ("Conv", (11,), [(2, 3, 7), eighths(4, 3, 3)], {"pads": [1, 2], "strides": [2]}),
    ("Conv", (11,), [(1, 2, 3, 4, 3), eighths(2, 2, 2, 3, 2)], {"pads": [0, 1, 0, 1, 1, 1]}),
    ("ConvTranspose", (7, 11), [X, eighths(2, 3, 3, 2), eighths(3)], {}),
    ("ConvTranspose", (11,), [X, eighths(2, 2, 3, 3)], {"group": 2, "strides": [2, 3]}),
    (
        "ConvTranspose",
        (11,),
        [X, eighths(2, 1, 3, 3)],
        {"strides": [2, 2], "pads": [1, 0, 1, 2], "output_padding": [1, 1]},
    ),
    ("ConvTranspose", (11,), [X, eighths(2, 1, 3, 2)], {"dilations": [2, 3]}),
    (
        "ConvTranspose",
        (11,),
        [X, eighths(2, 1, 4, 2)],
        {"strides": [2, 2], "output_shape": [10, 12]},
    ),
    ("ConvTranspose", (11,), [(1, 2, 5), eighths(2, 3, 4)], {"strides": [3], "pads": [2, 1]}),
    ("AveragePool", (7, 10, 11, 19), [X], {"kernel_shape": [2, 3]}),
    (
        "AveragePool",
        (7, 11, 19),
        [X],
        {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1], "strides": [2, 2]},
    ),
    (
        "AveragePool",
        (7, 11, 19),
        [X],
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    ("AveragePool", (10, 19), [X], {"kernel_shape": [2, 4], "strides": [2, 3], "ceil_mode": 1}),
    ("AveragePool", (11,), [X], {"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER"}),
    ("AveragePool", (11,), [X], {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER"}),
    ("AveragePool", (19,), [X], {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    ("AveragePool", (11,), [(1, 2, 9)], {"kernel_shape": [4], "strides": [3]}),
    ("GlobalAveragePool", (7,), [X], {}),
    ("MaxPool", (7, 8, 10, 12), [X], {"kernel_shape": [2, 3]}),
    ("MaxPool", (8, 12), [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 0], "strides": [2, 2]}),
    ("MaxPool", (10, 12), [X], {"kernel_shape": [2, 4], "strides": [2, 3], "ceil_mode": 1}),
    ("MaxPool", (10, 12), [X], {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    # A last window would start behind the image: it is left out.
    *(
        (
            operator,
            (12, 19),
            [(1, 1, 4)],
            {"kernel_shape": [2], "strides": [2], "pads": [0, 1], "ceil_mode": 1},
        )
        for operator in ("MaxPool", "AveragePool")
    ),
    ("MaxPool", (12,), [X], {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER"}),
    ("MaxPool", (12,), [X], {"kernel_shape": [3, 2], "auto_pad": "SAME_LOWER"}),
    ("MaxPool", (12,), [(1, 2, 3, 3, 3)], {"kernel_shape": [2, 2, 2], "storage_order": 1}),
    ("GlobalMaxPool", (7,), [(1, 2, 2, 3)], {}),
    ("LpPool", (7, 11, 18), [X], {"kernel_shape": [2, 3]}),
    ("LpPool", (11,), [X], {"kernel_shape": [2, 3], "p": 1, "pads": [1, 0, 0, 1]}),
    ("LpPool", (18,), [X], {"kernel_shape": [2, 2], "ceil_mode": 1, "dilations": [2, 1]}),
    *(("GlobalLpPool", (7,), [X], {"p": p}) for p in (1, 2)),
]

REDUCTIONS: list[Case] = [
    ("ReduceSum", (7, 11), [(2, 3, 4)], {"axes": [1, -1], "keepdims": 0}),
    ("ReduceSum", (7, 13), [(2, 3)], {}),
    ("ReduceSum", (13,), [(2, 3, 4), ints(0, 2)], {}),
    ("ReduceSum", (13,), [(2, 3), ints()], {"noop_with_empty_axes": 1}),
    ("ReduceMean", (7, 11, 13), [(2, 3, 4)], {"axes": [1]}),
    ("ReduceMean", (13,), [(2, 3, 4)], {"axes": [0, 2], "keepdims": 0}),
    ("ReduceMean", (13,), [(2, 3, 4)], {"axes": [1, 2], "keepdims": 0}),
    ("ReduceMean", (18,), [(2, 3, 4), ints(-2)], {}),
    ("ReduceMean", (18,), [(2, 3), ints()], {"noop_with_empty_axes": 1}),
    ("ReduceMax", (11, 13), [(2, 3, 2)], {"axes": [1]}),
    ("ReduceMin", (11, 13), [(2, 3, 2)], {"axes": [0, 2], "keepdims": 0}),
    ("ReduceMax", (18, 20), [(2, 3), ints(1)], {"keepdims": 0}),
    ("ReduceMin", (18,), [(2, 3)], {}),
]

PIECEWISE: list[Case] = [
    ("Relu", (7, 13, 14), [(2, 3)], {}),
    *(("LeakyRelu", (7, 16), [(2, 3)], {"alpha": a}) for a in (0.25, -0.5, 1.0, 2.0, 0.0)),
    ("LeakyRelu", (7,), [(2, 3)], {}),
    ("PRelu", (7, 9, 16), [(2, 3), eighths(3)], {}),
    ("PRelu", (16,), [(1, 3, 2), eighths(3, 1)], {}),
    ("PRelu", (16,), [(2, 3), scalar(0.25)], {}),
    ("Abs", (7, 13), [(2, 3)], {}),
    *((op, (8, 13), [(2, 3), (3,), eighths(2, 1)], {}) for op in ("Max", "Min")),
    *((op, (13,), [scalar(0.5), (3,), eighths(3)], {}) for op in ("Max", "Min")),
    *((op, (13,), [(3,)], {}) for op in ("Max", "Min")),
    ("Clip", (7, 10), [(2, 3)], {"min": -1.0, "max": 0.5}),
    ("Clip", (7,), [(2, 3)], {"min": 0.0}),
    ("Clip", (7,), [(2, 3)], {}),
    ("Clip", (11, 13), [(2, 3), scalar(-0.5), scalar(2)], {}),
    ("Clip", (12,), [(2, 3), None, scalar(1)], {}),
    ("Clip", (13,), [(2, 3), scalar(1), scalar(1)], {}),
    ("HardSigmoid", (7,), [(2, 3)], {"alpha": 0.5, "beta": 0.25}),
    ("HardSigmoid", (7,), [(2, 3)], {}),
]

IMAGE = (1, 2, 3, 4)
NONE = np.array([], dtype=np.float32)


def resize(scales: npt.NDArray[Any], sizes: Any = None) -> list[Any]:
    return [IMAGE, NONE, NONE, sizes] if sizes is not None else [IMAGE, NONE, scales]


RESIZE: list[Case] = [
    ("Upsample", (7, 8), [IMAGE], {"scales": [1.0, 1.0, 2.0, 3.0]}),
    ("Upsample", (9,), [IMAGE, floats(1, 1, 2, 2)], {"mode": "nearest"}),
    ("Upsample", (9,), [IMAGE, floats(1, 1, 2, 2)], {"mode": "linear"}),
    ("Resize", (10,), [IMAGE, floats(1, 1, 2, 3)], {}),
    ("Resize", (10,), [IMAGE, floats(1, 1, 2, 2)], {"mode": "linear"}),
    *(
        (
            "Resize",
            (11, 13, 18, 19),
            resize(floats(1, 1, 2, 3)),
            {"coordinate_transformation_mode": transform, "nearest_mode": nearest},
        )
        for transform in ("asymmetric", "half_pixel", "pytorch_half_pixel")
        for nearest in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    ),
    ("Resize", (11,), resize(floats(1, 1, 2, 2)), {"nearest_mode": "floor"}),
    (
        "Resize",
        (11,),
        resize(floats(1, 1, 2, 2)),
        {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"},
    ),
    *(
        ("Resize", (11, 13, 19), operands, {"mode": "linear", "coordinate_transformation_mode": t})
        for t in ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")
        for operands in (
            resize(floats(1, 1, 2, 3)),
            resize(floats(1, 1, 0.5, 1.5)),
            resize(NONE, ints(1, 2, 5, 7)),
            resize(NONE, ints(1, 2, 1, 2)),
        )
    ),
    (
        "Resize",
        (13, 19),
        resize(NONE, ints(1, 2, 4, 6)),
        {"coordinate_transformation_mode": "align_corners", "nearest_mode": "round_prefer_ceil"},
    ),
    ("Resize", (18,), [IMAGE, None, floats(2, 2)], {"axes": [2, 3]}),
    ("Resize", (13,), resize(floats(1, 1, 0.5, 0.5)), {"nearest_mode": "floor"}),
]

CASES = [*DENSE, *ARITHMETIC, *LAYOUT, *WINDOWS, *REDUCTIONS, *PIECEWISE, *RESIZE]


def reference_errs(
    operator: str, opset: int, inputs: list[Any], attributes: dict[str, Any]
) -> bool:
    """What onnx.reference gets wrong or lacks; onnxruntime alone judges it."""
    transform = attributes.get("coordinate_transformation_mode")
    return {
        "Unsqueeze": opset < 13 and attributes.get("axes") == [3, 0],
        "GatherElements": attributes.get("axis") == 1,
        "Pad": operator == "Pad" and _crops(inputs, attributes),
        "ConvTranspose": "group" in attributes or "output_shape" in attributes,
        "GlobalLpPool": True,
        "LpPool": opset < 11,
        "Upsample": opset < 9 or attributes.get("mode") == "linear",
        # Opset 10 fails; a single result by pytorch_half_pixel comes from position -1/2.
        "Resize": opset < 11
        or transform == "tf_half_pixel_for_nn"
        or (transform == "pytorch_half_pixel" and attributes.get("mode") == "linear"),
    }.get(operator, False)


def _crops(inputs: list[Any], attributes: dict[str, Any]) -> bool:
    pads = attributes["pads"] if "pads" in attributes else inputs[1]
    return bool(min(pads) < 0)


def parameters() -> list[Any]:
    found = []
    for number, (operator, opsets, inputs, attributes) in enumerate(CASES):
        for opset in opsets:
            name = f"{number}-{operator}-{opset}"
            found.append(pytest.param(operator, opset, inputs, attributes, id=name))
    return found


@pytest.mark.parametrize(("operator", "opset", "inputs", "attributes"), parameters())
def test_an_operator_means_what_runtimes_say(
    operator: str, opset: int, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    outputs = 3 if operator == "Split" else 1
    content = model_bytes(operator, inputs, attributes, opset, outputs)
    network = read_model_bytes(content, None, "m")
    x = eighths(POINTS, network.input_size, seed=7)
    ours = evaluate(network, x)
    tolerance = TOLERANCE * (1 + np.abs(ours).max())
    judges = [onnxruntime_outputs(content, x)]
    if not reference_errs(operator, opset, inputs, attributes):
        judges.append(reference_outputs(content, x))
    for theirs in judges:
        assert theirs.shape == ours.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@st.composite
def random_windows(draw: st.DrawFn) -> tuple[str, list[Any], dict[str, Any], int]:
    """A convolution or pooling with any of its attributes."""
    operator = draw(st.sampled_from(["Conv", "ConvTranspose", "AveragePool", "MaxPool"]))
    opset = draw(st.sampled_from([11, 12, 19]))

    def pair(low: int, high: int) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(2)]

    kernel, shape = pair(1, 3), (1, 2, *pair(3, 8))
    attributes: dict[str, Any] = {}
    inputs: list[Any] = [shape]
    if draw(st.booleans()):
        attributes["strides"] = pair(1, 3)
    if draw(st.booleans()) and (operator != "AveragePool" or opset == 19):
        attributes["dilations"] = pair(1, 2)
    if operator.endswith("Pool"):
        attributes["kernel_shape"] = kernel
        attributes["ceil_mode"] = draw(st.integers(0, 1))
    else:
        inputs.append(eighths(*((2, 3) if operator == "ConvTranspose" else (3, 2)), *kernel))
    if operator == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    padding = draw(st.sampled_from(["pads", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if padding == "pads":
        attributes["pads"] = [draw(st.integers(0, kernel[axis % 2] - 1)) for axis in range(4)]
    else:
        attributes["auto_pad"] = padding
    if operator == "ConvTranspose" and padding != "pads" and draw(st.booleans()):
        attributes["output_shape"] = pair(1, 12)
    return operator, inputs, attributes, opset


@settings(deadline=None, max_examples=300)
@given(random_windows())
def test_any_window_means_what_onnxruntime_says(
    drawn: tuple[str, list[Any], dict[str, Any], int],
) -> None:
    operator, inputs, attributes, opset = drawn
    content = model_bytes(operator, inputs, attributes, opset)
    try:
        network = read_model_bytes(content, None, "m")
    except ModelError:
        assume(False)
    x = eighths(2, network.input_size, seed=3)
    try:
        theirs = onnxruntime_outputs(content, x)
    except RuntimeErrors:
        assume(False)
    ours = evaluate(network, x)
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * (1 + np.abs(ours).max()))


def relu_then_pool(shared: bool) -> bytes:
    """MaxPool after Relu; with ``shared`` something else reads the Relu as well."""
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("MaxPool", ["h"], ["y"], kernel_shape=[2, 2], strides=[1, 2]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    if shared:
        nodes.append(helper.make_node("Neg", ["h"], ["z"]))
        outputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, X)
    graph = helper.make_graph(nodes, "g", [x], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)
    return model.SerializeToString()


@pytest.mark.parametrize("shared", [False, True])
def test_a_maximum_of_relus_is_the_relu_of_a_maximum(shared: bool) -> None:
    content = relu_then_pool(shared)
    network = read_model_bytes(content, None, "m")
    points = np.random.default_rng(3).normal(size=(50, 60)).astype(np.float32)
    expected = onnxruntime_outputs(content, points)
    assert np.array_equal(evaluate(network, points), expected)
    # The whole Relu has 60 neurons; the pool's three differences and Relu have 24 each.
    assert network.neurons == 4 * 24 + (60 if shared else 0)
    assert ("h" in network.tensors) == shared
