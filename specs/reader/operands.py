"""What a tensor of an ONNX graph is while the graph is walked: a constant or a variable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.enclosure import Enclosure
from specs.errors import ModelError
from specs.linear import Gather, Identity
from specs.network import Term
from specs.reader.tensors import FLOATS, Constant, kind_name

Array = npt.NDArray[Any]
Rearrangement = Callable[[Array, int], Array]
"""Moves the entries of an array; new entries receive the second argument."""


@dataclass(frozen=True, eq=False)
class Affine:
    """A sum of terms plus a constant, not necessarily a node yet."""

    terms: tuple[Term, ...]
    offset: Enclosure | None = None

    @property
    def tensor(self) -> int | None:
        """The finished tensor that this is, if it is one."""
        if self.offset is None and len(self.terms) == 1:
            term = self.terms[0]
            return term.source if isinstance(term.map, Identity) else None
        return None

    @property
    def is_view(self) -> bool:
        """Whether every entry is an entry of a finished tensor, or a constant."""
        return all(isinstance(term.map, Identity | Gather) for term in self.terms)


@dataclass(frozen=True, eq=False)
class Variable:
    """A tensor that depends on the network's inputs."""

    shape: tuple[int, ...]
    kind: int
    affine: Affine

    @property
    def size(self) -> int:
        return math.prod(self.shape)


Operand = Constant | Variable


@dataclass(frozen=True, eq=False)
class Masked:
    """A variable tensor of which some entries are minus infinity instead.

    It is no operand like others: only what may come between a mask and a Softmax takes it.

    Attributes:
        allowed: of the tensor's shape, where its entries count.
    """

    variable: Variable
    allowed: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.variable.shape

    @property
    def kind(self) -> int:
        return self.variable.kind


Value = Constant | Variable | Masked
"""What a tensor of the graph may be."""


def common_shape(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that two operands broadcast to.

    Raises:
        ModelError: there is none.
    """
    try:
        return np.broadcast_shapes(left, right)
    except ValueError:
        raise ModelError(f"shapes {left} and {right} do not broadcast") from None


def is_exactly(constant: Constant, number: float) -> bool:
    """Whether every entry is exactly ``number``."""
    return constant.radius is None and bool(np.all(constant.value == number))


def flat_enclosure(constant: Constant) -> Enclosure:
    """The entries of a real constant in a row."""
    enclosure = constant.enclosure
    radius = None if enclosure.radius is None else enclosure.radius.reshape(-1)
    return Enclosure(enclosure.value.reshape(-1), radius)


def rearranged(constant: Constant, rearrange: Rearrangement) -> Constant:
    """A constant with its entries moved."""
    value = rearrange(constant.value, 0)
    radius = None if constant.radius is None else rearrange(constant.radius, 0)
    return Constant(value, constant.kind, radius)


def variable(operand: Operand) -> Variable:
    """An operand that is known to depend on the network's inputs."""
    if isinstance(operand, Constant):
        raise ModelError("a constant was taken for a variable tensor")
    return operand


def require_real(operand: Operand) -> None:
    """Refuse tensors that are not of a floating type."""
    if operand.kind not in FLOATS:
        raise ModelError(f"{kind_name(operand.kind)} values where real numbers are expected")


def concatenated(constants: Sequence[Constant], axis: int) -> Constant:
    """Constants one after the other along an axis."""
    value = np.concatenate([constant.value for constant in constants], axis=axis)
    radius = None
    if any(constant.radius is not None for constant in constants):
        radii = [np.zeros(c.shape) if c.radius is None else c.radius for c in constants]
        radius = np.concatenate(radii, axis=axis)
    return Constant(value, constants[0].kind, radius)
