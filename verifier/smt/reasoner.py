"""What Z3 knows of the phases: which assignments the clauses learnt so far still allow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
        self._violated = [z3.Bool(f"d{k}", context) for k in range(disjuncts)]
        self._numbers = {var.get_id(): k for k, var in enumerate(self._active)}
        self._solver = z3.Solver(ctx=context)
        if disjuncts > 1:  # each is refuted alone
            self._solver.add(z3.AtMost(*self._violated, 1))
        within = [self._all(disjunct, phases) for disjunct, phases in starts]
        self._solver.add(z3.Or(*within, z3.BoolVal(False, context)))

    def forbid(self, disjunct: int, phases: Iterable[Phase]) -> None:
        """Add the clause that these phases do not hold where the disjunct is violated."""
        self._solver.add(z3.Not(self._all(disjunct, phases)))

    def implied(self, disjunct: int, phases: Sequence[Phase]) -> list[Phase] | None:
        """What else holds where these phases do; ``None``: they cannot hold together."""
        assumed = [self._violated[disjunct], *map(self._literal, phases)]
        if not self._active:
            return [] if self._solver.check(*assumed) == z3.sat else None
        status, found = self._solver.consequences(assumed, self._active)
        if status == z3.unsat:
            return None
        given = set(phases)
        implied = [self._phase(entry.arg(1)) for entry in found]
        return [phase for phase in implied if phase not in given]

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
        return z3.And(self._violated[disjunct], *map(self._literal, phases))

    def _literal(self, phase: Phase) -> z3.BoolRef:
        active = self._active[phase // 2]
        return active if phase % 2 else z3.Not(active)

    def _phase(self, literal: z3.BoolRef) -> Phase:
        if z3.is_not(literal):
            return 2 * self._numbers[literal.arg(0).get_id()]
        return 2 * self._numbers[literal.get_id()] + 1
