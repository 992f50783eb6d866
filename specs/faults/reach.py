"""What a stored word can become when some of its bits change: its neighbours and their hull.

``S_k(w)`` is the set of words that differ from ``w`` in at most ``k`` of the bits that may
change.  Its hull over the numbers in it is found without enumeration, exactly:

* the value of an integer (fixed-point) word is a sum over its bits, so the largest value takes
  the ``k`` largest gains;
* the magnitude of a float is monotone in its bits below the sign, read as an integer.  The
  largest such integer takes set bits from the top; that it be a number means that some exponent
  bit is 0, and every choice of that bit is tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specs.enclosure import FloatArray
from specs.errors import QuestionError
from specs.faults.formats import (
    BoolArray,
    FixedFormat,
    FloatFormat,
    Format,
    IndexArray,
    IntegerFormat,
    Words,
)

ALL = 0xFFFFFFFF


@dataclass(frozen=True, eq=False)
class Hull:
    """The smallest intervals that hold every number that words can become.

    Attributes:
        lower, upper: ``(n,)``, exact.  The unchanged word is always among what it can become.
        escapes: ``(n,)`` whether the word can become Inf or NaN as well.
    """

    lower: FloatArray
    upper: FloatArray
    escapes: BoolArray


def flipped(words: Words, bit: int) -> Words:
    """Words with one bit changed."""
    return words ^ np.uint32(1 << bit)


def mask_of(bits: tuple[int, ...] | None, format: Format) -> int:
    """The bits that may change, as a word; ``None``: all of the format.

    Raises:
        QuestionError: the format has no such bit.
    """
    if bits is None:
        return (1 << format.bits) - 1
    if any(not 0 <= bit < format.bits for bit in bits):
        raise QuestionError(f"bits {list(bits)}: {format.name} has bits 0 to {format.bits - 1}")
    return sum(1 << bit for bit in set(bits))


def hull(format: Format, words: Words, changeable: Words, k: int, channel: IndexArray) -> Hull:
    """The hull of what words become when at most ``k`` of their changeable bits are inverted.

    Args:
        format: of the words.
        words: ``(n,)``, all of them numbers.
        changeable: ``(n,)`` which bits of each.
        k: how many, at least 0.
        channel: ``(n,)``.

    Raises:
        QuestionError: a word is no number, or ``k`` is negative.
    """
    if k < 0:
        raise QuestionError(f"{k} faults")
    if isinstance(format, FloatFormat):
        return _float_hull(format, words, changeable, k, channel)
    if isinstance(format, IntegerFormat | FixedFormat):
        return _integer_hull(format, words, changeable, k, channel)
    raise QuestionError(f"no hull is known for words of {format.name}")


def _integer_hull(
    format: IntegerFormat | FixedFormat,
    words: Words,
    changeable: Words,
    k: int,
    channel: IndexArray,
) -> Hull:
    ends = []
    top = format.bits - 1
    signed = isinstance(format, FixedFormat) or format.signed
    for upward in (False, True):
        found, left = words.copy(), np.full(words.shape, k)
        for bit in range(top, -1, -1):  # the highest bits matter most: a greedy choice is best
            adds = upward != (signed and bit == top)
            wrong = ((found >> np.uint32(bit)) & 1).astype(np.bool_) != adds
            change = wrong & (left > 0) & _has(changeable, bit)
            found = np.where(change, flipped(found, bit), found)
            left = left - change
        ends.append(format.decode(found, channel)[0])
    return Hull(ends[0], ends[1], np.zeros(words.shape, dtype=np.bool_))


def _float_hull(
    format: FloatFormat, words: Words, changeable: Words, k: int, channel: IndexArray
) -> Hull:
    if not np.all(format.is_number(words)):
        raise QuestionError(f"a stored word of {format.name} is Inf or NaN")
    sign = format.bits - 1
    negative, turns = _has(words, sign), _has(changeable, sign)
    ends = []
    for upward in (False, True):
        # The sign that is wanted may be there, or cost a flip, or be out of reach.
        away = negative == upward
        largest = _largest(format, words, changeable, np.full(words.shape, k))
        nearest = _greedy(format, words, changeable, np.full(words.shape, k), False)
        kept = format.decode(np.where(away, nearest, largest), channel)[0]
        if k > 0:
            spent = _largest(format, words, changeable, np.full(words.shape, k - 1))
            turned = format.decode(flipped(spent, sign), channel)[0]
            kept = np.where(away & turns, turned, kept)
        ends.append(kept)
    missing = [~_has(words, bit) for bit in _exponent(format)]
    shut = [~_has(words, bit) & ~_has(changeable, bit) for bit in _exponent(format)]
    escapes = (np.sum(missing, axis=0) <= k) & ~np.any(shut, axis=0)
    return Hull(ends[0], ends[1], np.asarray(escapes, dtype=np.bool_))


def _largest(format: FloatFormat, words: Words, changeable: Words, budget: IndexArray) -> Words:
    """The words of the largest finite magnitude, the sign kept."""
    best = words
    for bit in _exponent(format):
        # Words with a 0 at this exponent bit: none of them is Inf or NaN.
        is_set = _has(words, bit)
        allowed = ~is_set | (_has(changeable, bit) & (budget > 0))
        start = np.where(is_set, flipped(words, bit), words)
        others = changeable & np.uint32(ALL ^ (1 << bit))
        found = _greedy(format, start, others, budget - is_set, True)
        better = allowed & (_magnitude(format, found) > _magnitude(format, best))
        best = np.where(better, found, best)
    return best


def _greedy(
    format: FloatFormat, words: Words, changeable: Words, budget: IndexArray, upward: bool
) -> Words:
    """The words of the largest (least) magnitude, whether or not they are numbers."""
    found, left = words, budget
    for bit in range(format.bits - 2, -1, -1):
        change = (_has(found, bit) != upward) & (left > 0) & _has(changeable, bit)
        found = np.where(change, flipped(found, bit), found)
        left = left - change
    return found


def _exponent(format: FloatFormat) -> range:
    return range(format.fraction_bits, format.bits - 1)


def _magnitude(format: FloatFormat, words: Words) -> Words:
    return words & np.uint32((1 << (format.bits - 1)) - 1)


def _has(words: Words, bit: int) -> BoolArray:
    return np.asarray((words >> np.uint32(bit)) & np.uint32(1), dtype=np.bool_)
