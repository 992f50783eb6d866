"""Is a partition good evidence for a claim about a box?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from proofs.arrays import ArrayEvidence
from proofs.check import ARITHMETICS, Checked
from proofs.partitions import lipschitz, probability
from proofs.partitions.probability import Decided
from proofs.tree import DeadlineError
from proofs.workers import cpu_seconds
from specs.errors import EvidenceError, InputError
from specs.lipschitz import LipschitzQuestion
from specs.probability import ProbabilityQuestion

PartitionQuestion = ProbabilityQuestion | LipschitzQuestion


@dataclass(frozen=True)
class Replayed:
    """What a replay found.

    Attributes:
        checked: verdict and reason.
        facts: names and values, as text.
        found: what the rule made of the partition; ``None`` where it did not come to that.
    """

    checked: Checked
    facts: tuple[tuple[str, str], ...] = ()
    found: Decided | None = None

    @property
    def statistical(self) -> bool:
        """Whether what is shown rests on samples, and holds with a confidence only."""
        return self.found is not None and self.found.statistical


def check_partition(
    question: PartitionQuestion,
    evidence: ArrayEvidence,
    *,
    arithmetic: str = "outward",
    deadline: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Replayed:
    """Replay a partition.

    Args:
        arithmetic: ``"outward"`` or ``"exact"``.
        deadline: a ``time.monotonic()`` value.
        progress: called with the number of leaves looked at.

    Raises:
        InputError: the arithmetic is unknown, or the network has no rule in the kernel.
    """
    if arithmetic not in ARITHMETICS:
        raise InputError(f"unknown arithmetic '{arithmetic}': say outward or exact")
    started = cpu_seconds()
    blank = Checked("unreadable", "", question.digest, arithmetic)

    def tick() -> None:
        if deadline is not None and time.monotonic() > deadline:
            raise DeadlineError("the time limit is over")

    def ended(verdict: str, reason: str, leaves: int = 0) -> Checked:
        done = verdict != "incomplete"
        seconds = cpu_seconds() - started
        return replace(
            blank, verdict=verdict, reason=reason, leaves=leaves, cpu_seconds=seconds, ended=done
        )

    if evidence.question != question.digest:
        return Replayed(ended("unreadable", "the evidence was made for another question"))
    try:
        with np.errstate(all="ignore"):  # overflow is looked for where it matters
            numbers = ARITHMETICS[arithmetic]()
            if isinstance(question, LipschitzQuestion):
                found = lipschitz.decide(question, evidence, numbers, tick, progress)
            else:
                found = probability.decide(question, evidence, numbers, tick, progress)
    except DeadlineError:
        return Replayed(ended("incomplete", "the time limit came first"))
    except EvidenceError as error:
        return Replayed(ended("invalid", str(error)))
    verdict = f"valid {evidence.claims}" if found.shown else "invalid"
    return Replayed(ended(verdict, found.reason, found.leaves), found.facts, found)
