"""Branch and bound: one object that searches, writes the proof and takes leaves back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from proofs.proof import Proof
from specs.property import Case
from specs.query import Query
from verifier.bab_input import InputSearch
from verifier.bab_neuron import NeuronSearch
from verifier.bab_root import Nets, Parts
from verifier.bab_settings import Candidates, OnCandidate, Settings, fitted
from verifier.bab_tree import Tree
from verifier.bounds import compile_network
from verifier.bounds_errors import error_radii
from verifier.bounds_spec import build_table
from verifier.bounds_sweep import OutOfTimeError, until
from verifier.memory import ran_out

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


class Search:
    """Branch and bound for one query.

    Args:
        deadline: ``time.monotonic()`` at which to stop.
        on_candidate: gets points ``(k, input_size)`` that violate as far as floating-point
            numbers tell; returns whether one of them is a confirmed violation.
        on_round: called after every round; returns whether a violation was confirmed
            elsewhere, which ends the search.
        cases: numbers of the cases to search; all if ``None``.

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
    ) -> None:
        self._query, self._deadline = query, deadline
        self._settings = fitted(settings or Settings(), device)
        self._on_round = on_round
        radii = error_radii(query, until(deadline))
        net = compile_network(query.network, device, radii=radii)
        numbers = list(range(len(query.property.cases)) if cases is None else cases)
        chosen = [query.property.cases[number] for number in numbers]
        table = build_table(chosen, net, query.property.output_size)
        candidates = Candidates(net, table, on_candidate)
        self._tree = Tree({tensor: where.start for tensor, where in net.neurons.items()})
        nets = Nets(net, compile_network(query.network, device, torch.float32, radii=radii))
        parts = Parts(nets, table, chosen, numbers, self._tree, self._settings, candidates)
        self._engine: InputSearch | NeuronSearch
        self._engine = InputSearch(parts) if self._splits_inputs(chosen) else NeuronSearch(parts)
        self._begun = time.monotonic()

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
    def splits_inputs(self) -> bool:
        """Whether inputs are split; otherwise neurons are."""
        return isinstance(self._engine, InputSearch)

    @property
    def evaluated(self) -> int:
        """Domains bounded so far."""
        return self._engine.evaluated

    def run(self) -> Status:
        """Search until all is closed, a violation is confirmed, or time is up.

        ``exhausted``: what is open cannot be split further; ``memory``: it ran out even for
        the smallest batch.
        """
        self._begun = time.monotonic()
        try:
            return self._engine.run(self._deadline, self._round_over)
        except OutOfTimeError:  # what was in work stays open in the tree
            return "timeout"
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            return "memory"

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

    def extend(self, deadline: float) -> None:
        """Set another deadline for the next ``run``."""
        self._deadline = deadline

    def _round_over(self) -> bool:
        if self._on_round is None:
            return False
        closed = self._tree.kind.count(1)
        elapsed = time.monotonic() - self._begun
        return self._on_round(Progress(elapsed, self._engine.open, closed, self._engine.worst))
