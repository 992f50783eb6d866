"""Hints for faulty networks: slopes that are optimised on the network without faults.

Any slope is safe, and faults move bounds little where anything can be proved; so what is best
for the intact network on the bounds at hand is good for the faulty one.  Tensors are those of
the intact network; :mod:`verifier.faults.renumbered` gives them the faulty one's numbers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from proofs.draft import slope_block
from proofs.frame import Batch
from proofs.proof import Side
from proofs.tables import EMPTY, Step, Substitution
from specs.network import Input, Network
from specs.property import Case, Conjunction
from verifier.alpha import Effort, Problem, initial, optimise
from verifier.bab_refine import refine
from verifier.bab_root import Nets, fast_problem, slope_hints
from verifier.bounds import Rows
from verifier.bounds_compile import compile_network
from verifier.bounds_sweep import fresh, sweep

STEPS = 30
"""Gradient steps."""

ENTRIES = 1 << 24
"""Numbers in the multipliers of rows that are optimised at a time."""


class IntactHints:
    """Slopes from the intact network.

    Args:
        intact: the network with the stored values.

    Raises:
        UnsupportedOperatorError: the network has a function or map without a form in the search.
    """

    def __init__(self, intact: Network) -> None:
        self._nets = Nets(compile_network(intact), compile_network(intact, "cpu", torch.float32))
        self._intact = intact

    def steps(self, case: Case, deadline: float) -> list[Step]:
        """Bound steps that a path needs before it can be closed: defaults, then better ones."""
        net = self._nets.sure
        low, high = (torch.tensor(end[None], dtype=net.dtype) for end in case.box())
        with _one_thread():
            swept = sweep(net, fresh(net, low, high)).domains
            _, written = refine(self._nets, swept, STEPS, deadline)
        found: list[Step] = []
        for tensor in net.neurons:
            if tensor in net.exact or isinstance(self._intact.nodes[tensor], Input):
                continue
            found.append(Step(tensor, None, tuple(Side), EMPTY, None, bool(found)))
            for step in (own for own in written if own.target == tensor):
                blocks = tuple(slope_block(hint) for hint in step.slopes)
                hints = Substitution(blocks, (), (), None)
                found.append(Step(tensor, step.rows, (step.side,), hints, None, False))
        return found

    def leaves(
        self,
        batch: Batch,
        place: Mapping[int, int],
        rows: Sequence[Conjunction],
        which: Sequence[int],
        deadline: float,
    ) -> list[Substitution | None]:
        """Hints with which rows are bounded on the bounds of a batch of faulty domains.

        Args:
            batch: its bounds; a domain for each row.
            place: from the tensors of the intact network to those of the batch.
            rows: disjuncts of an unsafe set; those with one constraint get hints.
            which: the disjunct of each domain.
        """
        found: list[Substitution | None] = [None] * len(which)
        chosen = [k for k, number in enumerate(which) if len(rows[number]) == 1]
        size = max(1, ENTRIES // max(1, self._nets.sure.parameter_count))
        with _one_thread():
            for start in range(0, len(chosen), size):
                some = chosen[start : start + size]
                if time.monotonic() > deadline:
                    break
                made = self._leaves(batch, place, rows, which, some, deadline)
                for k, hints in zip(some, made, strict=True):
                    found[k] = hints
        return found

    def _leaves(
        self,
        batch: Batch,
        place: Mapping[int, int],
        rows: Sequence[Conjunction],
        which: Sequence[int],
        some: Sequence[int],
        deadline: float,
    ) -> list[Substitution]:
        net, index = self._nets.sure, np.array(some)
        own = [[end[index] for end in batch.bounds[place[t]]] for t in net.neurons]
        nothing = np.zeros((len(some), 0))
        sides = [np.concatenate([nothing, *(ends[side] for ends in own)], 1) for side in (0, 1)]
        low, high, lower, upper = (
            torch.tensor(part, dtype=net.dtype)
            for part in (batch.lower[index], batch.upper[index], *sides)
        )
        problem = Problem(net, self._forms(rows, [which[k] for k in some]), low, high, lower, upper)
        quick = fast_problem(self._nets, problem)
        _, best = optimise(quick, initial(quick), Effort(STEPS, deadline=deadline))
        hints = slope_hints(problem, best.rounded(), {})
        made = []
        for k in range(len(some)):
            one = (replace(hint, values=hint.values[k : k + 1]) for hint in hints)
            made.append(Substitution(tuple(map(slope_block, one)), (), (), None))
        return made

    def _forms(self, rows: Sequence[Conjunction], which: Sequence[int]) -> Rows:
        net = self._nets.sure
        coefficients = {
            t: torch.zeros(len(which), 1, net.sizes[t], dtype=net.dtype)
            for t in (*net.inputs, *net.outputs)
        }
        constant = torch.zeros(len(which), 1, dtype=net.dtype)
        for k, number in enumerate(which):
            (row,) = rows[number]
            constant[k, 0] = float(row.constant)
            for tensors, listed in ((net.inputs, row.inputs), (net.outputs, row.outputs)):
                for entry, value in listed:
                    _put(coefficients, tensors, net.sizes, k, entry, float(value))
        return Rows({t: m for t, m in coefficients.items() if bool(m.any())}, constant)


def _put(
    coefficients: dict[int, Tensor],
    tensors: Sequence[int],
    sizes: Sequence[int],
    row: int,
    entry: int,
    value: float,
) -> None:
    """Add to the coefficient of an entry, counted through tensors."""
    for tensor in tensors:
        if entry < sizes[tensor]:
            coefficients[tensor][row, 0, entry] += value
            return
        entry -= sizes[tensor]


class _one_thread:  # noqa: N801
    """Batches are small: threads would wait for each other."""

    def __enter__(self) -> None:
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads)
