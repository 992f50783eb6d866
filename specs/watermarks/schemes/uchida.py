"""Uchida et al. (2017): a secret matrix maps the mean of a tensor over output channels to bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from specs.document import Document
from specs.errors import QuestionError
from specs.watermarks.key import FRACTION_BITS, BoolArray, Key
from specs.watermarks.mark import Commitment, LinearSystem
from specs.watermarks.reading import COMMON, MARK, Keys

KEYS = {**COMMON, **dict.fromkeys(("bits", "axis"), (int,)), "tensor": (str,)}


@dataclass(frozen=True, eq=False)
class Uchida:
    """A mark of this scheme.

    Attributes:
        key: from which matrix and bits follow.
        tensor: the initializer that carries it.
        count: how many bits.
        axis: of output channels in the tensor.
        commitment: of it.
    """

    key: Key
    tensor: str
    count: int
    axis: int
    commitment: Commitment

    scheme = "uchida"
    assumptions = (
        "without the mark, each bit is a fair coin, independent of the others: the key was drawn "
        "at random, and fixed before the model was known",
    )

    @property
    def text(self) -> str:
        """What the mark depends on beside the seed."""
        return text_of(self.tensor, self.count, self.axis)

    @property
    def size(self) -> int:
        """How many bits."""
        return self.count

    @property
    def null(self) -> tuple[Fraction, ...]:
        """One half each."""
        return (Fraction(1, 2),) * self.count

    @cached_property
    def bits(self) -> BoolArray:
        """``(bits,)``, from the seed."""
        return self.key.bits(f"uchida bits {self.text}", self.count)

    def system(self, shape: tuple[int, ...]) -> LinearSystem:
        """The linear forms.

        Raises:
            QuestionError: the tensor has no such axis, or is empty.
        """
        if self.axis >= len(shape) or not math.prod(shape):
            raise QuestionError(f"'{self.tensor}' of shape {shape} has no axis {self.axis}")
        channels = shape[self.axis]
        others = math.prod(shape) // channels
        matrix = self.key.gaussian(f"uchida matrix {self.text}", self.count, others)
        inner = np.expand_dims(np.arange(others).reshape(np.delete(shape, self.axis)), self.axis)
        column = np.broadcast_to(inner, shape).reshape(-1)
        rows = matrix[:, column] * 2.0**FRACTION_BITS
        scale = Fraction(1, channels << FRACTION_BITS)
        return LinearSystem(np.arange(math.prod(shape)), rows, scale, self.bits)


def text_of(tensor: str, bits: int, axis: int) -> str:
    """What a mark depends on beside its seed."""
    return f"uchida tensor={tensor!r} bits={bits} axis={axis}"


def read(document: Document) -> Uchida:
    """Keys: ``seed``, ``tensor``, ``bits``, ``axis`` of output channels (0)."""
    table = Keys.of(document, MARK, KEYS)
    key, tensor = table.key(), table.need("tensor")
    sizes = (table.whole("bits", 1, 4096), table.whole("axis", 0, 7, 0))
    return Uchida(key, tensor, *sizes, table.commitment(key, text_of(tensor, *sizes)))
