"""Linear programs about how far a last layer must move.

``proofs.watermarks.removal`` says what samples, margins and the tree are; here everything is
in floats, and nothing is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import highspy
import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import linprog

from proofs.watermarks.removal import Ends, Samples
from specs.enclosure import FloatArray
from specs.errors import FarkasError

LP_NORMS = ("linf", "l1")
PENALTY = 10.0
"""What a unit of a constraint's violation costs, in radii."""


class NoAnswerError(FarkasError):
    """A linear program was not solved."""


@dataclass(frozen=True, eq=False)
class Data:
    """Samples in floats.

    Attributes:
        hidden: ``(n, m)``.
        margins: ``(n, C)``, 0 at the label.
        labels: ``(n,)``.
        trigger: ``(n,)`` which are to be lost; the others are to be kept.
        norm: of the change.
    """

    hidden: FloatArray
    margins: FloatArray
    labels: npt.NDArray[np.int64]
    trigger: npt.NDArray[np.bool_]
    norm: str

    @staticmethod
    def of(samples: Samples, norm: str, precision: int) -> Data:
        """Of samples in units of ``2**-precision``."""
        unit = float(2**precision)
        hidden, margins = (
            np.asarray(table.astype(np.float64) / unit) for table in (samples.hidden, samples.low)
        )
        labels, trigger = np.array(samples.labels), np.array(samples.trigger)
        return Data(hidden, margins, labels, trigger, norm)

    @property
    def size(self) -> FloatArray:
        """``(n,)``: the dual norms of the hidden activations."""
        return dual(self.hidden, self.norm)

    def after(self, change: FloatArray) -> FloatArray:
        """``(n, C)``: margins after a change ``(C, m)``; 0 at the label."""
        steps = self.hidden @ change.T
        own = steps[np.arange(len(steps)), self.labels]
        return np.asarray(self.margins + own[:, None] - steps)

    def others(self, i: int) -> list[int]:
        """The classes that a sample can be lost to."""
        return [c for c in range(self.margins.shape[1]) if c != self.labels[i]]

    def best(self, margins: FloatArray) -> FloatArray:
        """``(n,)``: the least margin of each sample."""
        masked = margins.copy()
        masked[np.arange(len(masked)), self.labels] = np.inf
        return np.asarray(masked.min(axis=1))


def dual(rows: FloatArray, norm: str) -> FloatArray:
    """The dual norms of rows."""
    return np.asarray(np.linalg.norm(rows, ord={"linf": 1, "l2": 2, "l1": np.inf}[norm], axis=-1))


@dataclass(frozen=True, eq=False)
class Moved:
    """The least change that does something.

    Attributes:
        radius: its norm.
        change: ``(C, m)``.
    """

    radius: float
    change: FloatArray


def fixed_targets(data: Data, targets: Mapping[int, int], keep: Sequence[int] = ()) -> Moved | None:
    """The least change, in the l-infinity or l1 norm, that loses samples to given classes.

    Args:
        data: the samples.
        targets: by sample, the class it is lost to.
        keep: samples whose margins stay at least 0.

    Returns:
        ``None``: there is none.

    Raises:
        NoAnswerError: the solver has no answer.
    """
    classes, width = data.margins.shape[1], data.hidden.shape[1]
    pairs = [(i, c, 1.0) for i, c in targets.items()]
    pairs += [(i, c, -1.0) for i in keep for c in data.others(i)]
    forms = np.zeros((len(pairs), classes, width))
    limits = np.zeros(len(pairs))
    for number, (i, c, sign) in enumerate(pairs):
        forms[number, data.labels[i]] = sign * data.hidden[i]
        forms[number, c] = -sign * data.hidden[i]
        limits[number] = -sign * data.margins[i, c]
    size = classes * width
    flat = forms.reshape(len(pairs), size)
    rows = sparse.vstack(
        [
            sparse.csr_matrix(np.concatenate([flat, -flat, np.zeros((len(pairs), 1))], axis=1)),
            _norm_rows(size, data.norm),
        ],
        format="csr",
    )
    bounds = np.concatenate([limits, np.zeros(rows.shape[0] - len(pairs))])
    cost = np.zeros(2 * size + 1)
    cost[-1] = 1.0
    found = linprog(cost, A_ub=rows, b_ub=bounds, bounds=(0, None), method="highs")
    if found.status == 2:
        return None
    if found.status != 0:
        raise NoAnswerError(f"a linear program has no answer: {found.message}")
    change = (found.x[:size] - found.x[size : 2 * size]).reshape(classes, width)
    return Moved(float(found.fun), change)


def _norm_rows(size: int, norm: str) -> sparse.csr_matrix:
    """That the norm of ``P - N`` is at most ``t``, of columns ``P, N, t``; rows ``<= 0``."""
    if norm not in LP_NORMS:
        raise NoAnswerError(f"the {norm} norm is no linear program")
    ones = np.ones((size, 1)) if norm == "linf" else np.ones((1, 1))
    both = sparse.eye(size) if norm == "linf" else sparse.csr_matrix(np.ones((1, size)))
    return sparse.csr_matrix(sparse.hstack([both, both, sparse.csr_matrix(-ones)]))


@dataclass(frozen=True, eq=False)
class Relaxed:
    """What a relaxation says of a node of the tree.

    Attributes:
        bound: no change of a smaller norm does what the node asks for.
        vectors: ``(n, C)`` that show it.
        change: ``(C, m)`` that the relaxation takes for the least.
    """

    bound: float
    vectors: FloatArray
    change: FloatArray


class Bounding(Protocol):
    """What gives lower bounds for nodes of the tree."""

    def solve(self, ends: Ends) -> Relaxed | None:
        """What a path of the tree allows; ``None``: nothing.

        Raises:
            NoAnswerError: the solver has no answer.
        """
        ...


class Facts:
    """Only what the path says, and that the others are kept, as a linear program.

    Args:
        data: the samples.
        keep: whether all samples that are no triggers are kept.
    """

    def __init__(self, data: Data, keep: bool) -> None:
        self._data = data
        width = data.hidden.shape[1]
        size = data.margins.shape[1] * width
        size2 = 2 * size
        self._pairs: dict[tuple[int, int], int] = {}
        columns, values, limits = [], [], []
        for i in range(len(data.margins)):
            always = keep and not data.trigger[i]
            for c in data.others(i):
                own, other = (k * width + np.arange(width) for k in (int(data.labels[i]), c))
                h, d = data.hidden[i], float(data.margins[i, c])
                loose = max(abs(d), 1e-6)
                self._pairs[i, c] = len(limits)
                columns.append([*own, *other, *(size + own), *(size + other), size2 + 1, size2 + 2])
                values.append([*h, *-h, *-h, *h, -loose, loose])
                limits.append((-d if always else -np.inf, np.inf))
        norm = _norm_rows(size, data.norm).tocoo()
        count = len(limits)
        entries = (
            np.concatenate([np.repeat(np.arange(count), 4 * width + 2), norm.row + count]),
            np.concatenate([np.reshape(columns, -1), norm.col]),
            np.concatenate([np.reshape(values, -1), norm.data]),
        )
        far = float(np.max(np.abs(data.margins).max(axis=1) / np.maximum(data.size, 1e-12)))
        cost = np.zeros(size2 + 3)
        cost[size2], cost[size2 + 1 :] = 1.0, 1e3 * max(far, 1e-6)
        self._low, self._high = (np.array(ends) for ends in zip(*limits, strict=True))
        self._solver = _solver(
            cost,
            [(0.0, np.inf)] * cost.size,
            entries,
            np.concatenate([self._low, np.full(norm.shape[0], -np.inf)]),
            np.concatenate([self._high, np.zeros(norm.shape[0])]),
        )
        self._shape = data.margins.shape
        self._touched: set[int] = set()

    def solve(self, ends: Ends) -> Relaxed | None:
        """As there; something is always allowed, at a price."""
        data = self._data
        want: dict[int, tuple[float, float]] = {}
        for i, (target, spared) in ends.items():
            for c in spared:
                want[self._pairs[i, c]] = (-float(data.margins[i, c]), np.inf)
            if target is not None:
                want[self._pairs[i, target]] = (-np.inf, -float(data.margins[i, target]))
        for row in self._touched - want.keys():
            self._solver.changeRowBounds(row, self._low[row], self._high[row])
        for row, (low, high) in want.items():
            self._solver.changeRowBounds(row, low, high)
        self._touched = set(want)
        _run(self._solver)
        solution = self._solver.getSolution()
        values, duals = np.array(solution.col_value), np.array(solution.row_dual)
        vectors = np.zeros(self._shape)
        for (i, c), row in self._pairs.items():
            vectors[i, c] += duals[row]
            vectors[i, data.labels[i]] -= duals[row]
        classes, width = self._shape[1], data.hidden.shape[1]
        size = classes * width
        change = (values[:size] - values[size : 2 * size]).reshape(classes, width)
        bound = float(self._solver.getInfo().objective_function_value)
        return Relaxed(bound, vectors, change)


class Relaxation:
    """The hull of all that may happen to each sample within a radius, as a linear program.

    A trigger is lost to one class: a convex combination of the cases, each with what the change
    adds to the label's logit and to the class's of its own.

    Args:
        data: the samples.
        lost, kept: how many triggers, and how many of the others, at least.
        radius: of the ball in which the hulls are taken.
    """

    def __init__(self, data: Data, lost: int, kept: int, radius: float) -> None:
        self._data, self._radius = data, radius
        self._n, self._classes = data.margins.shape
        self._parts: list[tuple[list[int], list[int], list[float]]] = []
        self._low: list[float] = []
        self._high: list[float] = []
        size = self._classes * data.hidden.shape[1]
        self._changes = 2 * size
        self._bounds = [(0.0, np.inf)] * (2 * size + 2)
        self._t, self._u = 2 * size, 2 * size + 1
        self._s = self._columns(self._n * self._classes, -np.inf, np.inf)
        self._forms()
        limit = _norm_rows(size, data.norm).tocoo()
        first = len(self._low)
        self._parts.append(((limit.row + first).tolist(), limit.col.tolist(), limit.data.tolist()))
        self._low += [-np.inf] * limit.shape[0]
        self._high += [0.0] * limit.shape[0]
        self._share: dict[tuple[int, int], int] = {}
        self._fact: dict[tuple[int, int], int] = {}
        spared = [self._trigger(i, lost) for i in np.flatnonzero(data.trigger).tolist()]
        if lost < len(spared):
            self._row({z: 1.0 for z in spared}, -np.inf, float(len(spared) - lost))
        others = np.flatnonzero(~data.trigger).tolist()
        if others and kept:
            shares = [self._other(i, kept == len(others)) for i in others]
            if kept < len(others):
                self._row({z: 1.0 for z in shares}, float(kept), np.inf)
        self._solver = self._made()
        self._touched: set[int] = set()
        self._facts: set[int] = set()

    def solve(self, ends: Ends) -> Relaxed | None:
        """What a path of the tree allows; ``None``: a trigger can be lost to no class there.

        Raises:
            NoAnswerError: the solver has no answer.
        """
        want: dict[int, tuple[float, float]] = {}
        facts: dict[int, float] = {}
        for i, (target, spared) in ends.items():
            for c in spared:
                if (i, c) in self._share:
                    want[self._share[i, c]] = (0.0, 0.0)
                facts[self._fact[i, c]] = self._data.margins[i, c]
            if target is not None:
                for c in self._data.others(i):
                    value = float(c == target)
                    want[self._share[i, c]] = (value, value)
        solver = self._solver
        for column in self._touched - want.keys():
            solver.changeColBounds(column, 0.0, 1.0)
        for column, (low, high) in want.items():
            solver.changeColBounds(column, low, high)
        for row in self._facts - facts.keys():
            solver.changeRowBounds(row, -np.inf, np.inf)
        for row, high in facts.items():
            solver.changeRowBounds(row, -np.inf, high)
        self._touched, self._facts = set(want), set(facts)
        if not _run(solver):
            return None
        return self._found()

    def _found(self) -> Relaxed:
        solution = self._solver.getSolution()
        values, duals = np.array(solution.col_value), np.array(solution.row_dual)
        vectors = duals[: self._n * self._classes].reshape(self._n, self._classes)
        half = self._changes // 2
        change = (values[:half] - values[half : 2 * half]).reshape(self._classes, -1)
        bound = float(self._solver.getInfo().objective_function_value)
        return Relaxed(bound, vectors, change)

    def _forms(self) -> None:
        """What the change adds to logits: ``s = (P - N) h``; the first rows."""
        width = self._data.hidden.shape[1]
        for i in range(self._n):
            for c in range(self._classes):
                row = {self._s + i * self._classes + c: 1.0}
                for j in np.flatnonzero(self._data.hidden[i]).tolist():
                    at = c * width + j
                    row[at] = -self._data.hidden[i, j]
                    row[self._changes // 2 + at] = self._data.hidden[i, j]
                self._row(row, 0.0, 0.0)

    def _trigger(self, i: int, lost: int) -> int:
        """The cases of a trigger; the column of the share in which it is kept."""
        data, reach = self._data, self._radius * float(self._data.size[i])
        s = self._s + i * self._classes
        label = s + int(data.labels[i])
        total: dict[int, float] = {}
        own: dict[int, float] = {label: 1.0}
        for c in data.others(i):
            d = float(data.margins[i, c])
            share, part = self._columns(1, 0.0, 1.0), self._columns(1, -np.inf, np.inf)
            self._share[i, c] = share
            weight = {s + c: 1.0, part: -1.0, share: -d - reach, self._u: max(abs(d), 1e-6)}
            self._row(weight, -reach, np.inf)
            self._row({part: 1.0, share: reach}, 0.0, np.inf)
            self._row({part: 1.0, share: d - reach}, -np.inf, 0.0)
            total[share], own[part] = 1.0, -1.0
            fact = {s + c: 1.0, label: -1.0, self._u: -max(abs(d), 1e-6)}
            self._fact[i, c] = self._row(fact, -np.inf, np.inf)
        spared = -1
        if lost < int(data.trigger.sum()):
            spared, part = self._columns(1, 0.0, 1.0), self._columns(1, -np.inf, np.inf)
            self._row({part: 1.0, spared: reach}, 0.0, np.inf)
            self._row({part: 1.0, spared: -reach}, -np.inf, 0.0)
            total[spared], own[part] = 1.0, -1.0
        self._row(total, 1.0, 1.0)
        self._row(own, 0.0, 0.0)
        return spared

    def _other(self, i: int, always: bool) -> int:
        """What keeps a sample that is no trigger; the column of the share in which it is kept."""
        data, reach = self._data, self._radius * float(self._data.size[i])
        s = self._s + i * self._classes
        share = -1 if always else self._columns(1, 0.0, 1.0)
        for c in data.others(i):
            d = float(data.margins[i, c])
            row = {s + c: 1.0, s + int(data.labels[i]): -1.0, self._u: -max(abs(d), 1e-6)}
            room = 0.0
            if not always:
                room = max(2 * reach - d, 0.0)
                row[share] = room
            self._row(row, -np.inf, d + room)
        return share

    def _columns(self, count: int, low: float, high: float) -> int:
        first = len(self._bounds)
        self._bounds += [(low, high)] * count
        return first

    def _row(self, weights: Mapping[int, float], low: float, high: float) -> int:
        number = len(self._low)
        self._parts.append(([number] * len(weights), list(weights), list(weights.values())))
        self._low.append(low)
        self._high.append(high)
        return number

    def _made(self) -> highspy.Highs:
        row, column, value = (np.concatenate([p[k] for p in self._parts]) for k in range(3))
        cost = np.zeros(len(self._bounds))
        cost[self._t], cost[self._u] = 1.0, PENALTY * self._radius
        ends = np.array(self._low), np.array(self._high)
        return _solver(cost, self._bounds, (row.astype(int), column.astype(int), value), *ends)


Entries = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray]


def _solver(
    cost: FloatArray,
    bounds: Sequence[tuple[float, float]],
    entries: Entries,
    row_low: FloatArray,
    row_high: FloatArray,
) -> highspy.Highs:
    """A solver that keeps its basis from one question to the next."""
    row, column, value = entries
    shape = (row_low.size, cost.size)
    matrix = sparse.csr_matrix((value, (row, column)), shape=shape)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = shape[1], shape[0]
    model.col_cost_ = cost
    model.col_lower_, model.col_upper_ = np.array(bounds).T
    model.row_lower_, model.row_upper_ = row_low, row_high
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_, model.a_matrix_.index_ = matrix.indptr, matrix.indices
    model.a_matrix_.value_ = matrix.data
    solver = highspy.Highs()
    for name, option in (("output_flag", False), ("threads", 1)):
        solver.setOptionValue(name, option)
    for kind in ("primal", "dual"):
        solver.setOptionValue(f"{kind}_feasibility_tolerance", 1e-9)
    solver.passModel(model)
    return solver


def _run(solver: highspy.Highs) -> bool:
    """Solve; ``False``: nothing is feasible.

    Raises:
        NoAnswerError: there is no answer.
    """
    for _ in range(2):
        solver.run()
        status = solver.getModelStatus()
        if status == highspy.HighsModelStatus.kOptimal:
            return True
        if status == highspy.HighsModelStatus.kInfeasible:
            return False
        solver.clearSolver()  # a stale basis is the usual reason
    raise NoAnswerError(f"no answer: {solver.modelStatusToString(status)}")
