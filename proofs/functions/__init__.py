"""Univariate functions in the kernel: one module per function, found by its name.

A module gives five functions over numbers of an arithmetic; arrays are elementwise.

- ``unstable(lower, upper)``: where the function is not linear on the interval;
- ``at_point(centre, radius)``: the value at an exact point, for a witness;
- ``image(arithmetic, lower, upper)``: an interval that contains the function's values;
- ``default_slopes(lower, upper)``: slopes below and above, from float bounds, chosen
  where no hint is given (any choice is sound);
- ``intercepts(arithmetic, below, above, lower, upper)``: for given slopes, the intercepts
  of two lines that enclose the function on the interval, rounded outward.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Arithmetic, Interval, Numbers
from specs.enclosure import FloatArray
from specs.errors import UnsupportedOperatorError

KNOWN = ("relu",)


class Function(Protocol):
    """What a module of this package provides."""

    def unstable(self, lower: Numbers, upper: Numbers) -> npt.NDArray[np.bool_]:
        """Where the function is not linear on ``[lower, upper]``."""
        ...

    def at_point(self, centre: Numbers, radius: Numbers | None) -> tuple[Numbers, Numbers | None]:
        """Integers (in any common unit) at most ``radius`` from the function's values."""
        ...

    def image(self, arithmetic: Arithmetic, lower: Numbers, upper: Numbers) -> Interval:
        """An interval that contains the function's values on ``[lower, upper]``."""
        ...

    def default_slopes(self, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Slopes of the line below and the line above."""
        ...

    def intercepts(
        self,
        arithmetic: Arithmetic,
        below: Numbers,
        above: Numbers,
        lower: Numbers,
        upper: Numbers,
    ) -> Interval:
        """Intercepts of the line below (rounded down) and of the line above (up)."""
        ...


def function(name: str) -> Function:
    """The kernel's rule for a univariate function.

    Raises:
        UnsupportedOperatorError: the kernel has no rule for it.
    """
    if name not in KNOWN:
        raise UnsupportedOperatorError(f"the kernel has no rule for the function '{name}'")
    return cast(Function, importlib.import_module(f"proofs.functions.{name}"))
