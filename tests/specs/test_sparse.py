"""Sparse matrices: the same map as the dense matrix, in floats and integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.enclosure import Enclosure
from specs.errors import ModelError
from specs.linear import Sparse


def sparse(matrix: np.ndarray) -> Sparse:
    source, target = np.nonzero(matrix)
    return Sparse(Enclosure(matrix[source, target]), source, target, *matrix.shape)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.sampled_from("fO"))
def test_acts_like_the_dense_matrix(seed: int, rows: int, columns: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-3, 4, (rows, columns)) * (rng.random((rows, columns)) < 0.4)
    made = sparse(matrix.astype(float))
    dtype = float if kind == "f" else object
    weight = made.weight.value.astype(int).astype(dtype)
    x = rng.integers(-9, 10, (3, rows)).astype(dtype)
    y = rng.integers(-9, 10, (3, columns)).astype(dtype)
    assert np.array_equal(made.forward(x, weight, np.matmul), x @ matrix)
    assert np.array_equal(made.adjoint(y, weight, np.matmul), y @ matrix.T)
    chosen = rng.integers(0, columns, 4)
    assert np.array_equal(made.rows(chosen, weight), matrix.T[chosen])
    assert made.fan_in == max(1, np.count_nonzero(matrix, axis=0).max())
    assert made.fan_out == max(1, np.count_nonzero(matrix, axis=1).max())


@pytest.mark.parametrize(("source", "target"), [([2], [0]), ([0], [3]), ([-1], [0]), ([0, 0], [0])])
def test_refuses_indices_that_do_not_fit(source: list[int], target: list[int]) -> None:
    with pytest.raises(ModelError):
        Sparse(Enclosure(np.ones(1)), np.array(source), np.array(target), 2, 3)
