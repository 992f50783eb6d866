"""Constraints of a region, and conjunctions with odd scales, in search and proof."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from proofs.check import check_proof
from specs.property import constraint
from tests.verifier.small import box_query, mlp
from tests.verifier.test_bounds import FAR
from verifier.bab import Search, Settings

METHODS = ("inputs", "neurons")


def difference() -> tuple:
    """``y = relu(x0) - relu(x1)``, which is at most 0 where ``x0 <= x1``."""
    return mlp([np.eye(2), np.array([[1.0], [-1.0]])], [np.zeros(2), np.zeros(1)])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [Fraction(1), Fraction(1, 3), Fraction(1000, 7)])
def test_the_search_uses_the_region(method: str, scale: Fraction) -> None:
    region = constraint({0: scale, 1: -scale}, {}, Fraction(0))
    unsafe = constraint({}, {0: Fraction(-1)}, Fraction(1, 10))
    stated = box_query(difference(), [-1, -1], [1, 1], [[unsafe]], [region])
    search = Search(stated, deadline=FAR, settings=Settings(method=method, leaf_steps=40))
    assert search.run() == "closed"
    checked = check_proof(stated, search.proof())
    assert checked.verdict == "valid unsat", checked.reason


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [Fraction(1, 3), Fraction(1000, 7), Fraction(1, 1 << 30)])
def test_combinations_stand_as_the_kernel_takes_them(method: str, scale: Fraction) -> None:
    """``x0 >= x1 + 1/10`` and ``relu(x0) <= relu(x1) - 1/10`` only together fail."""
    first = constraint({0: -scale, 1: scale}, {}, scale / 10)
    second = constraint({}, {0: Fraction(1, 7)}, Fraction(1, 70))
    stated = box_query(difference(), [Fraction(1, 2)] * 2, [1, 1], [[first, second]])
    search = Search(stated, deadline=FAR, settings=Settings(method=method))
    assert search.run() == "closed"
    checked = check_proof(stated, search.proof())
    assert checked.verdict == "valid unsat", checked.reason
    assert checked.leaves == 1
