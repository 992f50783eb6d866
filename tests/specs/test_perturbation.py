"""Formats, what is stored in them, and the bound of rounded sums."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.errors import ModelError, QuestionError
from specs.perturbation import FORMATS, SEMANTICS, rounding_of

TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
SPREAD = st.tuples(st.floats(-2.0, 2.0), st.integers(-160, 120))


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_the_numbers_of_the_type(name):
    known, limits = FORMATS[name], ml_dtypes.finfo(TYPES[name])
    assert known.largest == float(limits.max)
    assert known.tiny == float(limits.smallest_normal)
    assert known.unit == float(limits.eps) / 2


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=300, deadline=None)
@given(pairs=st.lists(SPREAD, min_size=1, max_size=20))
def test_numbers_round_as_the_type_rounds_them(name, pairs):
    known = FORMATS[name]
    values = np.array([np.ldexp(m, e) for m, e in pairs])
    # Through float32 a number would be rounded twice on its way to bfloat16.
    exact = values.astype(np.float32).astype(np.float64) if name == "bfloat16" else values
    with np.errstate(over="ignore"):
        expected = exact.astype(TYPES[name]).astype(np.float64)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(known.rounded(exact[finite]), expected[finite])
    for value in exact[~finite]:
        with pytest.raises(ModelError, match="beyond the range"):
            known.rounded(value)


def test_a_tie_goes_to_the_even_neighbour():
    known = FORMATS["float16"]
    assert known.rounded([1 + 2.0**-11, 1 + 3 * 2.0**-11]).tolist() == [1.0, 1 + 2.0**-9]


@pytest.mark.parametrize("name", FORMATS)
def test_a_stored_number_below_the_normal_ones_may_be_zero(name):
    known = FORMATS[name]
    found = known.stored([known.tiny, known.tiny / 2, 0.0, -known.tiny / 4])
    assert found.value.tolist() == [known.tiny, known.tiny / 2, 0.0, -known.tiny / 4]
    assert found.radius is not None
    assert found.radius.tolist() == [0.0, known.tiny / 2, 0.0, known.tiny / 4]


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (Fraction(1, 2), True),
        (Fraction(1, 3), False),
        (Fraction(2**24 + 1), False),
        (Fraction(1, 2**149), True),
        (Fraction(1, 2**150), False),
        (Fraction(2**128), False),
        (Fraction(10**400), False),
    ],
)
def test_what_float32_holds(value, held):
    assert FORMATS["float32"].holds(value) is held


def test_semantics_have_names():
    assert rounding_of("real") is None
    assert {rounding_of(name).name for name in SEMANTICS if name != "real"} == set(FORMATS)
    with pytest.raises(QuestionError, match="semantics 'fp8': use one of real, float32"):
        rounding_of("fp8")


def summed(terms, order, rng, dtype, fused):
    """A dot product in a random tree of additions, some of them fused; exact in float64."""
    parts = [
        (Fraction(float(a)) * Fraction(float(b)), fused and rng.random() < 0.5) for a, b in terms
    ]
    parts = [parts[i] for i in order]
    known = FORMATS["float16"]

    def rounded(value):
        near = known.rounded(float(value))  # sums of half floats' products fit a float64
        return Fraction(float(near))

    nodes = [(value if exact else rounded(value), exact) for value, exact in parts]
    while len(nodes) > 1:
        i = rng.integers(len(nodes) - 1)
        (a, left), (b, right) = nodes[i], nodes[i + 1]
        if left and right:  # one of two products is rounded before it is added
            b = rounded(b)
        nodes[i : i + 2] = [(rounded(a + b), False)]
    value, exact = nodes[0]
    return rounded(value) if exact else value


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 24), fused=st.booleans())
def test_a_sum_of_products_errs_by_no_more_than_its_share(seed, count, fused):
    rng = np.random.default_rng(seed)
    known = FORMATS["float16"]
    a, b = (
        known.rounded(rng.normal(size=count) * 2.0 ** rng.integers(-3, 4, count)) for _ in range(2)
    )
    if rng.random() < 0.5:  # what cancels
        a[: count // 2] = -a[count - count // 2 :]
        b[: count // 2] = b[count - count // 2 :]
    terms = list(zip(a, b, strict=True))
    found = summed(terms, rng.permutation(count), rng, np.float16, fused)
    exact = sum((Fraction(float(x)) * Fraction(float(y)) for x, y in terms), Fraction(0))
    size = sum((abs(Fraction(float(x)) * Fraction(float(y))) for x, y in terms), Fraction(0))
    flushed = count * 3 * Fraction(known.tiny)
    assert abs(found - exact) <= Fraction(known.share(count, 1)) * size + flushed


def test_shares_grow_with_terms_and_factors_and_round_up():
    known = FORMATS["float32"]
    u = Fraction(known.unit)
    assert known.share(1, 0) == 0.0
    assert Fraction(known.share(7, 0)) == 6 * u
    assert Fraction(known.share(7, 1)) >= 7 * u
    assert known.share(7, 1) < known.share(7, 2) < known.share(8, 2)
    # gamma_n does not exist from n u = 1 on; this bound does.
    assert FORMATS["float16"].share(4096, 1) > 1.0


def test_the_bound_of_a_sum_is_nearly_reached():
    """Additions that all lose the same way: a share that is a tenth smaller would be wrong."""
    known = FORMATS["float16"]
    terms = [1.0, *[known.unit * (1 - 2.0**-10)] * 200]
    total = np.float16(1.0)
    for term in terms[1:]:
        total = np.float16(total + np.float16(term))
    exact = sum(map(Fraction, terms))
    size = exact
    lost = abs(Fraction(float(total)) - exact)
    assert Fraction(known.share(len(terms), 0)) * size >= lost
    assert Fraction(known.share(len(terms), 0)) * size * Fraction(8, 10) < lost
