"""Fault models: what may be wrong with stored parameters or with activations.

A model is a statement that a question makes; what it comes to for a network, its sites and the
numbers that parameters can become, is computed in ``specs.faults.sites``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from specs.errors import QuestionError
from specs.faults.memory import Choice

Names = tuple[str, ...] | None
Numbers = tuple[int, ...] | None

NEURON = "neuron"
CHANNEL = "channel"


@dataclass(frozen=True)
class Where:
    """Which words, or activations, may be struck; ``None`` everywhere: all.

    Attributes:
        tensors: ONNX names: of initialisers, or of the tensors of activations.
        layers: ONNX names of tensors that operators compute: the parameters that these
            operators read.  Activations have no layers.
        channels: of the operator's result; what stands in several channels is in none.
        bits: positions in a word, 0 the least significant.  Activations have no bits.
    """

    tensors: Names = None
    layers: Names = None
    channels: Numbers = None
    bits: Numbers = None

    def __post_init__(self) -> None:
        for name in ("tensors", "layers", "channels", "bits"):
            given = getattr(self, name)
            if given is not None and (not given or len(set(given)) != len(given)):
                raise QuestionError(f"{name} is empty, or names something twice")
        for name in ("channels", "bits"):
            if min(getattr(self, name) or (0,)) < 0:
                raise QuestionError(f"{name} holds a negative number")

    @property
    def text(self) -> str:
        """What a digest covers."""
        parts = (self.tensors, self.layers, self.channels, self.bits)
        return " ".join("*" if part is None else repr(list(part)) for part in parts)


@dataclass(frozen=True)
class Spared:
    """Single memory cells that a model of bit faults does not speak of.

    Attributes:
        cells: ascending, each once: an initialiser, a flat entry of it, and a bit of its word.
    """

    cells: tuple[tuple[str, int, int], ...] = ()

    def __post_init__(self) -> None:
        if any(self.cells[k] >= self.cells[k + 1] for k in range(len(self.cells) - 1)):
            raise QuestionError("except: its cells are not ascending, or one is there twice")
        if any(min(entry, bit) < 0 for _, entry, bit in self.cells):
            raise QuestionError("except holds a negative number")

    @staticmethod
    def of(cells: Iterable[tuple[str, int, int]]) -> Spared:
        """Cells in any order; one that is listed twice counts once."""
        return Spared(tuple(sorted(set(cells))))

    def __len__(self) -> int:
        return len(self.cells)

    @cached_property
    def text(self) -> str:
        """What a digest covers: how many cells, and the SHA-256 of the list of them."""
        if not self.cells:
            return ""
        listed = "".join(f"{name!r} {entry} {bit}\n" for name, entry, bit in self.cells)
        digest = hashlib.sha256(listed.encode("utf-8", "backslashreplace")).hexdigest()
        return f" except {len(self.cells)} cells, sha256 {digest}"


@dataclass(frozen=True)
class WeightBox:
    """Every parameter ``w`` may lie anywhere in ``[w - r, w + r]``, all of them at once.

    Attributes:
        absolute, relative: ``r = absolute + relative * |w|``, exactly.
        where: which parameters; bits do not apply.
    """

    absolute: Fraction = Fraction(0)
    relative: Fraction = Fraction(0)
    where: Where = Where()

    def __post_init__(self) -> None:
        if min(self.absolute, self.relative) < 0:
            raise QuestionError("'absolute' or 'relative' is negative")
        if self.where.bits is not None:
            raise QuestionError("'bits' does not apply to a weight_box")

    @property
    def text(self) -> str:
        """What a digest covers."""
        return f"weight_box {self.absolute} {self.relative} {self.where.text}"


@dataclass(frozen=True)
class Pruning:
    """At most ``k`` parameters become 0.

    Attributes:
        k: at least 1.
        where: which parameters; bits do not apply.
    """

    k: int = 1
    where: Where = Where()

    def __post_init__(self) -> None:
        _check_count(self.k)
        if self.where.bits is not None:
            raise QuestionError("'bits' does not apply to pruning")

    @property
    def text(self) -> str:
        """What a digest covers."""
        return f"pruning {self.k} {self.where.text}"


@dataclass(frozen=True)
class BitFlips:
    """At most ``k`` stored bits are inverted.

    Attributes:
        k: at least 1.
        format: how parameters are stored.
        where: which words and bits.
        per_word: the flips lie in a single word; otherwise anywhere.
        spared: cells that never fail, as far as the model goes.
    """

    k: int = 1
    format: Choice = None
    where: Where = Where()
    per_word: bool = False
    spared: Spared = Spared()

    def __post_init__(self) -> None:
        _check_count(self.k)

    @property
    def text(self) -> str:
        """What a digest covers."""
        spread = "in one word" if self.per_word else "anywhere"
        words = f"{spread} {_text(self.format)} {self.where.text}{self.spared.text}"
        return f"bit_flips {self.k} {words}"


@dataclass(frozen=True)
class StuckAt:
    """At most ``k`` memory cells read 0, or 1, whatever was written.

    Attributes:
        k: at least 1.
        format: how parameters are stored.
        where: which words and bits.
        per_word: the cells lie in a single word; otherwise anywhere.
        reads: what faulty cells read, 0 or 1; ``None``: each of them either.
        spared: cells that never fail, as far as the model goes.
    """

    k: int = 1
    format: Choice = None
    where: Where = Where()
    per_word: bool = False
    reads: int | None = None
    spared: Spared = Spared()

    def __post_init__(self) -> None:
        _check_count(self.k)
        if self.reads not in (None, 0, 1):
            raise QuestionError(f"a cell reads 0 or 1, not {self.reads}")

    @property
    def text(self) -> str:
        """What a digest covers."""
        spread = "in one word" if self.per_word else "anywhere"
        reads = "either" if self.reads is None else str(self.reads)
        words = f"{spread} {_text(self.format)} {self.where.text}{self.spared.text}"
        return f"stuck_at {self.k} {reads} {words}"


@dataclass(frozen=True)
class ActivationFaults:
    """At most ``k`` activations, or whole channels, become any values of a range.

    Every entry of a faulty channel takes a value of its own.

    Attributes:
        k: at least 1.
        lower, upper: the range.
        where: tensors and channels.
        unit: ``"neuron"`` or ``"channel"``.
    """

    k: int
    lower: Fraction
    upper: Fraction
    where: Where = Where()
    unit: str = NEURON

    def __post_init__(self) -> None:
        _check_count(self.k)
        if self.lower > self.upper:
            raise QuestionError(f"the range [{self.lower}, {self.upper}] is empty")
        if self.unit not in (NEURON, CHANNEL):
            raise QuestionError(f"unit '{self.unit}': use '{NEURON}' or '{CHANNEL}'")
        if self.where.bits is not None or self.where.layers is not None:
            raise QuestionError("'bits' and 'layers' do not apply to activations")

    @property
    def text(self) -> str:
        """What a digest covers."""
        span = f"{self.lower} {self.upper}"
        return f"activation_faults {self.k} {self.unit} {span} {self.where.text}"


FaultModel = WeightBox | Pruning | BitFlips | StuckAt | ActivationFaults
ValueFaults = WeightBox | Pruning
"""Of numbers, whatever words they are stored as."""

BitFaults = BitFlips | StuckAt


def followed(model: FaultModel) -> tuple[Names, Names]:
    """Of which parameters and of which activations it is to be known where they stand."""
    if isinstance(model, ActivationFaults):
        return (), model.where.tensors
    return model.where.tensors, ()


def _text(choice: Choice) -> str:
    return "stored" if choice is None else choice.text


def _check_count(k: int) -> None:
    if k < 1:
        raise QuestionError(f"k = {k}: at least one fault")
