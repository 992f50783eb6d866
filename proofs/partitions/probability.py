"""Does a partition show that a probability lies where it is claimed to?

``P(unsafe)`` is at least the probability of the leaves that are proved unsafe, and at most one
minus that of those proved safe.  With ``confidence``, samples speak for what is left, and for
nothing else; see ``proofs/partitions/sampling.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from proofs.arithmetic import Arithmetic
from proofs.arrays import HOLDS, ArrayEvidence
from proofs.domain import Domains
from proofs.frame import IndexArray
from proofs.partitions.evidence import Kind, Tree, read_tree
from proofs.partitions.measure import Measure, Share
from proofs.partitions.prover import BoolArray, Prover
from proofs.partitions.sampling import Drawn, draw, lower_bound, supports, upper_bound
from proofs.partitions.walk import walk
from specs.enclosure import FloatArray
from specs.numerals import numeral
from specs.probability import ProbabilityQuestion


@dataclass(frozen=True)
class Decided:
    """What a rule makes of evidence.

    Attributes:
        shown: whether the evidence shows what it claims.
        reason: in words.
        facts: what was computed on the way, for people and programs; numbers as text.
        leaves: how many were looked at.
        unproved: of how many what the evidence says was not proved.
        interval: of a probability: it lies between these, proved.
        measured: it lies between these with the question's confidence; ``None``: nothing was drawn.
        statistical: whether what is shown rests on samples.
    """

    shown: bool
    reason: str
    facts: tuple[tuple[str, str], ...]
    leaves: int
    unproved: int
    interval: Share | None
    measured: Share | None = None
    statistical: bool = False


@dataclass(frozen=True, eq=False)
class Volumes:
    """The probabilities of the parts of a box, each between two rationals.

    Attributes:
        safe, unsafe, open: proved safe, proved unsafe, and neither.
        leaves: in all; ``unproved``: those of which the tree says what is not proved.
        lower, upper, shares: the boxes of the open leaves and their probabilities.
    """

    safe: Share
    unsafe: Share
    open: Share
    leaves: int
    unproved: int
    lower: FloatArray
    upper: FloatArray
    shares: tuple[Share, ...]

    @property
    def interval(self) -> Share:
        """``P(unsafe)`` lies between these, proved."""
        return self.unsafe[0], min(Fraction(1) - self.safe[0], self.unsafe[1] + self.open[1])


def replay(
    prover: Prover, measure: Measure, tree: Tree, report: Callable[[int], None] = lambda _: None
) -> Volumes:
    """Look at every leaf of a partition.

    Raises:
        EvidenceError: the tree is no partition of the box.
    """

    def look(domains: Domains) -> BoolArray:
        return judged(
            prover, tree.kind[domains.nodes].astype(np.int64), tree.disjunct[domains.nodes], domains
        )

    totals = {kind: (Fraction(0), Fraction(0)) for kind in (Kind.SAFE, Kind.UNSAFE, Kind.OPEN)}
    count = unproved = 0
    size = measure.question.query.network.input_size
    lowers, uppers = [np.zeros((0, size))], [np.zeros((0, size))]
    shares: list[Share] = []
    for found in walk(prover, tree, look, report):
        kinds = np.where(found.proved, tree.kind[found.nodes], Kind.OPEN)
        listed = measure.boxes(found.lower, found.upper)
        for kind in totals:
            own = [listed[k] for k in np.flatnonzero(kinds == kind)]
            totals[kind] = _added([totals[kind], *own])
        left = kinds == Kind.OPEN
        shares += [listed[k] for k in np.flatnonzero(left)]
        lowers.append(found.lower[left])
        uppers.append(found.upper[left])
        count += len(kinds)
        unproved += int(np.count_nonzero(left & (tree.kind[found.nodes] != Kind.OPEN)))
    return Volumes(
        totals[Kind.SAFE],
        totals[Kind.UNSAFE],
        totals[Kind.OPEN],
        count,
        unproved,
        np.concatenate(lowers),
        np.concatenate(uppers),
        tuple(shares),
    )


def judged(prover: Prover, kind: IndexArray, disjunct: IndexArray, domains: Domains) -> BoolArray:
    """Whether what is said of boxes is proved: all SAFE, or all satisfy a disjunct."""
    proved = np.zeros(len(domains), dtype=bool)
    safe = np.flatnonzero(kind == Kind.SAFE)
    if safe.size:
        proved[safe] = prover.safe(domains.batch.pick(safe))
    unsafe = np.flatnonzero(kind == Kind.UNSAFE)
    if unsafe.size:
        proved[unsafe] = prover.unsafe(domains.batch.pick(unsafe), disjunct[unsafe])
    return proved


def _added(shares: list[Share]) -> Share:
    below = sum((low for low, _ in shares), Fraction(0))
    exact = all(low == high for low, high in shares)
    return below, below if exact else sum((high for _, high in shares), Fraction(0))


def decide(
    question: ProbabilityQuestion,
    evidence: ArrayEvidence,
    arithmetic: Arithmetic,
    tick: Callable[[], None] = lambda: None,
    report: Callable[[int], None] = lambda _: None,
) -> Decided:
    """Replay a partition, and compare the interval that it proves with what is claimed.

    Raises:
        EvidenceError: the arrays are no partition of the question's box.
    """
    query = question.query
    tree = read_tree(evidence, query.network.input_size, len(question.case.unsafe))
    prover = Prover(query, arithmetic, tick)
    volumes = replay(prover, Measure(question), tree, report)
    low, high = volumes.interval
    facts = [
        ("proved: P(unsafe) at least", enough(low)),
        ("proved: P(unsafe) at most", enough(high, up=True)),
        ("proved unsafe, share of the probability at least", enough(volumes.unsafe[0])),
        ("proved safe, share of the probability at least", enough(volumes.safe[0])),
        ("exact", "yes" if _exact(volumes) else "no: enclosed"),
        ("leaves", str(volumes.leaves)),
        ("leaves not proved to be what the evidence says", str(volumes.unproved)),
    ]
    holds = evidence.claims == HOLDS
    proved = _proves(question, low, high, holds)
    drawn: Drawn | None = None
    measured: Share | None = None
    if question.sampling is not None and not proved and volumes.shares:
        drawn = draw(question, evidence, prover, volumes, tick)
        measured = between(question.sampling.confidence, volumes, drawn)
        facts += _sampled(question.sampling.confidence, measured, drawn)
    statistical = not proved and drawn is not None and _supported(question, volumes, drawn, holds)
    words = f"P(unsafe) lies between {enough(low)} and {enough(high, up=True)}, proved"
    if statistical and question.sampling is not None:
        words += f"; with confidence {numeral(question.sampling.confidence)} the claim "
        words += "holds" if holds else "is wrong"
    elif not proved and question.sampling is not None:
        words += "; samples do not support more"
    return Decided(
        proved or statistical,
        words,
        tuple(facts),
        volumes.leaves,
        volumes.unproved,
        (low, high),
        measured,
        statistical,
    )


def _exact(volumes: Volumes) -> bool:
    return all(low == high for low, high in (volumes.safe, volumes.unsafe, volumes.open))


def _proves(question: ProbabilityQuestion, low: Fraction, high: Fraction, holds: bool) -> bool:
    """Whether an interval shows that the claim holds; or that it does not."""
    most, least = question.at_most, question.at_least
    if holds:
        return (most is None or high <= most) and (least is None or low >= least)
    return (most is not None and low > most) or (least is not None and high < least)


def _supported(question: ProbabilityQuestion, volumes: Volumes, drawn: Drawn, holds: bool) -> bool:
    """The same with samples; an end that is proved needs none of the confidence."""
    low, high = volumes.interval
    most, least = question.at_most, question.at_least
    if question.sampling is None:
        return False
    miss = 1 - question.sampling.confidence
    if not holds:
        ends = [end is not None for end in (most, least)]
        each = miss / sum(ends)
        above = most is not None and supports(volumes, drawn, each, least=most, strictly=True)
        return above or (
            least is not None and supports(volumes, drawn, each, most=least, strictly=True)
        )
    needed = [most is not None and high > most, least is not None and low < least]
    each = miss / max(1, sum(needed))
    return (not needed[0] or supports(volumes, drawn, each, most=most)) and (
        not needed[1] or supports(volumes, drawn, each, least=least)
    )


def between(confidence: Fraction, volumes: Volumes, drawn: Drawn) -> Share:
    """Where ``P(unsafe)`` lies, both ends together with a confidence."""
    miss = (1 - confidence) / 2
    high = volumes.unsafe[1] + volumes.open[1] * upper_bound(drawn.not_safe, drawn.count, miss)
    low = volumes.unsafe[0] + volumes.open[0] * lower_bound(drawn.unsafe, drawn.count, miss)
    return max(low, volumes.interval[0]), min(high, volumes.interval[1])


def _sampled(confidence: Fraction, measured: Share, drawn: Drawn) -> list[tuple[str, str]]:
    words = f"measured, both with confidence {numeral(confidence)}"
    return [
        ("samples of what is left", str(drawn.count)),
        ("of them proved unsafe", str(drawn.unsafe)),
        ("of them neither safe nor unsafe", str(drawn.not_safe - drawn.unsafe)),
        (f"{words}: P(unsafe) at least", enough(measured[0])),
        (f"{words}: P(unsafe) at most", enough(measured[1], up=True)),
    ]


DIGITS = 12


def enough(value: Fraction, up: bool = False) -> str:
    """A probability with enough digits, rounded down or up; exact where it has so few."""
    scale = 10**DIGITS
    while 0 < value * scale < 10**6 and scale < 10**300:
        scale *= 10**6
    top = value.numerator * scale
    units = -(-top // value.denominator) if up else top // value.denominator
    return numeral(Fraction(units, scale))
