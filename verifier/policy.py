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
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np

from specs.query import Query
from verifier.attack import Settings as AttackSettings
from verifier.attack_forward import multiplications
from verifier.overrides import Count, Share

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
    """Settings of the policy.  A share is a part of the time left when its member begins.

    Attributes:
        kernel_share: share of the kernel without hints.
        many_cases: a property with more cases is taken to have mostly easy ones.
        many_cases_kernel_share: share of the kernel without hints on such a property.
        attack_share: share of the attack before the search, and of the look before it.
        quick_attack_seconds: most seconds of an attack that needs no torch.
        repeated_attack_share: part of the search's time for the attacks beside it.
        repeated_attack_after: seconds of search before the first attack beside it.
        search_share: share of the search; the rest is kept for the check of its proof.
        slow_check_search_share: the same where the kernel did not end in its own share.
        neuron_spare_share: share of a search that splits neurons and is not done, out of
            what was kept for the check.
        small_multiplications: multiplications of one evaluation up to which numpy is used
            for attacks, and not torch.
        reopenings: checks of the proof before leaves that stay rejected are given up.
        margin_seconds: seconds before the time limit at which everything has to end.
    """

    kernel_share: Share = 0.15
    many_cases: int = 1000
    many_cases_kernel_share: Share = 0.6
    attack_share: Share = 0.15
    quick_attack_seconds: float = 2.0
    repeated_attack_share: Share = 0.1
    repeated_attack_after: float = 1.0
    search_share: Share = 0.75
    slow_check_search_share: Share = 0.5
    # A leaf under neuron splits is one row to the kernel, hundreds of passes to the search.
    neuron_spare_share: Share = 0.6
    small_multiplications: int = 2_000_000
    reopenings: Count = 20
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
        attack: settings of every attack that replace those chosen here, by field.
        seed: of the attacks' random numbers.
    """

    features: Features
    method: str = "auto"
    settings: Settings = Settings()
    attack: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def members(self) -> tuple[Name, ...]:
        """In the order in which they run; one whose share is 0 does not."""
        shares = {"look": self.look().share, "kernel": self.kernel().share}
        shares |= {"attack": self.descent().share, "search": 1.0}
        return tuple(name for name in ORDER[self.method] if shares[name] > 0)

    @property
    def small(self) -> bool:
        """Whether numpy is quicker than torch on the network, whose start costs more."""
        return self.features.multiplications <= self.settings.small_multiplications

    def attack_settings(self, kind: Literal["look", "attack", "repeated"]) -> AttackSettings:
        """How hard an attack tries."""
        quick = kind == "look" or (self.small and self.method != "attack")
        chosen = ATTACKS["repeated" if kind == "repeated" else "quick" if quick else "thorough"]
        return replace(chosen, **{"seed": self.seed, **self.attack})

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


def attack_defaults() -> dict[str, str]:
    """By name of a setting, the values that it has in the attacks of the portfolio."""
    found = {}
    for item in fields(AttackSettings):
        values = dict.fromkeys(f"{getattr(chosen, item.name):g}" for chosen in ATTACKS.values())
        found[f"attack.{item.name}"] = " | ".join(values)
    return found
