"""Attacks repeated beside a search, with other random numbers every time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic

from specs.query import Query
from verifier.attack import Attack, Found, Offer, Settings
from verifier.attack_forward import Evaluator

SHARE = 0.1
"""Of the search's time."""

FIRST = 1.0
"""Seconds after which the first of them begins."""

_SHORT = Settings(samples=256, rows=512, steps=60, rounds=2, work=1e9)


class RepeatedAttack(Generic[Found]):
    """Takes a share of a search's time for attacks from new starting points.

    Args:
        query: what to violate.
        evaluator: makes the network in floating point, when it is first needed.
        offer: see :class:`verifier.attack.Attack`.
        deadline: in ``time.monotonic`` seconds.
        seed: of the attack before the first.
    """

    def __init__(
        self,
        query: Query,
        evaluator: Callable[[], Evaluator],
        offer: Offer[Found],
        deadline: float,
        seed: int,
    ) -> None:
        self._query, self._make, self._offer = query, evaluator, offer
        self._deadline, self._seed = deadline, seed
        self._evaluator: Evaluator | None = None
        self._spent = 0.0

    def attack(self, elapsed: float) -> Found | None:
        """Attack if the share of ``elapsed`` seconds of search is not used up."""
        if elapsed < FIRST or self._spent > SHARE * elapsed:
            return None
        begun = time.monotonic()
        if self._evaluator is None:
            self._evaluator = self._make()
        self._seed += 1
        attack = Attack(
            self._query,
            self._evaluator,
            self._offer,
            deadline=min(self._deadline, begun + max(0.5, SHARE * elapsed)),
            settings=Settings(**{**vars(_SHORT), "seed": self._seed}),
        )
        found = attack.descend()
        self._spent += time.monotonic() - begun
        return found
