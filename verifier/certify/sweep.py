"""Which radius to ask about next: what is certified at one holds at every smaller one.

Likewise what is violated at one is violated at every greater one, so that a sample with ``n``
radii needs about ``log2(n)`` questions where none of them is left open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

CERTIFIED, VIOLATED, OPEN = "certified", "violated", "open"


@dataclass
class Sweep:
    """The radii of one sample.

    Attributes:
        radii: ascending.
        low: the place of the greatest that is certified; -1: none is.
        high: the place of the least that is violated; their number: none is.
        asked: places that were asked about.
    """

    radii: Sequence[Fraction]
    low: int = -1
    high: int = field(default=-1)
    asked: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if any(a >= b for a, b in zip(self.radii, self.radii[1:], strict=False)):
            raise ValueError("the radii do not ascend")
        if self.high < 0:
            self.high = len(self.radii)

    @property
    def next(self) -> int | None:
        """The place of the radius to ask about; ``None``: all that can be known is."""
        left = [k for k in range(self.low + 1, self.high) if k not in self.asked]
        return left[len(left) // 2] if left else None

    def certified(self, place: int) -> None:
        """A radius is certified."""
        self.asked.add(place)
        self.low = max(self.low, place)

    def violated(self, place: int) -> None:
        """A radius is violated."""
        self.asked.add(place)
        self.high = min(self.high, place)

    def found(self, distance: Fraction) -> None:
        """A violation lies at this distance from the sample, or nearer."""
        reached = (k for k, radius in enumerate(self.radii) if radius >= distance)
        self.high = min(self.high, next(reached, self.high))

    def left_open(self, place: int) -> None:
        """A question had no answer."""
        self.asked.add(place)

    @property
    def verdicts(self) -> list[str]:
        """Of each radius.

        Raises:
            ValueError: one radius is certified and a smaller one violated.
        """
        if self.low >= self.high:
            raise ValueError("a radius is certified, and one that is no greater violated")
        return [
            CERTIFIED if k <= self.low else VIOLATED if k >= self.high else OPEN
            for k in range(len(self.radii))
        ]
