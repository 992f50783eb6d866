"""What is worth its time in branch and bound on inputs, beside halving boxes."""

from __future__ import annotations

SAVED = 6.0
"""Boxes that neither the search nor the kernel has to look at for one that is closed: it
would have been halved, and often its halves again."""

ALLOWED = 0.25
"""Share of the time for bounding boxes that may be spent on trying in vain."""


MOST_SAVED = 500.0
"""Boxes that are counted for one at most; while there are more and more of them, it is so many."""


class Growth:
    """How many boxes halving is going to look at below one that is open, as it has gone lately."""

    def __init__(self) -> None:
        self._halved, self._open = 0.0, 0.0

    def halved(self, boxes: int, left: int) -> None:
        """So many boxes were halved, and of their halves so many are open."""
        self._halved = 0.8 * self._halved + boxes
        self._open = 0.8 * self._open + left

    @property
    def below(self) -> float:
        """The number, as if every open box went the same way."""
        lost = 1.0 - self._open / max(1.0, self._halved)
        return min(MOST_SAVED, 2.0 / lost) if lost > 0.0 else MOST_SAVED


class Pays:
    """An account of what a way to close boxes costs and saves, in seconds.

    It is tried while the account is not overdrawn; what bounding boxes takes pays in a share,
    so that it is tried again from time to time where it saved too little.
    """

    def __init__(self) -> None:
        self._balance = 0.0
        self._boxes, self._seconds = 0.0, 0.0  # the latest rounds count most

    def evaluated(self, boxes: int, seconds: float) -> None:
        """Boxes of the tree were bounded with default slopes."""
        self._balance += ALLOWED * seconds
        self._boxes = 0.9 * self._boxes + boxes
        self._seconds = 0.9 * self._seconds + seconds

    def tried(self, closed: int, seconds: float, below: float = SAVED) -> None:
        """It was tried, and closed so many boxes, with so many boxes below each."""
        saved = below * closed * self._seconds / max(1.0, self._boxes)
        credit = max(seconds, 0.0)  # what went well says little of boxes much later
        self._balance = min(self._balance + saved - seconds, credit)

    def worthwhile(self) -> bool:
        """Whether to try now."""
        return self._balance >= 0.0
