"""What the benchmarks of violations and of Lipschitz constants compute themselves."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from benchmarks import violation_published
from benchmarks.lipschitz import _reached, product_of_norms
from benchmarks.violation import _down, _row, _shown, _up
from benchmarks.violation_published import conditional, normal_inputs
from tests.partition_models import question, unsafe_above
from tests.proofs.helpers import Net


def test_products_of_norms():
    net = Net(2)
    hidden = net.relu(net.dense(0, [[1.0, 2.0], [3.0, -4.0]]))
    network = net.done(net.dense(hidden, [[1.0, -2.0]]))
    row = np.ones(1)
    assert product_of_norms(network, row, "linf") == 3 * 7
    assert product_of_norms(network, row, "l1") == 2 * 6
    assert product_of_norms(network, row, "l2") == pytest.approx(
        5**0.5 * np.linalg.norm([[1, 2], [3, -4]], 2)
    )
    with pytest.raises(ValueError, match="no chain"):
        product_of_norms(net.done(net.add(0, 1)), row, "l2")


def test_what_a_search_had_reached():
    curve = [(0.5, 9.0, 2), (4.0, 5.0, 4), (6.0, 3.0, 8)]
    assert [_reached(curve, 10.0, mark) for mark in (0.1, 5.0, 6.0, 60.0)] == [10.0, 5.0, 3.0, 3.0]


def test_a_row_of_violations(tmp_path):
    net = Net(2)
    network = net.done(net.dense(net.relu(0), [[1.0, 1.0]]))
    asked = question(network, [-1, -1], [1, 1], unsafe_above("1/2"))
    row = _row(tmp_path, "fold", asked, [0.2, 0.3])
    assert _row(tmp_path, "fold", asked, [0.2, 0.3]) == row  # from the file
    for place, seconds in enumerate((0.2, 0.3)):
        shown = _shown(row, seconds)
        assert (shown["question"], shown["s"]) == ("fold", f"{seconds:g}")
        low, high = map(Fraction, row["both"][place]["interval"])
        assert low <= Fraction(15, 32) <= high
        sampled = row["sampled"][place]
        assert sampled["seconds"] >= row["both"][place]["seconds"]
        assert sampled["unsafe"] / sampled["samples"] == pytest.approx(15 / 32, abs=0.1)
    assert row["unproved"] == 0
    assert (_down(1), _up(1)) == ("1.000000", "1.000000")


def test_published_figures_are_given_the_box():
    assert conditional("1_7", 3) == [1.0]
    inside = math.erf(3 / 2**0.5)
    assert pytest.approx(inside**5, abs=1e-6) == violation_published.INSIDE_5
    assert pytest.approx(inside**4, abs=1e-6) == violation_published.INSIDE_4
    means, deviations = normal_inputs((Fraction(0), Fraction(1)), (Fraction(6), Fraction(1)))
    assert (means, deviations) == ([3, 1], [1, 1])
