"""Time that is divided between splitting boxes and sampling what is left open.

Both narrow the interval: splits the open part, samples what is known of it.  With ``n`` samples
of an open part with probability ``V`` the width is about ``c V / sqrt(n)``.  If ``V`` falls as
``t^-a`` where splits had the time ``t``, a check takes ``(1 + r) t`` for the partition in all, and
the rest of the time ``T`` buys samples, the width is least at ``(1 + r) t = 2a / (1 + 2a) T``.  The
exponent is read off the search as it goes.  Nothing that is counted is looked at for the decision:
samples are drawn afterwards, and how many there are depends on clocks alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from proofs.outward import Outward
from proofs.partitions.evidence import Kind, PartitionEvidence, Tree, read_tree
from proofs.partitions.measure import Measure
from proofs.partitions.probability import replay
from proofs.partitions.prover import Prover
from proofs.partitions.sampling import draw
from specs.probability import MOST_SAMPLES, ProbabilityQuestion, Sampling
from verifier.probability.search import Limits, Result, State, search

REPLAY = 0.4
"""How long a check of a partition takes, relative to the search (0.22 to 0.38 measured)."""
LEAST_SHARE = 0.05
"""Of the time that splits have before they are judged."""
FEWEST = 1000
"""Samples."""
PILOT = 0.1
"""Seconds after which the price of a sample is known well enough."""


@dataclass(frozen=True, eq=False)
class Mixed:
    """A partition, and how many samples of what it leaves open the rest of the time is for.

    Attributes:
        found: by the search.
        samples: 0 where nothing is open.
    """

    found: Result
    samples: int


def mixed(
    question: ProbabilityQuestion,
    limits: Limits,
    progress: Callable[[State], None] = lambda _: None,
    start: Tree | None = None,
    save: Callable[[PartitionEvidence], None] = lambda _: None,
) -> Mixed:
    """Search for a part of the time, and say how many samples fill the rest.

    Args:
        limits: ``seconds`` are those of search and check together.
    """
    begun = limits.clock()
    price = price_of_samples(question, limits.clock)
    left = max(0.0, limits.seconds - (limits.clock() - begun))
    share = left / (1 + REPLAY)
    found = search(
        question,
        replace(limits, seconds=share),
        progress,
        start,
        save,
        lambda history: worth_sampling(history, share),
    )
    if found.state.high <= found.state.low:
        return Mixed(found, 0)
    spent = limits.clock() - begun + REPLAY * found.state.seconds
    affordable = max(0.0, limits.seconds - spent) / price
    return Mixed(found, _rounded(min(MOST_SAMPLES, max(FEWEST, affordable))))


def worth_sampling(history: Sequence[State], seconds: float) -> bool:
    """Whether what is left of some seconds is better spent on samples than on splits.

    Args:
        history: of the search.
        seconds: that the search could have if nothing were sampled.
    """
    last = history[-1]
    if last.seconds < LEAST_SHARE * seconds:
        return False
    before = next((s for s in reversed(history) if s.seconds <= last.seconds / 2), history[0])
    width, earlier = last.high - last.low, before.high - before.low
    if width <= 0.0 or not 0.0 < before.seconds < last.seconds:
        return False
    exponent = math.log(earlier / width) / math.log(last.seconds / before.seconds)
    return last.seconds >= seconds * 2 * exponent / (1 + 2 * exponent)


def price_of_samples(question: ProbabilityQuestion, clock: Callable[[], float]) -> float:
    """Seconds that a check takes for a sample, measured on some of the whole box."""
    prover = Prover(question.query, Outward())
    blank = PartitionEvidence("", "unsat", {"kind": np.array([Kind.OPEN], dtype=np.uint8)})
    tree = read_tree(blank, question.query.network.input_size, len(question.case.unsafe))
    with np.errstate(all="ignore"):  # as a check does
        volumes, count = replay(prover, Measure(question), tree), 64
        while True:
            begun = clock()
            stated = replace(question, sampling=Sampling(Fraction(1, 2), count, 0))
            draw(stated, blank, prover, volumes)
            spent = clock() - begun
            if spent > PILOT or count > MOST_SAMPLES // 8:
                return spent / count
            count *= 4


def _rounded(count: float) -> int:
    """Down, to two digits."""
    unit: int = 10 ** max(0, len(str(int(count))) - 2)
    return int(count) // unit * unit
