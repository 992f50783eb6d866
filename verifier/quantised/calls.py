"""What the rule of an operator sees, and the table of rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper

from specs.errors import UnsupportedOperatorError
from specs.reader.tensors import FLOATS, INTEGERS, kind_name
from verifier.quantised.program import IntArray, ProgramBuilder
from verifier.quantised.reals import Reals

Array = npt.NDArray[Any]

RANGES = {
    TensorProto.INT8: (-(2**7), 2**7 - 1),
    TensorProto.UINT8: (0, 2**8 - 1),
    TensorProto.INT16: (-(2**15), 2**15 - 1),
    TensorProto.UINT16: (0, 2**16 - 1),
}
"""The types that are quantised to, and their ends."""


@dataclass(frozen=True, eq=False)
class Fixed:
    """A tensor that does not depend on the inputs.

    Attributes:
        value: float32 or int64.
        kind: ONNX element type.
        whole, step: where it was dequantised: the integers, their zero points subtracted,
            and the float32 step of each.
    """

    value: Array
    kind: int
    whole: IntArray | None = None
    step: Array | None = None

    def arranged(self, by: Callable[[Array], Array]) -> Fixed:
        """Entries moved, chosen or repeated."""
        parts = (self.whole, self.step)
        return Fixed(by(self.value), self.kind, *(None if p is None else by(p) for p in parts))


@dataclass(frozen=True, eq=False)
class Integers:
    """A tensor of nodes of the program.

    Attributes:
        keys: the node of each entry.
        kind: ONNX element type.
    """

    keys: IntArray
    kind: int

    def arranged(self, by: Callable[[Array], Array]) -> Integers:
        """Entries moved, chosen or repeated."""
        return Integers(by(self.keys), self.kind)


Tensor = Fixed | Integers | Reals


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """The shape of a tensor of any form."""
    return (tensor.value if isinstance(tensor, Fixed) else tensor.keys).shape


@dataclass(frozen=True, eq=False)
class Call:
    """One node of the graph with its operands.

    Every attribute must be read; one that a rule does not know is refused.
    """

    node: NodeProto
    inputs: tuple[Tensor | None, ...]
    opset: int
    builder: ProgramBuilder
    seen: set[str] = field(default_factory=set)

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute's value; texts as strings."""
        self.seen.add(name)
        for attribute in self.node.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def only(self, name: str, *allowed: Any) -> None:
        """Refuse an attribute with a value other than these; the first is its default."""
        found = self.attribute(name, allowed[0])
        if found not in allowed:
            raise UnsupportedOperatorError(f"{name} = {found} has no rule")

    def refuse_unread(self) -> None:
        """Refuse attributes that the rule has not looked at."""
        unread = {attribute.name for attribute in self.node.attribute} - self.seen
        if unread:
            raise UnsupportedOperatorError(f"attribute {sorted(unread)[0]} has no rule")

    def optional(self, position: int) -> Tensor | None:
        """An operand, if it is given."""
        return self.inputs[position] if position < len(self.inputs) else None

    def operand(self, position: int) -> Tensor:
        """An operand of any form."""
        found = self.optional(position)
        if found is None:
            raise UnsupportedOperatorError(f"input {position} is missing")
        return found

    def _wanted(self, position: int, what: str) -> UnsupportedOperatorError:
        return UnsupportedOperatorError(f"input '{self.node.input[position]}' is not {what}")

    def integers(self, position: int, kinds: tuple[int, ...]) -> Integers:
        """An operand of integers that depend on the inputs."""
        found = self.operand(position)
        if not isinstance(found, Integers) or found.kind not in kinds:
            names = " or ".join(kind_name(kind) for kind in kinds)
            raise self._wanted(position, f"a variable tensor of {names} integers")
        return found

    def reals(self, position: int) -> Reals:
        """A float32 operand that depends on the inputs."""
        found = self.operand(position)
        if not isinstance(found, Reals):
            raise self._wanted(position, "a variable tensor of float32 numbers")
        return found

    def fixed(self, position: int, kinds: tuple[int, ...] = ()) -> Fixed:
        """A constant operand, of one of these types if any are named."""
        found = self.operand(position)
        if not isinstance(found, Fixed):
            raise self._wanted(position, "a constant")
        if kinds and found.kind not in kinds:
            names = " or ".join(kind_name(kind) for kind in kinds)
            raise self._wanted(position, f"of type {names} (it is {kind_name(found.kind)})")
        return found

    def float32(self, position: int) -> Array:
        """Float32 constants."""
        return self.fixed(position, (TensorProto.FLOAT,)).value

    def single(self, position: int, kinds: tuple[int, ...] = (TensorProto.FLOAT,)) -> Array:
        """A constant of a single number, as an array without axes."""
        found = self.fixed(position, kinds).value
        if found.size != 1:
            raise self._wanted(position, "a single number")
        return found.reshape(())


Rule = Callable[[Call], Tensor]
RULES: dict[str, Rule] = {}
"""By operator."""


def operator(*names: str) -> Callable[[Rule], Rule]:
    """Registers the rule of operators."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def constant(value: Array, kind: int) -> Fixed:
    """A stored tensor; its numbers are as exact as they are stored."""
    if kind in FLOATS:
        return Fixed(value.astype(np.float32 if kind == TensorProto.FLOAT else np.float64), kind)
    if kind not in INTEGERS:
        raise UnsupportedOperatorError(f"constants of type {kind_name(kind)} have no rule")
    return Fixed(value.astype(np.int64), kind)
