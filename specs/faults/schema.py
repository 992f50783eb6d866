"""The table ``[faults]`` of a question file; ``docs/faults.md`` describes it for users.

model        "bit_flips", "stuck_at", "weight_box", "pruning" or "activation_faults"
k            how many faults at most; 1 where left out       not weight_box
per_word     true: all of them in one word                   bit_flips, stuck_at
format       "stored", "float32", "float16", "bfloat16",     bit_flips, stuck_at
             "int2" ... "int16", "uint2" ... "uint16", "Qm.n"
scale, zero  of integers; a list goes with axis              with an integer format
axis         one scale for each index along it               with an integer format
reads        0 or 1                                          stuck_at
absolute, relative                                           weight_box
range        [LOW, HIGH]                                     activation_faults
unit         "neuron" or "channel"                           activation_faults
tensors, layers, channels, bits                              where; see Where
except       [[TENSOR, ENTRY, BIT], ...]: cells left out     bit_flips, stuck_at
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from specs.document import Document, read_document
from specs.errors import InputError, QuestionError
from specs.faults.formats import FLOAT_FORMATS, FixedFormat
from specs.faults.memory import Choice, Quantised
from specs.faults.models import (
    NEURON,
    ActivationFaults,
    BitFlips,
    FaultModel,
    Pruning,
    Spared,
    StuckAt,
    WeightBox,
    Where,
    followed,
)
from specs.faults.placed import Placed, read_placed
from specs.property import Property
from specs.question import check_question, only_model, stated_property

_NUMBER = (int, Fraction)
_WHERE: dict[str, tuple[type, ...]] = {"tensors": (list,), "layers": (list,), "channels": (list,)}
_WORDS: dict[str, tuple[type, ...]] = {
    "k": (int,),
    "per_word": (bool,),
    "format": (str,),
    "scale": (*_NUMBER, list),
    "zero": (int, list),
    "axis": (int,),
    **_WHERE,
    "bits": (list,),
    "except": (list,),
}
_KEYS: dict[str, dict[str, tuple[type, ...]]] = {
    "bit_flips": _WORDS,
    "stuck_at": {**_WORDS, "reads": (int,)},
    "weight_box": {"absolute": _NUMBER, "relative": _NUMBER, **_WHERE},
    "pruning": {"k": (int,), **_WHERE},
    "activation_faults": {"k": (int,), "range": (list,), "unit": (str,), **_WHERE},
}


@dataclass(frozen=True, eq=False)
class FaultQuestion:
    """What a question file with ``[faults]`` states.

    Attributes:
        placed: the model; the parameters that the fault model names were followed, or all.
        model: what may be wrong.
        property: what must hold nevertheless; ``None``: the file states no region.
        property_digest: of it.
        title: how messages call the question.
    """

    placed: Placed
    model: FaultModel
    property: Property | None
    property_digest: str | None
    title: str


def load_faults(path: str | Path) -> FaultQuestion:
    """A question file with ``[faults]``.

    Raises:
        QuestionError: it is malformed, or its parts do not fit; the message says where.
        ModelError: the model cannot be read, or has no rule for a parameter's faults.
        PropertyError: the property cannot be read or does not fit the model.
    """
    path = Path(path)
    document = read_document(path)
    check_question(document, "faults")
    if document.tables.get("semantics", "real") != "real":
        raise document.error("", "semantics", "faults are stated of real semantics only")
    model = read_faults(document)
    placed = read_placed(only_model(document), *followed(model))
    stated, digest = None, None
    if "region" in document.tables or "statement" in document.tables:
        stated, digest = stated_property(document, placed.network)
    title = str(document.tables.get("title", path.name))
    return FaultQuestion(placed, model, stated, digest, title)


def read_faults(document: Document) -> FaultModel:
    """The fault model that ``[faults]`` states.

    Raises:
        QuestionError: it is malformed; the message says where.
    """
    table = document.table("faults")
    kind = table.get("model")
    if not isinstance(kind, str) or kind not in _KEYS:
        known = ", ".join(f"'{name}'" for name in _KEYS)
        raise document.error("faults", "model", f"[faults] needs model, one of {known}")
    given = {key: value for key, value in table.items() if key != "model"}
    for key, value in given.items():
        document.check("faults", key, value, _KEYS[kind])
    try:
        return _model(kind, given)
    except _MisplacedError as error:
        raise document.error("faults", error.key, str(error)) from None
    except InputError as error:
        named = (key for key in given if re.search(rf"\b{key}s?\b", str(error)))
        key = next(named, "format" if "format" in given else "model")
        raise document.error("faults", key, str(error)) from None


class _MisplacedError(QuestionError):
    """An error in the value of a key."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def _model(kind: str, given: Mapping[str, Any]) -> FaultModel:
    where = Where(
        _strings(given, "tensors"),
        _strings(given, "layers"),
        _integers(given, "channels"),
        _integers(given, "bits"),
    )
    k = int(given.get("k", 1))
    if kind == "weight_box":
        if not given.keys() & {"absolute", "relative"}:
            raise _MisplacedError("model", "a weight_box needs absolute, relative or both")
        absolute, relative = (Fraction(given.get(key, 0)) for key in ("absolute", "relative"))
        return WeightBox(absolute, relative, where)
    if kind == "pruning":
        return Pruning(k, where)
    if kind == "activation_faults":
        span = given.get("range")
        if span is None or len(span) != 2:
            raise _MisplacedError("range", "activation_faults need range = [LOW, HIGH]")
        lower, upper = (Fraction(end) for end in span)
        return ActivationFaults(k, lower, upper, where, given.get("unit", NEURON))
    words = (k, choice_of(given), where, bool(given.get("per_word", False)))
    spared = _spared(given.get("except", []))
    if kind == "bit_flips":
        return BitFlips(*words, spared)
    return StuckAt(*words, given.get("reads"), spared)


def _spared(listed: list[Any]) -> Spared:
    for number, cell in enumerate(listed):
        right = isinstance(cell, list) and len(cell) == 3 and isinstance(cell[0], str)
        if not right or not all(type(part) is int for part in cell[1:]):
            raise _MisplacedError(
                "except", f"cell {number} of 'except' is {cell!r:.60}, not [TENSOR, ENTRY, BIT]"
            )
    try:
        return Spared.of((name, entry, bit) for name, entry, bit in listed)
    except QuestionError as error:
        raise _MisplacedError("except", str(error)) from None


def choice_of(given: Mapping[str, Any]) -> Choice:
    """How parameters are stored, by the keys ``format``, ``scale``, ``zero`` and ``axis``.

    Raises:
        QuestionError: they do not go together.
    """
    name = given.get("format", "stored")
    whole = re.fullmatch(r"(u?)int([0-9]{1,4})", name)
    if whole is not None:
        return _quantised(given, not whole[1], int(whole[2]))
    for key in ("scale", "zero", "axis"):
        if key in given:
            raise _MisplacedError(key, f"'{key}' goes with an integer format, not with '{name}'")
    if name == "stored":
        return None
    fixed = re.fullmatch(r"Q([0-9]{1,4})\.([0-9]{1,4})", name)
    if fixed is not None:
        return FixedFormat(int(fixed[1]), int(fixed[2]))
    if name not in FLOAT_FORMATS:
        known = ", ".join(FLOAT_FORMATS)
        raise _MisplacedError(
            "format", f"format '{name}': use stored, {known}, intN, uintN or Qm.n"
        )
    return FLOAT_FORMATS[name]


def _quantised(given: Mapping[str, Any], signed: bool, bits: int) -> Quantised:
    axis, scale, zero = given.get("axis"), given.get("scale"), given.get("zero", 0)
    if axis is not None and axis < 0:
        raise _MisplacedError("axis", f"axis {axis} is negative")
    if scale is None:
        if zero != 0 or not signed:
            raise _MisplacedError("scale", "unsigned integers, or a zero point, need a scale")
        return Quantised(bits, axis=axis)
    scales = scale if isinstance(scale, list) else [scale]
    zeros = zero if isinstance(zero, list) else [zero] * len(scales)
    if any(not isinstance(entry, int) for entry in zeros):
        raise _MisplacedError("zero", "zero points are integers")
    steps = [float(np.float32(float(entry))) for entry in scales]
    return Quantised(bits, signed, tuple(steps), tuple(zeros), axis)


def _strings(given: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    found = given.get(key)
    if found is not None and not all(isinstance(entry, str) for entry in found):
        raise _MisplacedError(key, f"'{key}' must be a list of strings")
    return None if found is None else tuple(found)


def _integers(given: Mapping[str, Any], key: str) -> tuple[int, ...] | None:
    found = given.get(key)
    if found is not None and not all(isinstance(entry, int) for entry in found):
        raise _MisplacedError(key, f"'{key}' must be a list of integers")
    return None if found is None else tuple(found)
