"""Hints of old leaves, tried on boxes that do not close without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from proofs.domain import Domains
from proofs.draft import Node
from proofs.proof import Fact, NodeKind
from proofs.tables import Substitution
from proofs.trial import Trial
from specs.enclosure import FloatArray

FARTHER = 4.0
"""Hints are tried on boxes that lack at most so many times what hints made up for so far."""

HINTS, TRIED = 16, 3
"""Hints from leaves all over the old trees that are known, and how many are tried on a box."""

NEAR = 2
"""Hints of old leaves where a box lies that are tried on it before."""


@dataclass(eq=False)
class _Hints:
    """Hints, how often they were tried, and how many boxes they closed."""

    hints: Substitution
    tries: int = 0
    wins: int = 0


class Pool:
    """Closes boxes with hints of old leaves, those first that closed most.

    Args:
        trial: says what closes.
        roots: of the old trees.
    """

    def __init__(self, trial: Trial, roots: Sequence[Node]) -> None:
        self._trial = trial
        self._known: dict[int, _Hints] = {}  # by what old leaves have
        self._below: dict[int, list[_Hints]] = {}  # by old node
        self._everywhere = self._some([node for root in roots for node in root], HINTS)
        self._made_up = np.inf  # the most that hints made up for

    def close(
        self, domains: Domains, olds: Sequence[Node | None]
    ) -> tuple[FloatArray, list[Substitution | None]]:
        """Try to close domains: as they are, or with hints.

        Args:
            domains: ``(B,)``, of a single disjunct each.
            olds: where each lies in the old trees.

        Returns:
            By how much each does not close, and the hints with which it is that little.
        """
        hints: list[Substitution | None] = [None] * len(domains)
        lacking = self._trial.shortfalls(domains, hints)
        near = {place: self._near(olds[place]) for place in np.flatnonzero(lacking).tolist()}
        for turn in range(NEAR):
            own = {place: listed[turn] for place, listed in near.items() if turn < len(listed)}
            self._try(domains, lacking, hints, own)
        for known in self._favourites():
            self._try(domains, lacking, hints, dict.fromkeys(range(len(domains)), known))
        return lacking, hints

    def _try(
        self,
        domains: Domains,
        lacking: FloatArray,
        hints: list[Substitution | None],
        chosen: Mapping[int, _Hints],
    ) -> None:
        """Try hints chosen by place where not too much is lacking; note what comes of it."""
        few = (lacking > 0) & (lacking <= FARTHER * self._made_up)
        places = [place for place in np.flatnonzero(few).tolist() if place in chosen]
        if not places:
            return
        tried = [chosen[place].hints for place in places]
        found = self._trial.shortfalls(domains.pick(np.array(places)), tried)
        for known in {id(chosen[place]): chosen[place] for place in places}.values():
            known.tries += 1
        for place, short in zip(places, found.tolist(), strict=True):
            if short == 0.0:
                chosen[place].wins += 1
                least = 0.0 if np.isinf(self._made_up) else self._made_up
                self._made_up = max(float(lacking[place]), least)
            if short < lacking[place]:
                lacking[place], hints[place] = short, chosen[place].hints

    def _favourites(self) -> list[_Hints]:
        """What closed most so far, and what was tried least."""
        best = sorted(self._everywhere, key=lambda known: -known.wins)[: TRIED - 1]
        rest = [known for known in self._everywhere if known not in best]
        return [*best, *sorted(rest, key=lambda known: known.tries)[:1]]

    def _near(self, old: Node | None) -> list[_Hints]:
        if old is None:
            return []
        if id(old) not in self._below:
            self._below[id(old)] = self._some(list(old), NEAR)
        return self._below[id(old)]

    def _some(self, nodes: Sequence[Node], most: int) -> list[_Hints]:
        """Hints of leaves at equal distances, without what they say of their paths' splits."""
        every = (node.arg for node in nodes if node.kind is NodeKind.CLOSE)
        found = {id(own): own for own in every if isinstance(own, Substitution)}
        chosen = list(found.items())[:: max(1, len(found) // most)][:most]
        for key, own in chosen:
            if key not in self._known:
                rest = tuple(m for m in own.multipliers if m[0] is not Fact.SPLIT)
                self._known[key] = _Hints(replace(own, multipliers=rest))
        return [self._known[key] for key, _ in chosen]
