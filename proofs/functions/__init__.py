"""Univariate functions in the kernel: one module per function, found by its name.

A module gives ``rule(*parameters)``, the function with these parameters as an object with
the methods of :class:`Function`.  Numbers are those of an arithmetic; arrays are
elementwise.  A new function is a new module: nothing lists them.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Arithmetic, Interval, Numbers
from specs.enclosure import FloatArray
from specs.errors import UnsupportedOperatorError
from specs.network import Network, Univariate

KNOWN = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


class Function(Protocol):
    """What the kernel knows of a function.

    Attributes:
        homogeneous: ``f(c x) = c f(x)`` for every ``c > 0``, so that units do not matter.
    """

    @property
    def homogeneous(self) -> bool: ...

    def value(self, x: FloatArray) -> FloatArray:
        """The function in plain floats, for guesses only."""
        ...

    def derivative(self, x: FloatArray) -> FloatArray:
        """Its derivative in plain floats, from either side at a bend; for guesses only."""
        ...

    def usable_slopes(self, hints: FloatArray) -> FloatArray:
        """The slopes that are used instead of hints: finite, and the nearest that will do."""
        ...

    def unstable(
        self, arithmetic: Arithmetic, lower: Numbers, upper: Numbers
    ) -> npt.NDArray[np.bool_]:
        """Where the function is not linear on ``[lower, upper]``."""
        ...

    def at_point(
        self, centre: Numbers, radius: Numbers | None, unit: int
    ) -> tuple[Numbers, Numbers | None]:
        """The function's values within ``radius`` of points, as a centre and a radius.

        All are integers that count ``1 / unit``.

        Raises:
            EvidenceError: it is not defined there.
        """
        ...

    def image(self, arithmetic: Arithmetic, lower: Numbers, upper: Numbers) -> Interval:
        """An interval that contains the function's values on ``[lower, upper]``."""
        ...

    def default_slopes(self, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Slopes of the line below and the line above, where no hint is given.

        Any choice is sound.
        """
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


@functools.lru_cache(maxsize=256)
def function(name: str, parameters: tuple[float, ...] = ()) -> Function:
    """The kernel's rule for a univariate function.

    Raises:
        UnsupportedOperatorError: the kernel has no rule for it, or not for these parameters.
    """
    if name not in KNOWN:
        raise UnsupportedOperatorError(f"the kernel has no rule for the function '{name}'")
    return cast(Function, importlib.import_module(f"proofs.functions.{name}").rule(*parameters))


def check_known(network: Network) -> None:
    """Refuse a network with functions that have no rule.

    Raises:
        UnsupportedOperatorError: names all of them, each with its first tensor.
    """
    faults: dict[str, str] = {}
    for node in network.nodes:
        if isinstance(node, Univariate):
            try:
                function(node.function, node.parameters)
            except UnsupportedOperatorError as error:
                faults.setdefault(str(error), node.name)
    if faults:
        named = [f"tensor '{tensor}': {fault}" for fault, tensor in faults.items()]
        raise UnsupportedOperatorError("\n  ".join(["functions without a rule:", *named]))
