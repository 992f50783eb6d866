"""Einstein summation of constants and variables."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from specs.errors import ModelError
from specs.onnx_reader import read_model_bytes
from tests.networks import assert_agrees, evaluate, model_bytes


def drawn(*shape: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


CASES: list[tuple[str, list[Any], int]] = [
    ("ij,jk->ik", [(2, 3), (3, 4)], 24),
    ("bhid,bhjd->bhij", [(1, 2, 3, 4), (1, 2, 5, 4)], 120),
    ("bij->bji", [(2, 3, 4)], 0),
    ("ii->i", [(3, 3)], 0),
    ("ii", [(3, 3)], 0),
    ("ij,jk", [(2, 3), drawn(3, 4)], 0),
    ("kj, ik -> ij", [drawn(3, 4), (2, 3)], 0),
    ("...ij,...jk->...ik", [(2, 3, 4), drawn(2, 4, 2)], 0),
    ("...i->...", [(2, 3)], 0),
    ("i...,i...->...", [(3, 2), (3, 2)], 6),
    ("i,j->ij", [(3,), (4,)], 12),
    ("ij,ij->", [(3, 2), (3, 2)], 6),
    ("ij,jk,kl->il", [(2, 3), drawn(3, 2), (2, 2)], 8),
    ("ijj,j->i", [(2, 3, 3), drawn(3)], 0),
    ("bsd,dhk->bhsk", [(1, 3, 4), drawn(4, 2, 2)], 0),
    ("ij,kj->ik", [drawn(2, 3), (4, 3)], 0),
    ("ba,ca", [(2, 3), drawn(4, 3)], 0),
    ("aB,Bc", [(2, 3), drawn(3, 2)], 0),
    ("ij->", [(2, 3)], 0),
]


@pytest.mark.parametrize(("equation", "inputs", "neurons"), CASES)
def test_an_equation_means_what_runtimes_say(
    equation: str, inputs: list[Any], neurons: int
) -> None:
    content = model_bytes("Einsum", inputs, {"equation": equation}, 12)
    size = read_model_bytes(content, None, "m").input_size
    network = assert_agrees(content, drawn(4, size, seed=2))
    assert network.neurons == neurons


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_equation_means_what_numpy_says(data: st.DataObject) -> None:
    letters = st.lists(st.sampled_from("ijkl"), min_size=1, max_size=3)
    left, right = data.draw(letters), data.draw(letters)
    every = sorted({*left, *right})
    wanted = data.draw(st.permutations(every))[: data.draw(st.integers(0, len(every)))]
    sizes = dict(zip("ijkl", (2, 3, 1, 2), strict=True))
    shapes = [tuple(sizes[label] for label in term) for term in (left, right)]
    equation = f"{''.join(left)},{''.join(right)}->{''.join(wanted)}"
    content = model_bytes("Einsum", shapes, {"equation": equation}, 12)
    network = read_model_bytes(content, None, "m")
    x = drawn(2, network.input_size)
    cut = int(np.prod(shapes[0]))
    expected = [
        np.einsum(equation, row[:cut].reshape(shapes[0]), row[cut:].reshape(shapes[1])).reshape(-1)
        for row in x.astype(np.float64)
    ]
    assume(expected[0].size)
    np.testing.assert_allclose(evaluate(network, x), expected, rtol=1e-12, atol=1e-12)


REFUSED: list[tuple[str, list[Any], str]] = [
    ("ij,jk->ik", [(2, 3), (4, 2)], "extents 3 and 4"),
    ("ij->ik", [(2, 3)], "index 'k'"),
    ("ij->ii", [(2, 3)], "twice"),
    ("ij,jk->ik", [(2, 3)], "1 operands"),
    ("ijk->i", [(2, 3)], "rank 2"),
    ("i->i", [(2, 3)], "rank 2"),
    ("...i...->i", [(2, 3)], "rank 2"),
    ("ii->i", [(2, 3)], "different extents"),
    ("i1->i", [(2, 3)], "equation 'i1->i'"),
    ("i->j->k", [(2,)], "equation"),
    ("..i->i", [(2, 3)], "equation"),
    ("...i,...i->...", [(2, 3), (1, 3)], "extents 2 and 1"),
    ("...i,...i->...", [(2, 3), (3,)], "different numbers"),
    ("ij,jk->ik", [(2**12, 2**12), (2**12, 2**12)], "too large"),
]


@pytest.mark.parametrize(("equation", "inputs", "reason"), REFUSED)
def test_what_has_no_meaning_is_refused(equation: str, inputs: list[Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        read_model_bytes(model_bytes("Einsum", inputs, {"equation": equation}, 12), None, "m")


def test_types_are_not_mixed() -> None:
    content = model_bytes("Einsum", [(2, 3), np.ones((3, 2))], {"equation": "ij,jk"}, 12)
    with pytest.raises(ModelError, match="mixes"):
        read_model_bytes(content, None, "m")
