"""Formats of stored numbers: from a value to its word and back, exactly.

A word is an unsigned integer of at most 32 bits, bit 0 the least significant.  Every word of
an integer or fixed-point format is a number; words of a floating-point format whose exponent
bits are all 1 are Inf or NaN.  Those are *no numbers*: decoding gives them as a class of
their own, with NaN in place of a value, so that whoever computes with one is found out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from specs.enclosure import FloatArray
from specs.errors import QuestionError
from specs.perturbation import FORMATS, Rounding

Words = npt.NDArray[np.uint32]
BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.int64]

LONGEST_INTEGER = 16
LONGEST_WORD = 32


class Format(Protocol):
    """A format of stored numbers.

    Attributes:
        name: how users and messages call it.
        bits: of a word.
        text: all that defines it; what a digest covers.
        channels: how many channels have a scale of their own; 1: the format does not depend
            on the channel.
        axis: the tensor's axis that counts channels, where there are several.

    Methods take arrays of any shape, and ``channel``, an array of the same shape, for
    formats that have channels.
    """

    @property
    def name(self) -> str: ...
    @property
    def bits(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def channels(self) -> int: ...
    @property
    def axis(self) -> int: ...

    def encode(self, values: FloatArray, channel: IndexArray) -> Words:
        """The words of the nearest numbers of the format, ties to even.

        Integers and fixed point saturate.

        Raises:
            QuestionError: a value is not finite, or is beyond a floating-point format.
        """
        ...

    def decode(self, words: Words, channel: IndexArray) -> tuple[FloatArray, BoolArray]:
        """The exact values of words, and which of them are numbers; NaN where not."""
        ...


@dataclass(frozen=True)
class FloatFormat:
    """A binary interchange format of IEEE 754, or one made like it (bfloat16).

    Attributes:
        rounding: precision and range.
        exponent_bits: between the sign and the fraction.
    """

    rounding: Rounding
    exponent_bits: int
    channels: int = 1
    axis: int = 0

    @property
    def name(self) -> str:
        return self.rounding.name

    @property
    def fraction_bits(self) -> int:
        """Stored bits of the significand."""
        return self.rounding.precision - 1

    @property
    def bits(self) -> int:
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def text(self) -> str:
        return self.name

    def encode(self, values: FloatArray, channel: IndexArray) -> Words:
        given = _finite(values)
        if np.any(np.abs(given) > self.rounding.largest):
            raise QuestionError(f"a value is beyond the range of {self.name}")
        near = self.rounding.rounded(given)
        if self.bits == 32:
            return near.astype(np.float32).view(np.uint32)
        if self.exponent_bits == 8:
            return near.astype(np.float32).view(np.uint32) >> np.uint32(16)
        return near.astype(np.float16).view(np.uint16).astype(np.uint32)

    def decode(self, words: Words, channel: IndexArray) -> tuple[FloatArray, BoolArray]:
        given = np.asarray(words, dtype=np.uint32)
        number = self.is_number(given)
        safe = np.where(number, given, np.uint32(0))
        if self.exponent_bits == 8:
            shifted = safe << np.uint32(32 - self.bits)
            values = shifted.view(np.float32).astype(np.float64)
        else:
            values = safe.astype(np.uint16).view(np.float16).astype(np.float64)
        return np.where(number, values, np.nan), number

    def is_number(self, words: Words) -> BoolArray:
        """Which words are neither Inf nor NaN."""
        field = np.uint32(((1 << self.exponent_bits) - 1) << self.fraction_bits)
        return np.asarray((words & field) != field, dtype=np.bool_)


@dataclass(frozen=True)
class IntegerFormat:
    """Integers that stand for ``(word - zero) * scale``, in two's complement where signed.

    Attributes:
        bits: 2 to 16.
        scale: positive float32 numbers, one, or one per channel; so values are exact in
            float64.
        zero: zero points, as many; each is an integer of the format.
        signed: whether the highest bit is a sign.
        axis: of the tensor, along which the channels lie.

    Raises:
        QuestionError: any of that does not hold.
    """

    bits: int
    scale: tuple[float, ...] = (1.0,)
    zero: tuple[int, ...] = (0,)
    signed: bool = True
    axis: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= LONGEST_INTEGER:
            raise QuestionError(f"integers of {self.bits} bits (2 to {LONGEST_INTEGER})")
        if len(self.scale) != len(self.zero) or not self.scale:
            raise QuestionError(f"{len(self.scale)} scales and {len(self.zero)} zero points")
        for scale in self.scale:
            if not (math.isfinite(scale) and scale > 0 and float(np.float32(scale)) == scale):
                raise QuestionError(f"scale {scale!r} is no positive float32 number")
        if any(not self.lowest <= zero <= self.highest for zero in self.zero):
            raise QuestionError(f"a zero point outside [{self.lowest}, {self.highest}]")

    @property
    def name(self) -> str:
        return f"{'' if self.signed else 'u'}int{self.bits}"

    @property
    def text(self) -> str:
        pairs = zip(self.scale, self.zero, strict=True)
        steps = " ".join(f"{scale.hex()}/{zero}" for scale, zero in pairs)
        return f"{self.name} axis {self.axis} {steps}"

    @property
    def channels(self) -> int:
        return len(self.scale)

    @property
    def lowest(self) -> int:
        """The least integer."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The greatest integer."""
        return (1 << (self.bits - (1 if self.signed else 0))) - 1

    @cached_property
    def scales(self) -> FloatArray:
        """One per channel."""
        return np.array(self.scale)

    @cached_property
    def zeros(self) -> FloatArray:
        """One per channel."""
        return np.array(self.zero, dtype=np.float64)

    def encode(self, values: FloatArray, channel: IndexArray) -> Words:
        scale, zero = self.scales[channel], self.zeros[channel]
        with np.errstate(over="ignore"):
            steps = np.rint(_finite(values) / scale)
        # The quotient was rounded: compare twice the value with the neighbouring ties, exactly.
        # Beyond the range nothing needs to be exact.
        kept = np.clip(steps, self.lowest - zero, self.highest - zero)
        twice = 2.0 * np.clip(values, (kept - 2) * scale, (kept + 2) * scale)
        above, below = (2.0 * kept + 1.0) * scale, (2.0 * kept - 1.0) * scale
        odd = np.mod(kept, 2.0) != 0.0
        kept = kept + ((twice > above) | ((twice == above) & odd))
        kept = kept - ((twice < below) | ((twice == below) & odd))
        return _words(np.clip(kept + zero, self.lowest, self.highest), self.bits)

    def decode(self, words: Words, channel: IndexArray) -> tuple[FloatArray, BoolArray]:
        whole = _integers(words, self.bits, self.signed)
        values = (whole - self.zeros[channel]) * self.scales[channel]
        return values, np.ones(values.shape, dtype=np.bool_)


@dataclass(frozen=True)
class FixedFormat:
    """Fixed point Qm.n: a sign, ``m`` integer and ``n`` fraction bits, in two's complement.

    The sign is not counted in ``m``: Q15.16 has 32 bits.

    Raises:
        QuestionError: a count is negative, or they exceed 32 bits.
    """

    integer_bits: int
    fraction_bits: int
    channels: int = 1
    axis: int = 0

    def __post_init__(self) -> None:
        if min(self.integer_bits, self.fraction_bits) < 0 or not 2 <= self.bits <= LONGEST_WORD:
            raise QuestionError(f"{self.name}: 2 to {LONGEST_WORD} bits, the sign included")

    @property
    def name(self) -> str:
        return f"Q{self.integer_bits}.{self.fraction_bits}"

    @property
    def text(self) -> str:
        return self.name

    @property
    def bits(self) -> int:
        return 1 + self.integer_bits + self.fraction_bits

    def encode(self, values: FloatArray, channel: IndexArray) -> Words:
        highest = float((1 << (self.bits - 1)) - 1)
        reach = np.clip(_finite(values), -(2.0**LONGEST_WORD), 2.0**LONGEST_WORD)
        whole = np.rint(np.ldexp(reach, self.fraction_bits))
        return _words(np.clip(whole, -highest - 1.0, highest), self.bits)

    def decode(self, words: Words, channel: IndexArray) -> tuple[FloatArray, BoolArray]:
        values = np.ldexp(_integers(words, self.bits, True), -self.fraction_bits)
        return values, np.ones(values.shape, dtype=np.bool_)


FLOAT32 = FloatFormat(FORMATS["float32"], 8)
FLOAT16 = FloatFormat(FORMATS["float16"], 5)
BFLOAT16 = FloatFormat(FORMATS["bfloat16"], 8)
FLOAT_FORMATS = {known.name: known for known in (FLOAT32, FLOAT16, BFLOAT16)}


def symmetric(values: FloatArray, bits: int, axis: int | None = None) -> IntegerFormat:
    """Signed integers about 0 that reach the largest magnitude: ``scale = max|w| / (2^(b-1) - 1)``.

    The scale is rounded to float32; that of zeros is 1.

    Args:
        values: a tensor.
        bits: of an integer.
        axis: one scale for each index along this axis; ``None``: one for the tensor.
    """
    magnitude = np.abs(_finite(values))
    if axis is None:
        largest = np.max(magnitude, initial=0.0, keepdims=True).reshape(-1)
    else:
        moved = np.moveaxis(magnitude, axis, 0)
        largest = np.max(moved.reshape(len(moved), -1), axis=1, initial=0.0)
    steps = (largest / float((1 << (bits - 1)) - 1)).astype(np.float32).astype(np.float64)
    scale = tuple(np.where(steps > 0, steps, 1.0).tolist())
    return IntegerFormat(bits, scale, (0,) * len(scale), True, 0 if axis is None else axis)


def channels_of(format: Format, shape: tuple[int, ...]) -> IndexArray:
    """``(size,)``: the channel of every entry of a tensor, flat.

    Raises:
        QuestionError: the tensor does not have as many channels as the format.
    """
    size = math.prod(shape)
    if format.channels == 1:
        return np.zeros(size, dtype=np.int64)
    if not 0 <= format.axis < len(shape) or shape[format.axis] != format.channels:
        raise QuestionError(
            f"{format.channels} scales along axis {format.axis} do not fit a tensor of {shape}"
        )
    along = [1] * len(shape)
    along[format.axis] = -1
    numbers = np.arange(format.channels).reshape(along)
    return np.ascontiguousarray(np.broadcast_to(numbers, shape)).reshape(-1)


def _finite(values: Any) -> FloatArray:
    given = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(given)):
        raise QuestionError("a value to be stored is not finite")
    return given


def _words(whole: FloatArray, bits: int) -> Words:
    mask = np.int64((1 << bits) - 1)
    return np.asarray(whole.astype(np.int64) & mask).astype(np.uint32)


def _integers(words: Words, bits: int, signed: bool) -> FloatArray:
    whole = np.asarray(words, dtype=np.uint32).astype(np.int64)
    if signed:
        whole = whole - ((whole >> (bits - 1)) << bits)
    return whole.astype(np.float64)
