"""The words that a model's parameters are stored as, and the network that they make.

Which format a parameter is stored in is a *choice*: as the model file has it, or another one
into which its values are rounded first.  In the latter case the network in question is the one
with the **stored values**: ``Memory.network``, not the network of the file.  A fault changes a
word of that memory; nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from specs.enclosure import FloatArray
from specs.errors import QuestionError
from specs.faults.formats import (
    FLOAT_FORMATS,
    BoolArray,
    FixedFormat,
    FloatFormat,
    Format,
    IndexArray,
    IntegerFormat,
    Words,
    channels_of,
    symmetric,
)
from specs.faults.placed import Parameter, Placed, is_integer
from specs.network import Network


@dataclass(frozen=True)
class Quantised:
    """Integers whose scale is stated, or made from the values of each tensor.

    Attributes:
        bits: 2 to 16.
        signed: two's complement.
        scale: one, or one per index along ``axis``; ``None``: symmetric about 0 and as small
            as the tensor's largest magnitude allows (``specs.faults.formats.symmetric``).
        zero: zero points, as many as scales.
        axis: ``None``: one scale for a tensor.
    """

    bits: int
    signed: bool = True
    scale: tuple[float, ...] | None = None
    zero: tuple[int, ...] = (0,)
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.scale is None and (not self.signed or self.zero != (0,)):
            raise QuestionError("a scale made from the values goes with signed integers about 0")
        if self.axis is None and self.scale is not None and len(self.scale) != 1:
            raise QuestionError(f"{len(self.scale)} scales without an axis")
        IntegerFormat(self.bits, self.scale or (1.0,), self.zero, self.signed)

    @property
    def text(self) -> str:
        """What a digest covers."""
        if self.scale is None:
            return f"int{self.bits} symmetric axis {self.axis}"
        return self.format_of(np.zeros(1)).text

    def format_of(self, values: FloatArray) -> IntegerFormat:
        """The format of a tensor."""
        if self.scale is None:
            axis = self.axis if self.axis is None or values.ndim > self.axis else None
            return symmetric(values, self.bits, axis)
        return IntegerFormat(self.bits, self.scale, self.zero, self.signed, self.axis or 0)


Choice = FloatFormat | FixedFormat | Quantised | None
"""How parameters are stored; ``None``: as the model file has them."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A parameter as words.

    Attributes:
        parameter: the initialiser.
        format: of its words.
        words: ``(size,)``.
        channel: ``(size,)``, of the format.
    """

    parameter: Parameter
    format: Format
    words: Words
    channel: IndexArray

    @cached_property
    def values(self) -> FloatArray:
        """``(size,)``, what the words stand for, exactly."""
        return self.format.decode(self.words, self.channel)[0]

    def decode(self, entries: IndexArray, words: Words) -> tuple[FloatArray, BoolArray]:
        """What other words of some entries stand for, and which are numbers."""
        return self.format.decode(words, self.channel[entries])


@dataclass(frozen=True, eq=False)
class Memory:
    """The stored parameters of a model.

    Attributes:
        placed: the model.
        stored: by the name of the initialiser.
    """

    placed: Placed
    stored: Mapping[str, Stored]

    @cached_property
    def network(self) -> Network:
        """The network with exactly the stored values."""
        return self.placed.with_values(self.values)

    @cached_property
    def values(self) -> Mapping[str, FloatArray]:
        """The stored values of each parameter, flat."""
        return {name: stored.values for name, stored in self.stored.items()}

    @property
    def bits(self) -> int:
        """How many bits the memory has."""
        return sum(s.words.size * s.format.bits for s in self.stored.values())


def store(placed: Placed, choice: Choice | Mapping[str, Choice] = None) -> Memory:
    """The parameters of a model as words.

    Args:
        placed: the model.
        choice: one for all parameters, or one for each by name; those that a mapping leaves
            out are stored as the model file has them.

    Raises:
        QuestionError: a parameter cannot be stored so; the message names it.
    """
    if isinstance(choice, Mapping) and (unknown := sorted(set(choice) - set(placed.parameters))):
        raise QuestionError(f"there is no parameter '{unknown[0]}'")
    stored = {}
    for name, parameter in placed.parameters.items():
        chosen = choice.get(name) if isinstance(choice, Mapping) else choice
        try:
            format = _format(parameter, chosen)
            channel = channels_of(format, parameter.shape)
            words = format.encode(parameter.values, channel)
        except QuestionError as error:
            raise QuestionError(f"parameter '{name}': {error}") from None
        words.flags.writeable = False
        stored[name] = Stored(parameter, format, words, channel)
    return Memory(placed, stored)


def _format(parameter: Parameter, choice: Choice) -> Format:
    if is_integer(parameter):
        signed = not parameter.kind.startswith("u")
        bits = int(parameter.kind.lstrip("uint"))
        if choice is None:
            return IntegerFormat(bits, (1.0,), (0,), signed)
        raise QuestionError(f"it is stored in {parameter.kind} already; use format 'stored'")
    if choice is None:
        if parameter.kind not in FLOAT_FORMATS:
            raise QuestionError(f"words of {parameter.kind} have no rule for faults")
        return FLOAT_FORMATS[parameter.kind]
    if isinstance(choice, Quantised):
        return choice.format_of(parameter.values.reshape(parameter.shape))
    return choice
