"""Walkers that say how well leaves close, and what would become of boxes.

Nothing here needs to be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Numbers
from proofs.bounds import sweep
from proofs.domain import Domains, assume
from proofs.frame import Batch, Frame, IndexArray
from proofs.proof import NodeKind, Side
from proofs.substitution import linearize
from proofs.tables import Substitution, Tables
from proofs.tree import Found, Walker
from proofs.unsafe import Closer, Unsafe
from specs.enclosure import FloatArray
from specs.query import Query


class Trial(Walker):
    """A walker that wants a margin, and keeps what it knows before some nodes: splits, holes."""

    def __init__(
        self,
        query: Query,
        frame: Frame,
        tables: Tables,
        deadline: float | None,
        margin: float,
        keep: Collection[int],
    ) -> None:
        super().__init__(query, frame, tables, deadline)
        self._closer = _Margin(frame, self._unsafe, self.tick, margin)
        self.kept: list[tuple[int, Domains]] = []
        self._keep = keep

    def _branch(self, domains: Domains) -> Found:
        for place, node in enumerate(domains.nodes.tolist() if self._keep else []):
            if node in self._keep:
                self.kept.append((node, domains.pick(np.array([place]))))
        return super()._branch(domains)

    def closed(
        self, domains: Domains, hints: Sequence[Substitution | None]
    ) -> npt.NDArray[np.bool_]:
        """Which of some domains close with hints of their own, ``(B,)``."""
        return self.shortfalls(domains, hints) == 0.0

    def shortfalls(self, domains: Domains, hints: Sequence[Substitution | None]) -> FloatArray:
        """By how much domains fail to close with hints of their own, ``(B,)``; 0: they close."""
        found = np.zeros(len(domains))
        for place, shortfall, why in self._closer.close(domains.paths, hints, domains.batch):
            if why is not None:
                found[place] = np.inf if shortfall is None else max(shortfall, LEAST)
        return found

    def halves(self, domains: Domains, entries: IndexArray) -> Domains:
        """Both halves of boxes that are split at input entries, ``(B,)``: two for each."""
        twice = domains.pick(np.repeat(np.arange(len(domains)), 2))
        made = []
        for place, entry in enumerate(entries.tolist()):
            below = self._literal(NodeKind.SPLIT_INPUT, entry, domains.batch, place)
            made += [below, replace(below, side=Side.UPPER)]
        return assume(self.frame, twice, made)

    def swept(self, domains: Domains) -> Domains:
        """Domains after a SWEEP."""
        batch = _copy(domains.batch)
        sweep(self.frame, batch, tick=self.tick)
        return Domains(domains.nodes, domains.paths, batch)

    def influence(self, domains: Domains) -> FloatArray:
        """How far inputs move the constraints' bounds inside their boxes, ``(B, inputs)``."""
        found = np.zeros(domains.batch.lower.shape)
        hints = [None] * len(domains)
        for group in self._unsafe.groups(domains.paths, hints, domains.batch):
            if not self.frame.passes(group.rows.entries):
                continue
            affine = linearize(
                self.frame, group.batch, group.relaxations, group.rows, group.stop, self.tick
            )
            sizes = np.abs(self.frame.arithmetic.floats_up(affine.matrix))
            np.maximum.at(found, group.places[group.rows.owner], sizes)
        return found * (domains.batch.upper - domains.batch.lower)


LEAST = 1e-300
"""The shortfall of what does not close at least."""


def _copy(batch: Batch) -> Batch:
    return Batch(batch.lower, batch.upper, dict(batch.bounds), batch.empty, batch.shares)


class _Margin(Closer):
    """Closes leaves whose bounds exceed a margin."""

    def __init__(
        self, frame: Frame, unsafe: Unsafe, tick: Callable[[], None], margin: float
    ) -> None:
        super().__init__(frame, unsafe, tick)
        self._least = self._arithmetic.lift_up(np.array([margin]))[0]

    def _judge(
        self,
        wanted: tuple[int, ...],
        found: Numbers,
        disjunct: IndexArray,
        strict: npt.NDArray[np.bool_],
    ) -> tuple[float | None, str | None]:
        return super()._judge(wanted, found - self._least, disjunct, strict)
