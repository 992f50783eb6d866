"""Bounds by optimised slopes and split multipliers, with gradients by hand.

The bound of a row is concave in its multipliers once the signs of its coefficients are
fixed, and its gradient has a meaning: propagate the box corner where the linear bound is
least forward through the lines that the row uses, and the value ``z`` that reaches a
neuron is the derivative with respect to the coefficient there.  So one pass backward and
one forward give bound and gradient (Xu et al., *Fast and complete*, 2021, for the slopes;
Wang et al., *Beta-CROWN*, 2021, for the split multipliers; Shi et al., *Neural network
verification with branch-and-bound for general nonlinearities*, 2025, for functions other
than Relu), without recording a graph.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verifier.bounds import NonlinearNode, Rows, TorchNetwork, concretize, substitute
from verifier.relaxations import Free, Lines

GRID, COARSE_GRID = 128.0, 2.0
"""Slopes in proofs are multiples of 1 / GRID, where that suffices of 1 / COARSE_GRID."""


@dataclass(frozen=True, eq=False)
class Multipliers:
    """What a bound is optimised over, for ``R`` rows.

    Attributes:
        alpha: ``(R or 1, P)`` parameters in [0, 1] of the lines of every nonlinear node
            (see ``TorchNetwork.parameters``); one row is shared by all.
        beta: ``(R, N)`` multipliers of split neurons, >= 0; ``None`` without splits.
        weights: ``(R, k)`` of the forms that make up a row, >= 0; ``None`` if ``k == 1``.
        region: ``(R, q)`` of the region's constraints, >= 0; ``None`` if it has none.
    """

    alpha: Tensor
    beta: Tensor | None = None
    weights: Tensor | None = None
    region: Tensor | None = None

    def parts(self) -> tuple[Tensor | None, ...]:
        """All of them, in the order of the attributes."""
        return self.alpha, self.beta, self.weights, self.region

    def map(self, change: Callable[[Tensor], Tensor]) -> Multipliers:
        """Every part that is there, changed."""
        alpha, *others = self.parts()
        if alpha is None:
            raise ValueError("multipliers without slopes")
        return Multipliers(change(alpha), *(None if p is None else change(p) for p in others))

    def take(self, index: Tensor) -> Multipliers:
        """Those of the rows with these numbers."""
        alpha = self.alpha
        return Multipliers(
            alpha[index] if len(alpha) > 1 else alpha.expand(len(index), -1),
            *(None if part is None else part[index] for part in self.parts()[1:]),
        )

    def rounded(self) -> Multipliers:
        """As a proof stores them: slopes on the grid, the rest in float32; in float64."""
        short = self.map(lambda part: part.float().double())
        return replace(short, alpha=(self.alpha.double() * GRID).round() / GRID)

    def coarse(self) -> Multipliers:
        """In few bits: slopes on a coarse grid, the rest in a significand of three bits."""
        short = self.map(_three_bits)
        return replace(short, alpha=(self.alpha * COARSE_GRID).round() / COARSE_GRID)


def _three_bits(values: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp((mantissa * 8.0).round() / 8.0, exponent)


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows to bound from below over boxes, under bounds of the neurons.

    Attributes:
        forms: coefficients ``(R, k, n)`` by tensor and constants ``(R, k)``; a row is the
            combination of its ``k`` forms by the weights.
        low, high: ``(R or 1, I)``; ``lower``, ``upper``: ``(R or 1, N)``.
        signs: ``(R, N)``: 1 where the path assumes ``z <= p``, -1 where ``z >= p``.
        points: ``(R, N)`` the points ``p``; ``None``: 0 throughout.
        region: constraints ``a x + c <= 0`` of the region, ``(R or 1, q, I)`` and
            ``(R or 1, q)``.
    """

    net: TorchNetwork
    forms: Rows
    low: Tensor
    high: Tensor
    lower: Tensor
    upper: Tensor
    signs: Tensor | None = None
    region: tuple[Tensor, Tensor] | None = None
    points: Tensor | None = None

    def take(self, index: Tensor) -> Problem:
        """The problem of these rows."""

        def own(values: Tensor) -> Tensor:
            return values[index] if len(values) > 1 else values

        parts = {t: m[index] for t, m in self.forms.coefficients.items()}
        return Problem(
            self.net,
            Rows(parts, self.forms.constant[index]),
            own(self.low),
            own(self.high),
            own(self.lower),
            own(self.upper),
            None if self.signs is None else self.signs[index],
            None if self.region is None else (own(self.region[0]), own(self.region[1])),
            None if self.points is None else self.points[index],
        )

    def contradictory(self, margin: float) -> Tensor:
        """Rows ``(R or 1,)`` for which some neuron's bounds cross by more than ``margin``."""
        return (self.lower > self.upper + margin).any(-1)

    def __len__(self) -> int:
        return len(self.forms.constant)


@dataclass(frozen=True, eq=False)
class Effort:
    """How hard to optimise.

    Attributes:
        steps: gradient steps.
        rate: first step length of slopes; ``beta_rate``: of split multipliers, relative to
            the coefficients that reach the neurons; ``decay``: factor per step.
        enough: rows above this bound are done.
        deadline: ``time.monotonic()`` after which no further step is taken.
        look: steps between looks at which rows are done, for which a device is waited for;
            0: every step on a CPU, every fifth elsewhere.
    """

    steps: int = 20
    rate: float = 0.25
    beta_rate: float = 0.25
    decay: float = 0.95
    enough: float = float("inf")
    deadline: float = float("inf")
    look: int = 0


@dataclass(frozen=True, eq=False)
class Bounded:
    """Bounds ``(R,)`` and, if asked for, what a gradient and a branching rule need.

    Attributes:
        matrix, constant: the rows as functions of the input, ``(R, I)`` and ``(R,)``.
        trace: coefficients ``(R, n)`` that reach each nonlinear tensor.
        lines: that were used for it.
        values: ``(R, N)`` the ``z`` of every neuron; see the module's text.
        points: ``(R, I)`` the box corners.
        outputs: ``(R, k)`` what every form is worth there.
    """

    bound: Tensor
    matrix: Tensor
    constant: Tensor
    trace: Mapping[int, Tensor]
    lines: Mapping[int, Lines]
    values: Tensor | None = None
    points: Tensor | None = None
    outputs: Tensor | None = None


class _Relaxed:
    """The lines of a problem for changing parameters."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.net = problem, problem.net
        self.free: dict[int, Free] = {
            number: self.net.function(number).relaxation.relaxed(
                *self.net.ends(number, problem.lower, problem.upper)
            )
            for number in self.net.nonlinear
        }

    def own(self, number: int, alpha: Tensor) -> tuple[Tensor, ...]:
        """A node's parameters ``(R or 1, n)`` each."""
        count = self.net.function(number).relaxation.free
        part = alpha[:, self.net.parameters[number]]
        return (part,) if count == 1 else part.tensor_split(count, -1) if count else ()

    def lines(self, number: int, alpha: Tensor) -> Lines:
        """Lines of a nonlinear tensor."""
        return self.free[number].lines(*self.own(number, alpha))

    def start(self) -> Tensor:
        """The parameters of the default lines, ``(R or 1, P)``."""
        parts = [part for number in self.net.nonlinear for part in self.free[number].start()]
        return torch.cat(parts, -1) if parts else self.problem.lower[:, :0]


def used_lines(problem: Problem, multipliers: Multipliers) -> dict[int, Lines]:
    """The lines of every nonlinear tensor, ``(R or 1, n)``."""
    relaxed = _Relaxed(problem)
    return {number: relaxed.lines(number, multipliers.alpha) for number in problem.net.nonlinear}


def initial(problem: Problem) -> Multipliers:
    """The default lines, no split multipliers, equal weights."""
    alpha = _Relaxed(problem).start()
    count = problem.forms.constant.shape[1]
    beta = None if problem.signs is None else torch.zeros_like(problem.signs, dtype=alpha.dtype)
    weights = None
    if count > 1:
        weights = alpha.new_full((len(problem), count), 1.0 / count)
    region = None
    if problem.region is not None:
        region = alpha.new_zeros(len(problem), problem.region[0].shape[1])
    return Multipliers(alpha.expand(len(problem), -1).clone(), beta, weights, region)


def bounded(
    relaxed: _Relaxed | Problem, multipliers: Multipliers, *, gradient: bool = False
) -> Bounded:
    """Bounds of all rows for given multipliers."""
    if isinstance(relaxed, Problem):
        relaxed = _Relaxed(relaxed)
    problem = relaxed.problem
    net = problem.net
    extra = force = None
    if multipliers.beta is not None and problem.signs is not None:
        force = multipliers.beta * problem.signs
        extra = {t: force[:, where] for t, where in net.neurons.items()}
    trace: dict[int, Tensor] = {}
    used: dict[int, Lines] = {}

    def lines(number: int) -> Lines:
        used[number] = relaxed.lines(number, multipliers.alpha)
        return used[number]

    rows = combined(problem.forms, multipliers.weights)
    matrix, constant = substitute(net, rows, lines, extra, trace)
    if force is not None and problem.points is not None:
        constant = constant - (force * problem.points).sum(-1)
    if multipliers.region is not None and problem.region is not None:
        normals, offsets = problem.region
        share = multipliers.region[:, :, None]
        matrix = matrix + (share * normals).sum(1)
        constant = constant + (multipliers.region * offsets).sum(1)
    bound = concretize(matrix, constant, problem.low, problem.high)
    if not gradient:
        return Bounded(bound, matrix, constant, trace, used)
    center, radius = (problem.low + problem.high) * 0.5, (problem.high - problem.low) * 0.5
    points = center - matrix.sign() * radius
    values, outputs = _respond(problem, points, trace, used)
    return Bounded(bound, matrix, constant, trace, used, values, points, outputs)


def optimise(problem: Problem, start: Multipliers, effort: Effort) -> tuple[Tensor, Multipliers]:
    """Raise the bounds of all rows by gradient steps (Kingma and Ba, *Adam*, 2015).

    Rows that pass ``effort.enough`` are left alone from then on.

    Returns:
        Bounds ``(R,)`` and multipliers of the last step of each row.
    """
    net, count = problem.net, len(problem)
    shared = len(start.alpha) == 1 and count > 1
    current, result = start.map(torch.clone), start.map(torch.clone)
    best = problem.low.new_full((count,), -float("inf"))
    left = torch.arange(count, device=best.device)
    relaxed = _Relaxed(problem)
    adam = _Adam(current)
    look = effort.look or (1 if best.device.type == "cpu" else 5)
    for step in range(effort.steps + 1):
        found = bounded(relaxed, current, gradient=step < effort.steps)
        best[left] = found.bound
        done, looked = found.bound > effort.enough, step % look == look - 1
        last = step == effort.steps or time.monotonic() > effort.deadline
        if last or (looked and bool(done.all())):
            _store(result, current, left, shared)
            break
        if looked and not shared and int(done.sum()) * 4 > len(left):
            _store(result, current, left, shared)
            keep = (~done).nonzero()[:, 0]
            left = left[keep]
            relaxed = _Relaxed(relaxed.problem.take(keep))
            current, adam = current.take(keep), adam.take(keep)
            found = _take(found, keep)
        decay = effort.decay**step
        gradient = _gradient(relaxed, current, found, shared)
        adam.ascend(net, current, gradient, effort, decay, found)
    return best, result


class _Adam:
    """Moments of the gradients of all multipliers."""

    def __init__(self, like: Multipliers) -> None:
        self._first, self._second = like.map(torch.zeros_like), like.map(torch.zeros_like)
        self._steps = 0

    def take(self, index: Tensor) -> _Adam:
        """The moments of the rows with these numbers."""
        out = object.__new__(_Adam)
        out._first, out._second = (
            m.map(lambda part: part[index]) for m in (self._first, self._second)
        )
        out._steps = self._steps
        return out

    def ascend(
        self,
        net: TorchNetwork,
        current: Multipliers,
        gradient: Multipliers,
        effort: Effort,
        decay: float,
        found: Bounded,
    ) -> None:
        """One step up, in place, and back into the permitted ranges."""
        self._steps += 1
        alpha, beta, weights, region = (
            self._step(*parts)
            for parts in zip(
                gradient.parts(), self._first.parts(), self._second.parts(), strict=True
            )
        )
        if alpha is not None:
            current.alpha.add_(alpha, alpha=effort.rate * decay).clamp_(0.0, 1.0)
        if current.beta is not None and beta is not None:
            scale = _reaching(net, found)
            current.beta.add_(beta * scale, alpha=effort.beta_rate * decay).clamp_(min=0.0)
        if current.weights is not None and weights is not None:
            current.weights.add_(weights, alpha=0.1 * decay).clamp_(min=0.0)
            current.weights.div_(current.weights.sum(-1, keepdim=True).clamp(min=1e-6))
        if current.region is not None and region is not None:
            scale = found.matrix.abs().amax(-1, keepdim=True)
            current.region.add_(region * scale, alpha=effort.beta_rate * decay).clamp_(min=0.0)

    def _step(
        self, gradient: Tensor | None, first: Tensor | None, second: Tensor | None
    ) -> Tensor | None:
        if gradient is None or first is None or second is None:
            return None
        first.mul_(0.9).add_(gradient, alpha=0.1)
        second.mul_(0.99).addcmul_(gradient, gradient, value=0.01)
        scale = (1 - 0.99**self._steps) ** 0.5 / (1 - 0.9**self._steps)
        return first * scale / second.sqrt().add_(1e-10)


def _reaching(net: TorchNetwork, found: Bounded) -> Tensor:
    """The size of the coefficients that reach the neurons, ``(R, 1)`` or ``(R, N)``.

    Between Relus one for all will do; elsewhere tensors differ by orders of magnitude.
    """
    if net.bends_at_zero:
        largest = [m.abs().amax(-1) for m in found.trace.values() if m.shape[-1]]
        like = found.constant
        return (torch.stack(largest).mean(0) if largest else torch.ones_like(like))[:, None]
    scale = found.constant.new_zeros(len(found.constant), net.neuron_count)
    for number, matrix in found.trace.items():
        node, lines = net.function(number), found.lines[number]
        pairs = [(lines.lower_slope, lines.upper_slope), lines.second]
        for source, pair in zip(node.sources, pairs, strict=False):
            if pair is not None and matrix.shape[-1]:
                steep = torch.maximum(pair[0].abs(), pair[1].abs())
                reaching = (matrix.abs() * steep).amax(-1, keepdim=True)
                where = net.neurons[source]
                scale[:, where] = torch.maximum(scale[:, where], reaching)
    return scale


def _gradient(relaxed: _Relaxed, current: Multipliers, found: Bounded, shared: bool) -> Multipliers:
    if found.values is None or found.points is None:
        raise ValueError("no gradient was computed")
    problem, net = relaxed.problem, relaxed.net
    alpha = found.values.new_zeros(len(found.values), net.parameter_count)
    for number, matrix in found.trace.items():
        node = net.function(number)
        at = [found.values[:, net.neurons[source]] for source in node.sources]
        rates = relaxed.free[number].rates(*relaxed.own(number, current.alpha))
        positive = matrix.clamp(min=0)
        parts = alpha[:, net.parameters[number]].tensor_split(max(1, node.relaxation.free), -1)
        if rates.lower_slope is not None:
            _rise(parts[0], positive, rates.lower_slope, rates.lower_intercept, at, rates.second, 0)
        if rates.upper_slope is not None:
            negative = matrix - positive
            _rise(parts[1], negative, rates.upper_slope, rates.upper_intercept, at, rates.second, 1)
    if shared:
        alpha = alpha.sum(0, keepdim=True)
    beta = None
    if problem.signs is not None:
        from_point = found.values if problem.points is None else found.values - problem.points
        beta = problem.signs * from_point
    weights = found.outputs
    if weights is not None:
        weights = weights - weights.mean(-1, keepdim=True)
    region = None
    if problem.region is not None:
        normals, offsets = problem.region
        region = (normals * found.points[:, None, :]).sum(-1) + offsets
    return Multipliers(alpha, beta, weights, region)


def _rise(
    out: Tensor,
    matrix: Tensor,
    slope: Tensor,
    intercept: Tensor | None,
    at: Sequence[Tensor],
    second: tuple[Tensor, Tensor] | None,
    side: int,
) -> None:
    """Into ``out``, what the bound gains as a parameter rises."""
    rise = slope * at[0]
    if second is not None:
        rise = torch.addcmul(rise, second[side], at[1])
    if intercept is not None:
        rise = rise + intercept
    torch.mul(matrix, rise, out=out)


def _respond(
    problem: Problem, points: Tensor, trace: Mapping[int, Tensor], used: Mapping[int, Lines]
) -> tuple[Tensor, Tensor]:
    """Propagate points through the lines that each row uses, ``(R, N)`` and ``(R, k)``."""
    net = problem.net
    values = net.split(points, net.inputs)
    neurons = points.new_zeros(len(points), net.neuron_count)
    for tensor in net.inputs:
        if tensor in net.neurons:
            neurons[:, net.neurons[tensor]] = net.pick(tensor, values[tensor])
    for number in net.needed:
        node = net.nodes[number]
        if isinstance(node, NonlinearNode):
            whole = values[node.sources[0]]
            if number not in trace:
                values[number] = torch.zeros_like(whole)
                continue
            lines, z = used[number], net.pick(node.sources[0], whole)
            negative = (trace[number] < 0).to(z.dtype)
            slope = lines.lower_slope + negative * (lines.upper_slope - lines.lower_slope)
            shift = negative * lines.upper_intercept
            if lines.lower_intercept is not None:
                shift = shift + (1.0 - negative) * lines.lower_intercept
            part = torch.addcmul(shift, slope, z)
            if lines.second is not None:
                below, above = lines.second
                slope = below + negative * (above - below)
                part = torch.addcmul(
                    part, slope, net.pick(node.sources[1], values[node.sources[1]])
                )
            if node.focus is not None:
                part = (whole * node.focus.slope).index_copy_(-1, node.focus.index, part)
            values[number] = part
        elif node is not None:
            total: Tensor | None = None
            for tensor, linear in node.terms:
                part = linear.forward(values[tensor])
                total = part if total is None else total + part
            if total is None:
                total = points.new_zeros(len(points), net.sizes[number])
            values[number] = total if node.offset is None else total + node.offset
        if number in net.neurons:
            neurons[:, net.neurons[number]] = net.pick(number, values[number])
    outputs = problem.forms.constant.clone()
    for tensor, matrix in problem.forms.coefficients.items():
        outputs = outputs + (matrix * values[tensor][:, None, :]).sum(-1)
    return neurons, outputs


def combined(forms: Rows, weights: Tensor | None) -> Rows:
    """Rows from the forms that make them up, by weights ``(R, k)``."""
    if weights is None:
        parts = {t: m[:, 0] for t, m in forms.coefficients.items()}
        return Rows(parts, forms.constant[:, 0])
    parts = {t: (m * weights[:, :, None]).sum(1) for t, m in forms.coefficients.items()}
    return Rows(parts, (forms.constant * weights).sum(1))


def _store(result: Multipliers, current: Multipliers, left: Tensor, shared: bool) -> None:
    for to, part in zip(result.parts(), current.parts(), strict=True):
        if to is None or part is None:
            continue
        if shared and to is result.alpha:
            to.copy_(part)
        else:
            to[left] = part


def _take(found: Bounded, keep: Tensor) -> Bounded:
    def own(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[keep]

    return Bounded(
        found.bound[keep],
        found.matrix[keep],
        found.constant[keep],
        {t: m[keep] for t, m in found.trace.items()},
        {t: lines.take(keep) for t, lines in found.lines.items()},
        own(found.values),
        own(found.points),
        own(found.outputs),
    )
