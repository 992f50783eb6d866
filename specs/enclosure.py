"""Real constants carried as a float and a radius."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.errors import ModelError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Enclosure:
    """An array of real constants, each within ``radius`` of ``value``.

    Attributes:
        value: float64 array, finite.
        radius: float64 array of the same shape, finite and non-negative, or
            ``None`` when every constant equals its ``value`` exactly.

    Raises:
        ModelError: a value or radius is not finite, or a radius is negative.
    """

    value: FloatArray
    radius: FloatArray | None = None

    def __post_init__(self) -> None:
        value = _frozen(self.value)
        if not np.all(np.isfinite(value)):
            raise ModelError("a constant is not finite")
        object.__setattr__(self, "value", value)
        if self.radius is None:
            return
        radius = _frozen(self.radius)
        if radius.shape != value.shape:
            raise ModelError(f"radius shape {radius.shape} differs from value shape {value.shape}")
        if not np.all(np.isfinite(radius)) or np.any(radius < 0):
            raise ModelError("the radius of a constant is negative or not finite")
        object.__setattr__(self, "radius", radius if np.any(radius) else None)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def exact(self) -> bool:
        """Whether the constants equal their values exactly."""
        return self.radius is None


def zeros(size: int) -> Enclosure:
    """The exact zero vector of ``size`` entries."""
    return Enclosure(np.zeros(size))


def _frozen(array: Any) -> FloatArray:
    """A read-only copy; an array that is read-only already stays as it lies in memory."""
    kept = isinstance(array, np.ndarray) and array.dtype == np.float64 and array.ndim > 0
    if kept and not array.flags.writeable:
        return np.asarray(array)
    out = np.asarray(array, dtype=np.float64, order="C")
    if out.flags.writeable:
        out = out.copy() if out is array or out.base is not None else out
        out.flags.writeable = False
    return out
