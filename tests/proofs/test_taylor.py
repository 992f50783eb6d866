"""Tables of Taylor polynomials enclose what they stand for, at every float."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from flint import arb, arb_series, ctx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proofs import taylor
from proofs.balls import float_above, positive, units
from proofs.taylor import CELLS, CHUNK, SHIFT, START, Table, cell
from specs.errors import FarkasError

PRECISION = 4000


def sigmoid(x):
    if positive(x):
        return 1 / (1 + (-x).exp())
    return x.exp() / (1 + x.exp())


def ninth(x):
    cube = x * x * x
    return cube * cube * cube


FORMULAS = {
    "sigmoid": sigmoid,
    "exp": lambda x: x.exp(),
    "sine": lambda x: x.sin(),
    "logarithm": lambda x: x.log(),
    "gelu": lambda x: x * (-x / arb(2).sqrt()).erfc() / 2,
    "steep power": lambda x: ninth(1 / x),
    "root": lambda x: x.sqrt(),
    "tangent": lambda x: 2 / (1 + (-2 * x).exp()) - 1,
    "cubic": lambda x: x * x * x - x,
}
TABLES = {name: Table(formula) for name, formula in FORMULAS.items()}
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
CLOSE = st.floats(min_value=-50.0, max_value=50.0)


def truth(name: str, x: float, order: int):
    """The value or derivative as a ball, NaN where there is none."""
    try:
        return FORMULAS[name](arb_series([arb(x), 1], 2))[order]
    except (ValueError, ZeroDivisionError):
        return arb.nan()


def check(name: str, table: Table, points: np.ndarray) -> None:
    before, ctx.prec = ctx.prec, PRECISION
    try:
        for order in (0, 1):
            low, high = table.enclose(points, order)
            assert low.dtype == high.dtype == np.float64
            assert not np.isnan(low).any()
            assert not np.isnan(high).any()
            for x, below, above in zip(points.tolist(), low, high, strict=True):
                value = truth(name, x, order)
                if not value.is_finite():
                    assert (below, above) == (-math.inf, math.inf), (name, x)
                    continue
                assert not arb(float(below)) > value, (name, order, x)
                assert not arb(float(above)) < value, (name, order, x)
    finally:
        ctx.prec = before


def borders(x: float) -> np.ndarray:
    """The ends and the middle of a float's cell, and what is next to them."""
    centre, half = cell(x)
    found = [x, centre, centre - half, centre + half, centre + half / 3]
    found = [y for y in found if math.isfinite(y)]
    found += [math.nextafter(y, way) for y in found for way in (-math.inf, math.inf)]
    return np.array([y for y in found if math.isfinite(y)])


@pytest.mark.parametrize("name", FORMULAS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(x=FLOATS | CLOSE)
@example(x=0.0)
@example(x=-0.0)
@example(x=5e-324)
@example(x=-1.7e308)
@example(x=2.0**-1014)
@example(x=1024.0)
@example(x=709.78)
@example(x=-745.2)
@example(x=math.pi)
def test_values_and_derivatives_are_enclosed(name, x):
    check(name, TABLES[name], borders(x))


@pytest.mark.parametrize("name", FORMULAS)
def test_many_at_once(name):
    """More than a chunk, and more cells than the first table holds."""
    rng = np.random.default_rng(0)
    x = np.sort(np.exp(rng.normal(size=CHUNK + 100)))
    table = Table(FORMULAS[name])
    low, high = table.enclose(x.reshape(2, -1), 1)
    assert low.shape == (2, x.size // 2)
    again = table.enclose(x[::-1], 1)
    assert np.array_equal(again[0][::-1], low.reshape(-1))
    assert np.array_equal(again[1][::-1], high.reshape(-1))
    check(name, table, x[::1000])


@pytest.mark.parametrize("name", FORMULAS)
def test_enclosures_are_narrow(name):
    """A few roundings of the largest term, where the function is tame."""
    x = np.random.default_rng(1).uniform(0.5, 30.0, size=2000)
    for order in (0, 1):
        middle, error = TABLES[name].approximate(x, order)
        size = np.abs(middle) + (name in ("sine", "cubic", "logarithm", "gelu"))
        assert np.all(error <= (4000 if name == "steep power" else 8) * 2.0**-52 * size)


def without_rounding(monkeypatch):
    monkeypatch.setattr(taylor, "_rounding", lambda coefficients: 0.0)


def without_remainder(monkeypatch):
    whole = taylor.taylor

    def shortened(formula, centre, step, length):
        found = whole(formula, centre, step, length)
        return found[:-2] + [arb(0)] * 2 if centre.rad() > 0 else found

    monkeypatch.setattr(taylor, "taylor", shortened)


def with_remainder_at_the_centre(monkeypatch):
    whole = taylor.taylor
    monkeypatch.setattr(taylor, "taylor", lambda f, c, h, n: whole(f, c.mid(), h, n))


def with_exact_coefficients(monkeypatch):
    rounded = taylor._rounded
    monkeypatch.setattr(taylor, "_rounded", lambda balls: (rounded(balls)[0], arb(0)))
    monkeypatch.setattr(taylor, "_rounding", lambda coefficients: 0.0)


def with_wrong_derivative(monkeypatch):
    right = taylor._derivative
    monkeypatch.setattr(
        taylor, "_derivative", lambda series, half: [b / 2 for b in right(series, half)]
    )


@pytest.mark.parametrize(
    "change",
    [
        without_rounding,
        without_remainder,
        with_remainder_at_the_centre,
        with_exact_coefficients,
        with_wrong_derivative,
    ],
)
def test_what_a_table_leaves_out_is_noticed(change, monkeypatch):
    change(monkeypatch)
    points = np.concatenate([borders(x) for x in (0.5, 0.7, 0.9, 1.0, 1.3, 1.5, 1.9, 3.3)])
    with pytest.raises(AssertionError):
        check_all(points)


def check_all(points: np.ndarray) -> None:
    for name, formula in FORMULAS.items():
        check(name, Table(formula), points)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(x=FLOATS | CLOSE)
def test_a_cell_holds_its_floats_and_places_in_it_are_exact(x):
    centre, half = cell(x)
    t = np.float64(x) - np.float64(centre)
    assert Fraction(float(t)) == Fraction(x) - Fraction(centre)
    share = t * (1.0 / half)
    assert Fraction(float(share)) * Fraction(half) == Fraction(float(t))
    assert abs(share) <= 1
    assert centre * x >= 0


@settings(max_examples=300, deadline=None, derandomize=True)
@given(x=FLOATS | CLOSE)
def test_floats_of_one_row_have_one_cell(x):
    def number(y: float) -> int:
        bits = int(np.float64(y).view(np.int64))
        top = (bits >> 52) & 0xFFF
        return int(START[top]) + ((bits & ((1 << 52) - 1)) >> int(SHIFT[top]))

    assert 0 <= number(x) < CELLS
    for y in borders(x).tolist():
        assert (number(abs(x)) == number(abs(y))) == (cell(abs(x)) == cell(abs(y))), (x, y)
        assert number(x) != number(y) or cell(x) == cell(y), (x, y)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad):
    with pytest.raises(FarkasError):
        TABLES["exp"].enclose(np.array([0.0, bad]))


def test_other_types_are_refused():
    with pytest.raises(FarkasError):
        TABLES["exp"].enclose(np.zeros(2, dtype=np.float32))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(x=FLOATS, bits=st.sampled_from([0, 64, 128]), tiny=st.integers(-300, 300))
def test_units_are_the_nearest_integers(x, bits, tiny):
    value = arb(x) + arb((tiny, -1200))
    low, high = units(value, bits)
    exact = (Fraction(x) + Fraction(tiny, 1 << 1200)) * 2**bits
    before, ctx.prec = ctx.prec, 3000
    try:
        low, high = units(arb(x) + arb((tiny, -1200)), bits)
    finally:
        ctx.prec = before
    assert (low, high) == (math.floor(exact), math.ceil(exact))


def test_units_of_what_is_too_large_are_infinite():
    for value in (arb(2) ** 1200, -(arb(2) ** 1200), arb("inf"), arb.nan(), arb("1e1000000000")):
        assert units(value, 128) == (-math.inf, math.inf)
    assert units(arb("1e-1000000000"), 128) == (0, 1)
    assert units(-arb("1e-1000000000"), 128) == (-1, 0)


@pytest.mark.parametrize("text", ["1e-1000000", "0.1", "1e400", "-1e400", "5e-324", "nan", "inf"])
def test_a_float_above_is_above(text):
    value = arb(text)
    found = float_above(value)
    assert math.isinf(found) if not value.is_finite() else arb(found) >= value
