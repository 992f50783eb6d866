"""Default slopes are what the format document says; guesses of roots are near."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.functions import function
from proofs.slopes import SAMPLES, _support, root, up_to

ENDS = st.floats(-12.0, 12.0)


def slopes(name: str, low: float, high: float, parameters: tuple[float, ...] = ()):
    rule = function(name, parameters)
    below, above = rule.default_slopes(np.array([low]), np.array([high]))
    return float(below[0]), float(above[0])


def chord(f, low: float, high: float) -> float:
    return (f(high) - f(low)) / (high - low)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (0.5, 0.75), (-3.0, -1.0)])
def test_convex_functions_take_the_tangent_at_the_middle_and_the_chord(low, high):
    below, above = slopes("exp", low, high)
    assert below == pytest.approx(math.exp((low + high) / 2), rel=1e-12)
    assert above == pytest.approx(chord(math.exp, low, high), rel=1e-12)


def test_concave_functions_the_other_way_round():
    below, above = slopes("log", 1.0, 4.0)
    assert below == pytest.approx(math.log(4.0) / 3.0, rel=1e-12)
    assert above == pytest.approx(1 / 2.5, rel=1e-12)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(low=ENDS, high=ENDS)
def test_with_one_inflection_lines_touch_or_are_chords(low, high):
    """Above, for tanh: the tangent through the left end, that at the middle, or the chord."""
    low, high = -abs(low) - 1e-3, abs(high) + 1e-3
    middle = (low + high) / 2
    below, above = slopes("tanh", low, high)

    def steepness(x: float) -> float:
        return 1 - math.tanh(x) ** 2

    for slope, anchor, end in ((above, low, high), (below, high, low)):
        if steepness(end) * (end - anchor) * np.sign(end) >= (
            math.tanh(end) - math.tanh(anchor)
        ) * np.sign(end):
            assert slope == pytest.approx(chord(math.tanh, low, high), rel=1e-9)
            continue
        touched = math.copysign(math.atanh(math.sqrt(max(0.0, 1 - slope))), end)
        if abs(slope - steepness(middle)) <= 1e-9 and middle * end > 0:
            through = math.tanh(middle) - slope * (middle - anchor) - math.tanh(anchor)
            assert through * np.sign(end) >= -1e-9  # the tangent touches before the middle
        else:
            assert abs(touched) >= abs(middle) - 1e-6 or middle * end <= 0
            gap = math.tanh(touched) - math.tanh(anchor) - slope * (touched - anchor)
            assert abs(gap) <= 1e-6


def test_odd_powers_exchange_above_and_below():
    below, above = slopes("power", -1.0, 2.0, (3.0,))
    assert below == pytest.approx(0.75, rel=1e-9)  # touches at 1/2, through (-1, -1)
    assert above == pytest.approx(3.0, rel=1e-9)  # the chord: the tangent would touch at -1
    below, above = slopes("power", -1.0, 0.25, (3.0,))
    assert above == pytest.approx(3 * 0.375**2, rel=1e-9)  # at the middle
    assert below == pytest.approx(chord(lambda x: x**3, -1.0, 0.25), rel=1e-9)


def test_a_point_takes_the_derivative():
    assert slopes("exp", 1.0, 1.0) == pytest.approx((math.e, math.e))


def test_a_convex_corner_is_no_bend():
    """elu with a below 1 is convex, with a above 1 it is not."""
    below, above = slopes("elu", -1.0, 2.0, (0.5,))
    assert below == 1.0
    assert above == pytest.approx((2.0 - 0.5 * math.expm1(-1.0)) / 3.0)
    below, _ = slopes("elu", -1.0, 1.0, (4.0,))
    touched = -0.8107  # solves 4 exp(t) (2 - t) = 5: the tangent through (1, 1)
    assert below == pytest.approx(4 * math.exp(touched), rel=2e-3)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_the_hull_of_samples_supports_them(seed):
    y = np.random.default_rng(seed).normal(size=(3, SAMPLES + 1))
    places = np.arange(SAMPLES + 1) - SAMPLES // 2
    for own, slope in zip(y, _support(y), strict=True):
        level = (own - slope * places).min()
        for other in np.linspace(-5, 5, 201):
            assert (own - other * places).min() <= level + 1e-9


@pytest.mark.parametrize("flip", [False, True])
def test_roots_are_found(flip):
    wanted = np.array([1e-20, 0.3, 1.0, 3.7, 1e4, 1e12, 1e20])
    start, end = np.full(7, -1e25), np.full(7, 1e25)
    start[1:3], end[1:3] = 0.1, 1.5
    ends = (end, start) if flip else (start, end)
    with np.errstate(all="ignore"):
        found = root(lambda x, k: np.arctan(x / wanted[k] - 1.0), *ends)
    assert np.allclose(found, wanted, rtol=1e-12, atol=1e-15)


def test_what_is_no_number_becomes_none_of_the_limits():
    found = up_to(8.0, np.array([np.nan, np.inf, -np.inf, 9.0, -9.0, 0.1]))
    assert found.tolist() == [0.0, 8.0, -8.0, 8.0, -8.0, 0.1]
