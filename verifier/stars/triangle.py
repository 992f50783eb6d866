"""The linear program of a star with Relus relaxed or decided, and its duals for the kernel.

The star's predicates are the inputs and, for each neuron that is unstable under the bounds at
hand, its value ``y`` after the Relu; the value ``z`` before it is an affine function of these.
An undecided neuron has ``y >= 0``, ``y >= z`` and the chord above; a decided one ``y = 0`` or
``y = z``, with its phase as a row.  The greatest of the unsafe constraints is minimised, with a
price on leaving the phases, so that there always is an optimum (Ehlers, *Formal verification
of piece-wise linear feed-forward neural networks*, 2017).  The duals of rows are multipliers;
the share of ``y >= z`` in those of the two lines below is the slope of the line below.
Nothing here is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
import numpy.typing as npt

from verifier.stars.corners import FloatArray

PRICE = 1e4
"""Of leaving a phase by 1, in units of the unsafe constraints."""

FREE = highspy.kHighsInf


@dataclass(frozen=True, eq=False)
class Relaxed:
    """A star whose unstable Relus are relaxed, over a box and constraints of inputs.

    Attributes:
        low, high: ``(I,)`` the box.
        lower, upper: ``(n,)`` bounds of the unstable neurons, on both sides of 0.
        neurons: ``(1 + I + n, n)`` the neurons before their Relu, as centre and basis; a
            neuron does not depend on its own value after the Relu, or on later ones.
        forms: ``(D, 1 + I + n, k)`` the unsafe constraints of disjuncts, ``<= 0``.
        region: normals ``(q, I)`` and offsets ``(q,)`` of constraints ``a x + c <= 0``.
    """

    low: FloatArray
    high: FloatArray
    lower: FloatArray
    upper: FloatArray
    neurons: FloatArray
    forms: FloatArray
    region: tuple[FloatArray, ...] | None = None


@dataclass(frozen=True, eq=False)
class Least:
    """The optimum of a partial assignment.

    Attributes:
        value: the least greatest constraint, as the solver says.
        point: ``(I,)`` inputs where it is taken.
        gap: ``(n,)`` how far the value of each open neuron lies above the Relu there;
            ``chord``: ``(n,)`` multipliers of their lines above.
        slopes: ``(n,)`` of the lines below; -1 where nothing depends on it.
        upper, lower: ``(n,)`` multipliers of the bounds of open neurons.
        beta: ``(n,)`` multipliers of decided phases; ``weights``: ``(k,)`` of the constraints,
            together 1; ``region``: ``(q,)``.
    """

    value: float
    point: FloatArray
    gap: FloatArray
    chord: FloatArray
    slopes: FloatArray
    upper: FloatArray
    lower: FloatArray
    beta: FloatArray
    weights: FloatArray
    region: FloatArray


class Triangles:
    """The linear programs of one relaxed star, one after the other, each from the last basis.

    Args:
        star: what is solved over.
        seconds: of one program at most.
    """

    def __init__(self, star: Relaxed, seconds: float = 2.0) -> None:
        self._star, self._seconds = star, seconds
        self._inputs, self._n = star.low.size, star.lower.size
        self._worst = self._inputs + self._n  # the columns after inputs and neurons
        self._left = self._worst + 1
        self._slope = star.upper / (star.upper - star.lower)
        self._signs = np.zeros(self._n, dtype=np.int8)
        self._disjunct = 0
        self._solver = highspy.Highs()
        for name, option in (("output_flag", False), ("presolve", "off"), ("threads", 1)):
            self._solver.setOptionValue(name, option)
        self._pass()

    def solve(self, signs: npt.ArrayLike, disjunct: int = 0) -> Least | None:
        """The optimum where some neurons are decided; ``None``: none was found.

        Args:
            signs: ``(n,)``: 1 where ``z <= 0``, -1 where ``z >= 0``, 0 where it is open.
            disjunct: of the unsafe constraints.
        """
        self._assume(np.asarray(signs, dtype=np.int8))
        self._turn_to(disjunct)
        solver = self._solver
        for attempt in range(2):  # a stale basis is the usual reason for trouble
            solver.setOptionValue("time_limit", solver.getRunTime() + self._seconds)
            solver.run()
            if solver.getModelStatus() == highspy.HighsModelStatus.kOptimal:
                return self._least()
            if not attempt:
                solver.clearSolver()
        return None

    def _least(self) -> Least:
        star, n, inputs = self._star, self._n, self._inputs
        solution = self._solver.getSolution()
        value, dual = np.array(solution.col_value), np.array(solution.row_dual)
        reduced = np.array(solution.col_dual)[inputs : inputs + n]
        after = value[inputs : inputs + n]
        before = star.neurons[0] + value[: self._worst] @ star.neurons[1:]
        over, still = np.maximum(dual[:n], 0.0), np.maximum(reduced, 0.0)
        chord = np.maximum(-dual[n : 2 * n], 0.0)
        phase = dual[2 * n : 3 * n]
        open_ = self._signs == 0
        # A line below and the chord above together say that z lies between its bounds.
        least = np.minimum(over, chord)
        most = np.minimum(still, chord - least)
        over, still = over - least, still - most
        slopes = np.divide(over, over + still, out=np.full(n, -1.0), where=over + still > 1e-9)
        first = 3 * n + self._disjunct * star.forms.shape[2]
        weights = np.maximum(-dual[first : first + star.forms.shape[2]], 0.0)
        total = weights.sum()
        if not total > 1e-9:
            weights, total = np.ones_like(weights), float(weights.size)
        region = dual[3 * n + star.forms.shape[0] * star.forms.shape[2] :]
        return Least(
            float(value[self._worst] + PRICE * value[self._left]),
            value[:inputs],
            np.where(open_, np.maximum(after - np.maximum(before, 0.0), 0.0), 0.0),
            np.where(open_, chord, 0.0),
            np.where(open_, slopes, -1.0),
            np.where(open_, (1.0 - self._slope) * least, 0.0),
            np.where(open_, self._slope * most, 0.0),
            np.where(open_, 0.0, np.maximum(-phase * self._signs, 0.0)),
            weights / total,
            np.maximum(-region, 0.0),
        )

    def _assume(self, signs: npt.NDArray[np.int8]) -> None:
        """Rows and columns of the neurons that are decided otherwise than before."""
        n, solver, star = self._n, self._solver, self._star
        for j in np.flatnonzero(signs != self._signs).tolist():
            sign, after, phase = int(signs[j]), self._inputs + j, 2 * n + j
            own = star.neurons[0, j]
            solver.changeRowBounds(j, -FREE if sign > 0 else own, own if sign < 0 else FREE)
            top = self._slope[j] * (own - star.lower[j]) if sign == 0 else FREE
            solver.changeRowBounds(n + j, -FREE, top)
            solver.changeRowBounds(phase, -own if sign < 0 else -FREE, -own if sign > 0 else FREE)
            if sign:
                solver.changeCoeff(phase, self._left, -float(sign))
            solver.changeColBounds(after, -FREE if sign < 0 else 0.0, 0.0 if sign > 0 else FREE)
        self._signs = signs.copy()

    def _turn_to(self, disjunct: int) -> None:
        if disjunct == self._disjunct:
            return
        count = self._star.forms.shape[2]
        for own in (self._disjunct, disjunct):
            for k in range(count):
                top = -float(self._star.forms[own, 0, k]) if own == disjunct else FREE
                self._solver.changeRowBounds(3 * self._n + own * count + k, -FREE, top)
        self._disjunct = disjunct

    def _pass(self) -> None:
        """Make the model; see the module's text."""
        star, n, inputs = self._star, self._n, self._inputs
        count, constraints = star.forms.shape[0], star.forms.shape[2]
        width = self._left + 1
        unit = np.zeros((n, width))
        unit[np.arange(n), inputs + np.arange(n)] = 1.0
        before = np.zeros((n, width))
        before[:, : self._worst] = star.neurons[1:].T
        centre = star.neurons[0]
        forms = np.zeros((count * constraints, width))
        forms[:, : self._worst] = star.forms[:, 1:].transpose(0, 2, 1).reshape(-1, self._worst)
        forms[:, self._worst] = -1.0
        tops = np.full((count, constraints), FREE)
        tops[0] = -star.forms[0, 0]
        normals = np.zeros((0, width))
        offsets = np.zeros(0)
        if star.region is not None:
            normals = np.zeros((len(star.region[1]), width))
            normals[:, :inputs] = star.region[0]
            offsets = -star.region[1]
        chord = unit - self._slope[:, None] * before
        # The price of a phase has its place in the model before any phase is assumed.
        before_left = before.copy()
        before_left[:, self._left] = 1.0
        matrix = np.concatenate([unit - before, chord, before_left, forms, normals])
        free = np.full(n, FREE)
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = width, len(matrix)
        model.col_cost_ = np.concatenate([np.zeros(self._worst), [1.0, PRICE]])
        model.col_lower_ = np.concatenate([star.low, np.zeros(n), [-FREE, 0.0]])
        model.col_upper_ = np.concatenate([star.high, free, [FREE, FREE]])
        model.row_lower_ = np.concatenate([centre, np.full(len(matrix) - n, -FREE)])
        model.row_upper_ = np.concatenate(
            [free, self._slope * (centre - star.lower), free, tops.reshape(-1), offsets]
        )
        rows, columns = np.nonzero(matrix)
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        starts = np.searchsorted(rows, np.arange(len(matrix) + 1))
        model.a_matrix_.start_ = starts.astype(np.int32)
        model.a_matrix_.index_ = columns.astype(np.int32)
        model.a_matrix_.value_ = matrix[rows, columns]
        self._solver.passModel(model)
