"""Relaxations of univariate functions for the search: one module each, found by its name.

A module gives ``relaxation(*parameters)``, the function with these parameters as an object
with the methods of :class:`Relaxation`.  A new function is a new module: nothing lists
them.  What many functions share stands in :mod:`verifier.relaxations.curve`.

Bounds found with these lines are the search's guesses: the kernel takes the slopes as hints
and finds the intercepts anew.
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

KNOWN = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


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
        """The lines with every part changed."""
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
    """Derivatives of lines: of the one below by the first parameter, above by the second.

    All ``(..., n)``; ``None`` where zero throughout, as for a line without a parameter.
    """

    lower_slope: Tensor | None = None
    lower_intercept: Tensor | None = None
    upper_slope: Tensor | None = None
    upper_intercept: Tensor | None = None
    second: tuple[Tensor, Tensor] | None = None


class Free(Protocol):
    """Lines on given intervals ``(1 or R, n)`` that depend on parameters in [0, 1].

    There are as many parameters ``(R, n)`` as the relaxation's ``free`` says; every value
    gives lines that enclose the function.
    """

    def start(self) -> tuple[Tensor, ...]:
        """The parameters whose lines are, or are nearest to, the default ones."""
        ...

    def lines(self, *parameters: Tensor) -> Lines:
        """The lines for these parameters."""
        ...

    def rates(self, *parameters: Tensor) -> Rates:
        """How the lines move with the parameters."""
        ...


class Relaxation(Protocol):
    """What the search knows of one univariate function; all elementwise.

    Intervals are ``[lower, upper]``.  Where the function is not defined on all of one, or
    overflows, an intercept is infinite and its slope finite; nothing is ever NaN.

    Attributes:
        free: parameters per neuron: of the line below, then of the line above.
    """

    @property
    def free(self) -> int: ...

    def value(self, x: Tensor) -> Tensor:
        """The function itself; differentiable."""
        ...

    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Its least and greatest values, infinite where it is not defined throughout."""
        ...

    def linear(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Where it is a multiple of its argument, and the factors (0 elsewhere)."""
        ...

    def unstable(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where it is not affine."""
        ...

    def default(self, lower: Tensor, upper: Tensor) -> Lines:
        """Lines without hints: the kernel's own choice."""
        ...

    def relaxed(self, lower: Tensor, upper: Tensor) -> Free:
        """Lines that depend on parameters."""
        ...

    def intercepts(
        self, lower: Tensor, upper: Tensor, below: Tensor, above: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Intercepts for given slopes: the least ``f(x) - below x``, the greatest above."""
        ...

    def split_point(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where branch and bound should split the interval; finite."""
        ...


@functools.lru_cache(maxsize=256)
def find(function: str, parameters: tuple[float, ...] = ()) -> Relaxation:
    """The relaxation of a univariate node's function.

    Raises:
        UnsupportedOperatorError: the search has no relaxation of it, or not for these
            parameters.
    """
    make = None
    if function in KNOWN:
        module = importlib.import_module(f"verifier.relaxations.{function}")
        make = getattr(module, "relaxation", None)
    if make is None:
        raise UnsupportedOperatorError(f"the search has no relaxation of {function}")
    return cast(Relaxation, make(*parameters))
