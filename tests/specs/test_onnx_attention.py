"""Attention with masks, grouped heads and past states; rotary embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from specs.errors import ModelError
from specs.network import Network
from specs.onnx_reader import read_model_bytes
from tests.networks import assert_agrees, evaluate, functions_of, model_bytes


def drawn(*shape: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def agrees(content: bytes, reference: float = 1e-10) -> Network:
    size = read_model_bytes(content, None, "m").input_size
    return assert_agrees(content, drawn(4, size, seed=3), reference=reference)


HEADS = [(1, 2, 3, 4)] * 3
MASK = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 1]], dtype=np.bool_)
PLAIN = ["product", "exp", "reciprocal", "product"]

CASES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "self": (HEADS, {}),
    "cross": ([(2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 3)], {}),
    "grouped": ([(1, 4, 3, 4), (1, 2, 5, 4), (1, 2, 5, 3)], {}),
    "one key head": ([(1, 4, 3, 4), (1, 1, 5, 4), (1, 1, 5, 3)], {}),
    "flat": ([(2, 3, 8), (2, 5, 4), (2, 5, 4)], {"q_num_heads": 4, "kv_num_heads": 2}),
    "causal": (HEADS, {"is_causal": 1}),
    "mask of truth values": ([*HEADS, MASK], {}),
    "mask by head": ([*HEADS, np.stack([MASK, MASK.T])], {}),
    "mask and causal": ([*HEADS, MASK], {"is_causal": 1}),
    "mask of numbers": ([*HEADS, drawn(3, 3)], {}),
    "variable mask": ([*HEADS, (3, 3)], {}),
}


@pytest.mark.parametrize("opset", [23, 24])
@pytest.mark.parametrize("name", CASES)
def test_attention(name: str, opset: int) -> None:
    inputs, attributes = CASES[name]
    network = agrees(model_bytes("Attention", inputs, attributes, opset))
    assert functions_of(network) == PLAIN


def test_a_stated_scale_and_a_soft_cap() -> None:
    # The reference keeps the scale in float32.
    agrees(model_bytes("Attention", HEADS, {"scale": 0.3}, 23), reference=1e-6)
    network = agrees(model_bytes("Attention", HEADS, {"softcap": 0.5}, 23))
    assert functions_of(network) == ["product", "tanh", "exp", "reciprocal", "product"]


def test_past_states_are_outputs() -> None:
    past = [(1, 2, 2, 4), (1, 2, 2, 4)]
    network = agrees(model_bytes("Attention", [*HEADS, None, *past], {}, 23, outputs=3))
    assert [network.nodes[o].shape for o in network.outputs[1:]] == [(1, 2, 5, 4)] * 2


def test_masked_keys_have_no_weight_at_all() -> None:
    """Not merely a small one: the output does not depend on them."""
    content = model_bytes("Attention", [*HEADS, MASK], {}, 23)
    network = read_model_bytes(content, None, "m")
    x = drawn(1, network.input_size)
    moved = x.copy()
    values = moved.reshape(3, 2, 3, 4)[2]  # those of V
    values[:, 0] += 100.0  # the first key, which the second query may not see
    before, after = (evaluate(network, point).reshape(2, 3, 4) for point in (x, moved))
    assert np.array_equal(before[:, 1], after[:, 1])
    assert np.all(before[:, 0] != after[:, 0])


def test_a_single_key_leaves_no_choice() -> None:
    network = agrees(model_bytes("Attention", [(1, 1, 3, 2), (1, 1, 1, 2), (1, 1, 1, 2)], {}, 23))
    assert not network.neurons


REFUSED: list[tuple[list[Any], dict[str, Any], str]] = [
    ([(1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 4)], {}, "do not fit"),
    ([(1, 3, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)], {}, "do not fit"),
    ([(1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 4, 4)], {}, "do not fit"),
    ([(1, 2, 3, 4), (2, 3, 4), (1, 2, 4, 4)], {}, "ranks"),
    ([(2, 3, 8)] * 3, {}, "q_num_heads 0"),
    ([(2, 3, 8)] * 3, {"q_num_heads": 3, "kv_num_heads": 2}, "q_num_heads 3"),
    ([(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)], {"is_causal": 1}, "several ways"),
    ([*HEADS, None, (1, 2, 2, 4), (1, 2, 2, 4)], {"is_causal": 1}, "several ways"),
    ([*HEADS, None, (1, 2, 2, 4)], {}, "only one of past"),
    ([*HEADS, None, (1, 2, 2, 3), (1, 2, 2, 4)], {}, "past state of shape"),
    ([*HEADS, np.ones((3, 2), np.bool_)], {}, "broadcast|does not fit"),
    ([*HEADS, np.ones((3, 1), np.bool_)], {}, "several ways"),
    ([*HEADS, np.zeros((3, 3), np.bool_)], {}, "softmax over no entries"),
    ([*HEADS, np.ones((3, 3))], {}, "mixes"),
    ([*HEADS, np.ones((3, 3, 3), np.bool_)], {}, "broadcast|does not fit"),
    (HEADS, {"softcap": -1.0}, "softcap"),
    (HEADS, {"scale": float("inf")}, "scale inf"),
    ([(1, 1, 2**12, 2)] * 3, {}, "too large"),
]


@pytest.mark.parametrize(("inputs", "attributes", "reason"), REFUSED)
def test_what_has_no_rule_is_refused(
    inputs: list[Any], attributes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(model_bytes("Attention", inputs, attributes, 23), None, "m")


def test_scores_as_an_output_have_no_rule() -> None:
    with pytest.raises(ModelError, match="further output"):
        read_model_bytes(model_bytes("Attention", HEADS, {}, 23, outputs=4), None, "m")


POSITION = np.array([[4, 0, 1]])
ANGLES = [drawn(5, 2, seed=5), drawn(5, 2, seed=6)]
ROTATIONS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "whole": ([(1, 2, 3, 4), drawn(1, 3, 2), drawn(1, 3, 2, seed=2)], {}),
    "at positions": ([(1, 2, 3, 4), *ANGLES, POSITION], {}),
    "interleaved": ([(1, 2, 3, 4), *ANGLES, POSITION], {"interleaved": 1}),
    "in part": ([(1, 2, 3, 6), *ANGLES, POSITION], {"rotary_embedding_dim": 4}),
    "in part, interleaved": (
        [(1, 2, 3, 6), *ANGLES, POSITION],
        {"rotary_embedding_dim": 4, "interleaved": 1},
    ),
    "flat": ([(1, 3, 8), *ANGLES, POSITION], {"num_heads": 2}),
}


@pytest.mark.parametrize("name", ROTATIONS)
def test_rotations(name: str) -> None:
    inputs, attributes = ROTATIONS[name]
    assert not agrees(model_bytes("RotaryEmbedding", inputs, attributes, 23)).neurons


BAD_ROTATIONS: list[tuple[list[Any], dict[str, Any], str]] = [
    ([(1, 3, 8), *ANGLES, POSITION], {}, "num_heads 0"),
    ([(1, 2, 3, 3), *ANGLES, POSITION], {}, "rotation of 3"),
    ([(1, 2, 3, 4), *ANGLES, POSITION], {"rotary_embedding_dim": 6}, "rotation of 6"),
    ([(1, 2, 3, 4), *ANGLES, POSITION + 1], {}, "outside the angles"),
    ([(1, 2, 3, 4), *ANGLES], {}, "angles of shape"),
    ([(1, 2, 3, 8), *ANGLES, POSITION], {}, "angles of shape"),
    ([(3, 4), *ANGLES, POSITION], {}, "an operand of shape"),
]


@pytest.mark.parametrize(("inputs", "attributes", "reason"), BAD_ROTATIONS)
def test_rotations_that_do_not_fit_are_refused(
    inputs: list[Any], attributes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(model_bytes("RotaryEmbedding", inputs, attributes, 23), None, "m")
