"""What may be done to a marked tensor, as the table ``[claim]`` states it.

First, once:
smallest         so many weights of the least magnitude become 0; among equals, the first ones
format           weights are rounded to the nearest numbers of it, as in docs/faults.md;
                 axis, scale, zero as there

Then any change that satisfies all of these (none stated: no change):
linf, l2, l1     its norm is at most this number
relative_l2      its Euclidean norm is at most this multiple of that of the weights
rounding         weights are rounded to nearest multiples of this step, ties in any way
pruned           so many weights, whichever they are, become 0
flips            so many stored bits are inverted; bits = [...] says where in a word
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from specs.enclosure import FloatArray
from specs.errors import InputError, QuestionError
from specs.faults.formats import FLOAT_FORMATS, Format, channels_of
from specs.faults.memory import Quantised
from specs.faults.placed import Parameter
from specs.faults.schema import choice_of
from specs.linear import IndexArray
from specs.watermarks.changes import Ball, Changes, Flips, Pruned, rounded_to_steps
from specs.watermarks.reading import Keys

_NUMBER = (int, Fraction)
KEYS: Mapping[str, tuple[type, ...]] = {
    "kind": (str,),
    "smallest": (int,),
    "format": (str,),
    "axis": (int,),
    "scale": (*_NUMBER, list),
    "zero": (int, list),
    "linf": _NUMBER,
    "l2": _NUMBER,
    "l1": _NUMBER,
    "relative_l2": _NUMBER,
    "rounding": _NUMBER,
    "pruned": (int,),
    "flips": (int,),
    "bits": (list,),
}
MOST_FLIPS = 1 << 30


@dataclass(frozen=True, eq=False)
class Allowed:
    """What may be done.

    Attributes:
        weights: ``(N,)``, all entries of the tensor after what is done once; exact.
        first: what is done once, in words.
        sets: a change must be in each; without any, nothing more changes.
        text: all of that, canonically.
    """

    weights: FloatArray
    first: tuple[str, ...]
    sets: tuple[Changes, ...]
    text: str

    def in_words(self) -> list[str]:
        """For a reader."""
        lines = [f"first: {done}" for done in self.first]
        lines += [f"allowed: {each.words}" for each in self.sets]
        return lines if self.sets else [*lines, "allowed: no further change"]

    @property
    def assumed(self) -> list[str]:
        """What its sets rest on."""
        if any(isinstance(each, Flips) for each in self.sets):
            return ["a word that becomes Inf or NaN is noticed, and nothing is said of it"]
        return []


def read_allowed(table: Keys, parameter: Parameter) -> Allowed:
    """What ``[claim]`` allows to be done to a tensor.

    Raises:
        QuestionError: it is malformed, or does not fit the tensor.
    """
    weights, first, size = parameter.values, [], parameter.size
    if "smallest" in table.values:
        count = table.whole("smallest", 0, size)
        weights = _without_smallest(weights, count)
        first.append(f"the {count} weights of least magnitude become 0")
    format, channel = _format(table, parameter, weights)
    if format is not None and "format" in table.values:
        weights = _stored(table, format, weights, channel)
        first.append(f"weights are rounded to {format.text}")
    sets: list[Changes] = []
    for norm in ("linf", "l2", "l1"):
        if norm in table.values:
            sets.append(Ball(norm, _radius(table, norm)))
    if "relative_l2" in table.values:
        sets.append(Ball("l2", _radius(table, "relative_l2"), True))
    if "rounding" in table.values:
        sets.append(rounded_to_steps(_radius(table, "rounding")))
    if "pruned" in table.values:
        sets.append(Pruned(table.whole("pruned", 0, size)))
    if "flips" in table.values:
        if format is None:
            raise table.error("flips", f"words of {parameter.kind} have no rule: name a 'format'")
        sets.append(_flips(table, format, channel))
    elif "bits" in table.values:
        raise table.error("bits", "'bits' goes with 'flips'")
    kept = format.text if format is not None else "as stored"
    keys = [f"{k}={_canonical(v)}" for k, v in sorted(table.values.items()) if k in KEYS]
    return Allowed(weights, tuple(first), tuple(sets), f"{kept}; {' '.join(keys)}")


def _canonical(value: object) -> str:
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


def _radius(table: Keys, key: str) -> Fraction:
    value = Fraction(table.need(key))
    if value < 0:
        raise table.error(key, f"'{key}' is negative")
    return value


def _without_smallest(weights: FloatArray, count: int) -> FloatArray:
    order = np.argsort(np.abs(weights), kind="stable")
    kept = weights.copy()
    kept[order[:count]] = 0.0
    return kept


def _format(
    table: Keys, parameter: Parameter, weights: FloatArray
) -> tuple[Format | None, IndexArray]:
    """The format that is stated, or that of the file if it is one."""
    given = {k: table.values[k] for k in ("format", "axis", "scale", "zero") if k in table.values}
    none = np.zeros(weights.size, dtype=np.int64)
    if given.get("format", "stored") == "stored":
        if len(given) > ("format" in given):
            raise table.error("claim", "'axis', 'scale' and 'zero' go with an integer 'format'")
        return FLOAT_FORMATS.get(parameter.kind), none
    try:
        choice = choice_of(given)
        format: Format | None
        if isinstance(choice, Quantised):
            format = choice.format_of(weights.reshape(parameter.shape))
        else:
            format = choice
        return format, channels_of(format, parameter.shape) if format is not None else none
    except InputError as error:
        raise table.error("format", str(error)) from None


def _stored(table: Keys, format: Format, weights: FloatArray, channel: IndexArray) -> FloatArray:
    try:
        return format.decode(format.encode(weights, channel), channel)[0]
    except QuestionError as error:
        raise table.error("format", str(error)) from None


def _flips(table: Keys, format: Format, channel: IndexArray) -> Flips:
    bits = table.values.get("bits")
    if bits is not None and not all(type(bit) is int for bit in bits):
        raise table.error("bits", "'bits' must be a list of whole numbers")
    count = table.whole("flips", 1, MOST_FLIPS)
    try:
        return Flips(count, format, channel, None if bits is None else tuple(bits))
    except QuestionError as error:
        raise table.error("bits", str(error)) from None
