"""How far unsafe sets stay away when faults strike some words: the kernel, asked in batches.

A *site* is a range of words of which one may fail; each is a domain of its own.  What is found
here is written into proofs, see :mod:`verifier.faults.written`, and checked there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from proofs.bounds import propagate
from proofs.domain import Path, middle
from proofs.facts import Facts
from proofs.faulty import Shares
from proofs.frame import Batch, Frame, bounds_of
from proofs.outward import Outward
from proofs.proof import Side
from proofs.steps import Steps
from proofs.substitution import substitute
from proofs.tables import Step, Substitution
from proofs.tree import DeadlineError, Walker
from proofs.unsafe import Unsafe
from specs.enclosure import FloatArray
from specs.errors import EvidenceError, QuestionError
from specs.faults.struck import faults_of
from specs.network import Faulty, Linear, Network, Perturbed, Struck
from specs.query import Query
from verifier.faults.renumbered import Renumbered

Site = tuple[int, int]
"""The first word, and the one behind the last."""

Cut = tuple[int, int, Side]
"""One side of a split of a neuron at 0: a tensor of the question's network, and an entry."""

Half = tuple[int, Side]
"""One half of the interval of an input entry."""


def shares_of_site(site: Site, words: int, faults: int) -> Shares:
    """All faults strike the words of a site."""
    first, last = site
    parts = ((0, 0),) if first else ()
    rest = ((last, 0),) if last < words else ()
    return (*parts, (first, faults), *rest)


@dataclass(frozen=True, eq=False)
class Kernel:
    """The kernel on one question of one case.

    Attributes:
        words: how many there are.
        faults: the budget.
        numbers: hints come in the intact network's, and are used in this network's.
        first: by target of bound steps the first word behind all that strike it.
        tick: called now and then; may raise.
    """

    query: Query
    case: int
    words: int
    faults: int
    frame: Frame
    root: Batch
    numbers: Renumbered
    first: Mapping[int, int]
    tick: Callable[[], None]

    @staticmethod
    def of(query: Query, case: int, words: int, deadline: float) -> Kernel:
        """Magnitudes are those of the root, with all faults anywhere.

        Raises:
            QuestionError: the question is not of faulty words.
        """
        faults = faults_of(query)
        if faults is None:
            raise QuestionError("the question is not of faults")

        def tick() -> None:
            if time.monotonic() > deadline:
                raise DeadlineError("the time limit is over")

        frame = Frame(query.network, Outward())
        with np.errstate(all="ignore"):
            root = Walker(query, frame, None).root(case, record=True).batch
        budget = frame.shares[0][1] if frame.shares else 0
        numbers = Renumbered.of(faults.intact, query.network)
        first = behind(query.network, numbers)
        return Kernel(query, case, words, budget, frame, root, numbers, first, tick)

    def bounds(self, sites: Sequence[Site], steps: Sequence[Step]) -> Batch:
        """The domains of some sites, all words in order, after bound steps."""
        parts, start = [], 0
        kept: Batch | None = None
        for target in dict.fromkeys(step.target for step in steps):
            end = start
            while end < len(sites) and sites[end][0] < self.first[target]:
                end += 1
            left = [step for step in steps if step.target >= target]
            parts += [self._bounds(sites[start:end], left, kept)] if end > start else []
            start = end
            if start == len(sites):
                break
            own = [step for step in steps if step.target == target]
            shares = shares_of_site((self.first[target], self.words), self.words, self.faults)
            kept = self._after((shares,), own, kept)
        else:
            parts += [self._bounds(sites[start:], [], kept)] if start < len(sites) else []
        return _joined(parts)

    def _bounds(self, sites: Sequence[Site], steps: Sequence[Step], start: Batch | None) -> Batch:
        shares = tuple(shares_of_site(site, self.words, self.faults) for site in sites)
        return self._after(shares, steps, start)

    def intact(self, steps: Sequence[Step]) -> Batch:
        """The domain in which nothing fails, after bound steps."""
        return self.shared((((0, 0),),), steps)

    def cut(
        self,
        shares: Sequence[Shares],
        cuts: Sequence[Sequence[Cut]],
        steps: Sequence[Step],
        halves: Sequence[Sequence[Half]] | None = None,
    ) -> Batch:
        """Domains with these budgets below splits of neurons and inputs, after bound steps."""
        count = len(shares)
        root = self.root.pick(np.zeros(count, dtype=np.int64))
        for place, taken in enumerate(halves or ()):
            for entry, half in taken:
                end = root.upper if half is Side.LOWER else root.lower
                end[place, entry] = middle(root, place, entry)
        for place, own in enumerate(cuts):
            for tensor, index, side in own:
                end = root.bounds[tensor][1 if side is Side.LOWER else 0]
                least, most = (0.0, end[place, index])
                end[place, index] = (min if side is Side.LOWER else max)(least, most)
        return self._after(tuple(shares), steps, root)

    def shared(self, shares: tuple[Shares, ...], steps: Sequence[Step]) -> Batch:
        """Domains with these budgets, after bound steps."""
        return self._after(shares, steps, None)

    def _after(
        self, shares: tuple[Shares, ...], steps: Sequence[Step], start: Batch | None
    ) -> Batch:
        """Domains with these budgets, from what is known of a single domain around them."""
        count = len(shares)
        from_ = self.root if start is None else start
        times = count if len(from_.empty) == 1 else 1
        low, high = (np.repeat(end, times, axis=0) for end in (from_.lower, from_.upper))
        known = {} if start is None else start.bounds
        bounds = {
            t: (np.repeat(a, times, 0), np.repeat(b, times, 0)) for t, (a, b) in known.items()
        }
        empty = np.repeat(from_.empty, times)
        for a, b in bounds.values():
            empty = empty | np.asarray(a > b, dtype=bool).any(axis=1)
        batch = Batch(low, high, bounds, empty, shares)
        facts = Facts(self.query, self.frame, None, self.tick)
        taken, paths = Steps(self.frame, facts, self.tick), [self._path()] * count
        with np.errstate(all="ignore"):
            propagate(self.frame, batch)
            for step in steps:
                self.tick()
                taken.take(self.numbers.step(step), paths, batch)
        return batch

    def margins(
        self,
        batch: Batch,
        disjuncts: Sequence[tuple[int, ...]],
        hints: Sequence[Substitution | None],
    ) -> FloatArray:
        """By how much domains stay away from all of some disjuncts, ``(B,)``; not positive: not."""
        facts = Facts(self.query, self.frame, None, self.tick)
        unsafe = Unsafe(self.frame, facts)
        paths = [Path(self.case, own) for own in disjuncts]
        found = np.full(len(disjuncts), -np.inf)
        hints = [self.numbers.hints(own) for own in hints]
        with np.errstate(all="ignore"):
            for group in unsafe.groups(paths, hints, batch):
                least = substitute(
                    self.frame, group.batch, group.relaxations, group.rows, group.stop, self.tick
                )
                most = int(group.disjunct.max(initial=0)) + 1
                best = np.full((len(group.places), most), -np.inf)
                np.maximum.at(best, (group.rows.owner, group.disjunct), least)
                for place, own in zip(group.places.tolist(), best, strict=True):
                    found[place] = own[list(disjuncts[place])].min()
        found[batch.empty] = np.inf
        return found

    def multipliers(self, batch: Batch) -> FloatArray:
        """At most what each word's step is multiplied by, ``(words,)``, in a fault-free domain."""
        found = np.zeros(self.words)
        network: Network = self.query.network
        for tensor in network.struck:
            node = network.nodes[tensor]
            if not isinstance(node, Perturbed) or not isinstance(node.error, Struck):
                raise EvidenceError("words have multipliers, activations have none")
            error, before = node.error, network.nodes[node.source]
            if not isinstance(before, Linear):
                raise EvidenceError("a word stands in a node that is not linear")
            read = [bounds_of(self.frame, batch, source) for source in before.sources]
            known = [read[term.source] for term in error.factors.terms]
            low, high = self.frame.arithmetic.linear_interval(error.factors, known)
            size = np.maximum(np.abs(low), np.abs(high))[0]
            own = np.zeros(error.words.size)
            np.maximum.at(own, error.word, size)
            np.add.at(found, error.words, own)
        return found

    def _path(self) -> Path:
        count = len(self.query.property.cases[self.case].unsafe)
        return Path(self.case, tuple(range(count)))


def behind(network: Network, numbers: Renumbered) -> dict[int, int]:
    """By pre-activation of the intact network, the first word behind all that strike it."""
    last: list[int] = []  # by tensor
    for node in network.nodes:
        own = max((last[source] for source in node.sources), default=0)
        if isinstance(node, Perturbed) and isinstance(node.error, Faulty):
            own = max(own, int(node.error.words.max(initial=-1)) + 1)
        last.append(own)
    known = {faulty: intact for intact, faulty in numbers.place.items()}
    return {known[tensor]: last[tensor] for tensor in network.preactivations}


def _joined(parts: Sequence[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    bounds = {
        t: (
            np.concatenate([part.bounds[t][0] for part in parts]),
            np.concatenate([part.bounds[t][1] for part in parts]),
        )
        for t in parts[0].bounds
    }
    return Batch(
        np.concatenate([part.lower for part in parts]),
        np.concatenate([part.upper for part in parts]),
        bounds,
        np.concatenate([part.empty for part in parts]),
        tuple(own for part in parts for own in part.shares),
    )
