"""Better multipliers for inner nodes of a proof, asked of the search by the minimiser."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from proofs.draft import slope_block
from proofs.oracle import State
from proofs.proof import Fact
from proofs.tables import Substitution
from specs.query import Query
from verifier.bab_leaf import attempt
from verifier.bab_root import Nets
from verifier.bab_settings import Settings
from verifier.bab_tree import LeafHint
from verifier.bounds_compile import compile_network
from verifier.bounds_errors import error_radii
from verifier.bounds_spec import build_table
from verifier.bounds_sweep import OutOfTimeError, until
from verifier.states import known

STEPS = 20


class Reoptimiser:
    """Optimises slopes and weights at states of the kernel; see ``proofs/passes/closing.py``.

    Args:
        deadline: ``time.monotonic()`` after which nothing better is looked for.
        device: ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, deadline: float = float("inf"), device: str = "cpu") -> None:
        self._deadline, self._device = deadline, device
        self._settings = Settings(leaf_steps=STEPS)
        self._of: tuple[Query, Sequence[int]] | None = None

    def __call__(self, query: Query, states: Sequence[State]) -> list[list[Substitution] | None]:
        """Hints for every disjunct that remains in each state; ``None`` where none close it."""
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)  # batches are small: threads would wait for each other
            self._prepare(query, sorted({state.case for state in states}))
            return self._found(states)
        except OutOfTimeError:
            return [None] * len(states)
        finally:
            torch.set_num_threads(threads)

    def _found(self, states: Sequence[State]) -> list[list[Substitution] | None]:
        found: list[list[Substitution] | None] = [None] * len(states)
        where = [self._case(state) for state in states]
        chosen = [place for place, case in enumerate(where) if case is not None]
        if not chosen:
            return found
        case = torch.tensor([where[place] for place in chosen], device=self._nets.sure.device)
        domains = known([states[place] for place in chosen], self._nets.sure)
        tried = attempt(self._nets, self._table, domains, case, self._settings, self._deadline)
        if tried is None:
            return found
        for box in tried.closed.nonzero()[:, 0].tolist():
            found[chosen[box]] = [_substitution(hint) for hint in tried.of(box)]
        return found

    def _prepare(self, query: Query, cases: Sequence[int]) -> None:
        """Compile the network and the constraints of some cases, where they are not the last."""
        if self._of is not None and self._of[0] is query and self._of[1] == cases:
            return
        radii = error_radii(query, until(self._deadline))
        sure = compile_network(query.network, self._device, radii=radii)
        fast = compile_network(query.network, self._device, torch.float32, radii=radii)
        self._nets, self._numbers = Nets(sure, fast), list(cases)
        chosen = [query.property.cases[number] for number in cases]
        self._table = build_table(chosen, sure, query.property.output_size, apart=True)
        self._of = query, cases

    def _case(self, state: State) -> int | None:
        """The case of the table whose disjuncts are those that remain."""
        (path,) = state.domains.paths
        case = self._numbers.index(state.case)
        start, stop = self._table.disjunct_start[case : case + 2].tolist()
        if len(path.disjuncts) == stop - start:
            return case
        if len(path.disjuncts) > 1:
            return None
        alone = int(self._table.alone[start + path.disjuncts[0]])
        return None if alone < 0 else alone


def _substitution(hint: LeafHint) -> Substitution:
    """A leaf's hints as the kernel takes them."""
    blocks = tuple(slope_block(slopes) for slopes in hint.slopes)
    region = tuple(
        (Fact.REGION, index, float(value)) for index, value in enumerate(hint.region) if value > 0
    )
    return Substitution(blocks, region, tuple(float(w) for w in hint.weights), None)
