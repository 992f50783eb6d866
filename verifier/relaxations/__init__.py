"""Relaxations of univariate functions for the search, one small file each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from specs.errors import UnsupportedOperatorError


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines that enclose a function on intervals: slopes and intercepts, all ``(..., n)``.

    ``lower_intercept`` is ``None`` where it is zero throughout.
    """

    lower_slope: Tensor
    lower_intercept: Tensor | None
    upper_slope: Tensor
    upper_intercept: Tensor


@dataclass(frozen=True, eq=False)
class Relaxation:
    """What the search knows of one univariate function.

    Attributes:
        value: the function itself, elementwise.
        default: lines on ``[lower, upper]`` without hints; the kernel's own choice.
        hinted: the same with the given slopes of the lower line where it is free.
        linear: on ``[lower, upper]``, where the function is a multiple of its argument,
            and the factors.
    """

    value: Callable[[Tensor], Tensor]
    default: Callable[[Tensor, Tensor], Lines]
    hinted: Callable[[Tensor, Tensor, Tensor], Lines]
    linear: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def find(function: str) -> Relaxation:
    """The relaxation of a univariate node's function.

    Raises:
        UnsupportedOperatorError: the search has no relaxation of it.
    """
    from verifier.relaxations import relu

    known = {"relu": relu.RELU}
    if function not in known:
        raise UnsupportedOperatorError(f"the search has no relaxation of {function}")
    return known[function]
