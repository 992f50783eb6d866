"""Bound steps: chosen entries of a tensor, bounded with hints of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from proofs.bounds import bound_neurons, propagate
from proofs.domain import Domain
from proofs.facts import Facts
from proofs.forms import Form, combine
from proofs.frame import Batch, Frame, IndexArray, Relaxations, unstable
from proofs.proof import Side
from proofs.substitution import substitute
from proofs.tables import Step


class Steps:
    """Takes bound steps on batches of domains.

    Args:
        frame, facts: of the cases that are checked.
        tick: called between pieces of work; may raise to stop at a deadline.
    """

    def __init__(self, frame: Frame, facts: Facts, tick: Callable[[], None]) -> None:
        self._frame, self._facts, self._tick = frame, facts, tick

    def take(self, step: Step, domains: Sequence[Domain], batch: Batch) -> None:
        """Propagate intervals up to the target, then improve ``batch`` in place."""
        frame = self._frame
        propagate(frame, batch, last=step.target)
        if step.rows is None:
            mask = unstable(frame, step.target, batch.bounds[step.target])
            owner, entry = np.nonzero(mask & ~batch.empty[:, None])
        else:
            owner = np.repeat(np.arange(len(domains)), step.rows.size)
            entry = np.tile(step.rows, len(domains))
        hints = step.substitution
        per_row = any(len(block.slopes) > 1 for block in hints.blocks)
        size = max(1, frame.arithmetic.entry_budget // frame.work) if per_row else owner.size
        size = min(size, self._facts.at_once([hints]))
        for start in range(0, owner.size, max(1, size)):
            self._tick()
            rows = slice(start, start + size)
            if per_row and step.rows is not None:
                picked = np.arange(owner.size)[rows] % step.rows.size
                self._bound_rows(step, domains, batch, owner[rows], entry[rows], picked)
            else:
                self._bound_rows(step, domains, batch, owner[rows], entry[rows], None)

    def _bound_rows(
        self,
        step: Step,
        domains: Sequence[Domain],
        batch: Batch,
        owner: IndexArray,
        entry: IndexArray,
        picked: IndexArray | None,
    ) -> None:
        """Rows of a bound step; ``picked`` are their positions where hints are per row."""
        frame, hints = self._frame, step.substitution
        used, place = batch, owner
        if picked is not None:
            used, place = batch.pick(owner), np.arange(owner.size)
        slopes = self._facts.slopes([hints] * len(used.lower), picked)
        relaxations = Relaxations(frame, used, slopes)
        if not hints.multipliers:
            bound_neurons(
                frame,
                used,
                relaxations,
                step.target,
                place,
                entry,
                step.sides,
                hints.stop,
                self._tick,
            )
        else:
            self._bound_with_facts(step, domains, used, relaxations, place, owner, entry)
        if picked is not None:
            lower, upper = (part.copy() for part in batch.bounds[step.target])
            lower[owner, entry] = used.bounds[step.target][0][place, entry]
            upper[owner, entry] = used.bounds[step.target][1][place, entry]
            batch.improve(step.target, lower, upper)

    def _bound_with_facts(
        self,
        step: Step,
        domains: Sequence[Domain],
        batch: Batch,
        relaxations: Relaxations,
        place: IndexArray,
        owner: IndexArray,
        entry: IndexArray,
    ) -> None:
        lower, upper = (part.copy() for part in batch.bounds[step.target])
        one, hints = Fraction(1), step.substitution
        added = {k: self._facts.added(domains[k], hints) for k in np.unique(owner).tolist()}
        for side in step.sides:
            sign = Fraction(1 if side is Side.LOWER else -1)
            forms = []
            for domain_number, index in zip(owner.tolist(), entry.tolist(), strict=True):
                own = Form({(step.target, index): sign}, Fraction(0))
                forms.append(combine([(one, own), (one, added[domain_number])]))
            rows = self._facts.rows(forms, place)
            found = substitute(self._frame, batch, relaxations, rows, hints.stop, self._tick)
            if side is Side.LOWER:
                lower[place, entry] = found
            else:
                upper[place, entry] = -found
        batch.improve(step.target, lower, upper)
