"""What Z3 knows of the phases: which assignments the clauses learnt so far still allow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import z3

Phase = int
"""``2 * neuron`` for ``z <= 0`` and ``2 * neuron + 1`` for ``z >= 0``."""


class Reasoner:
    """What is allowed within partial assignments.

    Args:
        neurons, disjuncts: how many there are.
        starts: the partial assignments, each with the disjunct that is violated there.
    """

    def __init__(
        self, neurons: int, disjuncts: int, starts: Sequence[tuple[int, Sequence[Phase]]]
    ) -> None:
        context = z3.Context()
        self._active = [z3.Bool(f"n{k}", context) for k in range(neurons)]
        self._literals = [part for var in self._active for part in (z3.Not(var), var)]
        self._violated = [z3.Bool(f"d{k}", context) for k in range(disjuncts)]
        self._others = [z3.Not(var) for var in self._violated]
        self._known = [Clauses(neurons) for _ in range(disjuncts)]
        self._solver = z3.Solver(ctx=context)
        if disjuncts > 1:  # each is refuted alone
            self._solver.add(z3.AtMost(*self._violated, 1))
        within = [self._all(disjunct, phases) for disjunct, phases in starts]
        self._solver.add(z3.Or(*within, z3.BoolVal(False, context)))

    def forbid(self, disjunct: int, phases: Iterable[Phase]) -> None:
        """Add the clause that these phases do not hold where the disjunct is violated."""
        held = list(phases)
        self._known[disjunct].add(held)
        self._solver.add(z3.Or(self._others[disjunct], *(self._literals[p ^ 1] for p in held)))

    def implied(self, disjunct: int, paths: Sequence[Sequence[Phase]]) -> list[list[Phase] | None]:
        """What else holds where phases do, by path; ``None``: they cannot hold together.

        As far as unit propagation sees it, for many paths at once; asking Z3 for all
        consequences took most of the time and gave hardly more.
        """
        return self._known[disjunct].propagated(paths)

    def assignment(self) -> tuple[int, list[Phase]] | None:
        """A disjunct, and phases of all neurons, that no clause forbids; ``None``: there is none.

        They are within some start.
        """
        if self._solver.check() != z3.sat:
            return None
        model = self._solver.model()
        chosen = next(
            k for k, var in enumerate(self._violated) if z3.is_true(model.eval(var, True))
        )
        phases = [
            2 * k + int(z3.is_true(model.eval(var, True))) for k, var in enumerate(self._active)
        ]
        return chosen, phases

    def _all(self, disjunct: int, phases: Iterable[Phase]) -> z3.BoolRef:
        return z3.And(self._violated[disjunct], *(self._literals[phase] for phase in phases))


class Clauses:
    """Clauses over phases of ``neurons``, as rows of a matrix."""

    def __init__(self, neurons: int) -> None:
        self._rows = np.zeros((64, 2 * neurons), dtype=np.float32)
        self._count = 0

    def add(self, phases: Sequence[Phase]) -> None:
        """Phases that do not hold together."""
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        self._rows[self._count, list(phases)] = 1.0
        self._count += 1

    def propagated(self, paths: Sequence[Sequence[Phase]]) -> list[list[Phase] | None]:
        """What follows from each path by unit propagation; ``None``: a contradiction."""
        rows = self._rows[: self._count]
        length = rows.sum(1)
        held = np.zeros((len(paths), rows.shape[1]), dtype=np.float32)
        for place, path in enumerate(paths):
            held[place, list(path)] = 1.0
        found: list[list[Phase] | None] = [[] for _ in paths]
        active = np.arange(len(paths))
        while active.size:
            own = held[active]
            missing = length - own @ rows.T
            missing[own.reshape(len(own), -1, 2)[:, :, ::-1].reshape(own.shape) @ rows.T > 0] = 9
            going = []
            for k, place in enumerate(active.tolist()):
                known = found[place]
                if known is None or (missing[k] < 0.5).any():
                    found[place] = None
                    continue
                units = np.flatnonzero(missing[k] < 1.5)
                wanted = {int(np.flatnonzero(rows[u] > own[k])[0]) ^ 1 for u in units}
                if any(phase ^ 1 in wanted for phase in wanted):
                    found[place] = None
                elif wanted:
                    known += sorted(wanted)
                    held[place, known] = 1.0
                    going.append(place)
            active = np.array(going, dtype=np.int64)
        return found
