"""Attacks repeated beside a search, with other random numbers every time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Generic

from specs.query import Query
from verifier.attack import Attack, Found, Offer, Settings
from verifier.attack_forward import Evaluator

_LEAST_SECONDS = 0.5

_FIRST_WORK = 1 / 32
"""Of a batch, doubled every time: the first attacks are short, so that large batches would
make but a few steps."""


class RepeatedAttack(Generic[Found]):
    """Takes a share of a search's time for attacks from new starting points.

    Args:
        query: what to violate.
        evaluator: makes the network in floating point, when it is first needed.
        offer: see :class:`verifier.attack.Attack`.
        share: of the search's time.
        after: seconds of search after which the first of them begins.
        settings: how hard each tries; the seed is that of the attack before the first.
    """

    def __init__(
        self,
        query: Query,
        evaluator: Callable[[], Evaluator],
        offer: Offer[Found],
        *,
        share: float,
        after: float,
        settings: Settings,
    ) -> None:
        self._query, self._make, self._offer = query, evaluator, offer
        self._share, self._after = share, after
        self._settings = settings
        self._work = settings.work * _FIRST_WORK
        self._evaluator: Evaluator | None = None
        self._spent = 0.0

    def attack(self, elapsed: float, deadline: float) -> Found | None:
        """Attack if the share of ``elapsed`` seconds of search is not used up.

        It ends at ``deadline``, in ``time.monotonic`` seconds, and needs some time before.
        """
        if elapsed < self._after or self._spent >= self._share * elapsed:
            return None
        begun = time.monotonic()
        if deadline - begun < _LEAST_SECONDS:
            return None
        if self._evaluator is None:
            self._evaluator = self._make()
        self._settings = replace(self._settings, seed=self._settings.seed + 1)
        attack = Attack(
            self._query,
            self._evaluator,
            self._offer,
            deadline=min(deadline, begun + max(_LEAST_SECONDS, self._share * elapsed)),
            settings=replace(self._settings, work=min(self._work, self._settings.work)),
        )
        self._work *= 2
        found = attack.descend()
        self._spent += time.monotonic() - begun
        return found
