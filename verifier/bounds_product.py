"""Planes that enclose the product of two tensors (McCormick 1976), for the search.

On ``[a, b] x [c, d]`` the product lies above ``c x + a y - a c`` and ``d x + b y - b d``,
below ``d x + a y - a d`` and ``c x + b y - b c``.  A parameter is the first one's weight.

With bounds of ``s = x + t y`` in ``[e, f]`` and of ``r = x - t y`` in ``[g, h]`` there are
planes from ``4 t x y = s^2 - r^2``: below, the tangent of ``s^2`` at ``m`` and the chord of
``r^2``; above, the other way round.  The rule is the kernel's (``proofs/products.py``): they
are taken where they leave less on average, a parameter then says where ``m`` lies, and the
intercept is the better one of those that either kind of bounds gives for the slopes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verifier.relaxations import Free, Lines, Rates


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

    def relaxed(self, *ends: Tensor) -> Free:
        a, b, c, d = ends
        return _Planes((a, b), (c, d))


PRODUCT = Product()

NARROWER = 0.9
"""As in ``proofs/products.py``."""

Slopes = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class _Regions:
    """A factors' box and a box of ``s`` and ``r``, ``(R, n)``; ``t`` ``(n,)``."""

    left: tuple[Tensor, Tensor]
    right: tuple[Tensor, Tensor]
    total: tuple[Tensor, Tensor]
    difference: tuple[Tensor, Tensor]
    scale: Tensor

    def mirrored(self) -> _Regions:
        """What they become with ``-x`` for ``x``: ``s`` and ``r`` change places."""
        left, total, difference = (
            (-high, -low) for low, high in (self.left, self.total, self.difference)
        )
        return _Regions(left, self.right, difference, total, self.scale)

    def below(self, parameter: Tensor) -> tuple[Slopes, Slopes]:
        """Slopes of a plane below, and their derivatives by the parameter."""
        (a, b), (c, d) = self.left, self.right
        (e, f), (g, h) = self.total, self.difference
        area = 12.0 * NARROWER * self.scale * (b - a) * (d - c)
        taken = (f - e) ** 2 + 2.0 * (h - g) ** 2 < area
        touching, chord = torch.lerp(e, f, parameter), (g + h) * 0.5
        rise = (f - e) * 0.5
        slopes = (
            torch.where(taken, (touching - chord) * 0.5 / self.scale, torch.lerp(d, c, parameter)),
            torch.where(taken, (touching + chord) * 0.5, torch.lerp(b, a, parameter)),
        )
        rates = torch.where(taken, rise / self.scale, c - d), torch.where(taken, rise, a - b)
        return slopes, rates

    def least(self, slopes: Slopes) -> tuple[Tensor, Tensor, Tensor]:
        """A lower bound of ``x y - p x - q y`` for slopes, and ``x`` and ``y`` where it is.

        The point may lie outside: what counts is how the bound moves with the slopes.
        """
        p, q = slopes
        scale, best = self.scale, []
        for x in self.left:
            for y in self.right:
                best.append((x * y - p * x - q * y, x.expand_as(p), y.expand_as(p)))
        value, x, y = best[0]
        for other in best[1:]:
            lower = other[0] < value
            value, x, y = (
                torch.where(lower, o, v) for o, v in zip(other, (value, x, y), strict=True)
            )
        (e, f), (g, h) = self.total, self.difference
        s = torch.maximum(e, torch.minimum(scale * p + q, f))
        lean = 2.0 * (scale * p - q)
        first, last = -g * (g + lean), -h * (h + lean)
        r = torch.where(first < last, g, h)
        apart = (s * (s - 2.0 * (scale * p + q)) + torch.minimum(first, last)) * 0.25 / scale
        better = apart > value
        return (
            torch.where(better, apart, value),
            torch.where(better, (s + r) * 0.5, x),
            torch.where(better, (s - r) * 0.5 / scale, y),
        )


@dataclass(frozen=True, eq=False)
class _SquaredPlanes:
    """The planes with squares; see :class:`verifier.relaxations.Free`."""

    regions: _Regions
    finite: Tensor

    def start(self) -> tuple[Tensor, ...]:
        half = torch.full_like(self.regions.left[0], 0.5)
        return half, half.clone()

    def lines(self, *parameters: Tensor) -> Lines:
        # A plane above x y is one below -x y, mirrored: x and the parameter run backwards.
        (p, q), _ = self.regions.below(parameters[0])
        mirrored = self.regions.mirrored()
        (u, v), _ = mirrored.below(1.0 - parameters[1])
        floor = self.regions.least((p, q))[0].where(self.finite, -float("inf"))
        ceiling = -mirrored.least((u, v))[0].where(self.finite, -float("inf"))
        return Lines(p, floor, u, ceiling, (q, -v))

    def rates(self, *parameters: Tensor) -> Rates:
        slopes, (p, q) = self.regions.below(parameters[0])
        _, x, y = self.regions.least(slopes)
        mirrored = self.regions.mirrored()
        slopes, (u, v) = mirrored.below(1.0 - parameters[1])
        _, z, w = mirrored.least(slopes)
        return Rates(p, -(p * x + q * y), -u, -(u * z + v * w), (q, v))


@dataclass(frozen=True, eq=False)
class Squared(Product):
    """``x y`` with bounds of ``x + t y`` and ``x - t y`` beside those of ``x`` and ``y``.

    Attributes:
        scale: ``(n,)`` the ``t``.
    """

    scale: Tensor

    def relaxed(self, *ends: Tensor) -> Free:
        finite = torch.isfinite(torch.stack(torch.broadcast_tensors(*ends))).all(0)
        a, b, c, d, e, f, g, h = (end.where(finite, 0.0) for end in ends)
        return _SquaredPlanes(_Regions((a, b), (c, d), (e, f), (g, h), self.scale), finite)
