"""What the answers of ``[faults]`` share: the model, its stored words, and the samples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.faults.memory import Memory, Quantised, store
from specs.faults.models import (
    ActivationFaults,
    BitFlips,
    FaultModel,
    Pruning,
    StuckAt,
    WeightBox,
    followed,
)
from specs.faults.placed import Placed, read_placed
from specs.faults.schema import read_faults
from specs.faults.sites import Cells, cells
from specs.linear import IndexArray
from verifier.certify.data import Data
from verifier.certify.section import Setting, shown
from verifier.certify.table import Table
from verifier.faults.judge import Judge

REAL_ARITHMETIC = (
    "networks are real-valued functions with exactly the stored values; rounding and overflow in "
    "a runtime are left out"
)
INTACT = (
    "what is no initializer (instructions, addresses, attributes and constants of the graph, "
    "scales and zero points of a stated format, inputs, the arithmetic) is intact"
)
NOTICED = (
    "a word that becomes Inf or NaN, or a value with which the network is not defined, is noticed "
    "by the platform"
)
SAMPLES = (
    "points and data sets are the samples that were given; other inputs are not spoken of unless a "
    "radius is stated"
)

FAULT_KEYS = (
    *("model", "k", "per_word", "format", "scale", "zero", "axis", "reads"),
    *("absolute", "relative", "range", "unit", "tensors", "layers", "channels", "bits", "except"),
)
"""What states a fault model; see ``specs/faults/schema.py``."""


@dataclass(frozen=True, eq=False)
class Faults:
    """A model and what may be wrong with it.

    Attributes:
        setting: of the configuration.
        table: ``[faults]``.
        path: of the model.
        fault: the fault model; ``None``: the table states none.
        stated: what the table says of it, as it stands.
    """

    setting: Setting
    table: Table
    path: Path
    fault: FaultModel | None
    stated: Mapping[str, Any]

    @cached_property
    def placed(self) -> Placed:
        """The model; the parameters that the fault model names are followed, or all."""
        return read_placed(self.path, *(() if self.fault is None else followed(self.fault)))

    @cached_property
    def plain(self) -> Placed:
        """The model without followed parameters."""
        return read_placed(self.path, ())

    @cached_property
    def cells(self) -> Cells:
        """The memory cells that may be struck.

        Raises:
            QuestionError: the fault model is not one of bits.
        """
        if not isinstance(self.fault, BitFlips | StuckAt):
            raise self.table.error("model", "this asks for model = 'bit_flips' or 'stuck_at'")
        fault = self.fault
        found: Cells = self.table.placed(
            "model", lambda: cells(store(self.placed, fault.format), fault)
        )
        return found

    @property
    def memory(self) -> Memory:
        """The stored parameters."""
        return self.cells.memory

    @property
    def text(self) -> str:
        """What results depend on."""
        stated = "" if self.fault is None else self.fault.text
        return f"{self.plain.model.digest} {stated}"

    @property
    def single_text(self) -> str:
        """What results about single faults depend on: not on how many there may be."""
        fault = self.cells.model
        return f"{self.plain.model.digest} {replace(fault, k=1, per_word=False).text}"

    def samples(self, table: Table, *, predicted: bool = True) -> Data:
        """The samples that an answer speaks of: ``first`` of them.

        Args:
            table: of the answer.
            predicted: it speaks of predictions.

        Raises:
            QuestionError: there are none, or they do not fit the model.
        """
        first = table.integer("first", None, 1)
        data = self.setting.data
        if data is None:
            raise table.error("", f"[{table.name}] needs samples: [data] is missing")
        size = self.plain.network.input_size
        if data.points.shape[1] != size:
            raise self.setting.document.error(
                "data", "points", f"samples of {data.points.shape[1]} numbers for {size} inputs"
            )
        outputs = self.plain.network.output_size
        if predicted and outputs < 2:
            raise table.error("", f"[{table.name}]: a prediction needs two outputs")
        if predicted and data.labels is not None and int(data.labels.max()) >= outputs:
            raise self.setting.document.error(
                "data",
                "labels",
                f"label {int(data.labels.max())} of a model with {outputs} outputs",
            )
        return data.first(first)

    @cached_property
    def stored_bits(self) -> int:
        """How many bits the initializers have, each in the format that it is stored in."""
        graph = onnx.ModelProto.FromString(self.placed.model.content).graph
        total, known = 0, self.memory.stored
        for tensor in graph.initializer:
            count = 1
            for extent in tensor.dims:
                count *= extent
            if tensor.name in known:
                width = known[tensor.name].format.bits
            else:
                width = 8 * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
            total += count * width
        return max(total, self.cells.count)


def narrowed(faults: Faults, table: Table, *, without: Sequence[str] = ()) -> Faults:
    """The faults with what an answer's own table says of them.

    Keys of a fault model stand for those of ``[faults]``; with ``model`` they state another one.

    Args:
        faults: of the section.
        table: of the answer.
        without: keys that mean something else there.

    Raises:
        QuestionError: together they make no fault model.
    """
    keys = [key for key in FAULT_KEYS if key not in without]
    own = {key: table.values[key] for key in keys if table.has(key)}
    if not own:
        return faults
    stated = own if "model" in own else {**faults.stated, **own}
    document = replace(faults.setting.document, tables={"faults": stated})
    try:
        fault = read_faults(document)
    except InputError as error:
        key = next((key for key in own if f"'{key}'" in str(error)), next(iter(own)))
        raise table.error(key, message_of(error)) from None
    return replace(faults, fault=fault, stated=stated)


def message_of(error: InputError) -> str:
    """What an error of a file says, without the place."""
    return re.sub(r"^\S*:\d+:\d+: ", "", str(error))


def predictions(memory: Memory, data: Data) -> IndexArray:
    """The fault-free predictions of the network with the stored values.

    Raises:
        InputError: at some sample no output exceeds every other for certain.
    """
    try:
        return Judge(memory, data.points).labels
    except InputError as error:
        raise InputError(f"samples {data.numbers[0]} to {data.numbers[-1]}: {error}") from None


def in_words(model: FaultModel) -> str:
    """A fault model for people."""
    where = [
        f"{name} {', '.join(map(str, given))}"
        for name in ("tensors", "layers", "channels", "bits")
        if (given := getattr(model.where, name)) is not None
    ]
    scope = f", in {'; '.join(where)}" if where else ""
    if isinstance(model, BitFlips | StuckAt) and len(model.spared):
        scope += f", except {len(model.spared)} cells that are listed"
    if isinstance(model, WeightBox):
        sizes = {"": model.absolute, " |w|": model.relative}
        radius = " + ".join(f"{shown(r)}{of}" for of, r in sizes.items() if r) or "0"
        return f"every parameter w off by at most {radius}{scope}"
    if isinstance(model, Pruning):
        return f"at most {model.k} parameter{'' if model.k == 1 else 's'} pruned{scope}"
    if isinstance(model, ActivationFaults):
        ends = f"[{shown(model.lower)}, {shown(model.upper)}]"
        return f"at most {model.k} faulty {model.unit}(s), of any values in {ends}{scope}"
    many = "" if model.k == 1 else "s"
    kind = f"flipped bit{many}"
    if isinstance(model, StuckAt):
        kind = f"cell{many} stuck at {'0 or 1' if model.reads is None else model.reads}"
    stored = "as in the file" if model.format is None else f"as {model.format.text}"
    if isinstance(model.format, Quantised):
        stored = f"as {'' if model.format.signed else 'u'}int{model.format.bits}"
    spread = "in one word" if model.per_word else "anywhere"
    return f"at most {model.k} {kind} {spread}, stored {stored}{scope}"


def radius_of(table: Table) -> tuple[Fraction | None, tuple[Fraction, Fraction] | None]:
    """``radius`` and ``clip`` of an answer.

    Raises:
        QuestionError: a clip without a radius, or a negative one.
    """
    radius, clip = table.number("radius", None, 0), table.interval("clip")
    if clip is not None and radius is None:
        raise table.error("clip", "'clip' goes with a radius")
    return radius, clip


def around(radius: Fraction, clip: tuple[Fraction, Fraction] | None) -> str:
    """The inputs of a box around a sample, for people."""
    cut = "" if clip is None else f", cut to [{shown(clip[0])}, {shown(clip[1])}]"
    return f"within {shown(radius)} of the sample{cut}"


def point_text(point: FloatArray) -> str:
    """What a result at a point depends on, exactly."""
    return point.tobytes().hex()
