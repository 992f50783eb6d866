"""Branch and bound: one object that searches, writes the proof and takes leaves back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from proofs.draft import Draft
from proofs.oracle import State
from proofs.proof import Proof
from proofs.tree import hull
from specs.property import Case
from specs.query import Query
from verifier import reuse
from verifier.bab_input import InputSearch
from verifier.bab_neuron import NeuronSearch
from verifier.bab_root import Nets, Parts
from verifier.bab_settings import Candidates, OnCandidate, Settings, fitted
from verifier.bab_tree import Tree
from verifier.bounds_compile import compile_network
from verifier.bounds_errors import error_radii
from verifier.bounds_spec import build_table
from verifier.bounds_sweep import OutOfTimeError, until
from verifier.memory import ran_out
from verifier.squares import adjusted, beside, moving_together
from verifier.states import known

__all__ = ["OutOfTimeError", "Progress", "Search", "Settings", "Status"]

Status = Literal["closed", "violated", "timeout", "exhausted", "memory"]


@dataclass(frozen=True)
class Progress:
    """How far a search has come.

    Attributes:
        elapsed: seconds since ``run`` began; ``open``, ``closed``: leaves.
        worst: least lower bound among open domains; positive would be closed.
    """

    elapsed: float
    open: int
    closed: int
    worst: float


PILOT = 2.0
"""Seconds of search that tell the ratios of squares beside products, and whether stars alone
are quicker."""

PATIENCE = 4.0
"""Seconds of search on inputs before stars alone are tried."""

SLICE = 0.25
"""Part of the time so far for which the better of both goes on before they are compared again."""

LEAST = 0.15
"""Part of the time that each of both gets in any case."""


@dataclass
class _Rival:
    """One of two searches of the same boxes.

    Attributes:
        engine, tree: the search, and what it found.
        rate: how fast the logarithm of the share that is open fell lately; ``None``: unknown.
        spent: seconds so far.
    """

    engine: InputSearch
    tree: Tree
    rate: float | None = None
    spent: float = 0.0

    def promise(self, total: float) -> float:
        """The rate; infinite where too little was tried of ``total`` seconds to tell."""
        return math.inf if self.rate is None or self.spent < LEAST * total else self.rate

    def run(self, deadline: float, round_over: Callable[[], bool]) -> Status:
        """Search until then."""
        begun, before = time.perf_counter(), self._open
        try:
            found = self.engine.run(deadline, round_over)
        except OutOfTimeError:
            found = "timeout"
        seconds = time.perf_counter() - begun
        self.rate = math.log(before / self._open) / max(seconds, 1e-9)
        self.spent += seconds
        return found

    @property
    def _open(self) -> float:
        return max(1.0 - self.engine.share_closed, 1e-300)


class Search:
    """Branch and bound for one query.

    Args:
        deadline: ``time.monotonic()`` at which to stop.
        on_candidate: gets points ``(k, input_size)`` that violate as far as floating-point
            numbers tell; returns whether one of them is a confirmed violation.
        on_round: called after every round; returns whether a violation was confirmed
            elsewhere, which ends the search.
        cases: numbers of the cases to search; all if ``None``.
        old: a proof to go on with, see :mod:`verifier.reuse`; its leaves count as closed.

    Raises:
        UnsupportedOperatorError: the network has a function or map without a rule here.
    """

    def __init__(
        self,
        query: Query,
        *,
        deadline: float,
        device: str = "cpu",
        settings: Settings | None = None,
        on_candidate: OnCandidate | None = None,
        on_round: Callable[[Progress], bool] | None = None,
        cases: Sequence[int] | None = None,
        old: Draft | None = None,
    ) -> None:
        self._deadline, self._device = deadline, device
        self._settings = fitted(settings or Settings(), device)
        self._on_candidate, self._on_round = on_candidate, on_round
        self._numbers = list(range(len(query.property.cases)) if cases is None else cases)
        self._plain, self._before = query, 0
        self._nodes: dict[int, int] = {}
        self._rivals: list[_Rival] = []
        self._as_before = None  # what splits inputs mends leaves among neuron splits badly
        if old is not None and self._settings.method == "auto":
            self._as_before = reuse.splits_inputs(old)
        self._prepare(query if old is None else old.query)
        if old is not None:
            self._nodes = reuse.planted(self._tree, self._net, old)
        ratios = None if old is not None else moving_together(self._net, *self._around())
        if ratios:
            self._prepare(beside(query, ratios))
        self._tuned, self._races = not ratios, old is None
        self._begun = time.monotonic()

    def _prepare(self, query: Query) -> None:
        """Start afresh with this form of the query."""
        self._query = query
        radii = error_radii(query, until(self._deadline))
        self._net = net = compile_network(query.network, self._device, radii=radii)
        chosen = [query.property.cases[number] for number in self._numbers]
        inputs = self._splits_inputs(chosen) if self._as_before is None else self._as_before
        table = build_table(chosen, net, query.property.output_size, apart=inputs)
        candidates = Candidates(net, table, self._on_candidate)
        self._tree = Tree({tensor: where.start for tensor, where in net.neurons.items()})
        nets = Nets(net, compile_network(query.network, self._device, torch.float32, radii=radii))
        parts = Parts(nets, table, chosen, self._numbers, self._tree, self._settings, candidates)
        self._engine: InputSearch | NeuronSearch
        self._engine, self._parts = InputSearch(parts) if inputs else NeuronSearch(parts), parts

    def _around(self) -> tuple[Tensor, Tensor]:
        """The smallest box around the regions that are searched, ``(1, I)``."""
        ends = hull(self._plain.property.cases[number] for number in self._numbers)
        low, high = (torch.tensor(end[None], device=self._device) for end in ends)
        return low, high

    def _splits_inputs(self, cases: Sequence[Case]) -> bool:
        """Few inputs that vary are split themselves; else neurons are."""
        if self._settings.method != "auto":
            return self._settings.method == "inputs"
        sample = cases[:: max(1, len(cases) // 100)]
        free = max(
            (int(np.count_nonzero(low < high)) for low, high in (c.box() for c in sample)),
            default=0,
        )
        return free <= self._settings.few_inputs

    @property
    def name(self) -> str:
        """In words."""
        return "stars" if self._settings.stars == "always" else "branch and bound"

    def lead(self) -> None:
        """Of searches side by side keep to the one that has closed most."""
        best = max(self._rivals, key=lambda rival: rival.engine.share_closed, default=None)
        if best is not None:
            self._engine, self._tree = best.engine, best.tree

    @property
    def splits_inputs(self) -> bool:
        """Whether inputs are split; otherwise neurons are."""
        return isinstance(self._engine, InputSearch)

    @property
    def remark(self) -> str:
        """What stars did, in words; empty where there were none."""
        engines = [rival.engine for rival in self._rivals] or [self._engine]
        found = [e.stars for e in engines if isinstance(e, InputSearch) and e.stars is not None]
        boxes, closed, programs, leaves, weak = (
            sum(getattr(counts, name) for counts in found)
            for name in ("boxes", "closed", "programs", "leaves", "weak")
        )
        if not boxes:
            return ""
        return (
            f"stars closed {closed} of {boxes} boxes by {programs} linear programs; multipliers of "
            f"{weak} of {leaves} leaves were too weak"
        )

    @property
    def evaluated(self) -> int:
        """Domains bounded so far."""
        others = (r.engine.evaluated for r in self._rivals if r.engine is not self._engine)
        return self._before + self._engine.evaluated + sum(others)

    def run(self) -> Status:
        """Search until all is closed, a violation is confirmed, or time is up.

        ``exhausted``: what is open cannot be split further; ``memory``: it ran out even for
        the smallest batch.
        """
        self._begun = time.monotonic()
        try:
            if not self._tuned and isinstance(self._engine, InputSearch):
                found = self._tune(self._engine)
                if found != "timeout" or time.monotonic() >= self._deadline:
                    return found
            if self._races and isinstance(self._engine, InputSearch):
                return self._raced(self._engine)
            return self._engine.run(self._deadline, self._round_over)
        except OutOfTimeError:  # what was in work stays open in the tree
            return "timeout"
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            return "memory"

    def _tune(self, engine: InputSearch) -> Status:
        """Search for a while; then start again, if squares beside products want other ratios."""
        self._tuned = True
        try:
            found = engine.run(min(self._deadline, self._begun + PILOT), self._round_over)
        except OutOfTimeError:
            found = "timeout"
        if found == "timeout" and time.monotonic() < self._deadline:
            bounds = engine.bounds()  # none: the roots took all the time, and begin anew
            ratios = None if bounds is None else adjusted(self._net, *bounds)
            self._before += engine.evaluated
            self._prepare(self._query if ratios is None else beside(self._plain, ratios))
        return found

    def _raced(self, engine: InputSearch) -> Status:
        """Search for a while, then with stars alone, and then with what closes more at the time."""
        if not self._rivals and not engine.may_use_stars:
            return engine.run(self._deadline, self._round_over)
        if not self._rivals:
            self._rivals = [_Rival(engine, self._tree)]
        plain = self._rivals[0]
        if plain.rate is None:
            found = plain.run(self._until(PATIENCE), self._round_over)
            if found != "timeout" or time.monotonic() >= self._deadline:
                return found
        if len(self._rivals) == 1:
            tree = Tree({tensor: where.start for tensor, where in self._net.neurons.items()})
            settings = replace(self._settings, stars="always")
            parts = replace(self._parts, tree=tree, settings=settings)
            self._rivals.append(_Rival(InputSearch(parts), tree))
        seconds = PILOT
        while True:
            total = sum(rival.spent for rival in self._rivals)
            best = max(self._rivals, key=lambda rival: rival.promise(total))
            self._engine, self._tree = best.engine, best.tree
            found = best.run(self._until(seconds), self._round_over)
            if found != "timeout" or time.monotonic() >= self._deadline:
                return found
            seconds = max(PILOT, SLICE * (time.monotonic() - self._begun))

    def _until(self, seconds: float) -> float:
        return min(self._deadline, time.monotonic() + seconds)

    def proof(self, deadline: float = float("inf")) -> Proof:
        """The proof as far as it goes; open domains are holes.

        Raises:
            OutOfTimeError: the deadline, in ``time.monotonic()`` seconds, came before its end.
        """
        return self._tree.proof(self._query, until(deadline))

    def reopen(self, node_numbers: Sequence[int]) -> None:
        """Take back leaves, by their position in the node arrays of the last ``proof()``.

        Raises:
            OutOfTimeError: the deadline came first; leaves may be left out of the search.
        """
        for position in node_numbers:
            self._engine.reopen(self._tree.written(position), self._deadline)

    def take_up(self, states: Sequence[State], roots: Mapping[int, State]) -> bool:
        """Open leaves of the old proof.

        Args:
            states: the leaves, with what the kernel knows there.
            roots: those of the cases' trees.

        Returns:
            Whether the search can go on from all of them.
        """
        done = True
        for case, root in roots.items():
            found = [
                reuse.opened(self._tree, self._net, self._nodes[id(state.node)], state)
                for state in states
                if state.case == case
            ]
            start = known([root], self._net)
            done = self._engine.take_up(case, start, found) and done
        return done

    def extend(self, deadline: float) -> None:
        """Set another deadline for the next ``run``."""
        self._deadline = deadline

    def _round_over(self) -> bool:
        if self._on_round is None:
            return False
        closed = self._tree.kind.count(1)
        elapsed = time.monotonic() - self._begun
        return self._on_round(Progress(elapsed, self._engine.open, closed, self._engine.worst))
