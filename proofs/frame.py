"""What the rules compute with: a case's frame, batches of bounds, rows, and lines.

Everything is for a batch of ``B`` domains at once; a row of coefficients belongs to one
domain, its owner, and is relaxed with that domain's bounds only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Arithmetic, Interval, Numbers, bounded
from proofs.faulty import Shares, reads, whole_budget
from proofs.functions import function
from proofs.outward import is_payable
from proofs.perturbed import infinite, radius
from proofs.products import Squared, planes, product_image
from proofs.proof import Side
from specs.convolution import Conv
from specs.enclosure import FloatArray
from specs.errors import EvidenceError
from specs.linear import Sparse
from specs.network import (
    Error,
    Faulty,
    Input,
    Linear,
    Network,
    Nonlinear,
    Perturbed,
    Product,
    Struck,
    Univariate,
)

IndexArray = npt.NDArray[np.int64]
Hints = Mapping[tuple[int, Side], FloatArray]
"""Slopes by univariate tensor and side, and weights by product tensor and side, ``(B, n)``;
NaN where the default is to be taken."""


FIRST_LAYER = 1 << 22
"""Coefficients of a first layer at the inputs; larger ones are not kept."""


class Frame:
    """What all domains of a case share: the network, the arithmetic, and magnitudes.

    A magnitude bounds the absolute value of a tensor entry over the whole case, so it
    holds on every path below, and errors charged through it are paid for every leaf.
    """

    def __init__(self, network: Network, arithmetic: Arithmetic) -> None:
        self.network = network
        self.arithmetic = arithmetic
        self.preactivations = network.preactivations
        self.stored = frozenset(self.preactivations) | _read_by_struck(network)
        self.shares = whole_budget(network)
        self._magnitude: list[Numbers | None] = [None] * len(network.nodes)
        self._unpayable: set[int] = set()
        self._ancestors: dict[int, frozenset[int]] = {}
        self._cost: dict[int, tuple[Numbers, Any]] = {}
        self._radius: dict[int, Numbers] = {}
        self._readers: list[list[int]] = [[] for _ in network.nodes]
        for number, node in enumerate(network.nodes):
            if isinstance(node, Linear):
                for term in node.terms:
                    self._readers[term.source].append(number)
            elif isinstance(node, Perturbed):  # its error depends on what its source reads
                for source in (node.source, *network.nodes[node.source].sources):
                    self._readers[source].append(number)
        self._input_start = dict(
            zip(network.inputs, _starts([network.sizes[i] for i in network.inputs]), strict=True)
        )
        self.first_layers = _first_layers(network, self.preactivations)
        self.affine: dict[int, Affine] = {}
        self.fields: dict[Any, Any] = {}
        """Receptive fields by what they are of; see ``proofs/fields.py``."""
        self._count_work()

    def _count_work(self) -> None:
        works = [max(1, _work(self.network, i)) for i in range(len(self.network.nodes))]
        self._work = list(accumulate(works, max))
        self.work = self._work[-1]

    def work_from(self, tensors: Iterable[int]) -> int:
        """Entries of the largest array that one row makes on its way back from tensors."""
        return self._work[max(tensors, default=0)]

    def record(self, tensor: int, interval: Interval) -> None:
        """Take a new magnitude for a tensor from an interval that holds over the case."""
        lower, upper = interval
        magnitude = np.maximum(np.abs(lower[0]), np.abs(upper[0]))
        self._magnitude[tensor] = magnitude
        if is_payable(self.arithmetic.floats_up(magnitude)):
            self._unpayable.discard(tensor)
        else:
            self._unpayable.add(tensor)
        for stale in (tensor, *self._readers[tensor]):
            self._cost.pop(stale, None)
            self._radius.pop(stale, None)

    def known_magnitudes(self) -> list[Numbers | None]:
        """The magnitudes of all tensors; ``None`` where there is none yet."""
        return list(self._magnitude)

    def magnitude(self, tensor: int) -> Numbers:
        """The magnitude of a tensor, ``(n,)``.

        Raises:
            EvidenceError: it is so large that rounding is not paid for; see ``passes``.
        """
        known = self._magnitude[tensor]
        if tensor in self._unpayable:
            raise EvidenceError("an interval bound of the network exceeds 2**100")
        if known is None:
            raise EvidenceError("a magnitude is used before intervals were propagated")
        return known

    def passes(self, tensors: Iterable[int]) -> bool:
        """Whether rows that start at tensors can be passed back to the inputs.

        They cannot through a tensor so large, or unbounded, that rounding is not paid for.
        """
        return not self._unpayable or self._unpayable.isdisjoint(
            above for tensor in tensors for above in self._above(tensor)
        )

    def _above(self, tensor: int) -> frozenset[int]:
        """A tensor and all that it depends on."""
        if tensor not in self._ancestors:
            found, front = {tensor}, [tensor]
            while front:
                sources = set(self.network.nodes[front.pop()].sources) - found
                found |= sources
                front += sources
            self._ancestors[tensor] = frozenset(found)
        return self._ancestors[tensor]

    def cost(self, tensor: int) -> tuple[Numbers, Any]:
        """What a row pays for passing the node of a tensor, per unit of coefficient and flat.

        Covers one rounding of each coefficient of the tensor itself; for a linear node
        also the rounding of its adjoint and of the product with its offset, and the radii of
        its coefficients and of its offset;
        for a perturbed one the error, if it is one of rounding.
        """
        known = self._cost.get(tensor)
        if known is not None:
            return known
        arithmetic, node = self.arithmetic, self.network.nodes[tensor]
        vector = arithmetic.rounding(self.magnitude(tensor))
        flat = arithmetic.rounding_scalar(self.magnitude(tensor))
        if isinstance(node, Linear):
            for term in node.terms:
                extra, scalar = arithmetic.adjoint_cost(term.map, self.magnitude(term.source))
                vector, flat = arithmetic.add_up(vector, extra), arithmetic.add_up(flat, scalar)
            offset = arithmetic.offset(node.offset)
            if offset is not None:
                extra, scalar = arithmetic.dot_cost(offset[0])
                vector = arithmetic.add_up(arithmetic.add_up(vector, offset[1]), extra)
                flat = arithmetic.add_up(flat, scalar)
        elif isinstance(node, Perturbed) and isinstance(node.error, Error):
            vector = arithmetic.add_up(vector, self.radius(tensor))
        self._cost[tensor] = (vector, flat)
        return vector, flat

    def radius(self, tensor: int) -> Numbers:
        """The largest errors of a perturbed node over the whole case, ``(n,)``.

        Infinite where something may overflow, or where a magnitude is not payable.
        """
        known = self._radius.get(tensor)
        if known is not None:
            return known
        node = self.network.nodes[tensor]
        if not isinstance(node, Perturbed) or not isinstance(node.error, Error):
            raise EvidenceError(f"'{node.name}' has no error of rounding")
        before = self.network.nodes[node.source]
        involved = (node.source, *before.sources)
        if any(self._magnitude[t] is None for t in involved):
            raise EvidenceError("a magnitude is used before intervals were propagated")
        if self._unpayable.isdisjoint(involved):
            own, *read = (self.magnitude(t) for t in involved)
            found = radius(self.arithmetic, node.error, before, own, read)
        else:
            found = infinite(self.arithmetic.zeros((self.network.sizes[tensor],)))
        self._radius[tensor] = found
        return found

    def overflow(self) -> str | None:
        """The first perturbed tensor at which overflow is not excluded; ``None``: nowhere.

        To be asked of magnitudes that come from interval propagation and from
        substitution alone.  These look at what a tensor depends on only, so that tensor by
        tensor everything before is finite where its bounds are used; a fact about a tensor
        behind would take for granted that there was no overflow.
        """
        for tensor in sorted(set(self.network.perturbed) - set(self.network.struck)):
            if not bounded((self.radius(tensor),) * 2).all():
                return self.network.nodes[tensor].name
        return None

    @property
    def input_size(self) -> int:
        """Entries of all inputs."""
        return self.network.input_size

    def box_columns(self, tensor: int) -> IndexArray:
        """Where the entries of an input tensor stand among all inputs."""
        return np.arange(self.network.sizes[tensor]) + self._input_start[tensor]


@dataclass(eq=False)
class Batch:
    """Bounds of ``B`` domains.

    Attributes:
        lower, upper: the boxes, ``(B, input_size)``, floats in both arithmetics.
        bounds: of each pre-activation tensor, ``(B, n)`` below and above, and of some more
            (``Frame.stored``).
        empty: domains whose bounds contradict each other.
        shares: where how many faults strike in each domain; where empty: anywhere, as many
            as the query allows.
    """

    lower: FloatArray
    upper: FloatArray
    bounds: dict[int, Interval]
    empty: npt.NDArray[np.bool_]
    shares: tuple[Shares, ...] = ()

    def pick(self, owner: IndexArray) -> Batch:
        """The batch whose ``k``-th domain is domain ``owner[k]`` of this one."""
        bounds = {t: (low[owner], high[owner]) for t, (low, high) in self.bounds.items()}
        shares = tuple(self.shares[k] for k in owner.tolist()) if self.shares else ()
        return Batch(self.lower[owner], self.upper[owner], bounds, self.empty[owner], shares)

    def cut(self, places: IndexArray, lower: FloatArray, upper: FloatArray) -> None:
        """Intersect the boxes of some domains with others, ``(P, input_size)``."""
        self.lower, self.upper = self.lower.copy(), self.upper.copy()
        self.lower[places] = np.maximum(self.lower[places], lower)
        self.upper[places] = np.minimum(self.upper[places], upper)
        self.empty = self.empty | (self.lower > self.upper).any(axis=1)

    def improve(self, tensor: int, lower: Numbers, upper: Numbers) -> None:
        """Intersect the stored bounds of a tensor with others that hold as well."""
        known = self.bounds.get(tensor)
        if known is not None:
            lower = np.where(lower > known[0], lower, known[0])
            upper = np.where(upper < known[1], upper, known[1])
        self.bounds[tensor] = (lower, upper)
        self.empty = self.empty | np.asarray(lower > upper, dtype=bool).any(axis=1)


@dataclass(frozen=True, eq=False)
class Rows:
    """``R`` linear functions of tensor entries, to be bounded from below.

    Attributes:
        owner: the domain of each row.
        constant: numbers, at most the constant parts.
        entries: by tensor: rows, entries and coefficients; each (row, entry) once.
    """

    owner: IndexArray
    constant: Numbers
    entries: Mapping[int, tuple[IndexArray, IndexArray, Numbers]]

    def slice(self, start: int, stop: int) -> Rows:
        """Rows ``start`` to ``stop``."""
        parts = {}
        for tensor, (row, entry, value) in self.entries.items():
            kept = (row >= start) & (row < stop)
            if kept.any():
                parts[tensor] = (row[kept] - start, entry[kept], value[kept])
        return Rows(self.owner[start:stop], self.constant[start:stop], parts)


@dataclass(frozen=True, eq=False)
class Stop:
    """Where substituting back ends: at a tensor, except for entries that are passed on.

    Attributes:
        tensor: a pre-activation, or one that a nonlinear node defines.
        kept: its entries that are passed on, each once; all others are replaced by bounds.
    """

    tensor: int
    kept: IndexArray


@dataclass(frozen=True, eq=False)
class Affine:
    """Linear functions of the input, ``matrix @ x + constant``.

    Attributes:
        matrix: ``(R, input_size)`` exact coefficients.
        constant: ``(R,)``.
    """

    matrix: Numbers
    constant: Numbers


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines (planes) that enclose a nonlinear node on each domain's bounds, ``(B, n)`` each.

    Attributes:
        below, above: slopes, an array for each source of the node.
        floor, ceiling: intercepts.
    """

    below: tuple[Numbers, ...]
    floor: Numbers
    above: tuple[Numbers, ...]
    ceiling: Numbers

    @cached_property
    def resting(self) -> bool:
        """Whether all floors are 0 and no ceiling is less, as for Relu; see ``relax``."""
        return not self.floor.any() and bool(np.all(self.ceiling >= 0))

    def chosen(
        self, positive: npt.NDArray[np.bool_], pick: Callable[[Numbers], Numbers]
    ) -> tuple[list[Numbers], Numbers]:
        """Slopes by source and intercepts for coefficients: the line below where positive.

        ``pick`` takes from ``(B, n)`` what belongs to the coefficients.
        """
        slopes = [
            np.where(positive, pick(below), pick(above))
            for below, above in zip(self.below, self.above, strict=True)
        ]
        ceiling = pick(self.ceiling)
        return slopes, np.where(positive, 0 if self.resting else pick(self.floor), ceiling)


@dataclass(eq=False)
class Relaxations:
    """The lines of every nonlinear node, made when first asked for."""

    frame: Frame
    batch: Batch
    hints: Hints = field(default_factory=dict)
    _made: dict[int, Lines] = field(default_factory=dict)

    def lines(self, tensor: int) -> Lines:
        """Lines for the nonlinear node that defines ``tensor``.

        Raises:
            EvidenceError: one is unbounded, which exact numbers have no room for.
        """
        if tensor not in self._made:
            made = self._lines(tensor)
            if made.floor.dtype == object and not bounded((made.floor, made.ceiling)).all():
                raise EvidenceError("a relaxation is unbounded")
            self._made[tensor] = made
        return self._made[tensor]

    def _lines(self, tensor: int) -> Lines:
        arithmetic, node = self.frame.arithmetic, self.frame.network.nodes[tensor]
        if isinstance(node, Product):
            left, right, *forms = (self.batch.bounds[source] for source in node.bounded)
            hints = [self.hints.get((tensor, side)) for side in Side]
            squared = None
            if node.squares is not None:
                squared = Squared(forms[0], forms[1], node.squares.scale)
            return Lines(*planes(arithmetic, left, right, hints[0], hints[1], squared))
        if not isinstance(node, Univariate):
            raise EvidenceError("lines are asked for of a linear node")
        rule = function(node.function, node.parameters)
        lower, upper = self.batch.bounds[node.source]
        slopes = rule.default_slopes(arithmetic.floats_down(lower), arithmetic.floats_up(upper))
        used = []
        fixed = ~np.asarray(rule.unstable(arithmetic, lower, upper), dtype=bool)
        for side, default in zip(Side, slopes, strict=True):
            hint = self.hints.get((tensor, side))
            chosen = default if hint is None else np.where(np.isnan(hint) | fixed, default, hint)
            used.append(arithmetic.lift_down(rule.usable_slopes(chosen)))
        floor, ceiling = rule.intercepts(arithmetic, used[0], used[1], lower, upper)
        return Lines((used[0],), floor, (used[1],), ceiling)


def shares_of(frame: Frame, batch: Batch) -> tuple[Shares, ...]:
    """Where how many faults strike in each domain."""
    return tuple(own or frame.shares for own in batch.shares or ((),) * len(batch.lower))


def bounds_of(frame: Frame, batch: Batch, tensor: int) -> Interval:
    """Bounds of what a struck node reads, ``(B, n)``, on the paths of a batch.

    Raises:
        EvidenceError: none are stored.
    """
    node = frame.network.nodes[tensor]
    if isinstance(node, Input):
        columns = frame.box_columns(tensor)
        low, high = batch.lower[:, columns], batch.upper[:, columns]
        return frame.arithmetic.lift_down(low), frame.arithmetic.lift_up(high)
    if tensor in batch.bounds:
        return batch.bounds[tensor]
    if isinstance(node, Nonlinear):
        return image(frame.arithmetic, node, [bounds_of(frame, batch, s) for s in node.sources])
    raise EvidenceError(f"no bounds of '{node.name}' are stored")


def image(arithmetic: Arithmetic, node: Nonlinear, sources: Sequence[Interval]) -> Interval:
    """Interval propagation through a nonlinear node."""
    if isinstance(node, Product):
        return product_image(arithmetic, *sources)
    return function(node.function, node.parameters).image(arithmetic, *sources[0])


def unstable(
    frame: Frame, tensor: int, bounds: Interval, readers: Iterable[int] | None = None
) -> npt.NDArray[np.bool_]:
    """Entries of a pre-activation that some reader is not linear on, ``(B, n)``.

    ``readers``: those that count; all where left out.
    """
    mask = np.zeros(bounds[0].shape, dtype=bool)
    for reader in frame.network.readers[tensor] if readers is None else readers:
        node = frame.network.nodes[reader]
        if isinstance(node, Univariate):
            rule = function(node.function, node.parameters)
            mask |= np.asarray(rule.unstable(frame.arithmetic, *bounds), dtype=bool)
        elif isinstance(node, Product):
            mask |= np.asarray(bounds[0] < bounds[1], dtype=bool)
    return mask


def _first_layers(network: Network, preactivations: tuple[int, ...]) -> dict[int, bool]:
    """Pre-activations, other than inputs, between which and the inputs all is linear.

    With each of them whether its intervals are exact, as far as that is easily seen.
    """
    width = sum(network.sizes[i] for i in network.inputs)
    straight: list[bool] = []  # linear in the inputs
    exact: list[bool] = []  # intervals lose nothing
    stem: list[int | None] = []  # the input whose entries it has, each at most once
    found = {}
    for tensor, node in enumerate(network.nodes):
        terms = node.terms if isinstance(node, Linear) else ()
        stems = [stem[term.source] for term in terms]
        single = len(terms) == 1 and terms[0].map.fan_in <= 1
        apart = None not in stems and len(set(stems)) == len(stems)
        linear = isinstance(node, Linear) and all(straight[term.source] for term in terms)
        if isinstance(node, Perturbed):  # intervals grow by what rows pay, unless words fail
            linear = straight[node.source] and isinstance(node.error, Error)
            straight.append(linear)
            exact.append(exact[node.source])
            stem.append(stem[node.source])
        else:
            straight.append(isinstance(node, Input) or linear)
            exact.append(isinstance(node, Input) or apart or (single and exact[terms[0].source]))
            copied = single and terms[0].map.fan_out <= 1
            stem.append(tensor if isinstance(node, Input) else stems[0] if copied else None)
        if linear and tensor in preactivations and network.sizes[tensor] * width <= FIRST_LAYER:
            found[tensor] = exact[tensor]
    return found


def _read_by_struck(network: Network) -> frozenset[int]:
    """Tensors that struck nodes read, and whose bounds follow from no stored ones alone."""
    read = {source for tensor in network.struck for source in reads(network, tensor)}
    return frozenset(t for t in read if not isinstance(network.nodes[t], Input | Nonlinear))


def _starts(sizes: list[int]) -> Iterator[int]:
    start = 0
    for size in sizes:
        yield start
        start += size


def _work(network: Network, tensor: int) -> int:
    """Entries of the largest array that one row makes when it passes a node."""
    node, size = network.nodes[tensor], network.sizes[tensor]
    if isinstance(node, Linear):
        for term in node.terms:
            size = max(size, term.map.source_size, term.map.target_size)
            if isinstance(term.map, Conv):  # every window beside the others
                places, taps = term.map.out_shape[2:], term.map.weight.shape[2:]
                size = max(size, math.prod(places) * math.prod(taps) * term.map.in_shape[1])
            if isinstance(term.map, Sparse):
                size = max(size, term.map.weight.value.size)
    elif isinstance(node, Perturbed) and isinstance(node.error, Faulty):
        once = isinstance(node.error, Struck) and node.error.limit > 0
        size = max(size, (1 if once else node.error.most) * node.error.words.size)
    return size
