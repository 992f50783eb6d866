"""Settings of the search by Boolean reasoning."""

from __future__ import annotations

from dataclasses import dataclass

from verifier.overrides import Count, Share


@dataclass(frozen=True)
class Settings:
    """Settings of the search by Boolean reasoning.

    Attributes:
        margin: a certificate counts only where its bound is above this.
        batch, limit: first and largest number of partial assignments that are split at once;
            ``round_seconds``: how long that should take.
        lookahead: neurons whose two phases are tried before one is decided.
        steps, root_steps, refine_steps: gradient steps for a partial assignment, for a
            disjunct without phases, and for each neuron bounded at the root.
        root_share: part of the time left that a root's neurons may take.
        shrinks: how often phases are dropped from a certificate; ``shrink_steps``: gradient
            steps after each time.
        program_neurons: undecided neurons up to which a linear program is solved where
            gradient steps do not refute an assignment.
        program_seconds: most seconds of one linear program.
        exact_neurons, exact_coefficients: neurons and coefficients of a network up to which
            Z3 gets it whole, in rational numbers.
        exact_seconds: most seconds of that, by case.
    """

    margin: float = 1e-7
    batch: Count = 32
    limit: Count = 256
    round_seconds: float = 0.5
    lookahead: Count = 8
    steps: int = 20
    root_steps: int = 100
    refine_steps: int = 15
    root_share: Share = 0.3
    shrinks: int = 1
    shrink_steps: int = 10
    program_neurons: int = 20
    program_seconds: float = 2.0
    exact_neurons: int = 24
    exact_coefficients: int = 500
    exact_seconds: float = 1.0
