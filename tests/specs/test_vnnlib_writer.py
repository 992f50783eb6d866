"""Property files that we write are read back as what they were."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.errors import PropertyError
from specs.property import Case, Constraint, Property, constraint
from specs.source import Source
from specs.vnnlib1 import read_vnnlib1
from specs.vnnlib_writer import vnnlib

F = Fraction


def number(rng: np.random.Generator) -> Fraction:
    kind = rng.integers(0, 4)
    if kind == 0:
        return F(int(rng.integers(-5, 6)))
    if kind == 1:
        return F(int(rng.integers(-(10**9), 10**9)), 10 ** int(rng.integers(0, 12)))
    if kind == 2:
        return F(float(rng.normal()))
    return F(int(rng.integers(-50, 50)), int(rng.integers(1, 50)))


def row(rng: np.random.Generator, inputs: int, outputs: int) -> Constraint:
    x = {int(i): number(rng) for i in rng.permutation(2)[:inputs]}
    y = {int(j): number(rng) or F(1) for j in rng.permutation(2)[:outputs]}
    return constraint(x, y, number(rng), bool(rng.integers(0, 2)))


def case(rng: np.random.Generator, shift: int = 0) -> Case:
    ends = [sorted((number(rng) + shift, number(rng) + shift + 1)) for _ in range(2)]
    some = frozenset({0}) if rng.random() < 0.3 and ends[0][0] < ends[0][1] else frozenset()
    unsafe = tuple(
        tuple(row(rng, int(rng.integers(0, 3)), int(rng.integers(1, 3))) for _ in range(size))
        for size in rng.integers(1, 3, size=int(rng.integers(1, 4)))
    )
    return Case([e[0] for e in ends], [e[1] for e in ends], unsafe, (), some, frozenset())


@given(seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_one_case(seed):
    rng = np.random.default_rng(seed)
    stated = Property(2, 2, [case(rng)])
    text = vnnlib(stated, ("a remark",))
    assert text.startswith("; a remark\n")
    assert read_vnnlib1(Source("text", text), 2, 2).digest == stated.digest


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_several_cases_are_written_as_they_are_or_refused(seed):
    rng = np.random.default_rng(seed)
    stated = Property(2, 2, [case(rng, 10 * k) for k in range(3)])
    try:
        text = vnnlib(stated)
    except PropertyError:
        return
    assert read_vnnlib1(Source("text", text), 2, 2).digest == stated.digest


def test_boxes_of_several_cases():
    unsafe = ((constraint({}, {0: F(1)}, F(-1)),), (constraint({}, {1: F(-1, 3)}, F(0), True),))
    parts = [Case([F(a), F(0)], [F(a + 1), F(1, 3)], unsafe) for a in range(3)]
    stated = Property(2, 2, parts)
    again = read_vnnlib1(Source("text", vnnlib(stated)), 2, 2)
    assert again.digest == stated.digest
    assert again.cases[1].upper[1] == F(1, 3)


def test_remarks_stay_remarks():
    unsafe = ((constraint({}, {0: F(1)}, F(-1)),),)
    text = vnnlib(Property(1, 1, [Case([F(0)], [F(1)], unsafe)]), ("a\n(assert (<= X_0 0))\rb",))
    assert text.startswith("; a\n; (assert (<= X_0 0))\n; b\n(declare")


def test_numbers_too_long_for_the_reader_are_refused():
    unsafe = ((constraint({}, {0: F(1)}, F(-1)),),)
    for bound in (F(10**6000), F(1, 10**6000), F(1, 3**9999)):
        with pytest.raises(PropertyError):
            vnnlib(Property(1, 1, [Case([F(0)], [bound], unsafe)]))


def test_what_would_be_read_otherwise_is_refused():
    unsafe = ((constraint({}, {0: F(1)}, F(-1)),),)
    twice = Property(1, 1, [Case([F(0)], [F(1)], unsafe)] * 2)
    with pytest.raises(PropertyError, match="reads back"):
        vnnlib(twice)
    nothing = Property(1, 1, [Case([F(0)], [F(1)], ((),))])
    with pytest.raises(PropertyError):
        vnnlib(nothing)
