"""Bound steps: chosen entries of a tensor, bounded with hints of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from proofs.arithmetic import Interval, Numbers
from proofs.bounds import bound_rows, improve, propagate
from proofs.domain import Path
from proofs.facts import Facts
from proofs.fields import Part, parts, whole
from proofs.forms import MINUS_ONE, ONE, Form, combine
from proofs.frame import Batch, Frame, IndexArray, Relaxations, unstable
from proofs.proof import Side
from proofs.substitution import substitute
from proofs.tables import Step


@dataclass(frozen=True, eq=False)
class _Task:
    """A step on a batch.

    Attributes:
        paths, stored: of the domains, before the step.
        batch: changed in place.
        owner, entry: ``(R,)`` the domains and entries to be bounded.
        per_row: whether each entry has slopes of its own.
    """

    step: Step
    paths: Sequence[Path]
    stored: Mapping[int, Interval]
    batch: Batch
    owner: IndexArray
    entry: IndexArray
    per_row: bool


class Steps:
    """Takes bound steps on batches of domains.

    Args:
        frame, facts: of the cases that are checked.
        tick: called between pieces of work; may raise to stop at a deadline.
    """

    def __init__(self, frame: Frame, facts: Facts, tick: Callable[[], None]) -> None:
        self._frame, self._facts, self._tick = frame, facts, tick

    def take(self, step: Step, paths: Sequence[Path], batch: Batch) -> None:
        """Propagate intervals up to the target, then improve ``batch`` in place."""
        frame, stored = self._frame, dict(batch.bounds)
        if step.propagates:
            propagate(frame, batch, last=step.target)
        if step.rows is None:
            mask = unstable(frame, step.target, batch.bounds[step.target])
            owner, entry = np.nonzero(mask & ~batch.empty[:, None])
        else:
            owner = np.repeat(np.arange(len(paths)), step.rows.size)
            entry = np.tile(step.rows, len(paths))
        per_row = any(len(block.slopes) > 1 for block in step.substitution.blocks)
        task = _Task(step, paths, stored, batch, owner, entry, per_row)
        apart = step.substitution.stop is None and not step.substitution.multipliers
        # Facts may be about any entries; what stops at stored bounds is cheap as it is.
        for part in parts(frame, step.target, entry) if apart else [whole(frame, entry)]:
            size = max(1, frame.arithmetic.entry_budget // part.frame.work)
            size = min(size if per_row else entry.size, self._facts.at_once([step.substitution]))
            for start in range(0, part.place.size, max(1, size)):
                self._tick()
                some = slice(start, start + size)
                rows = replace(part, place=part.place[some], inside=part.inside[some])
                self._bound_rows(task, rows)

    def _bound_rows(self, task: _Task, part: Part) -> None:
        """Rows of a bound step, those of ``part`` among all."""
        step, hints = task.step, task.step.substitution
        own, used = task.owner[part.place], part.batch(task.batch)
        place, picked = own, None
        if task.per_row and step.rows is not None:
            picked = part.place % step.rows.size
            used, place = used.pick(own), np.arange(own.size)
        slopes = self._facts.slopes([hints] * len(used.lower), picked)
        lines = Relaxations(part.frame, used, part.hints(slopes))
        if hints.multipliers:
            found = self._bound_with_facts(task, lines, place, part.place)
        else:
            found = bound_rows(
                part.frame,
                lines,
                step.target,
                place,
                part.inside,
                step.sides,
                hints.stop,
                self._tick,
            )
        improve(task.batch, step.target, own, task.entry[part.place], found)

    def _bound_with_facts(
        self, task: _Task, lines: Relaxations, place: IndexArray, among: IndexArray
    ) -> dict[Side, Numbers]:
        """Bounds of the task's rows ``among`` all, relaxed as the domains at ``place``."""
        step, hints, found = task.step, task.step.substitution, {}
        owner, entry = task.owner[among], task.entry[among]
        added = {
            k: self._facts.added(task.paths[k], task.stored, k, hints)
            for k in np.unique(owner).tolist()
        }
        for number, side in enumerate(step.sides):
            sign = ONE if side is Side.LOWER else MINUS_ONE
            scales = [ONE] * among.size
            if step.scales is not None and step.rows is not None:
                exponents = step.scales[number, among % step.rows.size].tolist()
                scales = [Fraction(2) ** exponent for exponent in exponents]
            forms = []
            for scale, k, index in zip(scales, owner.tolist(), entry.tolist(), strict=True):
                own = Form({(step.target, index): sign}, Fraction(0))
                forms.append(combine([(ONE, own), (scale, added[k])]))
            rows = self._facts.rows(forms, place)
            least = substitute(self._frame, lines.batch, lines, rows, hints.stop, self._tick)
            found[side] = least if side is Side.LOWER else -least
        return found
