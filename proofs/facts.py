"""The rule Assume: facts of a path, and the rows that hints make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction

import numpy as np

from proofs.arithmetic import Arithmetic, Interval
from proofs.domain import Path, literals
from proofs.forms import MINUS_ONE, ONE, Form, combine, exactly, of_constraint
from proofs.frame import Frame, Hints, IndexArray, Rows
from proofs.proof import Fact, Side
from proofs.tables import Substitution, Tables
from specs.enclosure import FloatArray
from specs.property import Case
from specs.query import Query

FORM_ENTRIES = 1 << 18  # rationals, some hundred bytes each


class Facts:
    """What holds on a path, as forms and as rows to substitute back.

    Args:
        query: the question.
        frame: of the cases that are checked.
        tables: the proof's arrays; ``None``: there are no hints.
        tick: called between pieces of work; may raise to stop at a deadline.
    """

    def __init__(
        self, query: Query, frame: Frame, tables: Tables | None, tick: Callable[[], None]
    ) -> None:
        self._query, self._frame, self._tables, self._tick = query, frame, tables, tick
        self._arithmetic: Arithmetic = frame.arithmetic
        self._places = max(1, sum(query.network.sizes))
        self._forms: dict[tuple[int, int], list[Form]] = {}
        self._weighted: dict[tuple[int, int, tuple[float, ...]], list[Form]] = {}

    def combinations(self, case: int, disjunct: int, weights: tuple[float, ...]) -> list[Form]:
        """A disjunct's constraints combined by weights; without weights each of them alone."""
        forms = self.constraints(case, disjunct)
        if not weights and forms:
            return forms
        key = (case, disjunct, weights)
        if key not in self._weighted:
            pairs = zip(weights, forms, strict=False)
            self._weighted[key] = [combine((exactly(w), form) for w, form in pairs)]
        return self._weighted[key]

    def count(self, path: Path) -> int:
        """How many constraints the disjuncts that remain have."""
        return sum(len(self.constraints(path.case, d)) for d in path.disjuncts)

    def constraints(self, case: int, disjunct: int) -> list[Form]:
        """The constraints of a disjunct of a case."""
        key = (case, disjunct)
        if key not in self._forms:
            listed = self._case(case).unsafe[disjunct]
            self._forms[key] = [of_constraint(self._frame.network, c) for c in listed]
        return self._forms[key]

    def _case(self, case: int) -> Case:
        return self._query.property.cases[case]

    def added(
        self, path: Path, stored: Mapping[int, Interval], place: int, hints: Substitution
    ) -> Form:
        """The multiples of facts that hints ask for, added up.

        Args:
            path: of the domain at a place among those whose bounds are ``stored``.
        """
        return combine(self._listed(path, stored, place, hints))

    def _listed(
        self, path: Path, stored: Mapping[int, Interval], place: int, hints: Substitution
    ) -> Iterator[tuple[Fraction, Form]]:
        """The facts that hints multiply, all of the same case and path as the domain."""
        if not hints.multipliers:
            return
        splits = literals(path.trail)
        region = self._case(path.case).constraints
        for kind, index, value in hints.multipliers:
            self._tick()
            form: Form | None = None
            if kind is Fact.SPLIT and index < len(splits):
                form = splits[index].fact
            elif kind is Fact.REGION and index < len(region):
                form = of_constraint(self._frame.network, region[index])
            elif kind is Fact.UNSAFE and len(path.disjuncts) == 1:
                constraints = self.constraints(path.case, path.disjuncts[0])
                form = constraints[index] if index < len(constraints) else None
            elif kind in (Fact.LOWER, Fact.UPPER):
                form = self._stored_bound(stored, place, kind, index)
            if form is not None and value > 0:  # clamped to the sign of facts
                yield exactly(value), form

    def _stored_bound(
        self, stored: Mapping[int, Interval], place: int, kind: Fact, index: int
    ) -> Form | None:
        if self._tables is None:
            return None
        tensor, entry = self._tables.neuron(index)
        bound = stored[tensor][0 if kind is Fact.LOWER else 1][place, entry]
        if not np.isfinite(self._arithmetic.floats_down(np.asarray([bound]))[0]):
            return None  # an infinite bound drops its side
        sign = MINUS_ONE if kind is Fact.LOWER else ONE
        return Form({(tensor, entry): sign}, -sign * self._arithmetic.fraction(bound))

    def slopes(self, hints: Sequence[Substitution], picked: IndexArray | None) -> Hints:
        """Hinted slopes of a batch, NaN where there is none."""
        made: dict[tuple[int, Side], FloatArray] = {}
        shared = picked is None and all(own is hints[0] for own in hints)
        for place, own in enumerate(hints[:1] if shared else hints):
            for block in own.blocks:
                key = (block.tensor, block.side)
                if key not in made:
                    size = self._frame.network.sizes[block.tensor]
                    made[key] = np.full((1 if shared else len(hints), size), np.nan)
                row = picked[place] if picked is not None and len(block.slopes) > 1 else 0
                entries = slice(None) if block.entries is None else block.entries
                made[key][place, entries] = block.slopes[row]
        return made

    def rows(self, forms: Sequence[Form], owner: IndexArray) -> Rows:
        """Forms as rows; coefficients that are no numbers are paid for by magnitude."""
        arithmetic = self._arithmetic
        constants = arithmetic.zeros((len(forms),))
        found: dict[int, list[tuple[int, int, object]]] = {}
        for row, form in enumerate(forms):
            constant = form.constant
            for (tensor, index), weight in form.weights.items():
                number = arithmetic.number(weight)
                if number is None:
                    number = arithmetic.fraction_down(weight)
                    taken = arithmetic.fraction(number)
                    magnitude = self._frame.magnitude(tensor)[index]
                    constant -= abs(weight - taken) * arithmetic.fraction(magnitude)
                if tensor not in found:
                    found[tensor] = []
                found[tensor].append((row, index, number))
            constants[row] = arithmetic.fraction_down(constant)
        entries = {
            tensor: (
                np.array(rows, dtype=np.int64),
                np.array(indices, dtype=np.int64),
                np.array(values, dtype=constants.dtype),
            )
            for tensor, listed in found.items()
            for rows, indices, values in [zip(*listed, strict=True)]
        }
        return Rows(owner, constants, entries)

    def at_once(self, hints: Sequence[Substitution]) -> int:
        """How many forms with hinted facts are made at a time, so that they fit in memory."""
        facts = max((len(own.multipliers) for own in hints), default=0)
        widest = 1 if self._tables is None else self._tables.widest_form
        return max(1, FORM_ENTRIES // min(1 + facts * widest, self._places))
