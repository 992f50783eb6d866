"""Closing domains of a faulty network: the cheapest hints that do, from those of the intact one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proofs.frame import Batch
from proofs.tables import Step, Substitution
from specs.enclosure import FloatArray
from specs.faults.struck import WordFaults
from specs.property import Case
from verifier.faults.bounding import Kernel
from verifier.faults.intact_hints import IntactHints

MARGIN = 1e-9
"""By how much bounds have to stay away, so that they do where rounding goes another way."""

Hinted = Sequence[Substitution | None]
"""Hints for each disjunct, or one for all of them."""


class Closer:
    """What domains of one case are closed with.

    Args:
        faults: which networks are meant; questions about fewer cells have the same intact one.
        case: of the property.
        deadline: ``time.monotonic()`` after which slopes are optimised no further.

    Attributes:
        steps: bound steps, in the intact network's numbers.
        apart: hints for each disjunct, best without faults; ``plain``: one for all of them.
        intact: the margin without faults.
    """

    def __init__(self, faults: WordFaults, case: Case, deadline: float) -> None:
        self._case, self._deadline = case, deadline
        self._hints = IntactHints(faults.intact)
        self._disjuncts = list(range(len(case.unsafe)))
        self.steps: list[Step] = self._hints.steps(case, deadline)
        self.apart: Hinted = [None] * len(self._disjuncts)
        self.plain: Hinted = [None]
        self.intact = -np.inf

    def prepare(self, kernel: Kernel) -> Batch:
        """Find the hints that are best where nothing fails; the bounds there."""
        batch = kernel.intact(self.steps)
        margins, hints = self._by_disjunct(kernel, batch, None)
        self.apart = hints[0]
        every = [tuple(self._disjuncts)]
        alone = [kernel.margins(batch, every, [own])[0] for own in self.apart]
        best = int(np.argmax(alone))
        self.plain = [self.apart[best]]
        self.intact = float(max(margins[0], alone[best]))
        return batch

    def closed(self, kernel: Kernel, batch: Batch) -> tuple[FloatArray, list[Hinted]]:
        """The margins of domains, and the hints that gave them: the cheapest that close them.

        Args:
            kernel: of their question.
            batch: the domains.
        """
        count, every = len(batch.empty), tuple(self._disjuncts)
        margins = kernel.margins(batch, [every] * count, [self.plain[0]] * count)
        hints: list[Hinted] = [self.plain] * count
        open_ = np.flatnonzero(margins <= MARGIN)
        for own in (self.apart, None):
            if not open_.size:
                break
            found, better = self._by_disjunct(kernel, batch.pick(open_), own)
            for place, margin, hint in zip(open_.tolist(), found.tolist(), better, strict=True):
                if margin > margins[place]:
                    margins[place], hints[place] = margin, hint
            open_ = open_[margins[open_] <= MARGIN]
        return margins, hints

    def _by_disjunct(
        self, kernel: Kernel, batch: Batch, given: Hinted | None
    ) -> tuple[FloatArray, list[Hinted]]:
        """Margins where every disjunct has its own hints; ``None``: optimised for the domain."""
        count, many = len(batch.empty), len(self._disjuncts)
        wide, which = batch.pick(np.repeat(np.arange(count), many)), self._disjuncts * count
        hints: list[Substitution | None]
        if given is None:
            place, rows = kernel.numbers.place, self._case.unsafe
            hints = self._hints.leaves(wide, place, rows, which, self._deadline)
        else:
            hints = list(given) * count
        margins = kernel.margins(wide, [(number,) for number in which], hints)
        worst = margins.reshape(count, many).min(axis=1)
        return worst, [hints[k * many : (k + 1) * many] for k in range(count)]
