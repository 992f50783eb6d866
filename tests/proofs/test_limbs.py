"""Sums of products of big integers by floats: exact, whatever their sizes and signs."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from proofs import limbs
from proofs.limbs import applied, product, split
from specs.enclosure import Enclosure
from specs.errors import EvidenceError, FarkasError
from specs.linear import Sparse

EDGES = [0, 1, -1, 2**15 - 1, 2**15, -(2**15), 2**16 - 1, -(2**16), 2**31, -(2**63), 2**160 - 1]
NUMBERS = st.one_of(st.integers(-(2**300), 2**300), st.sampled_from(EDGES))


def matrices(rows: int, columns: int):
    return hnp.arrays(object, (rows, columns), elements=NUMBERS)


def plain(a, b):
    """The definition, in Python's integers."""
    return [
        [sum(x * y for x, y in zip(r, c, strict=True)) for c in b.T.tolist()] for r in a.tolist()
    ]


@given(st.data(), st.integers(1, 4), st.integers(1, 5), st.integers(1, 4))
def test_products_are_exact(data, rows, inner, columns):
    a, b = data.draw(matrices(rows, inner)), data.draw(matrices(inner, columns))
    assert product(a, b).tolist() == plain(a, b)


@given(matrices(2, 3))
def test_limbs_add_up_to_the_numbers(numbers):
    parts = split(numbers)
    assert parts[:-1].min(initial=0.0) >= 0.0
    assert np.abs(parts).max() < 2.0**16
    total = sum((parts[k].astype(int).astype(object) << (16 * k) for k in range(len(parts))), 0)
    assert total.tolist() == numbers.tolist()


@given(st.data(), st.integers(0, 20))
def test_what_is_shifted_out_is_rounded_down(data, dropped):
    a, b = data.draw(matrices(3, 2)), data.draw(matrices(2, 2))
    found = applied(np.matmul, a, list(split(b)), 2, dropped)
    assert found.tolist() == [[v >> (16 * dropped) for v in row] for row in plain(a, b)]


def test_the_largest_sums_that_are_allowed_are_exact():
    """All limbs as large as they can be, and so many that their sum just fits in 53 bits."""
    count = 1 << 12
    largest = 2**64 - 1
    a = np.full((1, count), largest, dtype=object)
    b = np.full((count, 1), -largest, dtype=object)
    assert product(a, b)[0, 0] == -count * largest**2
    each = np.full((1, 1), 2**16 - 1.0)
    found = applied(lambda rows, limb: rows * limb * limbs.LONGEST, a[:, :1], [each], limbs.LONGEST)
    assert found[0, 0] == largest * (2**16 - 1) * limbs.LONGEST


def test_many_limbs_fit_in_64_bits():
    """As many limbs of a coefficient as are allowed, all sums as large as can be."""
    share = limbs.LONGEST
    parts = [np.full((1, 1), 2.0**16 - 1)] * limbs.MOST
    number = 2 ** (16 * 600) - 1
    found = applied(lambda rows, limb: rows * limb * share, np.array([[number]]), parts, share)
    assert found[0, 0] == number * share * (2 ** (16 * limbs.MOST) - 1)


def test_other_maps_than_matrices():
    """A sparse matrix with equal places, row by row over several chunks."""
    index = np.array([0, 0, 1, 2]), np.array([1, 1, 0, 1])
    sparse = Sparse(Enclosure(np.ones(4)), *index, source_size=3, target_size=2)
    weight = np.array([3**50, -(2**90), 5, 7], dtype=object)
    numbers = np.array([[2**100 + k, -(3**60), k] for k in range(5)], dtype=object)

    def forward(values, chosen):
        return sparse.forward(values, chosen, np.matmul)

    with patch.object(limbs, "CHUNK", 4):
        found = applied(forward, numbers, list(split(weight)), sparse.fan_in)
    assert found.tolist() == forward(numbers, weight).tolist()


def test_nothing_is_the_empty_sum():
    empty = np.zeros((0, 3), dtype=object)
    assert product(empty, np.ones((3, 2), dtype=object)).shape == (0, 2)
    assert (
        product(np.zeros((2, 0), dtype=object), empty.T[:0].reshape(0, 2)).tolist() == [[0, 0]] * 2
    )


def test_sums_that_are_too_long_are_refused():
    one = np.ones((1, 1), dtype=object)
    with pytest.raises(EvidenceError, match="too long"):
        applied(np.matmul, one, list(split(one)), limbs.LONGEST + 1)
    with pytest.raises(EvidenceError, match="too long"):
        applied(np.matmul, one, [np.ones((1, 1))] * (limbs.MOST + 1), 1)


@pytest.mark.parametrize(
    "wrong", [np.array([[0.5]], dtype=object), np.array([[np.inf]], dtype=object)]
)
def test_what_is_no_integer_is_refused(wrong):
    with pytest.raises(TypeError):
        product(wrong, np.ones((1, 1), dtype=object))
    with pytest.raises(TypeError):
        product(np.ones((1, 1), dtype=object), wrong)


@pytest.mark.parametrize("place", [(0, 0), (1, 2), (17, 1)])
@pytest.mark.parametrize("error", [1.0, -1.0, 2.0**20, 2.0**40])
def test_a_wrong_matrix_product_is_noticed(place, error):
    """As a BLAS would make it that loses the last bits of some entry."""
    a = np.full((9, 4), 2**40 - 3, dtype=object)
    b = [np.arange(12.0).reshape(4, 3)]

    def wrong(rows, limb):
        exact = rows @ limb
        if exact.dtype == np.float64:
            exact[place] += error
        return exact

    with pytest.raises(FarkasError, match="not exact"):
        applied(wrong, a, b, 4)
    assert applied(np.matmul, a, b, 4)[0].tolist() == [(2**40 - 3) * k for k in (18, 22, 26)]


@pytest.mark.parametrize("result", [np.nan, np.inf, -np.inf, 2.0**63, -(2.0**54)])
def test_sums_that_are_no_numbers_or_too_large_are_always_noticed(result):
    """Modulo ``2 ** 64`` half of all random combinations take ``2 ** 63`` for 0."""

    def wrong(rows, limb):
        exact = rows @ limb
        if exact.dtype == np.float64:
            exact[0, 0] = result
        return exact

    zero = np.zeros((1, 1), dtype=object)
    for _ in range(20):
        with pytest.raises(FarkasError, match="not exact"):
            applied(wrong, zero, [np.ones((1, 1))], 1)


def test_longer_sums_would_not_be_exact():
    """The limit is not idle, and what floats lose past it is noticed."""
    share = 4 * limbs.LONGEST
    number, odd = np.array([[2**16 - 1]], dtype=object), [np.full((1, 1), 2.0**16 - 1)]
    with patch.object(limbs, "LONGEST", share), pytest.raises(FarkasError, match="not exact"):
        applied(lambda rows, limb: rows * limb * share + rows, number, odd, share)
