"""Collects the nodes of a network while an ONNX graph is walked.

A variable tensor is a sum of maps of finished tensors plus an offset.  It becomes a node
only when something needs it as a whole, so that MatMul and Add, or a convolution, its bias
and the shortcut beside it, end as one linear node, and index maps compose.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from specs.convolution import Conv
from specs.enclosure import Enclosure, zeros
from specs.errors import ModelError, UnsupportedOperatorError
from specs.linear import Gather, Identity, LinearMap, MatMul, Scale, Scatter, Sparse
from specs.network import (
    RESERVED,
    Error,
    Input,
    Linear,
    Network,
    Node,
    Perturbed,
    Product,
    Term,
    Univariate,
    moved,
)
from specs.perturbation import REAL, Rounding
from specs.reader import rounding
from specs.reader.errors import flush_error, linear_error
from specs.reader.operands import (
    Affine,
    Array,
    Operand,
    Rearrangement,
    Value,
    Variable,
    common_shape,
    concatenated,
    flat_enclosure,
    is_exactly,
    rearranged,
    variable,
)
from specs.reader.tensors import Constant, real

OVERHEAD = 256
"""What a step costs of the budget beside its entries: it bounds the time as well."""
MOST_TERMS = 64


@dataclass
class Builder:
    """The network under construction.

    Attributes:
        budget: how many tensor entries may still be made; bounds the memory that a small
            hostile file can claim.
        place: the ONNX tensor being computed, for the names of helper nodes.
        format: what operators round their results to; ``None``: nothing is rounded.  With
            a format, every result that is rounded is a node of its own, so that nothing
            merges with it.
        opaque: nodes that faults may strike: no rewrite looks through them.
        apart: whether each operator computes its functions itself, also where another
            computes the same: a fault strikes one of them.
    """

    budget: int
    place: str = ""
    format: Rounding | None = None
    nodes: list[Node] = field(default_factory=list)
    opaque: set[int] = field(default_factory=set)
    apart: bool = False
    _labels: list[list[str]] = field(default_factory=list)
    _pending: dict[Affine, list[str]] = field(default_factory=dict)
    _finished: dict[Affine, int] = field(default_factory=dict)
    _functions: dict[tuple[str, int, str, tuple[float, ...]], int] = field(default_factory=dict)
    _helpers: dict[str, int] = field(default_factory=dict)
    _numbers: Array = field(default_factory=lambda: np.arange(0))

    def claim(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Account for a tensor about to be made, or for work in proportion to its size.

        Raises:
            ModelError: its shape is negative, or the model's tensors grow too large.
        """
        if any(extent < 0 for extent in shape):
            raise ModelError(f"a tensor of shape {tuple(shape)}")
        size = math.prod(shape) + OVERHEAD
        if size > self.budget or len(shape) > 32:
            raise ModelError(
                f"a tensor of shape {tuple(shape)} is too large for a model file of this size"
            )
        self.budget -= size
        return tuple(shape)

    def input(self, name: str, shape: tuple[int, ...], kind: int) -> Variable:
        """A network input."""
        self.claim(shape)
        variable = self._append(Input(name, shape), kind)
        self.bind(name, variable)
        return variable

    def bind(self, name: str, operand: Value, shared: bool = False) -> Value:
        """Give an ONNX name to a result; one that several nodes read becomes a node."""
        if not isinstance(operand, Variable):
            return operand
        number = self._number(operand.affine)
        if number is None and shared and not operand.affine.is_view:
            number = self.tensor(operand)
        if number is None:
            self._pending.setdefault(operand.affine, []).append(name)
            return operand
        self._labels[number].append(name)
        return dataclasses.replace(operand, affine=self._plain(number))

    def tensor(self, variable: Variable) -> int:
        """The number of the node that holds ``variable``, made if there is none."""
        affine = variable.affine
        number = self._number(affine)
        if number is not None:
            return number
        offset = zeros(variable.size) if affine.offset is None else affine.offset
        made = self._append(Linear("", variable.shape, affine.terms, offset), variable.kind)
        number = made.affine.terms[0].source
        self._labels[number] = self._pending.pop(affine, [])
        self._finished[affine] = number
        return number

    def copied(self, variable: Variable) -> Variable:
        """``variable`` as a further node, through which nothing looks."""
        term = Term(self.tensor(variable), Identity(variable.size))
        node = Linear("", variable.shape, (term,), zeros(variable.size))
        self.opaque.add(len(self.nodes))
        return self._append(node, variable.kind)

    def perturbed(self, variable: Variable, error: Error) -> Variable:
        """``variable`` with an error added."""
        source = self.tensor(variable)
        return self._append(Perturbed("", variable.shape, source, error), variable.kind)

    def rounded(self, operand: Operand, factors: int = 0) -> Operand:
        """``operand``, where a format is set as it is after the sum that it is was rounded.

        Raises:
            UnsupportedOperatorError: it is a constant, and a format is set.
        """
        if self.format is None:
            return operand
        if isinstance(operand, Constant):
            raise UnsupportedOperatorError(f"of constants it has no rule in {self.format.name}")
        node = self.nodes[self.tensor(operand)]
        if not isinstance(node, Linear):
            raise UnsupportedOperatorError(f"it has no rule in {self.format.name}")
        return self.perturbed(operand, linear_error(node, self.format, factors))

    def flushed(self, operand: Operand) -> Operand:
        """``operand`` as it is read where small numbers may be flushed to zero."""
        if self.format is None or isinstance(operand, Constant):
            return operand
        return self.perturbed(operand, flush_error(self.format))

    def output(self, name: str, variable: Variable) -> Variable:
        """An output under its name; with a format set, small numbers may be flushed in it."""
        if self.format is None:
            return variable
        number = self.tensor(variable)
        if isinstance(self.nodes[number], Perturbed):
            return variable
        made = self.perturbed(self.whole(number, variable), flush_error(self.format))
        if not isinstance(self.nodes[number], Input):
            self._labels[number] = [label for label in self._labels[number] if label != name]
            self._labels[-1].append(name)
        return made

    def label(self, number: int) -> str:
        """The name that a node will have in the finished network."""
        names = self._labels[number]
        return names[0] if names else self.nodes[number].name

    def finished(self, variable: Variable) -> Variable:
        """``variable`` as the whole of a node."""
        return dataclasses.replace(variable, affine=self._plain(self.tensor(variable)))

    def reshape(self, operand: Operand, shape: Sequence[int]) -> Operand:
        """The same entries under another shape."""
        shape = tuple(shape)
        if math.prod(shape) != math.prod(operand.shape):
            raise ModelError(f"shape {operand.shape} cannot become {shape}")
        if isinstance(operand, Variable):
            return dataclasses.replace(operand, shape=shape)
        return rearranged(operand, lambda array, _: array.reshape(shape))

    def view(self, operand: Operand, rearrange: Rearrangement) -> Operand:
        """Entries of ``operand`` elsewhere; entries that are new become 0."""
        if isinstance(operand, Constant):
            return rearranged(operand, rearrange)
        if self._numbers.size != operand.size:
            self._numbers = np.arange(operand.size)
            self.claim(operand.shape)
        index = rearrange(self._numbers.reshape(operand.shape), -1)
        # Counted once for the index itself and once for each map made from it.
        self.claim((1 + len(operand.affine.terms), *index.shape))
        shape, flat = index.shape, index.reshape(-1)
        if flat.size == operand.size and np.array_equal(flat, np.arange(flat.size)):
            return dataclasses.replace(operand, shape=shape)
        if not operand.affine.is_view:
            operand = self.finished(operand)
        terms = tuple(Term(term.source, _gather(term.map, flat)) for term in operand.affine.terms)
        offset = operand.affine.offset
        if offset is not None:
            mover = Gather(flat, operand.size)
            offset = rounding.image(mover, offset)
        return Variable(shape, operand.kind, Affine(terms, offset))

    def broadcast(self, operand: Operand, shape: tuple[int, ...]) -> Operand:
        """``operand`` repeated to ``shape``."""
        if operand.shape == shape:
            return operand
        if math.prod(shape) != math.prod(operand.shape):
            self.claim(shape)
        return self.view(operand, lambda array, _: np.broadcast_to(array, shape))

    def apply(self, linear: LinearMap, operand: Operand, shape: Sequence[int]) -> Operand:
        """The image of ``operand`` under a linear map."""
        shape = self.claim(shape)
        self._claim_map(linear, isinstance(operand, Constant))
        if isinstance(operand, Constant):
            flat = operand.enclosure
            radius = None if flat.radius is None else flat.radius.reshape(-1)
            mapped = rounding.image(linear, Enclosure(flat.value.reshape(-1), radius))
            moved = None if mapped.radius is None else mapped.radius.reshape(shape)
            return Constant(mapped.value.reshape(shape), operand.kind, moved)
        return Variable(shape, operand.kind, Affine((Term(self.tensor(operand), linear),)))

    def add(self, left: Operand, right: Operand) -> Operand:
        """``left + right`` for real tensors, broadcast."""
        shape = common_shape(left.shape, right.shape)
        if isinstance(left, Constant) and isinstance(right, Constant):
            self.claim(shape)
            return real(rounding.add(left.enclosure, right.enclosure), left.kind)
        if isinstance(left, Constant):
            left, right = right, left
        if isinstance(right, Constant) and is_exactly(right, 0.0):
            return self.broadcast(left, shape)
        left, right = self.broadcast(left, shape), self.broadcast(right, shape)
        self.claim(shape)
        if isinstance(left, Variable) and isinstance(right, Constant):
            return self._shifted(left, flat_enclosure(right))
        if not isinstance(left, Variable) or not isinstance(right, Variable):
            raise ModelError("a constant sum was taken for a variable one")
        if len(left.affine.terms) + len(right.affine.terms) > MOST_TERMS:
            left, right = self.finished(left), self.finished(right)
        if left.affine.offset is not None and right.affine.offset is not None:
            total = rounding.add(left.affine.offset, right.affine.offset)
            if total.exact:
                terms = left.affine.terms + right.affine.terms
                return Variable(shape, left.kind, Affine(terms, total))
            right = self.finished(right)
        offset = right.affine.offset if left.affine.offset is None else left.affine.offset
        return Variable(shape, left.kind, Affine(left.affine.terms + right.affine.terms, offset))

    def subtract(self, left: Operand, right: Operand) -> Operand:
        """``left - right`` for real tensors, broadcast."""
        return self.add(left, self.negate(right))

    def negate(self, operand: Operand) -> Operand:
        """``-operand``, never rounded."""
        self.claim(operand.shape)
        if isinstance(operand, Constant):
            return real(rounding.negate(operand.enclosure), operand.kind)
        for term in operand.affine.terms:
            if term.map.weight is not None:
                self.claim(term.map.weight.shape)
        terms = [_negated(term) for term in operand.affine.terms]
        if any(term is None for term in terms):
            return self.negate(self.finished(operand))
        offset = operand.affine.offset
        affine = Affine(
            tuple(term for term in terms if term is not None),
            None if offset is None else rounding.negate(offset),
        )
        return dataclasses.replace(operand, affine=affine)

    def scale(self, operand: Operand, factors: Constant) -> Operand:
        """``operand * factors`` for real tensors, broadcast."""
        shape = common_shape(operand.shape, factors.shape)
        if isinstance(operand, Constant):
            self.claim(shape)
            return real(rounding.multiply(operand.enclosure, factors.enclosure), operand.kind)
        if is_exactly(factors, 1.0):
            return self.broadcast(operand, shape)
        if is_exactly(factors, -1.0):
            return self.negate(self.broadcast(operand, shape))
        stretched = self.broadcast(factors, shape)
        if not isinstance(stretched, Constant):
            raise ModelError("constant factors were taken for variable ones")
        wide = self.broadcast(operand, shape)
        return self.apply(Scale(flat_enclosure(stretched)), wide, shape)

    def relu(self, operand: Operand) -> Operand:
        """``max(0, operand)``, elementwise."""
        if isinstance(operand, Constant):
            constant = operand.enclosure
            return real(rounding.maximum(constant, Enclosure(np.zeros(()))), operand.kind)
        return self.univariate(operand, "relu")

    def univariate(
        self, operand: Variable, function: str, parameters: Sequence[float] = ()
    ) -> Variable:
        """A function of every entry; the same one of the same tensor is made once."""
        place, source = self.place if self.apart else "", self.tensor(operand)
        key = place, source, function, tuple(parameters)
        if key not in self._functions:
            made = self._append(Univariate("", operand.shape, *key[1:]), operand.kind)
            self._functions[key] = made.affine.terms[0].source
        return self.whole(self._functions[key], operand)

    def whole(self, number: int, like: Variable) -> Variable:
        """A node's tensor, with the shape and type of another of its size."""
        return Variable(like.shape, like.kind, self._plain(number))

    def multiply(self, left: Variable, right: Variable) -> Variable:
        """The elementwise product, broadcast; that of a tensor with itself is a square."""
        shape = common_shape(left.shape, right.shape)
        wide = [variable(self.broadcast(operand, shape)) for operand in (left, right)]
        first, second = (self.tensor(factor) for factor in wide)
        if first == second:
            return self.univariate(wide[0], "power", (2.0,))
        return self._append(Product("", shape, first, second), left.kind)

    def before_relu(self, operand: Operand) -> Variable | None:
        """What ``operand`` is the Relu of, where it is the whole of such a node."""
        number = operand.affine.tensor if isinstance(operand, Variable) else None
        node = None if number is None else self.nodes[number]
        if not isinstance(node, Univariate) or node.function != "relu":
            return None
        return self.whole(node.source, variable(operand))

    def concat(self, operands: Sequence[Operand], axis: int) -> Operand:
        """The operands one after the other along an axis."""
        extents = [operand.shape[axis] for operand in operands]
        first = operands[0]
        shape = list(first.shape)
        shape[axis] = sum(extents)
        self.claim(shape)
        constants = [operand for operand in operands if isinstance(operand, Constant)]
        if len(constants) == len(operands):
            return concatenated(constants, axis)
        size = math.prod(shape)
        positions = np.split(np.arange(size).reshape(shape), np.cumsum(extents)[:-1], axis=axis)
        value, radius = np.zeros(size), np.zeros(size)
        moved: dict[int, Array] = {}
        terms: list[Term] = []
        for operand, place in zip(operands, positions, strict=True):
            self.claim(operand.shape)
            target = place.reshape(-1)
            if isinstance(operand, Constant):
                part = flat_enclosure(operand)
                value[target] = part.value
                radius[target] = 0.0 if part.radius is None else part.radius
            elif target.size:
                source, index = self._entries(operand)
                if index is None and source not in moved:
                    terms.append(Term(source, Scatter(target, size)))
                    continue
                if source not in moved:
                    self.claim(shape)
                    moved[source] = np.full(size, -1)
                moved[source][target] = np.arange(target.size) if index is None else index
        terms += [
            Term(source, Gather(index, math.prod(self.nodes[source].shape)))
            for source, index in moved.items()
        ]
        offset = Enclosure(value, radius)
        trivial = offset.exact and not np.any(offset.value)
        return Variable(tuple(shape), first.kind, Affine(tuple(terms), None if trivial else offset))

    def _entries(self, part: Variable) -> tuple[int, Array | None]:
        """A finished tensor, and which of its entries ``part`` is; ``None``: all in order."""
        affine = part.affine
        if affine.offset is None and len(affine.terms) == 1:
            term = affine.terms[0]
            if isinstance(term.map, Gather):
                return term.source, term.map.index
        return self.tensor(part), None

    def network(self, results: Sequence[Variable]) -> Network:
        """The finished network, without the nodes that a rewrite left unread."""
        numbers = [self.tensor(result) for result in results]
        place: dict[int, int] = {}
        nodes: list[Node] = []
        aliases: dict[str, int] = {}
        for number in sorted(self._read(numbers)):
            node, names = self.nodes[number], self._labels[number] or [self.nodes[number].name]
            place[number] = len(nodes)
            nodes.append(moved(dataclasses.replace(node, name=names[0]), place.__getitem__))
            aliases.update({name: place[number] for name in names[1:]})
        semantics = REAL if self.format is None else self.format.name
        outputs = tuple(place[number] for number in numbers)
        return Network(tuple(nodes), outputs, aliases, semantics)

    def _read(self, results: Sequence[int]) -> set[int]:
        """The inputs, and the nodes that results depend on."""
        reached = {n for n, node in enumerate(self.nodes) if isinstance(node, Input)}
        front = list(results)
        while front:
            number = front.pop()
            if number not in reached:
                reached.add(number)
                front += self.nodes[number].sources
        return reached

    def _claim_map(self, linear: LinearMap, folded: bool) -> None:
        """Account for a map's coefficients, and for the work where it is folded at once."""
        if linear.weight is not None:
            self.claim(linear.weight.shape)
        if isinstance(linear, Conv):
            places = linear.source_size if linear.transposed else linear.target_size
            channels = linear.out_shape[1]
            self.claim((places // channels * math.prod(linear.weight.shape[1:]),))
        if folded:
            self.claim((linear.target_size * linear.fan_in // 64,))

    def _append(self, node: Node, kind: int) -> Variable:
        if 0 in node.shape:
            raise ModelError(f"a tensor of shape {node.shape} is empty")
        self.claim(node.shape)
        count = self._helpers.get(self.place, 0)
        self._helpers[self.place] = count + 1
        helper = f"{RESERVED}{self.place}/{count}"
        self.nodes.append(dataclasses.replace(node, name=helper))
        self._labels.append([])
        return Variable(node.shape, kind, self._plain(len(self.nodes) - 1))

    def _plain(self, number: int) -> Affine:
        return Affine((Term(number, Identity(math.prod(self.nodes[number].shape))),))

    def _number(self, affine: Affine) -> int | None:
        tensor = affine.tensor
        return self._finished.get(affine) if tensor is None else tensor

    def _shifted(self, variable: Variable, constant: Enclosure) -> Variable:
        affine = variable.affine
        if affine.offset is not None:
            total = rounding.add(affine.offset, constant)
            if total.exact or not (affine.offset.exact and constant.exact):
                return dataclasses.replace(variable, affine=Affine(affine.terms, total))
            affine = self.finished(variable).affine
        return dataclasses.replace(variable, affine=Affine(affine.terms, constant))


def _gather(mover: LinearMap, index: Array) -> LinearMap:
    """``Gather(index)`` after an index map."""
    if isinstance(mover, Gather):
        index = np.where(index >= 0, mover.index[np.maximum(index, 0)], -1)
    return Gather(index, mover.source_size)


def _negated(term: Term) -> Term | None:
    """The term's opposite, if it has one without a further node."""
    mover = term.map
    if isinstance(mover, Identity):
        return Term(term.source, Scale(Enclosure(np.full(mover.size, -1.0))))
    if isinstance(mover, Scale | MatMul | Sparse | Conv):
        negative = dataclasses.replace(mover, weight=rounding.negate(mover.weight))
        return Term(term.source, negative)
    return None
