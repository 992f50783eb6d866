"""What the rule of an operator sees of its node, and the table of rules."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnx import AttributeProto, NodeProto, TensorProto

from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader.builder import Builder
from specs.reader.operands import Masked, Operand, Value, Variable
from specs.reader.tensors import INTEGERS, Constant, ExternalData, kind_name


@dataclass(frozen=True, eq=False)
class Call:
    """One node of the graph with its operands.

    Attributes:
        inputs: the operands; an optional one left out is ``None``.  Rules read them by the
            methods below, which refuse those that only few rules take.
        opset: version of the standard operator set.
        builder: where the result is built.
        attributes: the node's attributes; each must be read by the rule, or be named in
            ``ignore``, so that none is passed over in silence.
    """

    node: NodeProto
    inputs: tuple[Value | None, ...]
    opset: int
    builder: Builder
    external: ExternalData
    attributes: dict[str, AttributeProto]
    seen: set[str] = field(default_factory=set)

    def operand(self, position: int) -> Operand:
        """The operand at a position."""
        found = self.optional(position)
        if found is None:
            raise ModelError(f"input {position} is missing")
        return found

    def optional(self, position: int) -> Operand | None:
        """The operand at a position, if it is given."""
        found = self.inputs[position] if position < len(self.inputs) else None
        if isinstance(found, Masked):
            name = self.node.input[position]
            raise UnsupportedOperatorError(
                f"input '{name}' holds minus infinities, which have a rule before Softmax only"
            )
        return found

    def maskable(self, position: int) -> Value:
        """The operand at a position, some of whose entries may be minus infinity."""
        found = self.inputs[position] if position < len(self.inputs) else None
        if isinstance(found, Masked):
            return found
        return self.operand(position)

    def operands(self) -> list[Operand]:
        """All operands of an operator that takes any number of them."""
        if not self.inputs:
            raise ModelError("it has no inputs")
        return [self.operand(position) for position in range(len(self.inputs))]

    def constant(self, position: int) -> Constant:
        """An operand that must not depend on the network's inputs."""
        found = self.operand(position)
        if isinstance(found, Variable):
            name = self.node.input[position]
            raise UnsupportedOperatorError(f"input '{name}' is not a constant")
        return found

    def optional_constant(self, position: int) -> Constant | None:
        """The same for an optional operand."""
        return None if self.optional(position) is None else self.constant(position)

    def integers(self, position: int) -> tuple[int, ...]:
        """A constant list of integers (or a single one)."""
        return integers(self.constant(position))

    def axes(self, position: int, since: int) -> tuple[int, ...] | None:
        """Axes, an input from opset ``since`` on, an attribute before."""
        if self.opset < since:
            return self.ints("axes")
        return None if self.optional(position) is None else self.integers(position)

    def ignore(self, *names: str) -> None:
        """Name attributes that do not matter to the result."""
        self.seen.update(names)

    def int(self, name: str, default: int) -> int:
        """An integer attribute."""
        found = self._read(name, AttributeProto.INT)
        return default if found is None else int(found.i)

    def float(self, name: str, default: float) -> float:
        """A float32 attribute, exactly."""
        found = self._read(name, AttributeProto.FLOAT)
        return default if found is None else float(found.f)

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        found = self._read(name, AttributeProto.STRING)
        return default if found is None else found.s.decode("utf-8", "replace")

    def ints(self, name: str) -> tuple[builtins.int, ...] | None:
        """An attribute that is a list of integers."""
        found = self._read(name, AttributeProto.INTS)
        return None if found is None else tuple(found.ints)

    def floats(self, name: str) -> tuple[builtins.float, ...] | None:
        """An attribute that is a list of float32 numbers, exactly."""
        found = self._read(name, AttributeProto.FLOATS)
        return None if found is None else tuple(found.floats)

    def texts(self, name: str) -> tuple[str, ...] | None:
        """An attribute that is a list of strings."""
        found = self._read(name, AttributeProto.STRINGS)
        if found is None:
            return None
        return tuple(text.decode("utf-8", "replace") for text in found.strings)

    def stored(self, name: str) -> TensorProto | None:
        """An attribute that is a tensor."""
        found = self._read(name, AttributeProto.TENSOR)
        return None if found is None else found.t

    def unread(self) -> list[str]:
        """Attributes that the rule did not read."""
        return sorted(set(self.attributes) - self.seen)

    def _read(self, name: str, kind: Any) -> AttributeProto | None:
        self.seen.add(name)
        found = self.attributes.get(name)
        if found is not None and found.type != kind:
            raise ModelError(f"attribute '{name}' has a wrong type")
        return found


Rule = Callable[[Call], Value | Sequence[Value]]

RULES: dict[str, Rule] = {}
ON_INTEGERS: set[str] = set()
"""Operators whose rule holds for variable tensors of integers and truth values, too."""


def operator(*names: str, integers: bool = False) -> Callable[[Rule], Rule]:
    """Register the rule of operators of the standard domain.

    Args:
        integers: variable tensors that are not of a floating type may be operands.
    """

    def register(rule: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"operator {name} has two rules")
            RULES[name] = rule
            if integers:
                ON_INTEGERS.add(name)
        return rule

    return register


def integers(constant: Constant) -> tuple[int, ...]:
    """The entries of a constant of an integer type."""
    if constant.kind not in INTEGERS or constant.value.ndim > 1:
        raise ModelError(
            f"{kind_name(constant.kind)} of shape {constant.shape} where integers are expected"
        )
    return tuple(int(entry) for entry in constant.value.reshape(-1))


def same_kind(*operands: Value) -> None:
    """Refuse operands of different element types."""
    kinds = {operand.kind for operand in operands}
    if len(kinds) > 1:
        names = " and ".join(sorted(map(kind_name, kinds)))
        raise ModelError(f"it mixes operands of types {names}")


def resolved_axis(axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
        ModelError: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise ModelError(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


def resolved_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Distinct axes counted from the front, in order given."""
    found = tuple(resolved_axis(axis, rank) for axis in axes)
    if len(set(found)) != len(found):
        raise ModelError(f"axes {tuple(axes)} name an axis twice")
    return found
