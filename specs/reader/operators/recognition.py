"""Compositions that mean a function whose relaxation is tighter than that of its parts.

Each is recognised only where it is that function exactly, as real numbers go.  Constants
that a file stores rounded do not stand in the way where a function of a multiple does it:
``x (1 + erf(c x))`` is ``gelu(sqrt(2) c x)`` over ``c / sqrt(2)`` for every ``c``, however
close to ``1 / sqrt(2)`` it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specs.enclosure import Enclosure
from specs.linear import Identity, Scale
from specs.network import Linear, Term, Univariate
from specs.reader import rounding
from specs.reader.builder import Builder
from specs.reader.operands import Affine, Operand, Variable, variable
from specs.reader.tensors import real

ONE = Enclosure(np.array(1.0))
ZERO = Enclosure(np.array(0.0))
LARGEST_POWER = 64
DEEPEST = 8
"""How many linear nodes are looked through."""


@dataclass(frozen=True, eq=False)
class Line:
    """``slope * tensor + shift``, entry by entry, with the same two enclosures for all.

    Entries in the same enclosure need not be the same number, so every conclusion has to
    hold for each entry by itself.
    """

    tensor: int
    slope: Enclosure
    shift: Enclosure

    @property
    def is_multiple(self) -> bool:
        return is_number(self.shift, 0.0)


def line(builder: Builder, affine: Affine, size: int) -> Line | None:
    """An expression as a line in the deepest tensor of which it is one."""
    found = _step(affine, size)
    for _ in range(DEEPEST):
        if found is None:
            return None
        node = builder.nodes[found.tensor]
        if not isinstance(node, Linear) or found.tensor in builder.opaque:
            return found
        below = _step(Affine(node.terms, node.offset), size)
        if below is None:
            return found
        slope = rounding.multiply(found.slope, below.slope)
        shift = rounding.add(rounding.multiply(found.slope, below.shift), found.shift)
        found = Line(below.tensor, slope, shift)
    return found


def is_number(number: Enclosure, wanted: float) -> bool:
    """Whether a constant is exactly a number."""
    return number.exact and float(number.value) == wanted


def product_of(builder: Builder, left: Variable, right: Variable) -> Operand | None:
    """The product of two tensors of one shape as a univariate function, if it is one."""
    lines = [line(builder, factor.affine, factor.size) for factor in (left, right)]
    if lines[0] is None or lines[1] is None:
        return None
    for one, other in (lines, lines[::-1]):
        if one is None or other is None or not one.is_multiple:
            continue
        for recognise in (_power, _silu, _gelu, _mish):
            found = recognise(builder, left, one, other)
            if found is not None:
                return found
    return None


def silu_of_multiple(builder: Builder, x: Variable, factor: Enclosure) -> Operand:
    """``x sigmoid(factor x)``, which is ``silu(factor x) / factor``, for ``factor`` not 0."""
    return _scaled(
        builder,
        builder.univariate(variable(builder.scale(x, real(factor, x.kind))), "silu"),
        rounding.reciprocal(factor),
    )


def reciprocal_of(builder: Builder, x: Variable) -> Operand:
    """``1 / x``; that of ``c (1 + exp(t))`` is a sigmoid."""
    found = _one_plus_exp(builder, x)
    if found is None:
        return builder.univariate(x, "reciprocal")
    argument, factor = found
    negative = variable(builder.negate(argument))
    return _scaled(builder, builder.univariate(negative, "sigmoid"), rounding.reciprocal(factor))


def logarithm_of(builder: Builder, x: Variable) -> Operand:
    """``log(x)``; that of ``1 + exp(t)`` is a softplus, and that of a sigmoid its opposite."""
    found = _one_plus_exp(builder, x)
    if found is not None and is_number(found[1], 1.0):
        return builder.univariate(found[0], "softplus")
    inner = line(builder, x.affine, x.size)
    if inner is not None and inner.is_multiple and is_number(inner.slope, 1.0):
        node = builder.nodes[inner.tensor]
        if isinstance(node, Univariate) and node.function == "sigmoid":
            negative = builder.negate(builder.whole(node.source, x))
            return builder.negate(builder.univariate(variable(negative), "softplus"))
    return builder.univariate(x, "log")


def _one_plus_exp(builder: Builder, x: Variable) -> tuple[Variable, Enclosure] | None:
    """``t`` and ``c``, where ``x`` is ``c (1 + exp(t))``."""
    found = line(builder, x.affine, x.size)
    if found is None or not _same(found.slope, found.shift):
        return None
    node = builder.nodes[found.tensor]
    if not isinstance(node, Univariate) or node.function != "exp":
        return None
    return builder.whole(node.source, x), found.slope


def _power(builder: Builder, like: Variable, one: Line, other: Line) -> Operand | None:
    """``x^m`` times ``x^n``."""
    if not other.is_multiple:
        return None
    (base, first), (second_base, second) = (_base(builder, a) for a in (one, other))
    if base != second_base:
        return None
    if first + second > LARGEST_POWER:
        return None
    node = builder.univariate(builder.whole(base, like), "power", (float(first + second),))
    return _scaled(builder, node, rounding.multiply(one.slope, other.slope))


def _base(builder: Builder, factor: Line) -> tuple[int, int]:
    """A tensor, and the power of it that a factor's tensor is."""
    node = builder.nodes[factor.tensor]
    if isinstance(node, Univariate) and node.function == "power":
        return node.source, int(node.parameters[0])
    return factor.tensor, 1


def _silu(builder: Builder, like: Variable, one: Line, other: Line) -> Operand | None:
    """``k x`` times ``a sigmoid(c x)``."""
    inner = _argument(builder, other, "sigmoid", like.size)
    if inner is None or not _is_multiple_of(inner, one.tensor) or not other.is_multiple:
        return None
    found = silu_of_multiple(builder, builder.whole(one.tensor, like), inner.slope)
    return _scaled(builder, found, rounding.multiply(one.slope, other.slope))


def _gelu(builder: Builder, like: Variable, one: Line, other: Line) -> Operand | None:
    """``k x`` times ``a (1 + erf(c x))``, which is ``2 k a gelu(r x) / r``, ``r = sqrt(2) c``."""
    inner = _argument(builder, other, "erf", like.size)
    if inner is None or not _is_multiple_of(inner, one.tensor):
        return None
    if not _same(other.slope, other.shift):
        return None
    stretch = rounding.multiply(rounding.square_root(Enclosure(np.array(2.0))), inner.slope)
    x = builder.scale(builder.whole(one.tensor, like), real(stretch, like.kind))
    factor = rounding.multiply(Enclosure(np.array(2.0)), rounding.multiply(one.slope, other.slope))
    node = builder.univariate(variable(x), "gelu")
    return _scaled(builder, node, rounding.divide(factor, stretch))


def _mish(builder: Builder, like: Variable, one: Line, other: Line) -> Operand | None:
    """``k x`` times ``a tanh(softplus(x))``."""
    between = _argument(builder, other, "tanh", like.size)
    if between is None or not between.is_multiple or not is_number(between.slope, 1.0):
        return None
    inner = _argument(builder, between, "softplus", like.size)
    if inner is None or not _is_multiple_of(inner, one.tensor) or not other.is_multiple:
        return None
    if not is_number(inner.slope, 1.0):
        return None
    node = builder.univariate(builder.whole(one.tensor, like), "mish")
    return _scaled(builder, node, rounding.multiply(one.slope, other.slope))


def _argument(builder: Builder, outer: Line, function: str, size: int) -> Line | None:
    """The argument of the function that a line's tensor is the value of."""
    node = builder.nodes[outer.tensor]
    if not isinstance(node, Univariate) or node.function != function:
        return None
    return line(builder, Affine((Term(node.source, Identity(size)),)), size)


def _is_multiple_of(inner: Line, tensor: int) -> bool:
    """Whether a line is a multiple of a tensor that is certainly not 0."""
    radius = 0.0 if inner.slope.radius is None else float(inner.slope.radius)
    return (
        inner.tensor == tensor and inner.is_multiple and abs(float(inner.slope.value)) > 2 * radius
    )


def _step(affine: Affine, size: int) -> Line | None:
    """An expression as a line in the tensor that it reads."""
    if len(affine.terms) != 1:
        return None
    term = affine.terms[0]
    if isinstance(term.map, Identity):
        slope: Enclosure | None = ONE
    elif isinstance(term.map, Scale):
        slope = _uniform(term.map.weight)
    else:
        return None
    shift = ZERO if affine.offset is None else _uniform(affine.offset)
    if slope is None or shift is None or term.map.source_size != size:
        return None
    return Line(term.source, slope, shift)


def _uniform(numbers: Enclosure) -> Enclosure | None:
    """An enclosure that is that of every entry; ``None`` if they differ."""
    value = numbers.value.reshape(-1)
    if not value.size or np.any(value != value[0]):
        return None
    if numbers.radius is None:
        return Enclosure(value[0])
    radius = numbers.radius.reshape(-1)
    return None if np.any(radius != radius[0]) else Enclosure(value[0], radius[0])


def _same(a: Enclosure, b: Enclosure) -> bool:
    """Whether two constants are exactly the same number, and not 0."""
    return a.exact and b.exact and float(a.value) == float(b.value) != 0.0


def _scaled(builder: Builder, operand: Operand, factor: Enclosure) -> Operand:
    return builder.scale(operand, real(factor, operand.kind))
