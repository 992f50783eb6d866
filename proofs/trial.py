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
from proofs.domain import Domains, Literal, assume
from proofs.domains import Mask
from proofs.forms import Place
from proofs.frame import Batch, Frame, IndexArray, Relaxations, Rows, unstable
from proofs.proof import NodeKind, Side
from proofs.substitution import Backward, linearize
from proofs.tables import Substitution, Tables
from proofs.tree import Found, Walker
from proofs.unsafe import Closer, Unsafe
from specs.enclosure import FloatArray
from specs.network import Univariate
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
        batch, kind = domains.batch, NodeKind.SPLIT_INPUT
        below = [self._literal(kind, e, batch, place) for place, e in enumerate(entries.tolist())]
        return self._both(domains, below)

    def phases(self, domains: Domains, neurons: Sequence[Place]) -> Domains:
        """Both phases of a neuron of each domain: two for each."""
        return self._both(domains, [Literal(((n, 1.0),), 0.0, Side.LOWER) for n in neurons])

    def _both(self, domains: Domains, below: Sequence[Literal]) -> Domains:
        twice = domains.pick(np.repeat(np.arange(len(domains)), 2))
        made = [side for one in below for side in (one, replace(one, side=Side.UPPER))]
        return assume(self.frame, twice, made)

    def swept(self, domains: Domains) -> tuple[Domains, FloatArray]:
        """Domains after a SWEEP, and what part of its work the same sweep would be now, ``(B,)``.

        That is all of it where nothing was to be done.  Work is a neuron that is bounded, times
        the layers that it is passed back through.
        """
        batch, tensors = _copy(domains.batch), self.frame.preactivations
        layers = {tensor: layer for layer, tensor in enumerate(tensors)}
        done, left = np.zeros(len(domains)), np.zeros(len(domains))

        def wanted(tensor: int) -> Mask:
            found = unstable(self.frame, tensor, batch.bounds[tensor])
            done[:] += layers[tensor] * np.count_nonzero(found, axis=1)
            return found

        sweep(self.frame, batch, tick=self.tick, wanted=wanted)
        for tensor in layers.keys() - self.frame.first_layers.keys():
            still = unstable(self.frame, tensor, batch.bounds[tensor])
            left += layers[tensor] * np.count_nonzero(still, axis=1)
        again = np.divide(left, done, out=np.ones(len(domains)), where=done > 0)
        return Domains(domains.nodes, domains.paths, batch), again

    def losses(self, domains: Domains, most: int) -> list[list[tuple[float, Place]]]:
        """What the best row of each domain loses to upper lines' intercepts: where most of all.

        Args:
            domains: of a single disjunct each.
            most: neurons for each.
        """
        values = np.full(len(domains), -np.inf)
        found: list[list[tuple[float, Place]]] = [[] for _ in range(len(domains))]
        for group in self._unsafe.groups(domains.paths, [None] * len(domains), domains.batch):
            if not self.frame.passes(group.rows.entries):
                continue
            size = max(1, self.frame.arithmetic.entry_budget // self.frame.work)
            for start in range(0, group.rows.owner.size, size):
                self.tick()
                rows = group.rows.slice(start, min(start + size, group.rows.owner.size))
                back = _Losing(self.frame, group.batch, group.relaxations, rows)
                least = self.frame.arithmetic.floats_down(back.run(group.stop))
                for row, place in enumerate(group.places[rows.owner].tolist()):
                    if least[row] > values[place]:
                        values[place], found[place] = least[row], back.losing(row, most)
        return found

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


class _Losing(Backward):
    """Rows on their way back, and what each loses to intercepts of upper lines, ``(R, n)``."""

    def __init__(self, frame: Frame, batch: Batch, relaxations: Relaxations, rows: Rows) -> None:
        super().__init__(frame, batch, relaxations, rows)
        self._losses: dict[int, FloatArray] = {}

    def losing(self, row: int, most: int) -> list[tuple[float, Place]]:
        """The neurons at which a row loses most."""
        found = [
            (float(loss[row, entry]), (tensor, int(entry)))
            for tensor, loss in self._losses.items()
            for entry in np.argsort(-loss[row], kind="stable")[:most]
        ]
        return sorted(found, key=lambda each: -each[0])[:most]

    def _visit(self, tensor: int, rows: Numbers) -> None:
        node = self._frame.network.nodes[tensor]
        if isinstance(node, Univariate):
            ceiling = self._relaxations.lines(tensor).ceiling
            own = ceiling if self._taken is None else ceiling[self._taken]
            loss = self._frame.arithmetic.floats_up(-np.minimum(rows, 0) * own)
            known = self._losses.get(node.source, 0.0)
            self._losses[node.source] = np.asarray(known + loss)
        super()._visit(tensor, rows)


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
