"""Attacks repeated beside a search, with other random numbers every time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Generic

from specs.query import Query
from verifier.attack import Attack, Found, Offer, Settings
from verifier.attack_forward import Evaluator


class RepeatedAttack(Generic[Found]):
    """Takes a share of a search's time for attacks from new starting points.

    Args:
        query: what to violate.
        evaluator: makes the network in floating point, when it is first needed.
        offer: see :class:`verifier.attack.Attack`.
        deadline: in ``time.monotonic`` seconds.
        share: of the search's time.
        after: seconds of search after which the first of them begins.
        settings: how hard each tries; the seed is that of the attack before the first.
    """

    def __init__(
        self,
        query: Query,
        evaluator: Callable[[], Evaluator],
        offer: Offer[Found],
        deadline: float,
        *,
        share: float,
        after: float,
        settings: Settings,
    ) -> None:
        self._query, self._make, self._offer = query, evaluator, offer
        self._deadline, self._share, self._after = deadline, share, after
        self._settings = settings
        self._evaluator: Evaluator | None = None
        self._spent = 0.0

    def attack(self, elapsed: float) -> Found | None:
        """Attack if the share of ``elapsed`` seconds of search is not used up."""
        if elapsed < self._after or self._spent >= self._share * elapsed:
            return None
        begun = time.monotonic()
        if self._evaluator is None:
            self._evaluator = self._make()
        self._settings = replace(self._settings, seed=self._settings.seed + 1)
        attack = Attack(
            self._query,
            self._evaluator,
            self._offer,
            deadline=min(self._deadline, begun + max(0.5, self._share * elapsed)),
            settings=self._settings,
        )
        found = attack.descend()
        self._spent += time.monotonic() - begun
        return found
