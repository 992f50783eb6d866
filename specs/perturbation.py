"""What may go wrong while a network runs.

Each kind of perturbation adds, at the tensors it concerns, error terms whose bounds the
kernel computes itself; they stand in the network as nodes of their own
(``specs.network.Perturbed``).  A query names its perturbations, and its digest covers them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from specs.enclosure import Enclosure
from specs.errors import ModelError, QuestionError

REAL = "real"
"""Semantics without rounding."""

INTEGER = "integer"
"""Bit-precise semantics of quantised models; no network in normal form has it."""


@dataclass(frozen=True)
class Rounding:
    """Every operator is evaluated in a binary floating-point format, rounded to nearest.

    Sums may be taken in any order, with or without fused multiply-add; numbers below the
    smallest normal one may be flushed to zero wherever they are read or written.

    Attributes:
        name: ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        precision: bits of the significand, the leading one included.
        smallest: exponent of the smallest normal number.
        highest: exponent of the largest power of two.
    """

    name: str
    precision: int
    smallest: int
    highest: int

    @property
    def text(self) -> str:
        """What a query's digest covers."""
        return f"rounding {self.name} {self.precision} {self.smallest} {self.highest}"

    @property
    def faulty_nodes(self) -> int:
        """None."""
        return 0

    @property
    def unit(self) -> float:
        """The unit roundoff: half the gap between 1 and the next number."""
        return 2.0**-self.precision

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return math.ldexp(1.0, self.smallest)

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return math.ldexp(2.0 - 2.0 ** (1 - self.precision), self.highest)

    def rounded(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The nearest numbers of the format, ties to even.

        Raises:
            ModelError: one is beyond the largest number.
        """
        given = np.asarray(values, dtype=np.float64)
        exponent = np.maximum(np.frexp(given)[1] - 1, self.smallest)
        # Both steps are exact: the grid is a power of two, the quotient of 53 bits.
        grid = np.ldexp(1.0, exponent - (self.precision - 1))
        found = np.asarray(np.rint(given / grid) * grid, dtype=np.float64)
        if np.any(np.abs(found) > self.largest):
            raise ModelError(f"a constant is beyond the range of {self.name}")
        return found

    def holds(self, value: Fraction) -> bool:
        """Whether a rational is a finite number of the format."""
        if abs(value) > self.largest:
            return False
        near = float(value)
        return Fraction(near) == value and float(self.rounded(near)) == near

    def stored(self, values: npt.ArrayLike) -> Enclosure:
        """Stored constants as the format holds them: rounded, and 0 where they are flushed."""
        found = self.rounded(values)
        flushed = np.where(np.abs(found) < self.tiny, np.abs(found), 0.0)
        return Enclosure(found, flushed)

    def share(self, terms: int, factors: int) -> float:
        """Relative error of a sum of ``terms`` terms, each of ``factors`` rounded factors.

        It is relative to the sum of the magnitudes of the terms.  Sums: in whatever order,
        ``n - 1`` additions of exact terms err by at most ``(n - 1) u`` times that sum, for
        every ``n`` (Jeannerod and Rump 2013).  That holds as well where an addition takes
        in a product that is not rounded before (fused multiply-add): its error is at most
        the product's magnitude and at most ``u`` times its exact result, which is all that
        the induction asks of the smaller term.  A rounding of a factor, quotient or
        product, before, between or after additions, multiplies the terms below it by
        ``1 + d`` or its inverse, ``|d| <= u``, so by at most ``(1 - u)**-1`` each.
        """
        return _share(self.precision, terms, factors)

    @property
    def not_modelled(self) -> tuple[str, ...]:
        """What the semantics leaves out, in words."""
        return (
            "TensorFloat-32 and other formats narrower than the one stated",
            "Winograd, Strassen and FFT forms of products and convolutions",
            "fusions that change the arithmetic, such as Conv with BatchNormalization",
            "library functions outside the allowances of specs/libraries.py",
            "rounding other than to nearest",
        )

    @property
    def covered(self) -> str:
        """Which evaluations the semantics covers, in words."""
        return (
            f"every {self.name} evaluation of the stored graph as it stands, operator by "
            "operator, sums in any order, fused multiply-add and flushing to zero or not"
        )


class Perturbation(Protocol):
    """Rounding, or faults of stored words (``specs.faults.struck.WordFaults``)."""

    @property
    def text(self) -> str:
        """What a query's digest covers."""
        ...

    @property
    def not_modelled(self) -> tuple[str, ...]:
        """What an answer leaves out, in words."""
        ...

    @property
    def faulty_nodes(self) -> int:
        """How many nodes of the query's network are struck by it."""
        ...


FORMATS = {
    "float32": Rounding("float32", 24, -126, 127),
    "float16": Rounding("float16", 11, -14, 15),
    "bfloat16": Rounding("bfloat16", 8, -126, 127),
}
SEMANTICS = (REAL, *FORMATS)


def rounding_of(semantics: str) -> Rounding | None:
    """The rounding that a name of semantics stands for; ``None`` for real numbers.

    Raises:
        QuestionError: there is no such semantics, or it is that of integers.
    """
    if semantics == INTEGER:
        raise QuestionError(
            "semantics 'integer': only farkas verify decides such questions; no proof speaks of "
            f"them yet, and no evidence can be checked (use one of {', '.join(SEMANTICS)})"
        )
    if semantics not in SEMANTICS:
        raise QuestionError(f"semantics '{semantics}': use one of {', '.join(SEMANTICS)}")
    return FORMATS.get(semantics)


def at_least(number: Fraction) -> float:
    """A float that is at least a non-negative rational."""
    near = float(number)
    return near if Fraction(near) >= number else math.nextafter(near, math.inf)


def above(values: Any) -> npt.NDArray[np.float64]:
    """Floats that exceed what at most ``2**20`` rounded operations on magnitudes lost."""
    return np.asarray(np.asarray(values, dtype=np.float64) * (1.0 + 2.0**-30), dtype=np.float64)


@lru_cache(maxsize=4096)
def _share(precision: int, terms: int, factors: int) -> float:
    unit = Fraction(1, 1 << precision)
    return at_least((1 + max(0, terms - 1) * unit) / (1 - unit) ** factors - 1)
