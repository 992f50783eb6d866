"""What is gained by looking at every leaf about once: default effort."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from proofs.draft import Node
from proofs.passes import preludes, probes, regrow, rounding, sharing, thin
from proofs.passes.edits import Work
from proofs.proof import NodeKind
from proofs.tree import DeadlineError

UNITS, FEWEST = 16, 128
"""Into how many units leaves are put, and of how many they are at least.  Of as many units
as there is time for a part is made, the first one of ``SAMPLE``."""

SAMPLE = 1
"""Units that are looked at first, to learn how long it takes and what lasts."""

READY = 0.7
"""Share of the time that is left that a part may take, judging by the one before it."""

LARGEST = 1024
"""Leaves of a part."""

ENOUGH = 0.5
"""Share of the leaves for which there has to be time, judging by the first part: looking at
less of them would gain less than it costs."""

LASTING = 0.5
"""Share of a kind of edits that has to last in a part for the next part to try them, too."""

EDITS: dict[str, Callable[[Work, Sequence[Node]], None]] = {
    "sweeps": thin.sweeps,
    "last sweeps": lambda work, tops: thin.sweeps(work, tops, GROWN),
    "clips": thin.inner_clips,
    "steps": thin.steps,
    "rounding": lambda work, tops: rounding.hints(work, tops, 0),
}
"""Made all at once, and taken back near leaves that do not close; the boldest first, which are
left out where most leaves fail."""

GROWN = 2
"""Leaves up to which a sweep above them is left out of trees that were grown: growing keeps
sweeps that spare work below, but above so few leaves that gains less than one batch more costs."""

GROWING = 0.85
"""Share of the time in which trees may be grown anew: not much is left to do on them."""

OTHERWISE, FEW, HURRIED = 0.57, 256, 0.21
"""Share of the time that has to do where no tree is grown, and where there are few leaves
besides: less is gained then."""

SMALL = 128
"""Leaves up to which the sweep of a prelude is a share of a check that counts."""

WORTH = 64
"""Splits of inputs of which some may well be of no use: smaller trees seldom have any."""


class Quick:
    """Grow trees anew; part by part, do less on the way to the leaves, round hints and share them.

    What a part teaches of which edits last, the next ones use.

    Args:
        deadline: ``time.monotonic()`` at which the time is over.
    """

    def __init__(self, deadline: float | None) -> None:
        self._deadline = math.inf if deadline is None else deadline

    def __call__(self, work: Work, tops: Sequence[Node]) -> None:
        """Change what is below some nodes; see :data:`proofs.minimise.Pass`.

        Raises:
            DeadlineError: the time is over, or too little of it is left; what was done stays.
        """
        kinds, now = list(EDITS), time.monotonic()
        span = self._deadline - now
        grown = regrow.regrow(work, now + GROWING * span)
        tops = [tree.root for tree in work.draft.trees()]
        leaves = sum(node.leaf for node in thin.below(tops))
        if not grown:
            share = HURRIED if leaves <= FEW else OTHERWISE
            self._deadline = min(self._deadline, time.monotonic() + share * span)
            work.oracle.hurry(self._deadline)
        kinds.remove("sweeps" if grown else "last sweeps")
        size = max(FEWEST, leaves // UNITS)
        units, count = [part for part in work.parts(size) if _wasteful(part)], SAMPLE
        least = ENOUGH * (len(units) - count)
        while units:
            part, units = [node for unit in units[:count] for node in unit], units[count:]
            began = time.monotonic()
            self._change(work, part, kinds)
            spent, left = time.monotonic() - began, self._deadline - time.monotonic()
            affordable = READY * left / max(spent, 1e-9) * count
            if units and affordable < max(1.0, least):
                raise DeadlineError("too little time is left for more leaves")
            count, least = int(min(affordable, len(units), max(1, LARGEST // size))), 0.0
        if _splits_of_inputs(tops) >= WORTH:
            left = self._deadline - time.monotonic()
            probes.collapse(work, tops, time.monotonic() + READY * left)
        if not work.oracle.hurried:
            preludes.rounded(work)
        if leaves <= SMALL and not work.oracle.hurried:
            preludes.unswept(work)

    def _change(self, work: Work, part: Sequence[Node], kinds: list[str]) -> None:
        made, failing = self._made(work, part, kinds)
        most = (1.0 - LASTING) * sum(node.leaf for node in thin.below(part))
        while len(failing) > most and any(made.values()):
            work.give_up()
            kinds.remove(next(kind for kind in kinds if made[kind]))
            made, failing = self._made(work, part, kinds)
        taken_back = work.settle(part, failing)
        for kind, edits in made.items():
            if len(edits - taken_back) < LASTING * len(edits):
                kinds.remove(kind)

    def _made(
        self, work: Work, part: Sequence[Node], kinds: Sequence[str]
    ) -> tuple[dict[str, frozenset[int]], list[Node]]:
        """Make edits of some kinds, and share hints: the edits, and the leaves that fail."""
        made: dict[str, frozenset[int]] = {}
        for kind in kinds:
            before = work.pending
            EDITS[kind](work, part)
            made[kind] = work.pending - before
        return made, sharing.share(work, part)


def _wasteful(part: Sequence[Node]) -> bool:
    """Whether there is anything but splits and leaves that sweep and close without hints."""
    return any(
        node.hints is not None
        or node.kind is NodeKind.CLIP
        or (node.kind is NodeKind.SWEEP and node.children[0].kind is not NodeKind.CLOSE)
        for node in thin.below(part)
    )


def _splits_of_inputs(tops: Sequence[Node]) -> int:
    return sum(node.kind is NodeKind.SPLIT_INPUT for node in thin.below(tops))
