"""What an attack cost: how far it moved the parameters, exactly, in the certificates' norms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.errors import InputError
from verifier.watermarks.parameters import Parameters, parameters

_SHIFT = 149
"""Every float32 is a multiple of ``2**-149``."""


@dataclass(frozen=True)
class Change:
    """How far numbers ``w`` moved, to ``w'``; all but the shares exactly.

    Attributes:
        count: numbers.
        changed: how many are others now.
        zeroed: how many were not 0 and are now.
        flipped: bits that differ in their float32 words, all together.
        linf: the largest ``|w' - w|``.
        l2_squared: the sum of squares of ``w' - w``.
        l1: the sum of ``|w' - w|``.
        own_squared: the sum of squares of ``w``.
        relative_linf: the largest ``|w' - w| / |w|``; infinite where a 0 moved.
    """

    count: int
    changed: int
    zeroed: int
    flipped: int
    linf: Fraction
    l2_squared: Fraction
    l1: Fraction
    own_squared: Fraction
    relative_linf: float

    @property
    def l2(self) -> float:
        """The Euclidean norm, to nearest."""
        return _root(self.l2_squared)

    @property
    def relative_l2(self) -> float:
        """The Euclidean norm in units of that of ``w``."""
        if not self.l2_squared:
            return 0.0
        return _root(self.l2_squared / self.own_squared) if self.own_squared else math.inf

    def inside(self, norm: str, radius: Fraction) -> bool:
        """Whether the change lies in the closed ball of a norm, exactly.

        Args:
            norm: ``linf``, ``l2`` or ``l1``.

        Raises:
            InputError: another norm, or a negative radius.
        """
        if radius < 0:
            raise InputError(f"a radius of {radius}")
        match norm:
            case "linf":
                return self.linf <= radius
            case "l2":
                return self.l2_squared <= radius * radius
            case "l1":
                return self.l1 <= radius
        raise InputError(f"norm '{norm}' is none of linf, l2, l1")

    def record(self) -> dict[str, Any]:
        """For JSON: rounded numbers."""
        return {
            "count": self.count,
            "changed": self.changed,
            "zeroed": self.zeroed,
            "flipped_bits": self.flipped,
            "linf": float(self.linf),
            "l2": self.l2,
            "l1": float(self.l1),
            "relative_linf": self.relative_linf if math.isfinite(self.relative_linf) else None,
            "relative_l2": self.relative_l2 if math.isfinite(self.relative_l2) else None,
        }


@dataclass(frozen=True)
class Cost:
    """What an attack changed.

    Attributes:
        every: over all float32 initialisers, statistics of norms included.
        tensors: by initialiser.
    """

    every: Change
    tensors: Mapping[str, Change]

    def of(self, tensor: str) -> Change:
        """Of one initialiser.

        Raises:
            InputError: there is none of this name.
        """
        if tensor not in self.tensors:
            raise InputError(f"no float32 initialiser is called '{tensor}'")
        return self.tensors[tensor]


def cost(before: bytes, after: bytes) -> Cost:
    """What distinguishes two model files with the same initialisers.

    Raises:
        ModelError: one is no model, or holds numbers that are not finite.
        InputError: their initialisers have other names or shapes: not a change of parameters.
    """
    first, second = parameters(before), parameters(after)
    if {k: v.shape for k, v in first.items()} != {k: v.shape for k, v in second.items()}:
        raise InputError("the models have other initialisers, so no norm compares them")
    return Cost(
        change(first, second, first), {name: change(first, second, [name]) for name in first}
    )


def change(before: Parameters, after: Parameters, names: Iterable[str]) -> Change:
    """What distinguishes initialisers of the same names and shapes, taken together."""
    chosen = list(names)
    old = np.concatenate([np.zeros(0, np.float32), *(before[name].reshape(-1) for name in chosen)])
    new = np.concatenate([np.zeros(0, np.float32), *(after[name].reshape(-1) for name in chosen)])
    own, moved = _whole(old), [a - b for a, b in zip(_whole(new), _whole(old), strict=True)]
    sizes = [abs(step) for step in moved]
    unit = Fraction(1, 1 << _SHIFT)
    words = (old.view(np.uint32) ^ new.view(np.uint32)).view(np.uint8)
    shares = (s / abs(w) if w else math.inf for s, w in zip(sizes, own, strict=True) if s)
    return Change(
        count=old.size,
        changed=sum(1 for step in moved if step),
        zeroed=int(np.sum((old != 0) & (new == 0))),
        flipped=int(np.unpackbits(words).sum()),
        linf=max(sizes, default=0) * unit,
        l2_squared=sum(step * step for step in moved) * unit * unit,
        l1=sum(sizes) * unit,
        own_squared=sum(w * w for w in own) * unit * unit,
        relative_linf=max(shares, default=0.0),
    )


def _whole(values: npt.NDArray[np.float32]) -> list[int]:
    """In units of ``2**-149``, exactly: at most ``2**277``, which float64 holds."""
    return [int(v) for v in np.ldexp(values.astype(np.float64), _SHIFT).tolist()]


def _root(square: Fraction) -> float:
    """The square root of a rational, within a few units in the last place."""
    if not square:
        return 0.0
    shift = max(0, 128 - (square.numerator.bit_length() - square.denominator.bit_length())) // 2
    return math.ldexp(math.isqrt((square.numerator << 2 * shift) // square.denominator), -shift)
