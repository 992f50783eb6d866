"""Exponents are fitted rightly, and the questions are as hard as they are said to be."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import difficulty, growth
from benchmarks.growth import Measured, Size
from verifier.bounds import evaluate
from verifier.bounds_compile import compile_network


def test_the_exponent_of_a_power_is_found() -> None:
    sizes = [2.0, 4.0, 8.0, 16.0]
    assert growth.exponent(sizes, [3 * n**1.7 for n in sizes]) == pytest.approx(1.7)
    assert growth.exponent(sizes, [5.0] * 4) == pytest.approx(0.0, abs=1e-12)
    # least squares, not the ends: worked out by hand on logarithms 0, 1, 2, 3 -> 0, 0, 0, 1
    assert growth.exponent([1, 2, 4, 8], [1, 1, 1, 2]) == pytest.approx(0.3)


def test_the_radius_is_where_default_bounds_are_as_loose_as_stated() -> None:
    net = compile_network(Size(2, 8, 6).model(0)[0])
    radius = difficulty.find_radius(net, growth.LOOSE)
    centre = float(evaluate(net, torch.zeros(1, 6, dtype=net.dtype))[0, 0])
    least = difficulty.least_value(net, radius)
    loose = (least - difficulty.default_bound(net, radius)) / (centre - least)
    assert loose == pytest.approx(growth.LOOSE, rel=0.1)


def test_the_least_value_beats_sampling_and_bounds_lie_below_it() -> None:
    model = Size(2, 8, 24).model(1)
    net = compile_network(model[0])
    least = difficulty.least_value(net, 0.1)
    points = torch.tensor(np.random.default_rng(0).uniform(-0.1, 0.1, (20000, 24)))
    assert least <= float(evaluate(net, points)[:, 0].min())
    optimised = difficulty.unsplit_bound(model, 0.1, least)
    assert difficulty.default_bound(net, 0.1) < optimised < least


def test_a_measured_question_is_answered_and_proved() -> None:
    found = growth.measure(Size(2, 8, 24), 0)
    assert found.answers == ("valid unsat", "unsat")
    assert found.leaves >= 1
    assert set(found.seconds) == set(growth.COSTS)
    assert all(0 < seconds < math.inf for seconds in found.seconds.values())


def test_the_table_and_the_plot_show_a_series(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def known(size: Size, seed: int) -> Measured:
        costs = {cost: 0.01 * (seed + 1) * size.width**2 for cost in growth.COSTS}
        return Measured(costs, seed, ("valid unsat", "unsat"))

    monkeypatch.setattr(growth, "measure", known)
    growth.report("width", 3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split(" | ")[:2] == ["| 16", f"{0.02 * 256:.4f}"]
    assert "0, 1, 2 | 3 valid unsat and unsat |" in lines[2]
    assert lines[-3].split(" | ")[:3] == ["| exponent", "2.00", "2.00"]
    assert lines[-2].split(" | ")[:3] == ["| last doubling", "2.00", "2.00"]
    growth.plot(["width", "depth"], 3, tmp_path / "growth.svg")
    assert (tmp_path / "growth.svg").stat().st_size > 5000
