"""The policy: which member of the portfolio runs, for how long and with which settings.

It looks at features of the question and at what earlier members saw, never at the name of
a benchmark; :mod:`verifier.verify` carries out what it says.  The members in their order:

``look``     a few sampled points,
``kernel``   the empty proof,
``attack``   gradient descent from many points; before the kernel where that takes longer,
``search``   branch and bound in torch, with attacks repeated beside it; on few inputs with
             stars as long as they pay, see :mod:`verifier.bab`,
``smt``      Boolean reasoning about phases; also where branch and bound leaves leaves that it
             cannot split.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np

from specs.enclosure import FloatArray
from specs.network import Input, Linear, Network, Perturbed, Univariate
from specs.query import Query
from verifier.attack import Settings as AttackSettings
from verifier.attack_forward import multiplications
from verifier.overrides import Count, Positive, Share

Name = Literal["look", "kernel", "attack", "search", "smt"]

ORDER: dict[str, tuple[Name, ...]] = {
    "auto": ("look", "kernel", "attack", "search"),
    "bounds": ("kernel", "search"),
    "bab": ("search",),
    "star": ("look", "kernel", "attack", "search"),
    "smt": ("kernel", "smt"),
    "attack": ("look", "attack"),
}
"""The members of every method."""

ATTACKS = {
    "quick": AttackSettings(samples=64, rows=128, steps=60, rounds=2, work=3e7),
    "thorough": AttackSettings(samples=128, rows=256, steps=80, rounds=4, work=1e9),
    "repeated": AttackSettings(samples=256, rows=512, steps=60, rounds=2, work=1e9),
}
"""How hard an attack tries: before the search, where nothing follows, and beside the search.

``work`` bounds the batch on large networks: small batches find what is easy to find several
times sooner than large ones do.
"""


@dataclass(frozen=True)
class Settings:
    """Settings of the policy.  A share is a part of the time left when its member begins.

    Attributes:
        kernel_share: share of the kernel without hints.
        many_cases: a property with more cases is taken to have mostly easy ones.
        many_cases_kernel_share: share of the kernel without hints on such a property.
        kernel_speed: multiplications a second that the kernel is taken to do.
        kernel_patience: the kernel is not begun, without hints or with a proof, where one
            pass over the network is expected to take so many times the seconds that it has.
        attack_share: share of the attack before the search, and of the look before it.
        quick_attack_seconds: most seconds of each of the two.
        repeated_attack_share: part of the search's time for the attacks beside it.
        repeated_attack_after: seconds of search before the first attack beside it.
        search_share: share of a search that splits neurons, before it is known by how much
            it overruns a deadline; then it goes on.
        input_search_share: share of a search that splits inputs, likewise.
        least_search_share: share of a search however long the check of its proof may take.
        overruns: of the kind seen, for which time is kept when a search goes on.
        small_multiplications: multiplications of one evaluation up to which numpy is used
            for attacks beside the search, and not torch.
        halved_inputs: inputs that vary up to which ``--method star`` halves boxes.
        reopenings: checks of the proof before leaves that stay rejected are given up.
        least_reused_share: share of an old proof's leaves that have to hold in the new question
            for mending the others rather than searching anew.
        proof_share: of the processor time that a proof took to find, for making it smaller;
            part of that comes back when it is checked.  Most proofs take less: see
            ``proofs/passes/quick.py``.
        high_proof_share: of the time that is left, where that is asked for with all effort.
        margin_seconds: seconds before the time limit at which everything has to end.
    """

    kernel_share: Share = 0.4
    many_cases: int = 1000
    many_cases_kernel_share: Share = 0.6
    kernel_speed: Positive = 1e10
    kernel_patience: float = 3.0
    attack_share: Share = 0.15
    quick_attack_seconds: float = 1.0
    repeated_attack_share: Share = 0.1
    repeated_attack_after: float = 1.0
    search_share: Share = 0.75
    input_search_share: Share = 0.95
    least_search_share: Share = 0.5
    overruns: float = 1.5
    small_multiplications: int = 2_000_000
    halved_inputs: int = 20
    reopenings: Count = 20
    least_reused_share: Share = 0.25
    proof_share: Share = 0.7
    high_proof_share: Share = 0.5
    margin_seconds: float = 0.15


@dataclass(frozen=True)
class Features:
    """What the policy knows of a question.

    Attributes:
        inputs: that vary, in the case where most do.
        neurons: entries of nonlinear nodes; ``unstable``: those that intervals leave so, as
            a mean over cases.
        multiplications: of one evaluation of the network.
        cases: of the property; ``disjuncts``: most of one case.
    """

    inputs: int
    neurons: int
    unstable: int
    multiplications: int
    cases: int
    disjuncts: int

    @staticmethod
    def of(query: Query) -> Features:
        """The features of a question; of many cases a sample is looked at."""
        network, cases = query.network, query.property.cases
        sample = cases[:: max(1, len(cases) // 100)]
        boxes = [case.box() for case in sample]
        few = boxes[:: max(1, len(boxes) // 4)]
        return Features(
            inputs=max((int(np.count_nonzero(low < high)) for low, high in boxes), default=0),
            neurons=sum(network.sizes[node] for node in network.nonlinear),
            unstable=unstable(network, few),
            multiplications=multiplications(network),
            cases=len(cases),
            disjuncts=max((len(case.unsafe) for case in sample), default=0),
        )


def unstable(network: Network, boxes: Sequence[tuple[FloatArray, FloatArray]]) -> int:
    """How many neurons intervals leave unstable in a box, on average; for a guess only."""
    if not boxes:
        return 0
    lower, upper = (np.clip(np.stack(side), -1e30, 1e30) for side in zip(*boxes, strict=True))
    intervals: list[tuple[FloatArray, FloatArray]] = []  # middle and radius
    count, used = 0, 0
    for number, node in enumerate(network.nodes):
        if isinstance(node, Input):
            part = slice(used, used := used + network.sizes[number])
            low, high = lower[:, part], upper[:, part]
            intervals.append((low / 2 + high / 2, high / 2 - low / 2))
        elif isinstance(node, Linear):
            middle = np.repeat(node.offset.value[None, :], len(lower), axis=0)
            radius = np.zeros_like(middle)
            for term in node.terms:
                weight = None if term.map.weight is None else term.map.weight.value
                size = None if weight is None else np.abs(weight)
                source = intervals[term.source]
                middle += term.map.forward(source[0], weight, np.matmul)
                radius += term.map.forward(source[1], size, np.matmul)
            intervals.append((middle, radius))
        elif isinstance(node, Perturbed):  # errors are small
            intervals.append(intervals[node.source])
        elif isinstance(node, Univariate) and node.function == "relu":
            middle, radius = intervals[node.source]
            count += int(np.count_nonzero(np.abs(middle) < radius))
            low, high = np.maximum(middle - radius, 0), np.maximum(middle + radius, 0)
            intervals.append((low / 2 + high / 2, high / 2 - low / 2))
        else:
            return sum(network.sizes[n] for n in network.nonlinear)
    return count // len(lower)


@dataclass(frozen=True)
class Seen:
    """What the kernel without hints saw.

    Attributes:
        ended: whether it came to an end.
        seconds: that it took.
        open_cases: which cases it left open; ``None``: unknown.
    """

    ended: bool
    seconds: float
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

    def members(self, left: float) -> tuple[Name, ...]:
        """In the order in which they run, with so many seconds left.

        One whose share is 0 does not run.  Of the kernel and the attack, the one that is
        expected to take less time comes first.
        """
        expected = self.kernel_seconds()
        names = list(ORDER[self.method])
        if "kernel" in names and "attack" in names and expected > self.descent().most:
            names.remove("kernel")
            names.insert(names.index("attack") + 1, "kernel")
        shares = {"look": self.look().share, "attack": self.descent().share}
        shares["kernel"] = self.kernel().share
        if expected > self.settings.kernel_patience * shares["kernel"] * left:
            shares["kernel"] = 0.0
        return tuple(name for name in names if shares.get(name, 1.0) > 0)

    @property
    def small(self) -> bool:
        """Whether numpy is quicker than torch on the network."""
        return self.features.multiplications <= self.settings.small_multiplications

    def attack_settings(self, kind: Literal["look", "attack", "repeated"]) -> AttackSettings:
        """How hard an attack tries."""
        if kind == "repeated":
            chosen = ATTACKS["repeated"]
        else:
            alone = kind == "attack" and self.attack_alone
            chosen = ATTACKS["thorough" if alone else "quick"]
        return replace(chosen, **{"seed": self.seed, **self.attack})

    @property
    def attack_alone(self) -> bool:
        """Whether nothing follows the attack, which then may take all the time."""
        return ORDER[self.method][-1] == "attack"

    def look(self) -> Budget:
        """Time for the sampled points."""
        return Budget(self.settings.attack_share, self.settings.quick_attack_seconds)

    def kernel(self) -> Budget:
        """Time for the kernel without hints."""
        many = self.features.cases > self.settings.many_cases
        share = self.settings.many_cases_kernel_share if many else self.settings.kernel_share
        return Budget(share)

    def kernel_seconds(self) -> float:
        """How long the kernel without hints is expected to take: a row per unstable neuron."""
        rows = self.features.unstable * self.features.cases
        return rows * self.features.multiplications / self.settings.kernel_speed

    def descent(self) -> Budget:
        """Time for the attack before the search, or for one that nothing follows."""
        if self.attack_alone:
            return Budget(1.0)
        return Budget(self.settings.attack_share, self.settings.quick_attack_seconds)

    def search(self, seen: Seen | None, left: float, *, splits_inputs: bool) -> Budget:
        """Time for the search.

        While leaves are open there is nothing to check, so that no more is kept than any
        check takes, and what the search may overrun.
        """
        settings = self.settings
        share = settings.input_search_share if splits_inputs else settings.search_share
        check = self._check_seconds(seen) / max(left, 1e-9)
        return Budget(min(share, max(settings.least_search_share, 1.0 - check)))

    def more(self, seen: Seen | None, left: float, overrun: float) -> Budget:
        """More time for a search that was not done ``overrun`` seconds after its deadline."""
        kept = self._check_seconds(seen) + self.settings.overruns * max(overrun, 0.2)
        return Budget(1.0, most=max(left - kept, 0.0))

    def worth_checking(self, seen: Seen | None, left: float) -> bool:
        """Whether a check may end in time; where it is far from that, it would overrun."""
        expected = self.kernel_seconds() if seen is None or not seen.ended else seen.seconds
        return expected <= self.settings.kernel_patience * left

    def minimising(self, effort: str, spent: float, left: float) -> float:
        """Seconds for making a proof smaller, after ``spent`` CPU seconds on finding it.

        A check hardly takes longer than the search did, and that time is kept.
        """
        share = self.settings.proof_share * spent
        if effort == "high":
            share = self.settings.high_proof_share * left
        return max(0.0, min(share, left - spent))

    def search_settings(self) -> dict[str, Any]:
        """Settings of the search that the method asks for, by name."""
        if self.method != "star":
            return {"split": self.method != "bounds"}
        chosen: dict[str, Any] = {"method": "inputs", "stars": "always"}
        if self.features.inputs > self.settings.halved_inputs:  # the root's star is split alone
            chosen |= {"star_neurons": 1 << 30, "star_programs": 1 << 30}
        return chosen

    def _check_seconds(self, seen: Seen | None) -> float:
        """The least time that the check of a proof may take, as far as it was measured."""
        return 0.0 if seen is None else seen.seconds


def attack_defaults() -> dict[str, str]:
    """By name of a setting, the values that it has in the attacks of the portfolio."""
    found = {}
    for item in fields(AttackSettings):
        values = dict.fromkeys(f"{getattr(chosen, item.name):g}" for chosen in ATTACKS.values())
        found[f"attack.{item.name}"] = " | ".join(values)
    return found
