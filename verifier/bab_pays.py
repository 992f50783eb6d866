"""Whether optimised slopes are worth their time in branch and bound on inputs."""

from __future__ import annotations

SAVED = 6.0
"""Boxes that neither the search nor the kernel has to look at for one that is closed: it
would have been halved, and often its halves again."""

ALLOWED = 0.25
"""Share of the time for bounding boxes that may be spent on trying in vain."""


class Pays:
    """An account of what optimising slopes costs and saves, in seconds.

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

    def tried(self, closed: int, seconds: float) -> None:
        """Slopes were optimised, which closed so many boxes."""
        saved = SAVED * closed * self._seconds / max(1.0, self._boxes)
        credit = max(seconds, 0.0)  # what went well says little of boxes much later
        self._balance = min(self._balance + saved - seconds, credit)

    def worthwhile(self) -> bool:
        """Whether to optimise now."""
        return self._balance >= 0.0
