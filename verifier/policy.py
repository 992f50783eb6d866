"""The policy: which member of the portfolio runs, for how long and with which settings.

It looks at features of the question and at what earlier members saw, never at the name of
a benchmark; :mod:`verifier.verify` carries out what it says.  The members in their order:

``look``     a few sampled points,
``kernel``   the empty proof, which starts no torch,
``attack``   gradient descent from many points,
``search``   branch and bound, with attacks repeated beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from specs.query import Query
from verifier.attack import Settings as AttackSettings
from verifier.attack_forward import multiplications

Name = Literal["look", "kernel", "attack", "search"]

ORDER: dict[str, tuple[Name, ...]] = {
    "auto": ("look", "kernel", "attack", "search"),
    "bounds": ("kernel", "search"),
    "bab": ("search",),
    "attack": ("look", "attack"),
}
"""The members of every method."""

ATTACKS = {
    "quick": AttackSettings(samples=64, rows=128, steps=60, rounds=2, work=4e8),
    "thorough": AttackSettings(samples=128, rows=256, steps=80, rounds=4, work=1e9),
    "repeated": AttackSettings(samples=256, rows=512, steps=60, rounds=2, work=1e9),
}
"""How hard an attack tries: before torch is there, once it is, and beside the search."""


@dataclass(frozen=True)
class Settings:
    """Settings of the policy; shares are parts of the time that is left.

    Attributes:
        kernel_share: of the kernel without hints.
        many_cases: more cases than this are mostly small and easy ones.
        many_cases_kernel_share: of the kernel without hints, when there are so many.
        attack_share: of the attack before the search.
        quick_attack_seconds: most seconds of an attack that needs no torch.
        repeated_attack_share: of the search's time, for the attacks beside it.
        repeated_attack_after: seconds of search before the first of these.
        search_share: of the search, the rest being kept for the check.
        slow_check_search_share: the same where the kernel did not end in its own share.
        neuron_spare_share: of what was kept, for a search that splits neurons and is not
            done: a leaf under neuron splits is one row to the kernel and hundreds of passes
            to the search.
        small_multiplications: of one evaluation, up to which numpy is quicker than torch.
        reopenings: checks after which leaves that stay rejected are given up.
        margin_seconds: before the time limit, in which everything has ended.
    """

    kernel_share: float = 0.15
    many_cases: int = 1000
    many_cases_kernel_share: float = 0.6
    attack_share: float = 0.15
    quick_attack_seconds: float = 2.0
    repeated_attack_share: float = 0.1
    repeated_attack_after: float = 1.0
    search_share: float = 0.75
    slow_check_search_share: float = 0.5
    neuron_spare_share: float = 0.6
    small_multiplications: int = 2_000_000
    reopenings: int = 20
    margin_seconds: float = 0.15


@dataclass(frozen=True)
class Features:
    """What the policy knows of a question.

    Attributes:
        inputs: that vary, in the case where most do.
        neurons: entries of nonlinear nodes.
        multiplications: of one evaluation of the network.
        cases: of the property; ``disjuncts``: most of one case.
    """

    inputs: int
    neurons: int
    multiplications: int
    cases: int
    disjuncts: int

    @staticmethod
    def of(query: Query) -> Features:
        """The features of a question; of many cases a sample is looked at."""
        network, cases = query.network, query.property.cases
        sample = cases[:: max(1, len(cases) // 100)]
        boxes = [case.box() for case in sample]
        return Features(
            inputs=max((int(np.count_nonzero(low < high)) for low, high in boxes), default=0),
            neurons=sum(network.sizes[node] for node in network.univariates),
            multiplications=multiplications(network),
            cases=len(cases),
            disjuncts=max((len(case.unsafe) for case in sample), default=0),
        )


@dataclass(frozen=True)
class Seen:
    """What earlier members saw.

    Attributes:
        kernel_ended: whether the kernel without hints came to an end; ``None``: not run.
        kernel_seconds: that it took.
        open_cases: which cases it left open; ``None``: unknown.
    """

    kernel_ended: bool | None = None
    kernel_seconds: float = 0.0
    open_cases: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Budget:
    """Time for a member.

    Attributes:
        share: of the time left when it begins.
        most: seconds.
    """

    share: float
    most: float = math.inf

    def deadline(self, now: float, deadline: float) -> float:
        """When it has to end, in ``time.monotonic`` seconds like both arguments."""
        return min(deadline, now + self.most, now + self.share * max(deadline - now, 0.0))


@dataclass(frozen=True)
class Policy:
    """The decisions for one question.

    Attributes:
        features: of the question.
        method: see :class:`verifier.verify.Options`.
        settings: shares and thresholds.
        attack: settings of attacks that replace those chosen here.
        seed: of the attacks' random numbers.
    """

    features: Features
    method: str = "auto"
    settings: Settings = Settings()
    attack: tuple[tuple[str, int | float], ...] = ()
    seed: int = 0

    @property
    def members(self) -> tuple[Name, ...]:
        """In the order in which they run."""
        return ORDER[self.method]

    @property
    def small(self) -> bool:
        """Whether numpy is quicker than torch on the network, whose start costs more."""
        return self.features.multiplications <= self.settings.small_multiplications

    def attack_settings(self, kind: Literal["look", "attack", "repeated"]) -> AttackSettings:
        """How hard an attack tries."""
        quick = kind == "look" or (self.small and self.method != "attack")
        chosen = ATTACKS["repeated" if kind == "repeated" else "quick" if quick else "thorough"]
        return replace(replace(chosen, seed=self.seed), **dict(self.attack))  # type: ignore[arg-type]

    def look(self) -> Budget:
        """Time for the sampled points."""
        return Budget(self.settings.attack_share, self.settings.quick_attack_seconds)

    def kernel(self) -> Budget:
        """Time for the kernel without hints."""
        many = self.features.cases > self.settings.many_cases
        share = self.settings.many_cases_kernel_share if many else self.settings.kernel_share
        return Budget(share)

    def descent(self) -> Budget:
        """Time for the attack before the search."""
        quick = self.small and self.method != "attack"
        most = self.settings.quick_attack_seconds if quick else math.inf
        return Budget(self.settings.attack_share, most)

    def search(self, seen: Seen) -> Budget:
        """Time for the search, before the check of its proof."""
        if seen.kernel_ended is False:
            return Budget(self.settings.slow_check_search_share)
        return Budget(self.settings.search_share)

    def spare(self, splits_inputs: bool) -> Budget | None:
        """More time for a search that is not done, where a check needs little of it."""
        return None if splits_inputs else Budget(self.settings.neuron_spare_share)
