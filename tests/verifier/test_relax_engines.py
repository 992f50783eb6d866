"""The parts that relaxations of many functions share, by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.relaxations.hull import slopes_at_middle
from verifier.relaxations.roots import root


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-3, 3),
    st.floats(0, 5),
    st.floats(0, 5),
    st.sampled_from([1.0, -1.0]),
    st.floats(0, 1),
)
def test_roots_of_flat_and_steep_functions(
    place: float, before: float, after: float, sign: float, share: float
) -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        away = x - place
        return sign * (away.exp() - 1 + away**3), sign * (away.exp() + 3 * away**2)

    low, high = (torch.tensor([x]).double() for x in (place - before, place + after))
    start = low + share * (high - low)
    assert abs(float(root(function, low, high, start)) - place) < 1e-6


def test_roots_beside_a_bend() -> None:
    """Where the derivative is zero at the start, and no step of Newton's leads inside."""

    def function(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x**3 - 8, 3 * x**2

    low, high = torch.zeros(1).double(), torch.full((1,), 10.0).double()
    assert float(root(function, low, high, low)) == pytest.approx(2.0, abs=1e-9)


def test_roots_where_a_derivative_has_the_wrong_sign() -> None:
    """As it may by rounding, beside a bend at the start."""

    def function(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x**3 - 8, torch.where(x == 0, -1e-16, 3 * x**2)

    low, high = torch.zeros(1).double(), torch.full((1,), 10.0).double()
    assert float(root(function, low, high, low)) == pytest.approx(2.0, abs=1e-9)


@pytest.mark.parametrize("level", [-3.0, 3.0])
def test_without_a_root_an_end_is_taken(level: float) -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + level, torch.ones_like(x)

    low, high = -torch.ones(1).double(), torch.ones(1).double()
    end = -1.0 if level > 0 else 1.0
    assert float(root(function, low, high, torch.zeros(1).double())) == end


def lower_hull_slopes(y: np.ndarray, at: int) -> tuple[float, float]:
    """Left and right derivative of the lower hull of samples at one of them."""
    last = len(y) - 1
    x = np.arange(last + 1)
    hull = np.array(
        [
            min(
                [y[k]]
                + [
                    y[i] + (k - i) * (y[j] - y[i]) / (j - i)
                    for i in range(k)
                    for j in range(k + 1, last + 1)
                ]
            )
            for k in x
        ]
    )
    return hull[at] - hull[at - 1], hull[at + 1] - hull[at]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=17, max_size=17))
def test_hulls_of_arbitrary_samples(values: list[float]) -> None:
    y = np.array(values)
    table = torch.from_numpy(y)

    def value(x: torch.Tensor) -> torch.Tensor:
        return table[x.round().long()]

    low, high = torch.zeros(1).double(), torch.full((1,), 16.0).double()
    below, above = (float(s) for s in slopes_at_middle(value, low, high))
    assert below == pytest.approx(np.mean(lower_hull_slopes(y, 8)), abs=1e-9)
    assert above == pytest.approx(-np.mean(lower_hull_slopes(-y, 8)), abs=1e-9)
