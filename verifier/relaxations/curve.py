"""Functions that are convex or concave piece by piece: what their relaxations share.

A function is a subclass of :class:`Curve`: its values, its derivatives, its bends.  How
lines come of that is in :mod:`verifier.relaxations.tangents`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from verifier.relaxations import Lines
from verifier.relaxations.lines import HUGE, Derivatives, TangentLines
from verifier.relaxations.roots import root
from verifier.relaxations.tangents import relaxed


class Bent(NamedTuple):
    """What lies strictly inside intervals, all ``(..., n)``.

    Attributes:
        one, two, more: where there are so many bends.
        kinked: where there are kinks among them.
        first, second: the bends, where there are so many.
    """

    one: Tensor
    two: Tensor
    more: Tensor
    kinked: Tensor
    first: Tensor
    second: Tensor


class Curve:
    """A function of this kind; see :class:`verifier.relaxations.Relaxation`.

    Attributes:
        bends: ascending: where convexity changes, among them ``poles``.
        kinks: where the derivative may jump; bends if it falls there.
        convex: by piece, from left to right, whether the function is convex there; linear
            pieces beside a bend are not.
        extremes: where it has a local extreme, other than at a bend.
        domain: it is defined from here on, at this end itself if ``closed``.
        core: outside it is linear to about 1e-11 of its values, where it is so at all.
        explicit: whether :meth:`at_slope` is a formula.
        margin: tangent points keep this share of the width from the ends, where the
            derivative may be infinite, or jump.
    """

    free = 2
    bends: tuple[float, ...] = ()
    kinks: tuple[float, ...] = ()
    poles: tuple[float, ...] = ()
    convex: tuple[bool, ...] = (True,)
    extremes: tuple[float, ...] = ()
    domain = -inf
    closed = True
    core = (-inf, inf)
    explicit = True
    margin = 0.0
    home = 1.0  # any point where it is defined

    # What a function says of itself.

    def value(self, x: Tensor) -> Tensor:
        """The function; differentiable."""
        raise NotImplementedError

    def derivatives(self, x: Tensor) -> Derivatives:
        """The function and its first two derivatives; at a kink those from the right."""
        raise NotImplementedError

    def at_slope(self, slope: Tensor, near: Tensor) -> Tensor:
        """Where the derivative is ``slope``, on the piece inside which ``near`` lies.

        Anything, infinities included, if it is nowhere.  Left out if there is no formula.
        """
        raise NotImplementedError

    # What follows from it.

    @property
    def bent(self) -> bool:
        """Whether bends can lie inside intervals."""
        return any(bend not in self.poles for bend in self.bends)

    @property
    def partial(self) -> bool:
        """Whether it is not defined everywhere."""
        return bool(self.poles) or self.domain > -inf

    def defined(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where the function is defined on all of ``[lower, upper]``."""
        inside = lower >= self.domain if self.closed else lower > self.domain
        for pole in self.poles:
            inside = inside & ((lower > pole) | (upper < pole))
        return inside

    def inside(self, lower: Tensor, upper: Tensor) -> Bent:
        """The bends strictly inside intervals."""
        none = torch.zeros_like(lower, dtype=torch.bool)
        if len(self.bends) == 1 and not self.kinks:
            bend = torch.full_like(lower, self.bends[0])
            return Bent((lower < bend) & (upper > bend), none, none, none, bend, bend)
        some, two, more, kinked = none, none, none, none
        first = second = torch.zeros_like(lower)
        for place in self.bends:
            if place in self.poles:
                continue
            here = (lower < place) & (upper > place)
            second = torch.where(here, place, second)
            first = torch.where(here & ~some, place, first)
            kinked = kinked | here if place in self.kinks else kinked
            some, two, more = some | here, two | (here & some), more | (here & two)
        return Bent(some & ~two, two & ~more, more, kinked, first, second)

    def convex_at(self, x: Tensor) -> Tensor:
        """Whether the function is convex around points that are no bends."""
        found = torch.full_like(x, self.convex[0], dtype=torch.bool)
        for place, convex in zip(self.bends, self.convex[1:], strict=True):
            found = torch.where(x > place, convex, found)
        return found

    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Its least and greatest values, infinite where it is not defined throughout."""
        ends = self._limit(lower), self._limit(upper)
        least, greatest = torch.minimum(*ends), torch.maximum(*ends)
        for place in (*self.extremes, *self.kinks):
            value = self.value(lower.new_tensor(place))
            here = (lower < place) & (upper > place)
            least = torch.where(here, torch.minimum(least, value), least)
            greatest = torch.where(here, torch.maximum(greatest, value), greatest)
        most = torch.finfo(lower.dtype).max  # what overflows is finite
        least, greatest = least.clamp(max=most), greatest.clamp(min=-most)
        defined = self.defined(lower, upper)
        return torch.where(defined, least, -inf), torch.where(defined, greatest, inf)

    def _limit(self, x: Tensor) -> Tensor:
        value = self.value(x)
        return torch.where(value.isnan(), self.value(x.clamp(-HUGE, HUGE)), value)

    def linear(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Nowhere: the function is curved."""
        return torch.zeros_like(lower, dtype=torch.bool), torch.zeros_like(lower)

    def unstable(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Everywhere but at points."""
        return lower < upper

    def default(self, lower: Tensor, upper: Tensor) -> Lines:
        """Tangents at the middle, or as near to it as is valid; else chords."""
        return TangentLines(*relaxed(self, lower, upper, default=True), lower).default()

    def relaxed(self, lower: Tensor, upper: Tensor) -> TangentLines:
        """Lines that depend on two parameters."""
        return TangentLines(*relaxed(self, lower, upper), lower)

    def intercepts(
        self, lower: Tensor, upper: Tensor, below: Tensor, above: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Intercepts for given slopes, ``(..., n)`` each."""
        defined = self.defined(lower, upper)
        low, high = (torch.where(defined, end, self.home) for end in (lower, upper))
        least = self._extreme(low, high, below, least=True)
        greatest = self._extreme(low, high, above, least=False)
        return torch.where(defined, least, -inf), torch.where(defined, greatest, inf)

    def _extreme(self, lower: Tensor, upper: Tensor, slope: Tensor, *, least: bool) -> Tensor:
        """The least or greatest ``f(x) - slope x``: at an end, a kink, or where it is flat."""
        found: Tensor | None = None
        for point in (lower, upper, *self.candidates(lower, upper, slope, convex=least)):
            there = point.clamp(min=lower, max=upper)
            tilt = torch.where(slope == 0, 0.0, slope * there)  # 0 at infinity, too
            height = self.value(there) - tilt
            height = torch.where(height.isnan(), -inf if least else inf, height)
            better = torch.minimum if least else torch.maximum
            found = height if found is None else better(found, height)
        if found is None:
            raise ValueError("no candidates")
        return found

    def candidates(
        self, lower: Tensor, upper: Tensor, slope: Tensor, *, convex: bool
    ) -> Iterator[Tensor]:
        """Points among which, once clamped to the interval, the extreme lies; never NaN."""
        for kink in self.kinks:
            yield torch.full_like(lower, kink)
        edges = (-inf, *self.bends, inf)
        for (first, last), piece in zip(pairwise(edges), self.convex, strict=True):
            if piece == convex:
                low = lower.clamp(first, last)
                high = upper.clamp(first, last)
                point = self.parallel(slope, low, high)
                point = torch.where(point.isnan(), low, point)
                yield point.clamp(min=low, max=high)

    def parallel(self, slope: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Where the derivative is ``slope``, if it is so between two points of a piece."""
        if self.explicit:
            return self.at_slope(slope, 0.5 * low + 0.5 * high)
        low, high = (end.clamp(*self.core) for end in (low, high))

        def excess(x: Tensor) -> tuple[Tensor, Tensor]:
            here = self.derivatives(x)
            return here.slope - slope, here.curvature

        return root(excess, low, high, 0.5 * low + 0.5 * high)

    def split_point(self, lower: Tensor, upper: Tensor) -> Tensor:
        """The bend nearest to the middle where one is well inside, else the middle.

        An interval that reaches far out of the core counts only to its edge.
        """
        low, high = (end.clamp(*self.core) for end in (lower, upper))
        outside = low >= high
        low, high = torch.where(outside, lower, low), torch.where(outside, upper, high)
        # An unbounded side is cut where the other end's size is doubled.
        reach = 1.0 + 2.0 * torch.minimum(low.abs(), high.abs()).clamp(max=HUGE)
        low = torch.where(low.isinf(), -reach, low)
        high = torch.where(high.isinf(), reach, high)
        middle, room = 0.5 * low + 0.5 * high, (high - low) / 16
        point, distance = middle, torch.full_like(middle, inf)
        for bend in dict.fromkeys((*self.bends, *self.kinks)):
            away = (middle - bend).abs()
            good = (low + room < bend) & (bend < high - room) & (away < distance)
            point, distance = torch.where(good, bend, point), torch.where(good, away, distance)
        return point
