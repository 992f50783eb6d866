"""Linear programs over boxes, solved by HiGHS and kept warm from one question to the next.

``minimise c a`` subject to ``C a <= d`` and ``lower <= a <= upper``.  Whatever the solver
says, any ``y >= 0`` gives the bound ``-y d + sum_j min(r_j lower_j, r_j upper_j)`` with
``r = c + C^T y`` (weak duality), so every answer carries multipliers and the bound that
they give, computed here and not by the solver.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import highspy
import numpy as np
import numpy.typing as npt

from specs.errors import FarkasError

FloatArray = npt.NDArray[np.float64]
TOLERANCE = 1e-9
"""How far a point may violate a row, and a multiplier its sign, for the solver."""


class SolverError(FarkasError):
    """The solver gave no answer: it ran out of time or into numerical trouble."""


class SolverTimeoutError(SolverError):
    """The solver ran out of time."""


@dataclass(frozen=True, eq=False)
class Optimum:
    """The least value of an objective.

    Attributes:
        value: as the solver says, up to its tolerances.
        bound: the lower bound that the multipliers give, up to the rounding of one sum.
        point: ``(p,)`` where the value is taken.
        multipliers: ``(m,)`` of the rows, not negative.
        reduced: ``(p,)`` the objective plus the rows times their multipliers; a positive
            entry is the multiplier of that column's lower end, a negative one of its upper.
    """

    value: float
    bound: float
    point: FloatArray
    multipliers: FloatArray
    reduced: FloatArray


@dataclass(frozen=True, eq=False)
class Infeasible:
    """No point satisfies the rows inside the box.

    Attributes:
        margin: ``-y d + sum_j min(r_j lower_j, r_j upper_j)`` for the multipliers ``y`` and
            ``r = C^T y``: positive, as no point could otherwise be missing.
        multipliers: ``(m,)`` of the rows, not negative, the largest 1.
        reduced: ``(p,)`` the rows times their multipliers.
    """

    margin: float
    multipliers: FloatArray
    reduced: FloatArray


@dataclass(frozen=True)
class Mark:
    """How many columns and rows a program had; see :meth:`Program.restore`."""

    columns: int
    rows: int


class Program:
    """Columns with bounds and rows ``C a <= d``, to which more can be added.

    The last basis is where the next solve starts.

    Args:
        lower, upper: ``(p,)`` finite bounds of the first columns.

    Attributes:
        seconds: of one solve at most.
    """

    def __init__(self, lower: FloatArray, upper: FloatArray) -> None:
        self._solver = highspy.Highs()
        options: dict[str, bool | int | float | str] = {
            "output_flag": False,
            "presolve": "off",  # it would throw the basis away
            "threads": 1,
            "primal_feasibility_tolerance": TOLERANCE,
            "dual_feasibility_tolerance": TOLERANCE,
        }
        for name, option in options.items():
            self._solver.setOptionValue(name, option)
        self.seconds = math.inf
        self._lower = np.zeros(0)
        self._upper = np.zeros(0)
        self._rows = np.zeros((0, 0))
        self._limits = np.zeros(0)
        self.add_columns(lower, upper)

    @property
    def columns(self) -> int:
        """How many columns there are."""
        return self._lower.size

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self._limits.size

    def add_columns(self, lower: FloatArray, upper: FloatArray) -> None:
        """More columns, which no row speaks of yet.

        Raises:
            ValueError: a bound is not finite, or the lower one is above the upper one.
        """
        low, high = _floats(lower, 1), _floats(upper, 1)
        if low.shape != high.shape or not np.all(low <= high):
            raise ValueError("columns need finite bounds, the lower one first")
        self._solver.addVars(low.size, low, high)
        self._lower = np.concatenate([self._lower, low])
        self._upper = np.concatenate([self._upper, high])
        padding = np.zeros((self.rows, low.size))
        self._rows = np.concatenate([self._rows, padding], axis=1)

    def add_rows(self, rows: FloatArray, limits: FloatArray) -> None:
        """More rows ``rows a <= limits``, ``(k, p)`` and ``(k,)``.

        Raises:
            ValueError: they do not fit the columns, or are not finite.
        """
        matrix, right = _floats(rows, 2), _floats(limits, 1)
        count, columns = matrix.shape
        if columns != self.columns or right.shape != (count,):
            raise ValueError(f"rows of {matrix.shape} and {right.shape}: {self.columns} columns")
        place, column = np.nonzero(matrix)
        starts = np.searchsorted(place, np.arange(count)).astype(np.int32)
        self._solver.addRows(
            count,
            np.full(count, -highspy.kHighsInf),
            right,
            place.size,
            starts,
            column.astype(np.int32),
            matrix[place, column],
        )
        self._rows = np.concatenate([self._rows, matrix])
        self._limits = np.concatenate([self._limits, right])

    def mark(self) -> Mark:
        """What there is now, to come back to."""
        return Mark(self.columns, self.rows)

    def restore(self, mark: Mark) -> None:
        """Take away what was added after a mark."""
        if mark.rows < self.rows:
            gone = np.arange(mark.rows, self.rows, dtype=np.int32)
            self._solver.deleteRows(gone.size, gone)
            self._limits = self._limits[: mark.rows]
        if mark.columns < self.columns:
            gone = np.arange(mark.columns, self.columns, dtype=np.int32)
            self._solver.deleteCols(gone.size, gone)
            self._lower = self._lower[: mark.columns]
            self._upper = self._upper[: mark.columns]
        self._rows = self._rows[: mark.rows, : mark.columns]

    def minimise(self, objective: FloatArray) -> Optimum | Infeasible:
        """The least value of ``objective``, ``(p,)``.

        Raises:
            ValueError: the objective does not fit the columns, or is not finite.
            SolverTimeoutError: the time is over.
            SolverError: there is no answer, or an infeasibility that its ray does not show.
        """
        costs = _floats(objective, 1)
        if costs.size != self.columns:
            raise ValueError(f"an objective of {costs.size} entries: {self.columns} columns")
        solver = self._solver
        solver.changeColsCost(costs.size, np.arange(costs.size, dtype=np.int32), costs)
        if not self._run():
            solver.clearSolver()  # a stale basis is the usual reason
            self._run()
        status = solver.getModelStatus()
        if status == highspy.HighsModelStatus.kOptimal:
            return self._optimum(costs)
        if status == highspy.HighsModelStatus.kInfeasible:
            return self._infeasible()
        if status == highspy.HighsModelStatus.kTimeLimit:
            raise SolverTimeoutError("a linear program took too long")
        raise SolverError(f"no answer to a linear program: {solver.modelStatusToString(status)}")

    def maximise(self, objective: FloatArray) -> Optimum | Infeasible:
        """As :meth:`minimise`: the optimum of the negated objective, whose value it gives."""
        return self.minimise(-np.asarray(objective, dtype=np.float64))

    def bound(self, objective: FloatArray, multipliers: FloatArray) -> tuple[float, FloatArray]:
        """The lower bound that multipliers ``>= 0`` give, and the reduced objective."""
        reduced = objective + multipliers @ self._rows
        ends = np.minimum(reduced * self._lower, reduced * self._upper)
        return float(ends.sum() - multipliers @ self._limits), reduced

    def _run(self) -> bool:
        if math.isfinite(self.seconds):  # which the solver counts from its first run on
            limit = self._solver.getRunTime() + max(self.seconds, 0.0)
            self._solver.setOptionValue("time_limit", limit)
        status = self._solver.run()
        decided = (
            highspy.HighsModelStatus.kOptimal,
            highspy.HighsModelStatus.kInfeasible,
            highspy.HighsModelStatus.kTimeLimit,
        )
        return status != highspy.HighsStatus.kError and self._solver.getModelStatus() in decided

    def _optimum(self, costs: FloatArray) -> Optimum:
        solution = self._solver.getSolution()
        # HiGHS counts the dual of a row as what the objective gains per unit of its limit.
        multipliers = np.maximum(-np.asarray(solution.row_dual), 0.0)
        point = np.clip(np.asarray(solution.col_value), self._lower, self._upper)
        bound, reduced = self.bound(costs, multipliers)
        return Optimum(float(costs @ point), bound, point, multipliers, reduced)

    def _infeasible(self) -> Infeasible:
        _, found, ray = self._solver.getDualRay()
        answer = self._shown(np.maximum(-np.asarray(ray), 0.0)) if found else None
        if answer is None:
            answer = self._shown(self._elastic())
        if answer is None:
            raise SolverError("a linear program is called infeasible, and no ray shows it")
        return answer

    def _shown(self, multipliers: FloatArray) -> Infeasible | None:
        """What multipliers show, if they do."""
        scaled = multipliers / (multipliers.max(initial=0.0) or 1.0)
        margin, reduced = self.bound(np.zeros(self.columns), scaled)
        return Infeasible(margin, scaled, reduced) if margin > 0 else None

    def _elastic(self) -> FloatArray:
        """Multipliers of the rows where all are loosened by the same, as little as may be."""
        least = np.minimum(self._rows * self._lower, self._rows * self._upper).sum(axis=1)
        most = float(np.abs(least - self._limits).max(initial=0.0)) + float(
            np.abs(self._rows * (self._upper - self._lower)).sum(axis=1).max(initial=0.0)
        )
        elastic = Program(np.append(self._lower, 0.0), np.append(self._upper, most))
        slack = np.full((self.rows, 1), -1.0)
        elastic.add_rows(np.concatenate([self._rows, slack], axis=1), self._limits)
        found = elastic.minimise(np.append(np.zeros(self.columns), 1.0))
        return found.multipliers


def _floats(given: npt.ArrayLike, axes: int) -> FloatArray:
    array = np.asarray(given, dtype=np.float64)
    if array.ndim != axes or not np.all(np.isfinite(array)):
        raise ValueError(f"finite numbers of {axes} axes are wanted, not {array.shape}")
    return array
