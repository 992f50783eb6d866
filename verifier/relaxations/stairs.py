"""Relaxations of functions that rise in steps.

Such a function lies between lines through the corners of its stairs.  Its hulls have at
most three different slopes, since the steps are equally high and wide: before the first
step, along the steps, after the last.  The parameter of a line is its slope, as a share of
a steepest one, and the intercept follows from the four corners where slopes change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from verifier.relaxations import Lines, Rates

STEEPEST = 2.0**60


@dataclass(frozen=True, eq=False)
class _Corners:
    """Where the hull of the stairs on one side may change its slope.

    Attributes:
        places, values: four of each, ``(..., n)``, from left to right.
        greatest: whether lines lie above.
    """

    places: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    greatest: bool

    def touch(self, slope: Tensor) -> tuple[Tensor, Tensor]:
        """The intercept of the line of this slope, and where it touches."""
        best: Tensor | None = None
        where = self.places[0]
        for place, value in zip(self.places, self.values, strict=True):
            height = value - slope * place
            if best is None:
                best = height
                continue
            better = height > best if self.greatest else height < best
            best, where = torch.where(better, height, best), torch.where(better, place, where)
        if best is None:
            raise ValueError("no corners")
        return best, where


@dataclass(frozen=True, eq=False)
class _Free:
    """Lines whose slopes are shares of ``steepest``; by default ``slopes``."""

    below: _Corners
    above: _Corners
    slopes: tuple[Tensor, Tensor]
    steepest: Tensor

    def start(self) -> tuple[Tensor, ...]:
        tiny = torch.finfo(self.steepest.dtype).tiny
        return tuple((s / self.steepest.clamp(min=tiny)).clamp(0.0, 1.0) for s in self.slopes)

    def default(self) -> Lines:
        return self._lines(*self.slopes)

    def lines(self, *parameters: Tensor) -> Lines:
        below, above = parameters
        return self._lines(below * self.steepest, above * self.steepest)

    def rates(self, *parameters: Tensor) -> Rates:
        found = []
        for side, parameter in zip((self.below, self.above), parameters, strict=True):
            _, where = side.touch(parameter * self.steepest)
            found += [self.steepest.expand_as(where), -where * self.steepest]
        return Rates(*found)

    def _lines(self, below: Tensor, above: Tensor) -> Lines:
        return Lines(below, self.below.touch(below)[0], above, self.above.touch(above)[0])


class Stairs:
    """A function of this kind; see :class:`verifier.relaxations.Relaxation`.

    Attributes:
        rise: height of a step.
    """

    free = 2
    rise = 1.0

    def value(self, x: Tensor) -> Tensor:
        """The function; its derivative is 0."""
        raise NotImplementedError

    def first(self, x: Tensor) -> Tensor:
        """The first step beyond points, infinite if there is none."""
        raise NotImplementedError

    def last(self, x: Tensor) -> Tensor:
        """The last step before points, infinite if there is none."""
        raise NotImplementedError

    def before(self, step: Tensor) -> Tensor:
        """The value just before a step."""
        raise NotImplementedError

    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """The function is monotone."""
        return self.value(lower), self.value(upper)

    def linear(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Where it is 0."""
        zero = (self.value(lower) == 0) & (self.value(upper) == 0)
        return zero, torch.zeros_like(lower)

    def unstable(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where there is a step inside, or one at an end belongs to the interval."""
        return self.value(lower) < self.value(upper)

    def default(self, lower: Tensor, upper: Tensor) -> Lines:
        """Lines with the slopes of the hulls at the middle."""
        return self.relaxed(lower, upper).default()

    def relaxed(self, lower: Tensor, upper: Tensor) -> _Free:
        """Lines that depend on two parameters."""
        upper = torch.maximum(lower, upper)
        finite = (upper - lower).isfinite()
        low, high = (torch.where(finite, end, 0.0) for end in (lower, upper))
        below, above = self._corners(low, high)
        if not bool(finite.all()):
            image = self.image(lower, upper)
            below, above = (
                replace(side, values=tuple(torch.where(finite, y, end) for y in side.values))
                for side, end in zip((below, above), image, strict=True)
            )
        first, last = below.places[1:3]
        width = (high - low).clamp(min=torch.finfo(low.dtype).tiny)
        average = (self.rise / width).clamp(max=STEEPEST)
        inside = (first > low) & (low < high)
        along = torch.where(first < last, self.rise, average)
        steepest = torch.maximum(2 * average, along) * inside
        slopes = self._slopes(low, high, first, last, along, inside)
        return _Free(below, above, slopes, torch.maximum(steepest, torch.maximum(*slopes)))

    def _slopes(
        self,
        lower: Tensor,
        upper: Tensor,
        first: Tensor,
        last: Tensor,
        along: Tensor,
        inside: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Slopes of the hulls at the middle, 0 where there is no step inside."""
        middle = 0.5 * lower + 0.5 * upper
        room = torch.finfo(lower.dtype).tiny
        after = (self.rise / (upper - last).clamp(min=room)).clamp(max=STEEPEST)
        before = (self.rise / (first - lower).clamp(min=room)).clamp(max=STEEPEST)
        below = torch.where(middle > last, after, along) * (inside & (middle >= first))
        above = torch.where(middle < first, before, along) * (inside & (middle <= last))
        return below, above

    def intercepts(
        self, lower: Tensor, upper: Tensor, below: Tensor, above: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Intercepts for given slopes."""
        finite = (upper - lower).isfinite()
        low, high = (torch.where(finite, end, 0.0) for end in (lower, upper))
        under, over = self._corners(low, torch.maximum(low, high))
        ends = self.image(lower, upper)
        found = []
        for side, slope, end, none in zip(
            (under, over), (below, above), ends, (-inf, inf), strict=True
        ):
            outside = torch.where(slope == 0, end, none)
            found.append(torch.where(finite, side.touch(slope)[0], outside))
        return found[0], found[1]

    def split_point(self, lower: Tensor, upper: Tensor) -> Tensor:
        """The step nearest to the middle, or the middle if there is none inside."""
        middle = (0.5 * lower + 0.5 * upper).nan_to_num(0.0, 0.0, 0.0)
        middle = middle.clamp(min=lower.clamp(max=STEEPEST), max=upper.clamp(min=-STEEPEST))
        point, distance = middle, torch.full_like(middle, inf)
        for step in (self.last(middle), self.first(middle)):
            away = (step - middle).abs()
            good = (step > lower) & (step < upper) & (away < distance)
            point, distance = torch.where(good, step, point), torch.where(good, away, distance)
        return point

    def _corners(self, lower: Tensor, upper: Tensor) -> tuple[_Corners, _Corners]:
        """Of the limits at a step on the interval's edge only that from inside counts."""
        bottom, top = self.value(lower), self.value(upper)
        first, last = self.first(lower), self.last(upper)
        # Below, a step at the upper end counts, and above one at the lower end: there the
        # values just before, or after, are limits from inside.
        late = torch.where(self.first(last) <= upper, self.first(last), last)
        early = torch.where(self.last(first) >= lower, self.last(first), first)
        under = (first <= upper) & (lower < upper)
        over = (last >= lower) & (lower < upper)
        places, values = [], []
        for step in (first, late):
            places.append(torch.where(under, step, lower))
            values.append(torch.where(under, self.before(step), bottom))
        below = _Corners((lower, *places, upper), (bottom, *values, top), False)
        places, values = [], []
        for step in (early, last):
            places.append(torch.where(over, step, upper))
            values.append(torch.where(over, self.before(step) + self.rise, top))
        return below, _Corners((lower, *places, upper), (bottom, *values, top), True)
