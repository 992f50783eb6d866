"""The lines of curves: tangents where they are valid, else chords.

On an interval without a bend the lines on one side are the tangents, and the best on the
other is the chord.  With one bend inside, the tangents that are valid throughout are those
at points from an end of the interval up to the tangent through the other end; where there
are none, the chord is (Zhang et al., CROWN, 2018).  With two, the tangents of the piece in
the middle are valid between those through the ends.  The parameter of a line moves its
tangent point through that range.  What is left, and kinks, get lines with the slopes of the
hulls of samples, and accurate intercepts; so do the defaults wherever there are several bends
or a kink.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from verifier.relaxations.hull import slopes_at_middle
from verifier.relaxations.lines import Derivatives, Side
from verifier.relaxations.roots import root

if TYPE_CHECKING:
    from verifier.relaxations.curve import Curve

Sides = tuple[Side, Side]

STEPS = 4
"""Of Newton's method for a touching point; it is exact to about 1e-15 after them."""


@dataclass(frozen=True, eq=False)
class _Ends:
    """Intervals on which a function is finite, with what is known at their ends.

    Attributes:
        known: where the interval is the given one; elsewhere it is a stand-in.
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


class _Touch(NamedTuple):
    """Tangents to find: through the curve at ``far``, touching between ``bend`` and ``near``."""

    where: Tensor
    far: Tensor
    bend: Tensor
    near: Tensor


class _Fixed(NamedTuple):
    """Slopes, or intercepts, of lines below and above."""

    below: Tensor
    above: Tensor


def relaxed(curve: Curve, lower: Tensor, upper: Tensor, *, default: bool = False) -> Sides:
    """The lines below and above a curve on intervals ``(..., n)``.

    Args:
        default: only those at their default's points are asked for, which on intervals with
            several bends are those with the slopes of hulls.
    """
    ends = _ends(curve, lower, upper)
    sides = _bent(curve, ends, default) if curve.bent else _plain(curve, ends)
    if ends.known is None:
        return sides
    levels = curve.image(lower, torch.maximum(lower, upper))
    below, above = (_guarded(*pair, ends.known) for pair in zip(sides, levels, strict=True))
    return below, above


def _ends(curve: Curve, lower: Tensor, upper: Tensor) -> _Ends:
    """The intervals, with stand-ins where lines through their ends are not finite."""
    upper = torch.maximum(lower, upper)
    ends = _Ends(lower, upper, curve.derivatives(lower), curve.derivatives(upper))
    width = upper - lower
    probe = ends.at_lower.value + ends.at_upper.value + width
    probe = probe + ends.at_upper.slope * upper
    if curve.margin:  # an infinite derivative at the lower end does no harm
        narrow = width < torch.finfo(lower.dtype).tiny * 2.0**30
        probe = probe + torch.where(narrow, ends.at_lower.slope, 0.0)
    else:
        probe = probe + ends.at_lower.slope * lower
    defined = curve.defined(lower, upper) if curve.partial else None
    if bool(probe.sum().isfinite()) and (defined is None or bool(defined.all())):
        return ends
    known = probe.isfinite() if defined is None else defined & probe.isfinite()
    low, high = (torch.where(known, end, curve.home) for end in (lower, upper))
    return _Ends(low, high, curve.derivatives(low), curve.derivatives(high), known)


def _plain(curve: Curve, ends: _Ends) -> Sides:
    """No bend inside: tangents on the side where the function bulges, chords on the other."""
    steep = torch.maximum(ends.at_lower.slope, ends.at_upper.slope)
    flat = torch.minimum(ends.at_lower.slope, ends.at_upper.slope)
    chord = torch.minimum(torch.maximum(ends.chord(), flat), steep)
    under, over = ends.through(chord)
    if len(curve.convex) == 1:
        tangents = _tangents(curve, ends, ends.lower, ends.upper)
        if curve.convex[0]:
            return tangents, Side(curve.derivatives, slope=chord, intercept=over)
        return Side(curve.derivatives, slope=chord, intercept=under), tangents
    convex = curve.convex_at(ends.middle)
    return (
        _tangents(curve, ends, ends.lower, ends.upper, convex, chord, under),
        _tangents(curve, ends, ends.lower, ends.upper, ~convex, chord, over),
    )


def _bent(curve: Curve, ends: _Ends, default: bool) -> Sides:
    """Bends may lie inside."""
    lower, upper, middle = ends.lower, ends.upper, ends.middle
    bent = curve.inside(lower, upper)
    one, two, bend, second = bent.one, bent.two, bent.first, bent.second
    first: bool | Tensor  # whether the leftmost piece is convex, where there are bends
    if len(curve.bends) == 1:
        first, convex = curve.convex[0], curve.convex_at(middle)
    else:
        convex = curve.convex_at(torch.where(one | two, 0.5 * lower + 0.5 * bend, middle))
        first = convex
    chord = ends.chord()
    under, over = ends.through(chord)
    # Where the chord meets the curve at an end from its hollow side, no tangent through the
    # other end touches before.
    flat_left, flat_right = ends.at_lower.slope < chord, ends.at_upper.slope < chord
    left, right = one & (flat_left == first), one & (flat_right == first)
    wanted = [_Touch(left, upper, bend, lower), _Touch(right, lower, bend, upper)]
    slopes, intercepts = _Fixed(chord, chord), _Fixed(under, over)
    several = len(curve.bends) != 1 or bool(curve.kinks)
    if several and not default:
        wanted += [_Touch(two, lower, bend, second), _Touch(two, upper, second, bend)]
    to_left, from_right, *inner = _touching(curve, wanted)
    below_first, below_last = _either(first, lower, from_right), _either(first, to_left, upper)
    above_first, above_last = _either(first, from_right, lower), _either(first, upper, to_left)
    plain = ~(one | two | bent.more)
    below = (plain & convex) | _either(first, left, right)
    above = (plain & ~convex) | _either(first, right, left)
    special = two | bent.kinked
    if inner:
        between = two & (inner[0] <= inner[1])
        low, high = between & ~convex, between & convex
        below_first, below_last, above_first, above_last = (
            torch.where(here, point, other)
            for here, point, other in (
                (low, inner[0], below_first),
                (low, inner[1], below_last),
                (high, inner[0], above_first),
                (high, inner[1], above_last),
            )
        )
        # Above a kink, which is never convex, lines turn around it: no tangents.
        below, above = below | low, (above | high) & ~bent.kinked
        # The hull on the other side is the chord if it leaves both ends outwards.
        fitting = two & (flat_left != convex) & (flat_right == convex)
        sampled = bent.more | (special & ~fitting)
    elif several:
        sampled = bent.more | special
        below, above = below & ~sampled, above & ~sampled
    if several:
        slopes, intercepts = _sampled(curve, lower, upper, sampled, slopes, intercepts)
    under = _tangents(curve, ends, below_first, below_last, below, slopes.below, intercepts.below)
    over = _tangents(curve, ends, above_first, above_last, above, slopes.above, intercepts.above)
    if inner:
        low, high = below & special, above & special
        under = replace(under, aim=partial(_aimed, curve, lower, upper, low, 0, under))
        over = replace(over, aim=partial(_aimed, curve, lower, upper, high, 1, over))
    return under, over


def _aimed(
    curve: Curve,
    lower: Tensor,
    upper: Tensor,
    where: Tensor,
    number: int,
    side: Side,
    middle: Tensor,
) -> Tensor:
    """Tangent points, with some moved to where the slope is that of a hull of samples."""
    at = where.nonzero(as_tuple=True)
    if not len(at[0]) or side.first is None or side.last is None:
        return middle
    slope = slopes_at_middle(curve.value, lower[at], upper[at])[number]
    first, last = side.first[at], side.last[at]
    point = curve.parallel(slope, first, last)
    return middle.index_put(at, torch.minimum(torch.maximum(point, first), last))


def _touching(curve: Curve, wanted: Sequence[_Touch]) -> list[Tensor]:
    """Touching points, and elsewhere ``far`` itself."""
    places = [touch.where.reshape(-1).nonzero()[:, 0] for touch in wanted]

    def picked(part: str) -> Tensor:
        parts = (getattr(touch, part).reshape(-1) for touch in wanted)
        return torch.cat([own[place] for own, place in zip(parts, places, strict=True)])

    points = _touch(curve, picked("far"), picked("bend"), picked("near"))
    found = points.split([len(place) for place in places])
    return [
        touch.far.reshape(-1).index_copy(0, place, own).view(touch.far.shape)
        for touch, place, own in zip(wanted, places, found, strict=True)
    ]


def _touch(curve: Curve, far: Tensor, bend: Tensor, near: Tensor) -> Tensor:
    """Where the tangent through the curve at ``far`` touches between a bend and ``near``.

    The tangent's slope is the greatest of ``(f(t) - f(a)) / (t - a)``, or the least.  So from
    a chord's slope to the tangent parallel to it, and on to the chord to where that one
    touches, is Newton's method for a convex equation (Dinkelbach, *On nonlinear fractional
    programming*, 1967): from the second step on, points come from the valid side.  Near the
    bend, where the function is like a cubic, the solution is half as far away as ``far``.
    """
    low, high = torch.minimum(bend, near), torch.maximum(bend, near)
    point = torch.minimum(torch.maximum(1.5 * bend - 0.5 * far, low), high)
    height = curve.value(far)
    if not curve.explicit:
        low, high = (end.clamp(*curve.core) for end in (low, high))

        def excess(x: Tensor) -> tuple[Tensor, Tensor]:
            here = curve.derivatives(x)
            return here.slope * (x - far) + height - here.value, here.curvature * (x - far)

        return root(excess, low, high, torch.minimum(torch.maximum(point, low), high))
    inside = 0.5 * bend + 0.5 * near
    for _ in range(STEPS):
        slope = (curve.value(point) - height) / (point - far)
        point = torch.minimum(torch.maximum(curve.at_slope(slope, inside), low), high)
    return torch.where(point.isnan(), bend, point)  # roundings apart from the far end


def _sampled(
    curve: Curve, lower: Tensor, upper: Tensor, where: Tensor, slopes: _Fixed, intercepts: _Fixed
) -> tuple[_Fixed, _Fixed]:
    """Lines with some replaced by those from samples."""
    at = where.nonzero(as_tuple=True)
    if not len(at[0]):
        return slopes, intercepts
    low, high = lower[at], upper[at]
    own = slopes_at_middle(curve.value, low, high)
    found = curve.intercepts(low, high, *own)
    return (
        _Fixed(slopes.below.index_put(at, own[0]), slopes.above.index_put(at, own[1])),
        _Fixed(intercepts.below.index_put(at, found[0]), intercepts.above.index_put(at, found[1])),
    )


def _tangents(
    curve: Curve,
    ends: _Ends,
    first: Tensor,
    last: Tensor,
    tangent: Tensor | None = None,
    slope: Tensor | None = None,
    intercept: Tensor | None = None,
) -> Side:
    """Tangents at points from ``first`` to ``last``; fixed lines where not ``tangent``."""
    if curve.margin:
        room = curve.margin * (last - first)
        first, last = first + room, last - room
    if curve.kinks:  # derivatives are those from the right
        last = torch.maximum(first, torch.minimum(last, ends.upper.nextafter(ends.lower)))
    if curve.core[1] < inf:
        last = torch.maximum(first, last.clamp(max=curve.core[1]))
    if curve.core[0] > -inf:
        first = torch.minimum(last, first.clamp(min=curve.core[0]))
    if tangent is not None:
        last = torch.where(tangent, last, first)
    middle = torch.minimum(torch.maximum(ends.middle, first), last)
    if tangent is None or slope is None or intercept is None:
        return Side(curve.derivatives, None, first, last, middle)
    share = tangent.to(slope.dtype)
    rest = 1 - share
    return Side(curve.derivatives, share, first, last, middle, slope * rest, intercept * rest)


def _guarded(side: Side, level: Tensor, known: Tensor) -> Side:
    """Horizontal lines, at infinity if need be, where the function is not finite."""
    share = known.to(level.dtype)
    zero = torch.zeros_like(level)
    return replace(
        side,
        tangent=share if side.tangent is None else share * side.tangent,
        slope=zero if side.slope is None else share * side.slope,
        intercept=torch.where(known, zero if side.intercept is None else side.intercept, level),
    )


def _either(which: bool | Tensor, if_true: Tensor, if_false: Tensor) -> Tensor:
    if isinstance(which, bool):
        return if_true if which else if_false
    return torch.where(which, if_true, if_false)
