"""NeuralMark: a hashed filter picks entries of a tensor; a secret matrix maps averages to bits.

The matrix K is Gaussian, ``(length, bits)``, from the seed.  The watermark is SHAKE-256 of K's
bytes as float32, little endian, the most significant bit first.  ``rounds`` times, entries of
the flattened tensor are cut to a multiple of ``bits`` and kept where the watermark, repeated, has
a 1.  What is left is cut to a multiple of ``length`` and averaged in groups; bit j is the sign of
column j's product with the average.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from specs.document import Document
from specs.enclosure import FloatArray
from specs.errors import QuestionError
from specs.watermarks.key import FRACTION_BITS, BoolArray, Key
from specs.watermarks.mark import Commitment, LinearSystem
from specs.watermarks.reading import COMMON, MARK, Keys

KEYS = {**COMMON, **dict.fromkeys(("bits", "length", "rounds"), (int,)), "tensor": (str,)}


@dataclass(frozen=True, eq=False)
class NeuralMark:
    """A mark of this scheme.

    Attributes:
        key: from which everything follows.
        tensor: the initializer that carries it.
        count: how many bits.
        length: of the averaged vector.
        rounds: of filtering.
        commitment: of it.
    """

    key: Key
    tensor: str
    count: int
    length: int
    rounds: int
    commitment: Commitment

    scheme = "neuralmark"
    assumptions = (
        "without the mark, each bit is a fair coin, independent of the others: the key's hash acts "
        "as a random oracle, and the key was fixed before the model was known",
        "averages depend on the watermark through the filter: a key that was shaped by whoever "
        "knows the model needs an argument of its own",
    )

    @property
    def text(self) -> str:
        """What the mark depends on beside the seed."""
        return text_of(self.tensor, self.count, self.length, self.rounds)

    @property
    def size(self) -> int:
        """How many bits."""
        return self.count

    @property
    def null(self) -> tuple[Fraction, ...]:
        """One half each."""
        return (Fraction(1, 2),) * self.count

    @cached_property
    def matrix(self) -> FloatArray:
        """``(length, bits)``."""
        return self.key.gaussian(f"neuralmark {self.text}", self.length, self.count)

    @cached_property
    def bits(self) -> BoolArray:
        """``(bits,)``, the hash of the matrix."""
        content = self.matrix.astype("<f4").tobytes()  # exact: 19 bits an entry
        drawn = hashlib.shake_256(content).digest(-(-self.count // 8))
        return np.unpackbits(np.frombuffer(drawn, np.uint8))[: self.count].astype(np.bool_)

    def system(self, shape: tuple[int, ...]) -> LinearSystem:
        """The linear forms.

        Raises:
            QuestionError: the filter leaves less than one group.
        """
        kept = np.arange(math.prod(shape))
        for _ in range(self.rounds):
            kept = kept[: kept.size - kept.size % self.count]
            kept = kept[np.tile(self.bits, kept.size // self.count)]
        groups = kept.size // self.length
        if not groups:
            raise QuestionError(
                f"of the {math.prod(shape)} entries of '{self.tensor}' the filter keeps "
                f"{kept.size}, less than 'length' = {self.length}: take fewer 'rounds', a smaller "
                "'length' or a larger tensor"
            )
        whole = self.matrix * 2.0**FRACTION_BITS
        rows = np.tile(whole.T, (1, groups))
        scale = Fraction(1, groups << FRACTION_BITS)
        return LinearSystem(kept[: groups * self.length], rows, scale, self.bits)


def text_of(tensor: str, bits: int, length: int, rounds: int) -> str:
    """What a mark depends on beside its seed."""
    return f"neuralmark tensor={tensor!r} bits={bits} length={length} rounds={rounds}"


def read(document: Document) -> NeuralMark:
    """Keys: ``seed``, ``tensor``, ``bits`` (256), ``length`` (512), ``rounds`` (4)."""
    table = Keys.of(document, MARK, KEYS)
    key, tensor = table.key(), table.need("tensor")
    sizes = (
        table.whole("bits", 1, 4096, 256),
        table.whole("length", 1, 1 << 16, 512),
        table.whole("rounds", 0, 16, 4),
    )
    return NeuralMark(key, tensor, *sizes, table.commitment(key, text_of(tensor, *sizes)))
