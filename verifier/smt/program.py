"""A linear program over the triangle relaxation, whose duals are multipliers for the kernel.

The variables are the inputs and, for every neuron that is unstable at the root, its value before
(``z``) and after (``y``) the Relu.  An undecided neuron has ``y >= 0``, ``y >= z`` and the
chord above; a decided one ``y = 0`` or ``y = z``, with its phase as a row.  The greatest of the
unsafe constraints is minimised, with a price on leaving the phases, so that there always is
an optimum (Ehlers, 2017).  The duals of rows are multipliers; the share of ``y >= z`` in those
of the two lines below is the slope of the line below.  Nothing here is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import highspy
import numpy as np
import torch
from torch import Tensor

from verifier.alpha import Multipliers
from verifier.bab_leaves import Leaves, Root
from verifier.bounds import LinearNode, NonlinearNode, TorchNetwork
from verifier.smt.settings import Settings

PRICE = 1e4
"""Of leaving a phase by 1, in units of the unsafe constraints."""

FREE = highspy.kHighsInf


@dataclass(frozen=True, eq=False)
class Solved:
    """An optimum.

    Attributes:
        point: ``(1, I)`` the inputs.
        multipliers: of one row.
    """

    point: Tensor
    multipliers: Multipliers


class Program:
    """The linear programs of one root, one after the other."""

    def __init__(self, root: Root, settings: Settings) -> None:
        self._root, self._net = root, root.nets.sure
        self._inputs, self._neurons = self._net.input_size, self._net.neuron_count
        state = root.state
        self._lower = state.lower[0].cpu().double().numpy()
        self._upper = state.upper[0].cpu().double().numpy()
        self._solver = highspy.Highs()
        for name, value in (
            ("output_flag", False),
            ("threads", 1),
            ("time_limit", settings.program_seconds),
        ):
            self._solver.setOptionValue(name, value)
        self._pass()

    def solve(self, leaves: Leaves) -> Solved | None:
        """The optimum of a single partial assignment; ``None``: none was found."""
        disjunct = int(leaves.disjunct[0])
        self._assume(leaves.signs[0].cpu().numpy())
        count = self._constraints
        for row in range(self._first_form, self._first_form + count * len(self._root.lengths)):
            own = disjunct == (row - self._first_form) // count
            self._solver.changeRowBounds(row, -FREE, self._constant[row] if own else FREE)
        self._solver.run()
        if self._solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        found = self._solver.getSolution()
        value, dual = np.array(found.col_value), np.array(found.row_dual)
        point = torch.tensor(value[None, : self._inputs], dtype=torch.float64)
        start = self._first_form + disjunct * count
        weights = np.maximum(-dual[start : start + count], 0.0)
        return Solved(point, self._multipliers(leaves, dual, np.array(found.col_dual), weights))

    def _multipliers(
        self, leaves: Leaves, dual: np.ndarray, reduced: np.ndarray, weights: np.ndarray
    ) -> Multipliers:
        own, n = leaves.multipliers, self._neurons
        signs = leaves.signs[0].cpu().numpy()
        share = weights.sum()
        scale = 1.0 / share if share > 1e-9 else 1.0
        over = np.maximum(dual[n : 2 * n], 0.0)
        still = np.maximum(reduced[self._after : self._after + n], 0.0)
        below, above = -dual[3 * n : 4 * n], dual[4 * n : 5 * n]
        beta = scale * np.maximum(np.where(signs > 0, below, above), 0.0) * (signs != 0)
        slope = np.divide(over, over + still, out=np.full(n, -1.0), where=over + still > 1e-9)
        alpha = own.alpha.double().clone()
        for number in self._net.nonlinear:
            node, where = self._net.function(number), self._net.parameters[number]
            chosen = torch.tensor(slope[self._net.neurons[node.sources[0]]]).to(alpha)
            alpha[0, where] = torch.where(chosen < 0, alpha[0, where], chosen)
        made = replace(own, alpha=alpha)
        if own.beta is not None:
            made = replace(made, beta=torch.tensor(beta[None]).to(alpha))
        if own.weights is not None:
            even = np.full(len(weights), 1.0 / len(weights))
            made = replace(
                made,
                weights=torch.tensor((weights * scale if share > 1e-9 else even)[None]).to(alpha),
            )
        if own.region is not None:
            count = own.region.shape[1]
            first = self._first_form + self._constraints * len(self._root.lengths)
            region = scale * np.maximum(-dual[first : first + count], 0.0)
            made = replace(made, region=torch.tensor(region[None]).to(alpha))
        return made

    def _assume(self, signs: np.ndarray) -> None:
        """Rows and columns of neurons as an assignment wants them."""
        n, solver = self._neurons, self._solver
        width = self._upper - self._lower
        chord = self._upper / width
        for j in range(n):
            sign = signs[j]
            solver.changeRowBounds(n + j, -FREE if sign > 0 else 0.0, 0.0 if sign < 0 else FREE)
            top = -chord[j] * self._lower[j] if sign == 0 else FREE
            solver.changeRowBounds(2 * n + j, -FREE, top)
            solver.changeRowBounds(3 * n + j, -FREE, 0.0 if sign > 0 else FREE)
            solver.changeRowBounds(4 * n + j, 0.0 if sign < 0 else -FREE, FREE)
            low = -FREE if sign < 0 else 0.0
            solver.changeColBounds(self._after + j, low, 0.0 if sign > 0 else FREE)

    def _pass(self) -> None:
        """Make the model; see the module's text."""
        net, n, inputs = self._net, self._neurons, self._inputs
        before, self._after = inputs, inputs + n
        worst, left = inputs + 2 * n, inputs + 2 * n + 1
        values, arguments = _affine(net)
        rows: list[tuple[np.ndarray, np.ndarray]] = []
        bounds: list[tuple[float, float]] = []

        def row(columns: np.ndarray, weights: np.ndarray, low: float, high: float) -> None:
            rows.append((columns[weights != 0], weights[weights != 0]))
            bounds.append((low, high))

        known = np.concatenate([np.arange(inputs), np.arange(self._after, self._after + n)])
        for j in range(n):  # what z is
            columns = np.append(known, before + j)
            row(columns, np.append(arguments[1:, j], -1.0), -arguments[0, j], -arguments[0, j])
        chord = self._upper / (self._upper - self._lower)
        for sources in (np.ones(n), chord):  # y >= z, then the chord
            for j in range(n):
                columns = np.array([self._after + j, before + j])
                row(columns, np.array([1.0, -sources[j]]), -FREE, FREE)
        for side in (-1.0, 1.0):  # phases, z <= 0 and z >= 0, that may be left at a price
            for j in range(n):
                row(np.array([before + j, left]), np.array([1.0, side]), -FREE, FREE)
        self._first_form = len(rows)
        self._constraints = self._root.forms.constant.shape[1]
        self._constant: dict[int, float] = {}
        columns = np.append(known, worst)
        for disjunct in range(len(self._root.lengths)):
            for k in range(self._constraints):
                form = _value(self._root, values, disjunct, k)
                self._constant[len(rows)] = -form[0]
                row(columns, np.append(form[1:], -1.0), -FREE, FREE)
        case = torch.tensor([self._root.case], device=self._root.state.low.device)
        region = self._root.table.regions(case)
        if region is not None:
            normals, offsets = (part[0].cpu().double().numpy() for part in region)
            for normal, offset in zip(normals, offsets, strict=True):
                row(np.arange(inputs), normal, -FREE, -float(offset))
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = left + 1, len(rows)
        model.col_cost_ = np.concatenate([np.zeros(worst), [1.0, PRICE]])
        low, high = (
            side[0].cpu().double().numpy() for side in (self._root.state.low, self._root.state.high)
        )
        free = np.full(2 * n + 1, FREE)
        model.col_lower_ = np.concatenate([low, -free, [0.0]])
        model.col_upper_ = np.concatenate([high, free, [FREE]])
        model.row_lower_ = np.array([b[0] for b in bounds])
        model.row_upper_ = np.array([b[1] for b in bounds])
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.cumsum([0, *(len(r[0]) for r in rows)]).astype(np.int32)
        model.a_matrix_.index_ = np.concatenate([r[0] for r in rows]).astype(np.int32)
        model.a_matrix_.value_ = np.concatenate([r[1] for r in rows])
        self._solver.passModel(model)


def _affine(net: TorchNetwork) -> tuple[dict[int, Tensor], np.ndarray]:
    """Tensors as functions of 1, the inputs and every ``y``: rows by tensor; and of neurons."""
    inputs, n = net.input_size, net.neuron_count
    total = 1 + inputs + n
    eye = torch.zeros(total, inputs, dtype=net.dtype, device=net.device)
    eye[1 : 1 + inputs] = torch.eye(inputs, dtype=net.dtype, device=net.device)
    values = net.split(eye, net.inputs)
    arguments = eye.new_zeros(total, n)
    for tensor in net.inputs:
        if tensor in net.neurons:
            arguments[:, net.neurons[tensor]] = net.pick(tensor, values[tensor])
    for number in net.needed:
        node = net.nodes[number]
        if isinstance(node, NonlinearNode):
            where = net.neurons[node.sources[0]]
            count = where.stop - where.start
            own = eye.new_zeros(total, count)
            own[1 + inputs + where.start : 1 + inputs + where.stop] = torch.eye(count).to(own)
            if node.focus is not None:
                whole = values[node.sources[0]] * node.focus.slope
                own = whole.index_copy_(-1, node.focus.index, own)
            values[number] = own
        elif isinstance(node, LinearNode):
            made = eye.new_zeros(total, net.sizes[number])
            for tensor, linear in node.terms:
                made = made + linear.forward(values[tensor])
            if node.offset is not None:
                made[0] += node.offset
            values[number] = made
        if number in net.neurons:
            arguments[:, net.neurons[number]] = net.pick(number, values[number])
    return values, arguments.cpu().double().numpy()


def _value(root: Root, values: dict[int, Tensor], disjunct: int, place: int) -> np.ndarray:
    """A constraint of a disjunct as a function of 1, the inputs and every ``y``."""
    total = values[root.nets.sure.inputs[0]].new_zeros(len(values[root.nets.sure.inputs[0]]))
    for tensor, matrix in root.forms.coefficients.items():
        total = total + values[tensor] @ matrix[disjunct, place]
    total[0] += root.forms.constant[disjunct, place]
    return total.cpu().double().numpy()
