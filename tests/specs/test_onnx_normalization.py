"""Normalisations compute what runtimes compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from specs.errors import ModelError
from specs.onnx_reader import read_model_bytes
from tests.networks import (
    assert_agrees,
    evaluate,
    functions_of,
    model_bytes,
    onnxruntime_outputs,
)


def drawn(*shape: int, seed: int = 5) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


STANDARD = ["power", "sqrt", "reciprocal", "product"]
IMAGE = (2, 6, 3, 2)

Case = tuple[str, tuple[int, ...], list[Any], dict[str, Any], float | None, list[str]]

CASES: list[Case] = [
    ("LayerNormalization", (17,), [(2, 3, 4), drawn(4), drawn(4)], {}, 1e-10, STANDARD),
    ("LayerNormalization", (17,), [(2, 3, 4), drawn(4)], {"epsilon": 0.5}, 1e-10, STANDARD),
    (
        "LayerNormalization",
        (17,),
        [(2, 3, 4), drawn(3, 4), drawn(4)],
        {"axis": 1, "stash_type": 1},
        1e-10,
        STANDARD,
    ),
    ("LayerNormalization", (17,), [(2, 3), drawn(2, 3)], {"axis": 0}, 1e-10, STANDARD),
    ("RMSNormalization", (23,), [(2, 3, 4), drawn(4)], {}, 1e-10, STANDARD),
    ("RMSNormalization", (23,), [(2, 3, 4), drawn(3, 4)], {"axis": -2}, 1e-10, STANDARD),
    ("InstanceNormalization", (7, 13), [IMAGE, drawn(6), drawn(6)], {}, 1e-10, STANDARD),
    (
        "InstanceNormalization",
        (7,),
        [(1, 2, 5), drawn(2), drawn(2)],
        {"epsilon": 1.0},
        1e-10,
        STANDARD,
    ),
    # The reference computes this one in float32.
    ("GroupNormalization", (21,), [IMAGE, drawn(6), drawn(6)], {"num_groups": 3}, 1e-6, STANDARD),
    ("GroupNormalization", (21,), [IMAGE, drawn(6), drawn(6)], {"num_groups": 1}, 1e-6, STANDARD),
    ("MeanVarianceNormalization", (9, 13), [IMAGE], {}, None, STANDARD),
    ("MeanVarianceNormalization", (13,), [IMAGE], {"axes": [1, -1]}, None, STANDARD),
    ("LpNormalization", (7,), [(2, 3, 4)], {}, 1e-10, STANDARD),
    ("LpNormalization", (7,), [(2, 3, 4)], {"axis": 1, "p": 2}, 1e-10, STANDARD),
    # The reference forgets the absolute values, and LRN's windows.
    ("LpNormalization", (7,), [(2, 3, 4)], {"p": 1}, None, ["relu", "reciprocal", "product"]),
    (
        "LRN",
        (7, 13),
        [IMAGE],
        {"size": 3, "alpha": 0.5},
        None,
        ["power", "sqrt", "sqrt", "power", "reciprocal", "product"],
    ),
    (
        "LRN",
        (13,),
        [IMAGE],
        {"size": 99, "alpha": 0.5, "beta": 1.0},
        None,
        ["power", "reciprocal", "product"],
    ),
    (
        "LRN",
        (13,),
        [(1, 1, 4, 1)],
        {"size": 1, "alpha": 0.3, "beta": 0.6, "bias": 2.0},
        None,
        ["power", "log", "exp", "reciprocal", "product"],
    ),
]


@pytest.mark.parametrize(
    ("operator", "opset", "inputs", "attributes", "reference", "functions"),
    [
        pytest.param(
            name, opset, inputs, attributes, reference, functions, id=f"{name}-{n}-{opset}"
        )
        for n, (name, opsets, inputs, attributes, reference, functions) in enumerate(CASES)
        for opset in opsets
    ],
)
def test_a_normalisation_means_what_runtimes_say(
    operator: str,
    opset: int,
    inputs: list[Any],
    attributes: dict[str, Any],
    reference: float | None,
    functions: list[str],
) -> None:
    content = model_bytes(operator, inputs, attributes, opset)
    x = drawn(4, int(np.prod(inputs[0])), seed=8)
    network = assert_agrees(content, x, reference=reference)
    assert functions_of(network) == functions
    assert network.nodes[network.outputs[0]].shape == inputs[0]


def test_mean_and_inverse_deviation_are_outputs_too() -> None:
    inputs: list[Any] = [(2, 3, 4), drawn(4), drawn(4)]
    content = model_bytes("LayerNormalization", inputs, {}, 17, outputs=3)
    network = assert_agrees(content, drawn(3, 24))
    assert [network.nodes[o].shape for o in network.outputs] == [(2, 3, 4), (2, 3, 1), (2, 3, 1)]


def test_scale_and_bias_may_vary() -> None:
    content = model_bytes("LayerNormalization", [(2, 4), (4,), (4,)], {}, 17)
    assert functions_of(assert_agrees(content, drawn(3, 16))) == [*STANDARD, "product"]


def test_the_variance_is_a_mean_of_squares_of_deviations() -> None:
    """Far from 0, a difference of the mean square and the squared mean would be noise."""
    content = model_bytes("LayerNormalization", [(1, 4), np.ones(4, np.float32)], {}, 17)
    network = read_model_bytes(content, None, "m")
    x = 1e6 + np.array([[0.0, 1.0, 2.0, 4.0]])
    theirs = onnxruntime_outputs(content, x - 1e6)
    np.testing.assert_allclose(evaluate(network, x), theirs, atol=1e-5)


ONES = np.ones(3, np.float32)
REFUSED: list[tuple[str, int, list[Any], dict[str, Any], str]] = [
    ("LayerNormalization", 17, [(2, 3), np.ones(2, np.float32)], {}, "broadcast"),
    ("LayerNormalization", 17, [(3,), np.ones((2, 3), np.float32)], {}, "does not fit"),
    ("LayerNormalization", 17, [(2, 3), ONES], {"axis": 2}, "axis 2"),
    ("LayerNormalization", 17, [(2, 3), ONES], {"epsilon": -1.0}, "epsilon"),
    ("LayerNormalization", 17, [(2, 3), ONES], {"epsilon": float("nan")}, "epsilon"),
    ("LayerNormalization", 16, [(2, 3), ONES], {}, "opset 16 has no operator"),
    ("LayerNormalization", 17, [(2, 3), np.ones(3)], {}, "mixes"),
    ("RMSNormalization", 22, [(2, 3), ONES], {}, "opset 22 has no operator"),
    ("InstanceNormalization", 13, [(2, 3), ONES, ONES], {}, "no spatial axes"),
    ("InstanceNormalization", 13, [(2, 2, 3), ONES, ONES], {}, "2 channels"),
    ("GroupNormalization", 21, [(2, 3, 2), ONES, ONES], {"num_groups": 2}, "2 groups"),
    ("GroupNormalization", 21, [(2, 3, 2), ONES, ONES], {"num_groups": 0}, "0 groups"),
    ("GroupNormalization", 21, [(2, 6, 2), ONES, ONES], {"num_groups": 3}, "6 channels"),
    ("GroupNormalization", 18, [(2, 3, 2), ONES, ONES], {"num_groups": 3}, "no longer"),
    ("MeanVarianceNormalization", 13, [(2, 3)], {}, "axis 2"),
    ("LpNormalization", 13, [(2, 3)], {"p": 3}, "order 3"),
    ("LRN", 13, [(1, 4, 2)], {"size": 2}, "even"),
    ("LRN", 13, [(1, 4, 2)], {"size": 0}, "windows of 0"),
    ("LRN", 13, [(1, 4)], {"size": 3}, "windows of 3"),
    ("LRN", 13, [(1, 4, 2)], {"size": 3, "beta": float("inf")}, "windows of 3"),
]


@pytest.mark.parametrize(("operator", "opset", "inputs", "attributes", "reason"), REFUSED)
def test_what_has_no_meaning_is_refused(
    operator: str, opset: int, inputs: list[Any], attributes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(model_bytes(operator, inputs, attributes, opset), None, "m")
