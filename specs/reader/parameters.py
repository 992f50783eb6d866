"""Where stored parameters stand in a network in normal form.

While a graph is walked with a ``Tracker``, every operator that reads a followed initialiser
becomes a linear node of its own, or several, each of whose constants depends on one entry of
one initialiser at most; a ``Place`` says on which.  Nothing is guessed: which operators are
linear in which operand is written down here, and where the entries of an operand come to stand
is found by giving the operator's own rule numbers that name the entries.  An operator that reads
a followed initialiser in any other way is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from specs.enclosure import Enclosure, FloatArray, zeros
from specs.errors import ModelError, UnsupportedOperatorError
from specs.linear import Identity, IndexArray, LinearMap, Scale
from specs.network import Network, Nonlinear, Term
from specs.reader import rounding
from specs.reader.builder import Builder
from specs.reader.calls import Call, Rule
from specs.reader.operands import Affine, Operand, Value, Variable, variable
from specs.reader.operators.dense import normalisation
from specs.reader.tensors import FLOATS, SHORT, Constant, kind_name

LINEAR = "linear"
INVERSE_ROOT = "inverse root"

OPERANDS: Mapping[str, Mapping[int, str | None]] = {
    "Gemm": {0: "alpha", 1: "alpha", 2: "beta"},
    "MatMul": {0: None, 1: None},
    "Conv": {1: None, 2: None},
    "ConvTranspose": {1: None, 2: None},
    "Add": {0: None, 1: None},
    "Sub": {0: None, 1: None},
    "Mul": {0: None, 1: None},
}
"""Operators that are linear in a constant operand, and the attribute that multiplies it."""

MOVERS = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
"""Operators that give the entries of a constant other places and nothing else."""

READERS_OF_INTEGERS = ("Cast", "DequantizeLinear")
"""Operators that make real numbers of integers."""

FIRST_CODE = 2.0
"""Entry ``i`` is called ``i + 2``: rules take shortcuts where a constant is 0 or 1."""


@dataclass(frozen=True, eq=False)
class Origin:
    """What the entries of a constant are: entries of an initialiser, times factors, plus more.

    Attributes:
        tensor: the initialiser.
        entries: of the constant's shape, flat entries of the initialiser.
        factor: of the same shape; ``None``: 1.
        rest: of the same shape, what is added; ``None``: 0.
    """

    tensor: str
    entries: IndexArray
    factor: Enclosure | None = None
    rest: Enclosure | None = None


@dataclass(frozen=True, eq=False)
class Place:
    """Where an initialiser stands in a network.

    The constants ``c`` of a linear node, the coefficients of one of its terms or its offset,
    are ``c[i] = factor[i] * f(w[entries[i]]) + rest[i]``, where ``w`` is the initialiser and
    ``rest`` depends on no followed initialiser.

    Attributes:
        tensor: the initialiser.
        operator: the ONNX operator that reads it, its result and its position in the graph.
        result: the ONNX tensor that it computes.
        node: the linear node.
        term: which of its terms; ``None``: the offset.
        entries: ``(n,)`` for each constant, flat; -1: no entry.
        factor: ``(n,)``.
        rest: ``(n,)``; ``None``: 0.
        function: ``"linear"``: ``f(w) = w``; ``"inverse root"``: ``1 / sqrt(w + shift)``.
        shift: see there.
        axis: the axis of the node's tensor that counts the operator's channels.
    """

    tensor: str
    operator: str
    result: str
    node: int
    term: int | None
    entries: IndexArray
    factor: Enclosure
    rest: Enclosure | None = None
    function: str = LINEAR
    shift: float = 0.0
    axis: int = -1


@dataclass
class Tracker:
    """What is known of followed initialisers, and of activations, while a graph is walked.

    Attributes:
        wanted: the initialisers to follow; ``None``: all that hold numbers of a kind that
            parameters are stored in.
        activations: the tensors that become nodes of their own; ``None``: all that operators
            with functions or products compute.
        kept: those that did, in the order of the graph.
        whole: where all initialisers are followed, those of other kinds, as shapes are.
        stored: the initialisers that were read.
        origins: by ONNX tensor, where its entries come from.
        places: found so far, by the builder's node numbers.
        operator: what is being read, for messages.
    """

    wanted: frozenset[str] | None
    activations: frozenset[str] | None = frozenset()
    kept: list[str] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)
    stored: dict[str, Constant] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    operator: str = ""

    def store(self, name: str, constant: Constant) -> None:
        """An initialiser of the graph was read.

        Raises:
            UnsupportedOperatorError: it is wanted, and holds no numbers that may be faulty.
        """
        known = constant.kind in (*FLOATS, *SHORT)
        wanted = known if self.wanted is None else name in self.wanted
        if self.wanted is None and not known:
            self.whole.add(name)
        if wanted and not known:
            raise UnsupportedOperatorError(f"{kind_name(constant.kind)} has no rule for faults")
        if wanted:
            entries = np.arange(constant.value.size).reshape(constant.shape)
            self.stored[name] = constant
            self.origins[name] = Origin(name, entries)

    def refuse(self, initialisers: Iterable[tuple[str, int]]) -> None:
        """Refuse initialisers of a branch, by name and kind, that ought to be followed.

        Raises:
            UnsupportedOperatorError: there is one.
        """
        for name, kind in initialisers:
            known = kind in (*FLOATS, *SHORT)
            if known if self.wanted is None else name in self.wanted:
                raise UnsupportedOperatorError(
                    f"initialiser '{name}' of its branch has no rule for faults"
                )

    def admit(self, call: Call, results: Sequence[Value]) -> None:
        """Refuse numbers that come of initialisers which are not followed, though all ought to be.

        Raises:
            UnsupportedOperatorError: there are some.
        """
        name = call.node.input[0] if call.node.op_type in READERS_OF_INTEGERS else ""
        real = any(isinstance(found, Constant) and found.kind in FLOATS for found in results)
        if name in self.whole and real:
            raise UnsupportedOperatorError(
                f"initialiser '{name}' holds integers without a rule for faults; name the "
                "parameters that may be faulty"
            )

    def renamed(self, inner: str, outer: str) -> None:
        """The result of a branch has another name outside."""
        if inner in self.origins:
            self.origins[outer] = self.origins[inner]

    def apart(self, builder: Builder, name: str, result: Variable, first: int) -> Variable:
        """An operator's result, as a node of its own if it may be faulty.

        ``first``: of the nodes that computing it took.
        """
        if self.activations is None:
            kept = any(isinstance(node, Nonlinear) for node in builder.nodes[first:])
        else:
            kept = name in self.activations
        if not kept:
            return result
        self.kept.append(name)
        return builder.copied(result)

    def reads(self, names: Sequence[str]) -> bool:
        """Whether any of these tensors is followed."""
        return any(name in self.origins for name in names)

    def followed(self, call: Call, rule: Rule) -> Value | Sequence[Value]:
        """The result of an operator that reads followed initialisers.

        Raises:
            UnsupportedOperatorError: it has no rule for one of them.
        """
        kind = call.node.op_type
        tracked = [p for p, name in enumerate(call.node.input) if name in self.origins]
        variable = any(isinstance(value, Variable) for value in call.inputs)
        if not variable and tracked == [0] and (kind in MOVERS or kind == "DequantizeLinear"):
            move = self._moved if kind in MOVERS else self._dequantized
            return move(call, rule)
        if variable and kind == "BatchNormalization" and 0 not in tracked:
            return self._normalised(call)
        allowed = {0: None} if kind == "DequantizeLinear" else OPERANDS.get(kind, {})
        if not variable or not set(tracked) <= set(allowed):
            position = next((p for p in tracked if p not in allowed), tracked[0])
            raise UnsupportedOperatorError(
                f"parameter '{self.origins[call.node.input[position]].tensor}' at input "
                f"{position} has no rule for faults"
            )
        return self._linear(call, rule)

    def settle(self, network: Network, builder: Builder) -> None:
        """Number the places as the finished network does; what nothing reads has none.

        Raises:
            ModelError: there is no initialiser of a name that is wanted.
        """
        unknown = sorted((self.wanted or frozenset()) - set(self.stored))
        if unknown:
            known = ", ".join(f"'{name}'" for name in self.stored)
            raise ModelError(f"there is no initialiser '{unknown[0]}' (followed: {known})")
        tensors = network.tensors
        self.kept = [name for name in self.kept if name in tensors]
        named = [(builder.label(place.node), place) for place in self.places]
        self.places = [
            dataclasses.replace(place, node=tensors[name])
            for name, place in named
            if name in tensors
        ]

    def _moved(self, call: Call, rule: Rule) -> Value | Sequence[Value]:
        """A constant whose entries get other places."""
        origin, given = self.origins[call.node.input[0]], call.constant(0)
        result, coded = rule(call), rule(_with(call, {0: _coded(given)}))
        entries = None
        if isinstance(result, Constant) and isinstance(coded, Constant):
            entries = _decoded(coded.value, given.value.size)
        if entries is None or np.any(entries < 0):
            raise UnsupportedOperatorError("of a parameter it has no rule for faults")
        factor = None if origin.factor is None else _picked(origin.factor, entries)
        rest = None if origin.rest is None else _picked(origin.rest, entries)
        known = origin.entries.reshape(-1)[entries]
        self.origins[call.node.output[0]] = Origin(origin.tensor, known, factor, rest)
        return result

    def _dequantized(self, call: Call, rule: Rule) -> Value | Sequence[Value]:
        """``(q - zero) * scale``: what 1 becomes where the zero point is 0, and what 0 does."""
        origin, given = self.origins[call.node.input[0]], call.constant(0)
        if origin.factor is not None:
            raise UnsupportedOperatorError("of a parameter it has no rule for faults")
        bare: dict[int, Value | None] = {0: dataclasses.replace(given, value=given.value * 0 + 1)}
        zero = call.optional_constant(2)
        if zero is not None:
            bare[2] = dataclasses.replace(zero, value=zero.value * 0)
        result, scale = rule(call), rule(_with(call, bare))
        rest = rule(_with(call, {0: dataclasses.replace(given, value=given.value * 0)}))
        if not isinstance(scale, Constant) or not isinstance(rest, Constant):
            raise ModelError("a variable tensor was taken for a constant one")
        found = Origin(origin.tensor, origin.entries, scale.enclosure, rest.enclosure)
        self.origins[call.node.output[0]] = found
        return result

    def _linear(self, call: Call, rule: Rule) -> Operand:
        """An operator that is linear in each of its constant operands."""
        table, builder = OPERANDS[call.node.op_type], call.builder
        variables = {p: v for p, v in enumerate(call.inputs) if isinstance(v, Variable)}
        call = _with(call, {p: builder.finished(v) for p, v in variables.items()})
        constants = [p for p, value in enumerate(call.inputs) if isinstance(value, Constant)]
        parts = [_part(call, rule, p, table, constants) for p in constants]
        weights = [part for part in parts if part.is_weight]
        offsets = [part for part in parts if not part.is_weight]
        if len(weights) > 1 or len(offsets) > 1:
            raise UnsupportedOperatorError("several of its constants stand in one place")
        term = weights[0].weighted if weights else offsets[0].term
        offset = offsets[0].constants if offsets else None
        node = _node(builder, parts[0].result, term, offset)
        axis = 1 if call.node.op_type.startswith("Conv") else -1
        for part in parts:
            term_number = 0 if part.is_weight else None
            self._place(call, part.position, node, term_number, part.entries, part.factor, axis)
        return builder.whole(node, parts[0].result)

    def _normalised(self, call: Call) -> Operand:
        """Batch normalisation in steps, so that each constant depends on one entry only:

        ``c = x - mean``, ``n = c / sqrt(variance + epsilon)``, ``y = gamma n + beta``.
        """
        builder = call.builder
        x = builder.finished(variable(call.operand(0)))
        epsilon, (gamma, beta, mean, variance) = normalisation(call, x.shape)
        entries = _along(x.shape).reshape(-1)

        def spread(constant: Enclosure) -> Enclosure:
            radius = None if constant.radius is None else constant.radius[entries]
            return Enclosure(constant.value[entries], radius)

        lost = Enclosure(np.array(epsilon))
        root = rounding.reciprocal(rounding.square_root(rounding.add(variance, lost)))
        plain = Term(builder.tensor(x), Identity(x.size))
        centred = _node(builder, x, plain, spread(rounding.negate(mean)))
        self._place(call, 3, centred, None, entries, -1.0, 1)
        normal = _node(builder, x, Term(centred, Scale(spread(root))), None)
        self._place(call, 4, normal, 0, entries, 1.0, 1, INVERSE_ROOT, epsilon)
        result = _node(builder, x, Term(normal, Scale(spread(gamma))), spread(beta))
        self._place(call, 1, result, 0, entries, 1.0, 1)
        self._place(call, 2, result, None, entries, 1.0, 1)
        return builder.whole(result, x)

    def _place(
        self,
        call: Call,
        position: int,
        node: int,
        term: int | None,
        entries: IndexArray,
        factor: float,
        axis: int,
        function: str = LINEAR,
        shift: float = 0.0,
    ) -> None:
        """Note where an operand stands, if it is a followed initialiser."""
        origin = self.origins.get(call.node.input[position])
        if origin is None:
            return
        times = Enclosure(np.where(entries >= 0, factor, 0.0))
        if origin.factor is not None:
            if function != LINEAR:
                raise UnsupportedOperatorError(f"input {position}, scaled, has no rule for faults")
            times = rounding.multiply(times, _picked(origin.factor, entries))
        rest = None
        if origin.rest is not None:
            once = Enclosure(np.where(entries >= 0, factor, 0.0))
            rest = rounding.multiply(once, _picked(origin.rest, entries))
        known = np.where(entries >= 0, origin.entries.reshape(-1)[entries], -1)
        result = next(name for name in call.node.output if name)
        where = (origin.tensor, self.operator, result, node, term, known, times, rest)
        self.places.append(Place(*where, function, shift, axis))


@dataclass(frozen=True, eq=False)
class _Part:
    """What a constant operand is to an operator: all its coefficients, or its offset.

    Attributes:
        result: of the operator's shape and type.
        term: of the coded run.
        constants: as they stand in the network, in the shape of the map's weight or flat.
        entries: flat, which entry of the operand each of them is; -1: none, it is 0.
        factor: what the entries are multiplied by.
    """

    position: int
    result: Variable
    term: Term
    is_weight: bool
    constants: Enclosure
    entries: IndexArray
    factor: float

    @property
    def weighted(self) -> Term:
        """The term with its coefficients."""
        made: LinearMap = dataclasses.replace(self.term.map, weight=self.constants)  # type: ignore[type-var]
        return Term(self.term.source, made)


def _part(
    call: Call,
    rule: Rule,
    position: int,
    table: Mapping[int, str | None],
    constants: Sequence[int],
) -> _Part:
    """What becomes of a coded operand, the other constants being 0."""
    refusal = UnsupportedOperatorError(f"its input {position} has no rule for faults")
    if position not in table:
        raise refusal
    given = call.constant(position)
    operands = {p: _filled(call.constant(p), 0.0) for p in constants}
    operands[position] = _coded(given)
    names = [name for name in table.values() if name is not None]
    call.ignore(*names)
    result = rule(_with(call, operands, names))
    if not isinstance(result, Variable) or len(result.affine.terms) != 1:
        raise refusal
    term, offset = result.affine.terms[0], result.affine.offset
    found = offset if offset is not None else term.map.weight
    if found is None:
        raise refusal
    sign = -1.0 if np.any(found.value < 0) else 1.0
    entries = _decoded(sign * found.value, given.value.size)
    if entries is None or not found.exact:
        raise refusal
    attribute = table[position]
    factor = sign if attribute is None else sign * call.float(attribute, 1.0)
    placed = _picked(given.enclosure, entries)
    constants_ = rounding.multiply(placed, Enclosure(np.array(factor)))
    flat = entries.reshape(-1)
    return _Part(position, result, term, offset is None, constants_, flat, factor)


def _node(builder: Builder, like: Variable, term: Term, offset: Enclosure | None) -> int:
    """The number of a linear node of its own."""
    whole = zeros(like.size) if offset is None else offset
    number = builder.tensor(Variable(like.shape, like.kind, Affine((term,), whole)))
    builder.opaque.add(number)
    return number


def _with(call: Call, operands: Mapping[int, Value | None], without: Sequence[str] = ()) -> Call:
    """The call with other operands, and without some attributes."""
    inputs = tuple(operands.get(p, value) for p, value in enumerate(call.inputs))
    kept = {name: found for name, found in call.attributes.items() if name not in without}
    return dataclasses.replace(call, inputs=inputs, attributes=kept)


def _coded(constant: Constant) -> Constant:
    """A constant of the same shape and type whose entries name their positions."""
    codes = np.arange(constant.value.size).reshape(constant.shape) + FIRST_CODE
    return Constant(codes.astype(np.float64), constant.kind)


def _decoded(values: FloatArray, size: int) -> IndexArray | None:
    """The positions that codes name, -1 for a 0; ``None``: something else was computed."""
    entries = np.rint(values - FIRST_CODE).astype(np.int64)
    empty = values == 0.0
    right = (entries >= 0) & (entries < size) & (entries + FIRST_CODE == values)
    return np.where(empty, -1, entries) if np.all(right | empty) else None


def _filled(constant: Constant, number: float) -> Constant:
    return Constant(np.full(constant.shape, number), constant.kind)


def _picked(constant: Enclosure, entries: IndexArray) -> Enclosure:
    """``constant.flat[entries]``, and 0 where an entry is -1."""

    def picked(values: FloatArray) -> FloatArray:
        return np.where(entries >= 0, values.reshape(-1)[entries], 0.0)

    radius = None if constant.radius is None else picked(constant.radius)
    return Enclosure(picked(constant.value), radius)


def _along(shape: tuple[int, ...]) -> IndexArray:
    """The index along axis 1 of every entry."""
    along = np.arange(shape[1] if len(shape) > 1 else 1)
    return np.broadcast_to(along.reshape(-1, *(1 for _ in shape[2:])), shape)
