"""How threads wait for each other; to be said before torch is first imported."""

from __future__ import annotations

import os

SPINS = 30_000
"""Turns of an idle OpenMP thread before it sleeps: a fraction of a millisecond.

A search is made of operations so short that waking a sleeping thread for each costs more than
it helps (a third of the boxes in the same time on two cores), while threads that never
sleep take the time of others on a busy machine.
"""


def settle() -> None:
    """Choose how threads wait, unless the user has."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
