"""Powers with a constant exponent, ``x ** n``."""

from __future__ import annotations

import torch
from torch import Tensor

from specs.errors import UnsupportedOperatorError
from verifier.relaxations.curve import Curve
from verifier.relaxations.lines import Derivatives


class Power(Curve):
    """Defined everywhere for ``n`` in 2, 3, ..., but at 0 for ``n`` in -1, -2, ...

    Otherwise for positive arguments, and at 0 if ``n`` is positive.
    """

    def __init__(self, exponent: float) -> None:
        self._exponent = exponent
        self._whole = exponent == int(exponent)
        odd = self._whole and exponent % 2 == 1
        if not self._whole:
            self.domain, self.closed = 0.0, exponent > 0
            self.convex = (not 0 < exponent < 1,)
            self.margin = 2.0**-10 if 0 < exponent < 1 else 0.0
        elif exponent < 0:
            self.bends = self.poles = (0.0,)
            self.convex = (not odd, True)
        elif odd:
            self.bends, self.convex = (0.0,), (False, True)
        else:
            self.extremes = (0.0,)

    def value(self, x: Tensor) -> Tensor:
        return torch.pow(x, self._exponent)

    def derivatives(self, x: Tensor) -> Derivatives:
        n = self._exponent
        if n >= 2:
            bent = torch.pow(x, n - 2)
            return Derivatives(bent * x * x, n * bent * x, n * (n - 1) * bent)
        value = torch.pow(x, n)
        slope = n * torch.pow(x, n - 1)  # not a quotient, for it may be 0 at 0
        return Derivatives(value, slope, n * (n - 1) * torch.pow(x, n - 2))

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        ratio, root = slope / self._exponent, 1 / (self._exponent - 1)
        if self._whole and self._exponent % 2 == 0:  # odd derivative: one branch
            return ratio.abs().pow(root).copysign(ratio)
        found = ratio.clamp(min=0).pow(root)
        return found.copysign(near) if self._whole else found


def relaxation(exponent: float) -> Power:
    """The power with this exponent.

    Raises:
        UnsupportedOperatorError: ``x ** 0`` and ``x ** 1``, which are linear.
    """
    if exponent in (0.0, 1.0) or not abs(exponent) < 2**20:
        raise UnsupportedOperatorError(f"the search has no relaxation of power {exponent}")
    return Power(exponent)
