"""Relaxations of functions that are convex or concave piece by piece.

On an interval without a bend the lines on one side are the tangents, and the best on the
other is the chord.  With one bend inside, the tangents that are valid throughout are those
at points from an end of the interval up to the tangent through the other end; where there
are none, the chord is (Zhang et al., CROWN, 2018).  The parameter of a line moves its
tangent point through that range.  With several bends, or a kink, inside, lines have the
slopes of the hulls of samples, and accurate intercepts.

A function is a subclass: its values, its derivatives, its bends.  Equations are solved by
fixed numbers of steps, elementwise, so the same code serves batches on any device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from verifier.relaxations import Lines, Rates
from verifier.relaxations.hull import slopes_at_middle
from verifier.relaxations.roots import root

HUGE = 1e30
"""Stands for infinity where a formula would give infinity times zero."""


class Derivatives(NamedTuple):
    """A function's values and its first two derivatives."""

    value: Tensor
    slope: Tensor
    curvature: Tensor


class Bent(NamedTuple):
    """What lies strictly inside intervals, all ``(..., n)``.

    Attributes:
        one: where there is exactly one bend, without a kink.
        several: where there are more, or a kink; ``None`` if that cannot be.
        bend: the first of them, if any.
    """

    one: Tensor
    several: Tensor | None
    bend: Tensor


@dataclass(frozen=True, eq=False)
class _Ends:
    """Intervals on which the function is finite, with what is known at their ends.

    Attributes:
        known: where the interval is the given one; it is a stand-in elsewhere.
    """

    lower: Tensor
    upper: Tensor
    at_lower: Derivatives
    at_upper: Derivatives
    known: Tensor | None = None

    @property
    def middle(self) -> Tensor:
        return 0.5 * self.lower + 0.5 * self.upper

    def chord(self) -> Tensor:
        """The chord's slope, the derivative on degenerate intervals."""
        width = self.upper - self.lower
        tiny = torch.finfo(width.dtype).tiny
        rise = self.at_upper.value - self.at_lower.value
        return torch.where(width > 0, rise / width.clamp(min=tiny), self.at_lower.slope)

    def through(self, slope: Tensor) -> tuple[Tensor, Tensor]:
        """The lesser and the greater intercept of the lines through either end."""
        first = self.at_lower.value - slope * self.lower
        last = self.at_upper.value - slope * self.upper
        return torch.minimum(first, last), torch.maximum(first, last)


@dataclass(frozen=True, eq=False)
class _Side:
    """Lines on one side: tangents at points from ``first`` to ``last``, or fixed ones.

    Attributes:
        tangent: 1 where it is a tangent, else 0; ``None``: 1 everywhere.
        first, last: ``None`` if it is a tangent nowhere; any point, twice, at fixed lines.
        middle: the default's tangent point.
        slope, intercept: of fixed lines, 0 at tangents; ``None``: 0 everywhere.
    """

    curve: Curve
    tangent: Tensor | None = None
    first: Tensor | None = None
    last: Tensor | None = None
    middle: Tensor | None = None
    slope: Tensor | None = None
    intercept: Tensor | None = None

    def start(self, like: Tensor) -> Tensor:
        if self.first is None or self.last is None or self.middle is None:
            return torch.zeros_like(like)
        reach = (self.last - self.first).clamp(min=torch.finfo(like.dtype).tiny)
        return ((self.middle - self.first) / reach).clamp(0.0, 1.0)

    def default(self) -> tuple[Tensor, Tensor]:
        return self._at(self.middle)

    def line(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        return self._at(self._point(parameter))

    def rates(self, parameter: Tensor) -> tuple[Tensor | None, Tensor | None]:
        point = self._point(parameter)
        if point is None or self.first is None or self.last is None:
            return None, None
        rate = (self.last - self.first) * self.curve.derivatives(point).curvature
        rate = rate.nan_to_num(0.0, HUGE, -HUGE)  # the curvature may overflow
        return rate, -point * rate

    def _point(self, parameter: Tensor) -> Tensor | None:
        if self.first is None or self.last is None:
            return None
        return torch.lerp(self.first, self.last, parameter)  # exact at 0 and at 1

    def _at(self, point: Tensor | None) -> tuple[Tensor, Tensor]:
        if point is None:
            if self.slope is None or self.intercept is None:
                raise ValueError("a side without lines")
            return self.slope, self.intercept
        value, slope, _ = self.curve.derivatives(point)
        intercept = torch.addcmul(value, slope, point, value=-1)
        if self.tangent is None or self.slope is None or self.intercept is None:
            return slope, intercept
        return (
            torch.addcmul(self.slope, self.tangent, slope),
            torch.addcmul(self.intercept, self.tangent, intercept),
        )


@dataclass(frozen=True, eq=False)
class _Free:
    """See :class:`verifier.relaxations.Free`."""

    below: _Side
    above: _Side
    like: Tensor

    def start(self) -> tuple[Tensor, ...]:
        return self.below.start(self.like), self.above.start(self.like)

    def default(self) -> Lines:
        return Lines(*self.below.default(), *self.above.default())

    def lines(self, *parameters: Tensor) -> Lines:
        below, above = parameters
        return Lines(*self.below.line(below), *self.above.line(above))

    def rates(self, *parameters: Tensor) -> Rates:
        below, above = parameters
        return Rates(*self.below.rates(below), *self.above.rates(above))


class Curve:
    """A function of this kind; see :class:`verifier.relaxations.Relaxation`.

    Attributes:
        bends: ascending: where convexity changes, among them ``poles``.
        kinks: where the derivative may jump; no bends if it stays convex or concave there.
        convex: by piece, from left to right, whether the function is convex there.
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
    steps = 4

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

    def defined(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where the function is defined on all of ``[lower, upper]``."""
        inside = lower == lower
        if self.domain > -inf:
            inside = lower >= self.domain if self.closed else lower > self.domain
        for pole in self.poles:
            inside = inside & ((lower > pole) | (upper < pole))
        return inside

    def inside(self, lower: Tensor, upper: Tensor) -> Bent:
        """The bends strictly inside intervals."""
        none = torch.zeros_like(lower, dtype=torch.bool)
        one, several, bend = none, none, torch.zeros_like(lower)
        places = [place for place in self.bends if place not in self.poles]
        for place in places:
            here = (lower < place) & (upper > place)
            bend = torch.where(here, place, bend)
            several = several | (here if place in self.kinks else here & one)
            one = one | here
        if len(places) == 1 and places[0] not in self.kinks:
            return Bent(one, None, bend)
        return Bent(one & ~several, several, bend)

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
        return self.relaxed(lower, upper).default()

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
                point = self._parallel(slope, low, high)
                point = torch.where(point.isnan(), low, point)
                yield point.clamp(min=low, max=high)

    def _parallel(self, slope: Tensor, low: Tensor, high: Tensor) -> Tensor:
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

    # The lines.

    def relaxed(self, lower: Tensor, upper: Tensor) -> _Free:
        """Lines that depend on two parameters."""
        ends = self._ends(lower, upper)
        below, above = self._bent(ends) if self.bent else self._plain(ends)
        if ends.known is not None:
            below, above = self._guarded(lower, upper, ends.known, below, above)
        return _Free(below, above, lower)

    def _ends(self, lower: Tensor, upper: Tensor) -> _Ends:
        """The intervals, with stand-ins where the function is not finite at their ends."""
        upper = torch.maximum(lower, upper)
        ends = _Ends(lower, upper, self.derivatives(lower), self.derivatives(upper))
        width = upper - lower
        probe = ends.at_lower.value + ends.at_upper.value + ends.at_upper.slope + width
        if self.margin:  # an infinite derivative at the lower end does no harm
            narrow = width < torch.finfo(lower.dtype).tiny * 2.0**30
            probe = probe + torch.where(narrow, ends.at_lower.slope, 0.0)
        else:
            probe = probe + ends.at_lower.slope
        defined = self.defined(lower, upper)
        if bool(probe.sum().isfinite()) and bool(defined.all()):
            return ends
        known = defined & probe.isfinite()
        low, high = (torch.where(known, end, self.home) for end in (lower, upper))
        return _Ends(low, high, self.derivatives(low), self.derivatives(high), known)

    def _plain(self, ends: _Ends) -> tuple[_Side, _Side]:
        """No bend inside: tangents on the side where the function bulges, chords on the other."""
        steep = torch.maximum(ends.at_lower.slope, ends.at_upper.slope)
        flat = torch.minimum(ends.at_lower.slope, ends.at_upper.slope)
        chord = torch.minimum(torch.maximum(ends.chord(), flat), steep)
        under, over = ends.through(chord)
        if len(self.convex) == 1:
            tangents = self._tangents(ends, ends.lower, ends.upper)
            if self.convex[0]:
                return tangents, _Side(self, slope=chord, intercept=over)
            return _Side(self, slope=chord, intercept=under), tangents
        convex = self.convex_at(ends.middle)
        return (
            self._tangents(ends, ends.lower, ends.upper, convex, chord, under),
            self._tangents(ends, ends.lower, ends.upper, ~convex, chord, over),
        )

    def _bent(self, ends: _Ends) -> tuple[_Side, _Side]:
        """At most one bend inside; intervals with several are done by samples."""
        lower, upper, middle = ends.lower, ends.upper, ends.middle
        one, several, bend = self.inside(lower, upper)
        if len(self.bends) == 1:
            first, convex = self.convex[0], self.convex_at(middle)
        else:  # what comes first, left of the bend, where there is one
            convex = self.convex_at(torch.where(one, 0.5 * lower + 0.5 * bend, middle))
            first = convex
        chord = ends.chord()
        under, over = ends.through(chord)
        plain = ~one if several is None else ~(one | several)
        # Where the chord meets the curve at an end from its hollow side, no tangent through
        # the other end touches before.
        left = one & ((ends.at_lower.slope < chord) == first)
        right = one & ((ends.at_upper.slope < chord) == first)
        to_left, from_right = self._touching(ends, left, right, bend)
        slopes, intercepts = (chord, chord), (under, over)
        if several is not None and bool(several.any()):
            slopes, intercepts = self._sampled(lower, upper, several, slopes, intercepts)
        below = (plain & convex) | _either(first, left, right)
        above = (plain & ~convex) | _either(first, right, left)
        return (
            self._tangents(
                ends,
                _either(first, lower, from_right),
                _either(first, to_left, upper),
                below,
                slopes[0],
                intercepts[0],
            ),
            self._tangents(
                ends,
                _either(first, from_right, lower),
                _either(first, upper, to_left),
                above,
                slopes[1],
                intercepts[1],
            ),
        )

    def _touching(
        self, ends: _Ends, left: Tensor, right: Tensor, bend: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Where tangents through the upper end touch left of the bend, and mirrored.

        Only for the given intervals; of others the upper end itself, and the lower one.
        """
        shape = bend.shape
        lower, upper, bend = (part.reshape(-1) for part in (ends.lower, ends.upper, bend))
        first, second = (part.reshape(-1).nonzero()[:, 0] for part in (left, right))
        both = torch.cat([first, second])
        points = self._touch(
            torch.cat([upper[first], lower[second]]),
            bend[both],
            torch.cat([lower[first], upper[second]]),
        )
        found = upper.index_copy(0, first, points[: len(first)])
        mirrored = lower.index_copy(0, second, points[len(first) :])
        return found.view(shape), mirrored.view(shape)

    def _touch(self, far: Tensor, bend: Tensor, near: Tensor) -> Tensor:
        """Where the tangent through the curve at ``far`` touches between a bend and ``near``.

        The tangent's slope is the greatest of ``(f(t) - f(a)) / (t - a)``, or the least.  So
        from a chord's slope to the tangent parallel to it, and on to the chord to where that
        one touches, is Newton's method for a convex equation (Dinkelbach, *On nonlinear
        fractional programming*, 1967): from the second step on, points come from the valid
        side.  Near the bend, where the function is like a cubic, the solution is half as far
        away as ``far``.
        """
        low, high = torch.minimum(bend, near), torch.maximum(bend, near)
        point = torch.minimum(torch.maximum(1.5 * bend - 0.5 * far, low), high)
        height = self.value(far)
        if not self.explicit:
            low, high = (end.clamp(*self.core) for end in (low, high))

            def excess(x: Tensor) -> tuple[Tensor, Tensor]:
                here = self.derivatives(x)
                return here.slope * (x - far) + height - here.value, here.curvature * (x - far)

            return root(excess, low, high, torch.minimum(torch.maximum(point, low), high))
        inside = 0.5 * bend + 0.5 * near
        for _ in range(self.steps):
            slope = (self.value(point) - height) / (point - far)
            point = torch.minimum(torch.maximum(self.at_slope(slope, inside), low), high)
        return torch.where(point.isnan(), bend, point)  # roundings apart from the far end

    def _sampled(
        self,
        lower: Tensor,
        upper: Tensor,
        where: Tensor,
        slopes: tuple[Tensor, Tensor],
        intercepts: tuple[Tensor, Tensor],
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Lines with some replaced by those from samples."""
        at = where.nonzero(as_tuple=True)
        low, high = lower[at], upper[at]
        own = slopes_at_middle(self.value, low, high)
        found = self.intercepts(low, high, *own)
        return (
            (slopes[0].index_put(at, own[0]), slopes[1].index_put(at, own[1])),
            (intercepts[0].index_put(at, found[0]), intercepts[1].index_put(at, found[1])),
        )

    def _tangents(
        self,
        ends: _Ends,
        first: Tensor,
        last: Tensor,
        tangent: Tensor | None = None,
        slope: Tensor | None = None,
        intercept: Tensor | None = None,
    ) -> _Side:
        """Tangents at points from ``first`` to ``last``; fixed lines where not ``tangent``."""
        if self.margin:
            room = self.margin * (last - first)
            first, last = first + room, last - room
        if self.kinks:  # derivatives are those from the right
            last = torch.maximum(first, torch.minimum(last, ends.upper.nextafter(ends.lower)))
        if self.core[1] < inf:
            last = torch.maximum(first, last.clamp(max=self.core[1]))
        if self.core[0] > -inf:
            first = torch.minimum(last, first.clamp(min=self.core[0]))
        middle = torch.minimum(torch.maximum(ends.middle, first), last)
        if tangent is None or slope is None or intercept is None:
            return _Side(self, None, first, last, middle)
        first, last, middle = (torch.where(tangent, x, self.home) for x in (first, last, middle))
        share = tangent.to(slope.dtype)
        rest = 1 - share
        return _Side(self, share, first, last, middle, slope * rest, intercept * rest)

    def _guarded(
        self, lower: Tensor, upper: Tensor, known: Tensor, *sides: _Side
    ) -> tuple[_Side, _Side]:
        """Horizontal lines, at infinity if need be, where the function is not finite."""
        guarded = []
        for side, level in zip(sides, self.image(lower, torch.maximum(lower, upper)), strict=True):
            share = known.to(level.dtype)
            slope = torch.zeros_like(level) if side.slope is None else side.slope * share
            intercept = torch.zeros_like(level) if side.intercept is None else side.intercept
            guarded.append(
                _Side(
                    self,
                    share if side.tangent is None else share * side.tangent,
                    side.first,
                    side.last,
                    side.middle,
                    slope,
                    torch.where(known, intercept, level),
                )
            )
        return guarded[0], guarded[1]


def _either(which: bool | Tensor, if_true: Tensor, if_false: Tensor) -> Tensor:
    if isinstance(which, bool):
        return if_true if which else if_false
    return torch.where(which, if_true, if_false)
