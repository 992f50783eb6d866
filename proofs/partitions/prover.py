"""What the kernel can say of boxes: that all inputs are safe there, or that all are unsafe.

A box is safe if every disjunct of the unsafe set is refuted on it.  It is unsafe if some disjunct
holds everywhere on it: the negation of each of its constraints is refuted, one by one.  Both are
the rule Close, applied to one question with both kinds of disjuncts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Arithmetic
from proofs.bounds import propagate, sweep
from proofs.domain import Domains, Path
from proofs.facts import Facts
from proofs.frame import Batch, Frame, IndexArray
from proofs.unsafe import Closer, Unsafe
from specs.network import Network
from specs.probability import negated
from specs.property import Case
from specs.query import Query

BoolArray = npt.NDArray[np.bool_]

WIDTH = 512
"""Boxes that are looked at together, at most."""


@dataclass(frozen=True, eq=False)
class BothSides:
    """A question about a box whose disjuncts are those of an unsafe set and their negations.

    Attributes:
        query: with one case.
        unsafe: the numbers of the unsafe set's disjuncts.
        negations: for each of them the numbers of its constraints' negations.
    """

    query: Query
    unsafe: tuple[int, ...]
    negations: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, query: Query) -> BothSides:
        """Both sides of a query with one case."""
        (case,) = query.property.cases
        disjuncts = list(case.unsafe)
        negations = []
        for disjunct in case.unsafe:
            start = len(disjuncts)
            disjuncts += [(negated(constraint),) for constraint in disjunct]
            negations.append(tuple(range(start, len(disjuncts))))
        whole = Case(case.lower, case.upper, tuple(disjuncts))
        stated = replace(query.property, cases=(whole,))
        numbers = tuple(range(len(case.unsafe)))
        return cls(replace(query, property=stated), numbers, tuple(negations))


class Boxes:
    """Boxes within a box, and what is known of a network there.

    Args:
        network: with one input box.
        case: the box.
        arithmetic: to bound in.
        tick: called between pieces of work; may raise to stop at a deadline.
    """

    def __init__(
        self,
        network: Network,
        case: Case,
        arithmetic: Arithmetic,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.frame = Frame(network, arithmetic)
        self.case, self.tick = case, tick
        places = max(1, sum(network.sizes))
        self.width = max(1, min(WIDTH, arithmetic.entry_budget // places))

    def root(self) -> Domains:
        """The whole box; magnitudes are taken from it."""
        domains = Domains.root(0, *self.case.box(), len(self.case.unsafe))
        propagate(self.frame, domains.batch, record=True)
        self.tighten(domains.batch, record=True)
        return replace(domains, nodes=np.zeros(1, dtype=np.int64))

    def tighten(self, batch: Batch, *, record: bool = False) -> None:
        """Bound every unstable neuron anew, with default slopes."""
        sweep(self.frame, batch, record=record, tick=self.tick)


class Prover(Boxes):
    """Looks at boxes of a question.

    Args:
        query: with one case, whose region is a box.
        arithmetic: to prove in.
        tick: called between pieces of work; may raise to stop at a deadline.
    """

    def __init__(
        self, query: Query, arithmetic: Arithmetic, tick: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(query.network, query.property.cases[0], arithmetic, tick)
        self.sides = BothSides.of(query)
        facts = Facts(self.sides.query, self.frame, None, tick)
        self.unsafe_rows = Unsafe(self.frame, facts)
        self._closer = Closer(self.frame, self.unsafe_rows, tick)

    def intervals(self, batch: Batch) -> None:
        """Propagate intervals alone, which is enough for tiny boxes."""
        propagate(self.frame, batch)

    def safe(self, batch: Batch) -> BoolArray:
        """``(B,)``: no input of the box is unsafe, proved."""
        return self._closed([self.sides.unsafe] * len(batch.empty), batch)

    def unsafe(self, batch: Batch, disjunct: IndexArray) -> BoolArray:
        """``(B,)``: every input of the box satisfies the disjunct named, proved."""
        wanted = [self.sides.negations[number] for number in disjunct.tolist()]
        return self._closed(wanted, batch)

    def _closed(self, wanted: Sequence[tuple[int, ...]], batch: Batch) -> BoolArray:
        """Which boxes have all disjuncts named refuted; bounds that contradict say nothing."""
        closed = ~batch.empty
        paths = [Path(0, numbers) for numbers in wanted]
        tried = np.array([bool(numbers) for numbers in wanted], dtype=bool)
        places = np.flatnonzero(tried & closed)
        if places.size:
            some = batch if places.size == len(tried) else batch.pick(places)
            listed = [paths[place] for place in places.tolist()]
            for place, _, why in self._closer.close(listed, [None] * len(listed), some):
                closed[places[place]] = why is None
        return closed
