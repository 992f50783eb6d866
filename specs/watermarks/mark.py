"""What a mark is: a scheme with a key, and what it says about a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from specs.enclosure import FloatArray
from specs.linear import IndexArray
from specs.watermarks.key import BoolArray


class Mark(Protocol):
    """A scheme with its key and its sizes."""

    @property
    def scheme(self) -> str:
        """The name of the scheme."""
        ...

    @property
    def text(self) -> str:
        """All that the mark depends on, canonically; a question's digest covers it."""
        ...

    @property
    def size(self) -> int:
        """How many bits, or triggers, may match."""
        ...

    @property
    def commitment(self) -> Commitment:
        """What was published of it."""
        ...

    @property
    def null(self) -> tuple[Fraction, ...]:
        """``(size,)``: for a model without the mark, with which probability each one matches.

        Matches are taken to be independent of each other.
        """
        ...

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the null hypothesis rests on, in words."""
        ...


@dataclass(frozen=True)
class Commitment:
    """A hash that was published before, and when; both as they are claimed.

    Attributes:
        hash: of the seed and the mark's text; computed.
        stated: the hash as the question states it, ``None``: not stated.
        time: as the question states it; nothing here verifies it.
    """

    hash: str
    stated: str | None = None
    time: str | None = None

    def in_words(self) -> list[str]:
        """For a certificate."""
        lines = [f"commitment: {self.hash}"]
        if self.stated is None:
            lines.append("no published commitment is stated: the key may have been made afterwards")
        else:
            when = "no time is stated" if self.time is None else f"said to be from {self.time}"
            lines.append(f"equal to the one stated ({when}; that is not verified)")
        return lines


@dataclass(frozen=True, eq=False)
class LinearSystem:
    """Bits that are signs of linear forms of the entries of one tensor.

    Bit ``j`` is 1 iff ``scale * (rows[j] @ w[positions]) > 0``.

    Attributes:
        positions: ``(m,)`` flat entries of the tensor, distinct.
        rows: ``(n, m)`` whole numbers, as floats that hold them exactly.
        scale: positive; what a unit of ``rows`` stands for.
        bits: ``(n,)`` as the key has them.
    """

    positions: IndexArray
    rows: FloatArray
    scale: Fraction
    bits: BoolArray


class LinearMark(Mark, Protocol):
    """A white-box mark: its bits are signs of linear forms of a tensor's entries."""

    @property
    def tensor(self) -> str:
        """The ONNX name of the initializer."""
        ...

    def system(self, shape: tuple[int, ...]) -> LinearSystem:
        """The linear forms, for a tensor of this shape.

        Raises:
            QuestionError: the tensor is too small, or has too few axes.
        """
        ...


class AnswerMark(Mark, Protocol):
    """A black-box mark: what a model answers to secret inputs."""

    @property
    def points(self) -> FloatArray:
        """``(size, inputs)``: the inputs, exact."""
        ...

    @property
    def classes(self) -> int:
        """How many outputs the model must have."""
        ...

    def matching(self, answers: Sequence[int]) -> list[bool]:
        """``(size,)``: which answers, classes from 0 on, are those of the key."""
        ...
