"""Keys: everything secret about a mark follows from one committed seed.

Numbers come from SHAKE-256 and are exact, so that every machine derives the same key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from specs.enclosure import FloatArray
from specs.errors import QuestionError

BoolArray = npt.NDArray[np.bool_]

UNIFORMS = 12
"""Uniform numbers of 16 bits that are summed up for one entry."""

FRACTION_BITS = 16
"""Entries of a Gaussian matrix are multiples of ``2**-FRACTION_BITS``."""

SEED_BYTES = range(16, 65)


@dataclass(frozen=True)
class Key:
    """A seed.

    Attributes:
        seed: 16 to 64 bytes.

    Raises:
        QuestionError: it is shorter or longer.
    """

    seed: bytes

    def __post_init__(self) -> None:
        if len(self.seed) not in SEED_BYTES:
            raise QuestionError(
                f"a seed of {len(self.seed)} bytes; it must have {SEED_BYTES[0]} to "
                f"{SEED_BYTES[-1]}, written as twice as many hexadecimal digits"
            )

    @classmethod
    def of(cls, text: str) -> Key:
        """A key from hexadecimal digits.

        Raises:
            QuestionError: they are no such digits, or too few or too many.
        """
        try:
            return cls(bytes.fromhex(text))
        except ValueError:
            raise QuestionError(f"'{text[:40]}' is not a row of hexadecimal digits") from None

    def stream(self, label: str, count: int) -> bytes:
        """Bytes for one purpose; those for another tell nothing about them."""
        start = b"farkas-watermark-1\0" + label.encode() + b"\0" + self.seed
        return hashlib.shake_256(start).digest(count)

    def gaussian(self, label: str, rows: int, columns: int) -> FloatArray:
        """``(rows, columns)``: nearly N(0, 1), multiples of ``2**-16``, exact.

        Each is the sum of twelve uniform numbers of 16 bits, moved so that its mean is 0: its
        variance is 1 - 2**-32, and no entry exceeds 6 (Irwin and Hall).
        """
        drawn = np.frombuffer(self.stream(label, 2 * UNIFORMS * rows * columns), dtype="<u2")
        total = drawn.reshape(rows, columns, UNIFORMS).astype(np.int64).sum(axis=2)
        mean = UNIFORMS // 2 * ((1 << FRACTION_BITS) - 1)
        return np.asarray(total - mean, dtype=np.float64) * 2.0**-FRACTION_BITS

    def bits(self, label: str, count: int) -> BoolArray:
        """``(count,)`` bits, the most significant of a byte first."""
        drawn = np.frombuffer(self.stream(label, -(-count // 8)), dtype=np.uint8)
        return np.unpackbits(drawn)[:count].astype(np.bool_)

    def commitment(self, text: str) -> str:
        """SHA-256 (hexadecimal) that binds the seed to what it is used for."""
        content = b"farkas-commitment-1\n" + self.seed.hex().encode() + b"\n" + text.encode()
        return hashlib.sha256(content).hexdigest()
