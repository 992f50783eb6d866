"""Planes that enclose the product of two tensors (McCormick 1976), for the search.

On ``[a, b] x [c, d]`` the product lies above ``c x + a y - a c`` and ``d x + b y - b d``,
below ``d x + a y - a d`` and ``c x + b y - b c``.  A parameter is the first one's weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verifier.relaxations import Lines, Rates


@dataclass(frozen=True, eq=False)
class _Planes:
    """The planes on given boxes, ``(R, n)``; see :class:`verifier.relaxations.Free`."""

    left: tuple[Tensor, Tensor]
    right: tuple[Tensor, Tensor]

    def start(self) -> tuple[Tensor, ...]:
        half = torch.full_like(self.left[0], 0.5)
        return half, half.clone()

    def lines(self, *parameters: Tensor) -> Lines:
        (a, b), (c, d) = self.left, self.right
        below, above = parameters
        return Lines(
            torch.lerp(d, c, below),
            torch.lerp(-b * d, -a * c, below),
            torch.lerp(c, d, above),
            torch.lerp(-b * c, -a * d, above),
            (torch.lerp(b, a, below), torch.lerp(b, a, above)),
        )

    def rates(self, *parameters: Tensor) -> Rates:
        (a, b), (c, d) = self.left, self.right
        return Rates(c - d, b * d - a * c, d - c, b * c - a * d, (a - b, a - b))


class Product:
    """``x y``, elementwise; see :class:`verifier.relaxations.Relaxation`."""

    free = 2

    def value(self, *factors: Tensor) -> Tensor:
        left, right = factors
        return left * right

    def image(self, *ends: Tensor) -> tuple[Tensor, Tensor]:
        """The extremes lie at corners; infinite where a corner is no number."""
        a, b, c, d = ends
        corners = torch.stack(torch.broadcast_tensors(a * c, a * d, b * c, b * d))
        infinity = float("inf")
        least = corners.nan_to_num(nan=-infinity, posinf=infinity, neginf=-infinity).amin(0)
        most = corners.nan_to_num(nan=infinity, posinf=infinity, neginf=-infinity).amax(0)
        return least, most

    def default(self, *ends: Tensor) -> Lines:
        """Both planes in equal parts, which touch in the middle of the box."""
        planes = self.relaxed(*ends)
        return planes.lines(*planes.start())

    def relaxed(self, *ends: Tensor) -> _Planes:
        a, b, c, d = ends
        return _Planes((a, b), (c, d))


PRODUCT = Product()
