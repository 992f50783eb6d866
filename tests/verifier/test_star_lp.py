"""Linear programs: answers, multipliers, rays; what cannot be answered is no answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("highspy")
from scipy.optimize import linprog

from verifier.stars.lp import Infeasible, Optimum, Program, SolverTimeoutError

SEEDS = st.integers(0, 2**32 - 1)


def problem(seed: int) -> tuple[Program, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    columns, rows = int(rng.integers(1, 7)), int(rng.integers(0, 12))
    lower = -rng.random(columns)
    upper = rng.random(columns)
    matrix = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < 0.8)
    limits = rng.normal(size=rows) + 0.4
    program = Program(lower, upper)
    half = rows // 2
    program.add_rows(matrix[:half], limits[:half])
    program.add_rows(matrix[half:], limits[half:])
    return program, lower, upper, matrix, limits


@settings(deadline=None, max_examples=60)
@given(SEEDS)
def test_answers_are_those_of_another_solver_and_multipliers_show_them(seed: int) -> None:
    program, lower, upper, matrix, limits = problem(seed)
    rng = np.random.default_rng(seed + 1)
    for _ in range(3):  # the second starts from the basis of the first
        cost = rng.normal(size=lower.size)
        other = linprog(
            cost,
            matrix if limits.size else None,
            limits if limits.size else None,
            bounds=list(zip(lower, upper, strict=True)),
        )
        found = program.minimise(cost)
        assert np.all(found.multipliers >= 0)
        if other.status == 2:
            assert isinstance(found, Infeasible)
            reduced = found.multipliers @ matrix
            ends = np.minimum(reduced * lower, reduced * upper).sum()
            assert ends - found.multipliers @ limits == pytest.approx(found.margin)
            assert found.margin > 0
        else:
            assert isinstance(found, Optimum)
            assert found.value == pytest.approx(other.fun, abs=1e-7)
            assert found.bound == pytest.approx(other.fun, abs=1e-7)
            assert np.all(matrix @ found.point <= limits + 1e-7)
            assert np.all((lower <= found.point) & (found.point <= upper))


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_multipliers_of_any_size_give_a_bound(seed: int) -> None:
    program, lower, upper, matrix, limits = problem(seed)
    rng = np.random.default_rng(seed + 2)
    cost, multipliers = rng.normal(size=lower.size), rng.random(limits.size)
    bound, _ = program.bound(cost, multipliers)
    points = rng.uniform(lower, upper, (50, lower.size))
    inside = points[np.all(points @ matrix.T <= limits, axis=1)]
    assert np.all(inside @ cost >= bound - 1e-12)


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_what_was_added_after_a_mark_can_be_taken_away(seed: int) -> None:
    program, lower, _, matrix, _ = problem(seed)
    rng = np.random.default_rng(seed + 3)
    cost = rng.normal(size=lower.size)
    before = program.minimise(cost)
    mark = program.mark()
    program.add_columns(-np.ones(2), np.ones(2))
    program.add_rows(rng.normal(size=(3, lower.size + 2)), rng.random(3) - 0.7)
    program.minimise(rng.normal(size=lower.size + 2))
    program.restore(mark)
    assert (program.columns, program.rows) == (lower.size, len(matrix))
    after = program.minimise(cost)
    assert type(after) is type(before)
    if isinstance(before, Optimum):
        assert isinstance(after, Optimum)
        assert after.value == pytest.approx(before.value, abs=1e-7)


def test_maximising_is_minimising_the_negated() -> None:
    program = Program(np.zeros(2), np.ones(2))
    program.add_rows(np.array([[1.0, 1.0]]), np.array([1.5]))
    found = program.maximise(np.array([1.0, 2.0]))
    assert isinstance(found, Optimum)
    assert -found.value == pytest.approx(2.5)
    np.testing.assert_allclose(found.point, [0.5, 1.0])
    np.testing.assert_allclose(found.multipliers, [1.0])


def test_a_slight_infeasibility_is_shown() -> None:
    program = Program(-np.ones(2), np.ones(2))
    program.add_rows(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0.25, -0.25 - 1e-6]))
    found = program.minimise(np.zeros(2))
    assert isinstance(found, Infeasible)
    assert found.margin == pytest.approx(1e-6, rel=1e-3)


def test_no_time_is_an_error_and_no_answer() -> None:
    program = Program(-np.ones(40), np.ones(40))
    rng = np.random.default_rng(0)
    program.add_rows(rng.normal(size=(80, 40)), rng.random(80))
    program.seconds = 0.0
    with pytest.raises(SolverTimeoutError):
        program.minimise(rng.normal(size=40))
    program.seconds = 60.0
    assert isinstance(program.minimise(rng.normal(size=40)), Optimum)


@pytest.mark.parametrize(
    ("lower", "upper"), [([0.0], [np.inf]), ([np.nan], [1.0]), ([1.0], [0.0]), ([0.0], [1.0, 2.0])]
)
def test_columns_need_finite_bounds(lower: list[float], upper: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        Program(np.array(lower), np.array(upper))


def test_rows_and_objectives_must_fit() -> None:
    program = Program(np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="2 columns"):
        program.add_rows(np.ones((1, 3)), np.ones(1))
    with pytest.raises(ValueError, match="2 columns"):
        program.add_rows(np.ones((2, 2)), np.ones(1))
    with pytest.raises(ValueError, match="finite"):
        program.add_rows(np.array([[np.nan, 1.0]]), np.ones(1))
    with pytest.raises(ValueError, match="2 columns"):
        program.minimise(np.ones(3))
    assert program.rows == 0
