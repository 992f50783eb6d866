"""Relaxations of univariate functions for the search, one small file each.

A module gives ``relaxation(*parameters)``; a new function is a new module: nothing lists
them.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor

from specs.errors import UnsupportedOperatorError


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines that enclose a function on intervals: slopes and intercepts, all ``(..., n)``.

    ``lower_intercept`` is ``None`` where it is zero throughout.  ``second`` has the slopes
    below and above in a second argument, where there is one.
    """

    lower_slope: Tensor
    lower_intercept: Tensor | None
    upper_slope: Tensor
    upper_intercept: Tensor
    second: tuple[Tensor, Tensor] | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Lines:
        """Every part changed."""
        floor, second = self.lower_intercept, self.second
        return Lines(
            change(self.lower_slope),
            None if floor is None else change(floor),
            change(self.upper_slope),
            change(self.upper_intercept),
            None if second is None else (change(second[0]), change(second[1])),
        )

    def take(self, index: Tensor) -> Lines:
        """The lines of these rows, of ``(R or 1, n)``."""
        return self.map(lambda part: part[index] if len(part) > 1 else part)


@dataclass(frozen=True, eq=False)
class Rates:
    """Derivatives of lines by their parameters; ``None`` where a line has none."""

    lower_slope: Tensor | None = None
    lower_intercept: Tensor | None = None
    upper_slope: Tensor | None = None
    upper_intercept: Tensor | None = None
    second: tuple[Tensor, Tensor] | None = None


class Free(Protocol):
    """Lines on given intervals that depend on parameters in [0, 1]."""

    def start(self) -> tuple[Tensor, ...]: ...
    def lines(self, *parameters: Tensor) -> Lines: ...
    def rates(self, *parameters: Tensor) -> Rates: ...


class Relaxation(Protocol):
    """What the search knows of a function."""

    free: int

    def value(self, *x: Tensor) -> Tensor: ...
    def image(self, *ends: Tensor) -> tuple[Tensor, Tensor]: ...
    def linear(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]: ...
    def unstable(self, lower: Tensor, upper: Tensor) -> Tensor: ...
    def default(self, *ends: Tensor) -> Lines: ...
    def relaxed(self, *ends: Tensor) -> Free: ...
    def split_point(self, lower: Tensor, upper: Tensor) -> Tensor: ...


KNOWN = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@functools.lru_cache(maxsize=256)
def find(name: str, parameters: tuple[float, ...] = ()) -> Relaxation:
    if name not in KNOWN:
        raise UnsupportedOperatorError(f"the search has no relaxation of {name}")
    module = importlib.import_module(f"verifier.relaxations.{name}")
    return cast(Relaxation, module.relaxation(*parameters))
