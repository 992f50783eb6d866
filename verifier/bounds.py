"""Interval bounds and substitution back to the input (CROWN), for batches of domains.

The rules and their order are those of the kernel's SWEEP and CLOSE without hints, so a
tree found here needs no stored slopes: Zhang et al., *Efficient neural network robustness
certification with general activation functions*, 2018, with cheap bounds first.

Shapes: ``B`` domains, ``I`` inputs (through all input tensors), ``N`` neurons (entries of
all pre-activation tensors, numbered through), ``R`` rows.  A row belongs to one domain, its
*owner*, and is bounded from below; an upper bound is the negated lower bound of the
negated row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from specs.enclosure import FloatArray
from specs.errors import UnsupportedOperatorError
from specs.network import Network
from verifier.bounds_maps import TorchMap, Weights
from verifier.relaxations import Lines, Relaxation
from verifier.relaxations.relu import Relu


@dataclass(frozen=True, eq=False)
class LinearNode:
    """``sum(map(source)) + offset``, and errors of up to ``radius`` each.

    ``offset`` and ``radius`` are ``None`` where they are zero.
    """

    terms: tuple[tuple[int, TorchMap], ...]
    offset: Tensor | None
    radius: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Focus:
    """Where a function is relaxed; elsewhere it is linear.

    Attributes:
        index: ``(u,)`` the entries.
        slope: ``(n,)`` the function's factor elsewhere; 0 at the entries.
    """

    index: Tensor
    slope: Tensor


@dataclass(frozen=True, eq=False)
class NonlinearNode:
    """A function applied to every entry of tensors of one size.

    Attributes:
        sources: its arguments: one, or the two factors of a product.
        bounded: the tensors on whose bounds it is relaxed: the arguments first.
        focus: where a function of one argument is relaxed; ``None``: everywhere.
    """

    sources: tuple[int, ...]
    bounded: tuple[int, ...]
    relaxation: Relaxation
    focus: Focus | None = None


@dataclass(frozen=True, eq=False)
class TorchNetwork:
    """A network compiled to torch.

    Attributes:
        nodes: ``None`` for inputs.
        needed: tensors that are not inputs and have a reader, or are outputs; ascending.
        sizes: of all tensors.
        inputs, outputs: tensors, in order.
        neurons: per pre-activation tensor its slice of the ``N`` neurons, ascending.
        exact: pre-activation tensors whose interval bounds are exact over a box.
        source: what was compiled; ``weights``: the coefficients, shared by what is cut from it;
            ``radii``: by perturbed tensor the largest errors.
        fields: receptive fields by what they are of; see ``bounds_field``.
        focus: by pre-activation the entries that are neurons, where not all; see
            ``bounds_focus``.
    """

    nodes: tuple[LinearNode | NonlinearNode | None, ...]
    needed: tuple[int, ...]
    sizes: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    neurons: Mapping[int, slice]
    exact: frozenset[int]
    device: str
    dtype: torch.dtype
    source: Network
    weights: Weights
    radii: Mapping[int, FloatArray] = field(default_factory=dict)
    fields: dict[Any, Any] = field(default_factory=dict)
    focus: Mapping[int, Tensor] = field(default_factory=dict)

    @property
    def input_size(self) -> int:
        return sum(self.sizes[i] for i in self.inputs)

    @property
    def neuron_count(self) -> int:
        return sum(s.stop - s.start for s in self.neurons.values())

    @property
    def width(self) -> int:
        """Entries of the largest tensor."""
        return max(self.sizes)

    @cached_property
    def nonlinear(self) -> tuple[int, ...]:
        """The tensors that nonlinear nodes define, ascending."""
        return tuple(n for n in self.needed if isinstance(self.nodes[n], NonlinearNode))

    @cached_property
    def readers(self) -> Mapping[int, tuple[int, ...]]:
        """By pre-activation the nonlinear tensors that are functions of it."""
        return {
            tensor: tuple(n for n in self.nonlinear if tensor in self.function(n).bounded)
            for tensor in self.neurons
        }

    @cached_property
    def parameters(self) -> Mapping[int, slice]:
        """By nonlinear tensor its part of the ``P`` parameters of lines.

        A part is ``free * n`` long: the first parameter of all ``n`` neurons, then the next.
        """
        found, start = {}, 0
        for number in self.nonlinear:
            node = self.function(number)
            where = self.neurons[node.sources[0]]
            found[number] = slice(start, start + node.relaxation.free * (where.stop - where.start))
            start = found[number].stop
        return found

    @property
    def parameter_count(self) -> int:
        return max((where.stop for where in self.parameters.values()), default=0)

    @cached_property
    def bends_at_zero(self) -> bool:
        """Whether all functions are Relus, so that every split is at 0."""
        return all(isinstance(self.function(n).relaxation, Relu) for n in self.nonlinear)

    def function(self, number: int) -> NonlinearNode:
        """The node of a nonlinear tensor."""
        node = self.nodes[number]
        if not isinstance(node, NonlinearNode):
            raise UnsupportedOperatorError(f"tensor {number} is no nonlinear node's")
        return node

    def ends(self, number: int, lower: Tensor, upper: Tensor) -> list[Tensor]:
        """What a nonlinear node is relaxed on, from the bounds of all neurons ``(R, N)``."""
        places = [self.neurons[tensor] for tensor in self.function(number).bounded]
        return [side[:, where] for where in places for side in (lower, upper)]

    def unstable(self, lower: Tensor, upper: Tensor, tensor: int | None = None) -> Tensor:
        """Which neurons ``(R, N)``, or those of one tensor, are not in a linear piece."""
        if self.bends_at_zero:
            return (lower < 0) & (upper > 0)
        if tensor is None:
            parts = [
                self.unstable(lower[:, where], upper[:, where], t)
                for t, where in self.neurons.items()
            ]
            return torch.cat(parts, -1) if parts else lower < lower
        found = lower < lower
        for number in self.readers[tensor]:
            node = self.function(number)
            several = len(node.sources) > 1
            found = found | (lower < upper if several else node.relaxation.unstable(lower, upper))
        return found

    def middle(self, number: int, lower: Tensor, upper: Tensor) -> Tensor:
        """Where the lines of a nonlinear tensor lie furthest apart, as a guess: at a bend."""
        node = self.function(number)
        if len(node.sources) > 1:
            return (lower + upper) * 0.5
        point = node.relaxation.split_point(lower, upper)
        return torch.maximum(lower, torch.minimum(point, upper))

    def split_points(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where each neuron's interval is best split, ``(R, N)``."""
        points = torch.zeros_like(lower)
        for tensor, where in self.neurons.items():
            low, high = lower[:, where], upper[:, where]
            for number in self.readers[tensor][::-1]:  # of several the first one decides
                node = self.function(number)
                if len(node.sources) > 1:
                    found = (low + high) * 0.5
                else:
                    found = node.relaxation.split_point(low, high)
                points[:, where] = found
        return points

    def pick(self, tensor: int, values: Tensor) -> Tensor:
        """The columns ``(R, n)`` of a pre-activation that are neurons."""
        index = self.focus.get(tensor)
        return values if index is None else values.index_select(-1, index)

    def spread(self, tensor: int, values: Tensor) -> Tensor:
        """The other way: values at neurons, 0 elsewhere."""
        index = self.focus.get(tensor)
        if index is None:
            return values
        return values.new_zeros(len(values), self.sizes[tensor]).index_copy_(-1, index, values)

    def split(self, values: Tensor, tensors: tuple[int, ...]) -> dict[int, Tensor]:
        """The columns of ``values`` by tensor."""
        parts = values.split([self.sizes[t] for t in tensors], dim=-1)
        return dict(zip(tensors, parts, strict=True))


@dataclass(frozen=True, eq=False)
class Domains:
    """A batch of boxes with bounds of all neurons.

    Attributes:
        low, high: ``(B, I)``.
        lower, upper: ``(B, N)``; infinite where nothing is known.
    """

    low: Tensor
    high: Tensor
    lower: Tensor
    upper: Tensor

    def __len__(self) -> int:
        return len(self.low)

    def take(self, index: Tensor | slice) -> Domains:
        """The domains with these numbers."""
        return Domains(self.low[index], self.high[index], self.lower[index], self.upper[index])


@dataclass(frozen=True, eq=False)
class Rows:
    """Linear forms over tensors: ``(R, n)`` coefficients by tensor, ``(R,)`` constants."""

    coefficients: Mapping[int, Tensor]
    constant: Tensor


LineSource = Callable[[int], Lines]
"""Lines for the rows at hand, given the tensor that a nonlinear node defines."""


def evaluate(net: TorchNetwork, points: Tensor) -> Tensor:
    """The network's outputs, ``(k, I) -> (k, outputs)``."""
    values = net.split(points, net.inputs)
    for number in net.needed:
        node = net.nodes[number]
        if isinstance(node, NonlinearNode):
            values[number] = node.relaxation.value(*(values[t] for t in node.sources))
        elif node is not None:
            total = points.new_zeros(len(points), net.sizes[number])
            for tensor, linear in node.terms:
                total = total + linear.forward(values[tensor])
            values[number] = total if node.offset is None else total + node.offset
    return torch.cat([values[t] for t in net.outputs], dim=-1)


def interval(
    net: TorchNetwork, node: LinearNode | NonlinearNode, known: Mapping[int, tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Interval bounds of a node's tensor from those of its sources, ``(B, n)`` each."""
    if isinstance(node, NonlinearNode):
        return node.relaxation.image(*(side for t in node.sources for side in known[t]))
    center: Tensor | None = None
    radius: Tensor | None = None
    for tensor, linear in node.terms:
        lower, upper = known[tensor]
        middle = linear.forward((lower + upper) * 0.5)
        spread = linear.magnitude((upper - lower) * 0.5)
        center = middle if center is None else center + middle
        radius = spread if radius is None else radius + spread
    if center is None or radius is None:
        raise UnsupportedOperatorError("the search has no rule for a node without sources")
    if node.offset is not None:
        center = center + node.offset
    if node.radius is not None:
        radius = radius + node.radius
    return center - radius, center + radius


def substitute(
    net: TorchNetwork,
    rows: Rows,
    lines: LineSource,
    extra: Mapping[int, Tensor] | None = None,
    trace: dict[int, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Lower bounds of rows as affine functions of the input.

    Args:
        lines: relaxations, broadcastable to ``(R, n)``.
        extra: ``(R, n)`` coefficients added at the neurons of pre-activation tensors (split
            multipliers).
        trace: receives the coefficients ``(R, n)`` that reach each nonlinear tensor's neurons.

    Returns:
        Coefficients ``(R, I)`` and constants ``(R,)``.  Differentiable in everything.
    """
    work = dict(rows.coefficients)
    constant = rows.constant
    for number in reversed(net.needed):
        node = net.nodes[number]
        if extra is not None and number in extra:
            _accumulate(work, number, net.spread(number, extra[number]))
        if number not in work or node is None:
            continue
        matrix = work.pop(number)
        if isinstance(node, NonlinearNode):
            part = matrix if node.focus is None else matrix.index_select(-1, node.focus.index)
            if trace is not None:
                trace[number] = part
            passed, constant = relax(part, constant, lines(number))
            for tensor, below in zip(node.sources, passed, strict=True):
                if node.focus is not None:
                    whole = matrix * node.focus.slope
                    below = whole.index_copy_(-1, node.focus.index, below)
                _accumulate(work, tensor, below)
            continue
        if node.offset is not None:
            constant = constant + matrix @ node.offset
        if node.radius is not None:
            constant = constant - matrix.abs() @ node.radius
        for tensor, linear in node.terms:
            _accumulate(work, tensor, linear.adjoint(matrix))
    count = len(constant)
    parts = [work[t] if t in work else constant.new_zeros(count, net.sizes[t]) for t in net.inputs]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)), constant


def relax(matrix: Tensor, constant: Tensor, lines: Lines) -> tuple[list[Tensor], Tensor]:
    """One substitution through a nonlinear node, from below: coefficients by source."""
    positive = matrix.clamp(min=0)
    negative = matrix - positive
    if lines.lower_intercept is None:
        constant = constant + (negative * lines.upper_intercept).sum(-1)
    else:  # an intercept may be infinite, which only coefficients other than 0 are to feel
        paid = torch.where(matrix > 0, positive * lines.lower_intercept, 0.0)
        paid = torch.where(matrix < 0, negative * lines.upper_intercept, paid)
        constant = constant + paid.sum(-1)
    passed = [torch.addcmul(positive * lines.lower_slope, negative, lines.upper_slope)]
    if lines.second is not None:
        below, above = lines.second
        passed.append(torch.addcmul(positive * below, negative, above))
    return passed, constant


def concretize(matrix: Tensor, constant: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Minimum over boxes ``(R or 1, I)`` of the affine functions ``(R, I)``; ``(R,)``."""
    center, radius = (low + high) * 0.5, (high - low) * 0.5
    if len(center) == 1:
        return constant + matrix @ center[0] - matrix.abs() @ radius[0]
    return constant + (matrix * center).sum(-1) - (matrix.abs() * radius).sum(-1)


def worst_points(matrix: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Where in its box each affine function is least, ``(R, I)``."""
    return torch.where(matrix > 0, low, high)


def neuron_rows(net: TorchNetwork, tensor: int, index: Tensor) -> Rows:
    """Rows that select entries ``index`` of a tensor, one linear node deep where cheap."""
    node = net.nodes[tensor]
    if isinstance(node, LinearNode) and len(node.terms) == 1 and node.radius is None:
        source, linear = node.terms[0]
        picked = linear.pick(index)
        if picked is not None:
            shift = node.offset
            zero = picked.new_zeros(len(index))
            return Rows({source: picked}, zero if shift is None else shift[index])
    matrix = torch.zeros(len(index), net.sizes[tensor], device=net.device, dtype=net.dtype)
    matrix[torch.arange(len(index), device=net.device), index] = 1.0
    return Rows({tensor: matrix}, matrix.new_zeros(len(index)))


def both_sides(rows: Rows) -> Rows:
    """The rows, then their negatives: lower bounds, then negated upper bounds."""
    doubled = {t: torch.cat([m, -m]) for t, m in rows.coefficients.items()}
    return Rows(doubled, torch.cat([rows.constant, -rows.constant]))


def default_lines(net: TorchNetwork, number: int, domains: Domains) -> Lines:
    """Lines ``(B, n)`` without hints for the nonlinear node that defines a tensor."""
    ends = net.ends(number, domains.lower, domains.upper)
    return net.function(number).relaxation.default(*ends)


def gather(lines: Lines, owner: Tensor) -> Lines:
    """Lines by row from lines by domain."""
    if len(lines.lower_slope) == 1:
        return lines
    return lines.map(lambda part: part.index_select(0, owner))


def _accumulate(work: dict[int, Tensor], tensor: int, matrix: Tensor) -> None:
    held = work.get(tensor)
    work[tensor] = matrix if held is None else held + matrix
