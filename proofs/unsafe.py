"""The unsafe set as rows to substitute back, and the rule Close, which refutes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Arithmetic, Numbers
from proofs.domain import Domain
from proofs.facts import Facts
from proofs.forms import Form, combine
from proofs.frame import Batch, Frame, IndexArray, Relaxations, Rows
from proofs.substitution import substitute
from proofs.tables import Substitution


@dataclass(frozen=True, eq=False)
class Group:
    """Rows over the unsafe sets of some domains of a batch, to be substituted back at once.

    A violation in a domain satisfies ``row <= 0`` for every row of one of its disjuncts.

    Attributes:
        places: ``(P,)`` the domains; ``batch``: their bounds.
        rows: ``R`` rows, owned by positions in ``places``.
        disjunct, strict: ``(R,)`` the disjunct of a row, and whether it is even below 0.
        relaxations: with the hinted slopes; ``stop``: where to stop substituting.
    """

    places: IndexArray
    batch: Batch
    rows: Rows
    disjunct: IndexArray
    strict: npt.NDArray[np.bool_]
    relaxations: Relaxations
    stop: int | None


@dataclass(frozen=True, eq=False)
class _Template:
    """The constraints of some disjuncts of a case, each alone."""

    constant: Numbers
    entries: dict[int, tuple[IndexArray, IndexArray, Numbers]]
    disjunct: IndexArray
    strict: npt.NDArray[np.bool_]


class Unsafe:
    """Makes rows of the constraints that describe a violation.

    Args:
        frame, facts: of the cases that are checked.
    """

    def __init__(self, frame: Frame, facts: Facts) -> None:
        self._frame, self._facts = frame, facts
        self._templates: dict[tuple[int, tuple[int, ...]], _Template] = {}

    def groups(
        self,
        domains: Sequence[Domain],
        hints: Sequence[Substitution | None],
        batch: Batch,
        most: int | None = None,
    ) -> Iterator[Group]:
        """Rows for every domain of a batch that is not empty.

        Args:
            domains: of the batch; what counts are their cases, disjuncts and paths.
            hints: with weights, a disjunct's rows are their one combination; ``None``:
                each constraint alone, with default slopes.
            batch: their bounds.
            most: rows in a group, unless a single domain has more.
        """
        hinted: dict[int | None, list[int]] = {}
        plain: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for place, (domain, own) in enumerate(zip(domains, hints, strict=True)):
            if batch.empty[place]:
                continue
            if own is None:
                plain.setdefault((domain.case, domain.disjuncts), []).append(place)
            else:
                hinted.setdefault(own.stop, []).append(place)
        for (case, disjuncts), places in plain.items():
            count = max(1, self._template(case, disjuncts).disjunct.size)
            size = len(places) if most is None else max(1, most // count)
            for start in range(0, len(places), size):
                yield self._plain(case, disjuncts, places[start : start + size], batch)
        for stop, places in hinted.items():
            size = self._facts.at_once([own for p in places if (own := hints[p]) is not None])
            if most is not None:
                rows = max(self._facts.count(domains[p]) for p in places)
                size = max(1, min(size, most // max(1, rows)))
            for start in range(0, len(places), size):
                yield self._hinted(places[start : start + size], domains, hints, batch, stop)

    def _plain(
        self, case: int, disjuncts: tuple[int, ...], places: list[int], batch: Batch
    ) -> Group:
        template = self._template(case, disjuncts)
        times = len(places)
        chosen = np.array(places, dtype=np.int64)
        sub = batch if times == len(batch.empty) else batch.pick(chosen)
        return Group(
            chosen,
            sub,
            _repeated(template, times),
            np.tile(template.disjunct, times),
            np.tile(template.strict, times),
            Relaxations(self._frame, sub),
            None,
        )

    def _hinted(
        self,
        places: list[int],
        domains: Sequence[Domain],
        hints: Sequence[Substitution | None],
        batch: Batch,
        stop: int | None,
    ) -> Group:
        forms: list[Form] = []
        owner: list[int] = []
        disjunct: list[int] = []
        used = [own for p in places if (own := hints[p]) is not None]
        for position, (place, own) in enumerate(zip(places, used, strict=True)):
            bounds = {t: (low[place], up[place]) for t, (low, up) in batch.bounds.items()}
            domain = replace(domains[place], bounds=bounds)
            facts = self._facts.added(domain, own)
            for number in domain.disjuncts:
                for form in self._facts.combinations(domain.case, number, own.weights):
                    both = [(Fraction(1), form), (Fraction(1), facts)]
                    forms.append(combine(both) if own.multipliers else form)
                    owner.append(position)
                    disjunct.append(number)
        sub = batch.pick(np.array(places, dtype=np.int64))
        return Group(
            np.array(places, dtype=np.int64),
            sub,
            self._facts.rows(forms, np.array(owner, dtype=np.int64)),
            np.array(disjunct, dtype=np.int64),
            np.array([form.strict for form in forms], dtype=bool),
            Relaxations(self._frame, sub, self._facts.slopes(used, None)),
            stop,
        )

    def _template(self, case: int, disjuncts: tuple[int, ...]) -> _Template:
        key = (case, disjuncts)
        if key not in self._templates:
            numbered = [(d, form) for d in disjuncts for form in self._facts.constraints(case, d)]
            forms = [form for _, form in numbered]
            rows = self._facts.rows(forms, np.zeros(len(forms), dtype=np.int64))
            self._templates[key] = _Template(
                rows.constant,
                dict(rows.entries),
                np.array([d for d, _ in numbered], dtype=np.int64),
                np.array([form.strict for form in forms], dtype=bool),
            )
        return self._templates[key]


class Closer:
    """Closes leaves in batches.

    Args:
        frame, unsafe: of the cases that are checked.
        tick: called between pieces of work; may raise to stop at a deadline.
    """

    def __init__(self, frame: Frame, unsafe: Unsafe, tick: Callable[[], None]) -> None:
        self._frame, self._unsafe, self._tick = frame, unsafe, tick
        self._arithmetic: Arithmetic = frame.arithmetic

    def close(
        self, domains: Sequence[Domain], hints: Sequence[Substitution | None], batch: Batch
    ) -> Iterator[tuple[int, float | None, str | None]]:
        """Try to refute every remaining disjunct of the domains that are not empty.

        Yields:
            Position, shortfall and why it does not close; ``None``, ``None`` where it does.
        """
        for group in self._unsafe.groups(domains, hints, batch):
            found = substitute(
                self._frame, group.batch, group.relaxations, group.rows, group.stop, self._tick
            )
            order = np.argsort(group.rows.owner, kind="stable")
            ends = np.searchsorted(group.rows.owner[order], np.arange(len(group.places) + 1))
            for position, place in enumerate(group.places.tolist()):
                own = order[ends[position] : ends[position + 1]]
                judged = self._judge(
                    domains[place].disjuncts, found[own], group.disjunct[own], group.strict[own]
                )
                yield place, *judged

    def _judge(
        self,
        wanted: tuple[int, ...],
        found: Numbers,
        disjunct: IndexArray,
        strict: npt.NDArray[np.bool_],
    ) -> tuple[float | None, str | None]:
        """A disjunct is refuted by a row above 0, or at 0 where a strict constraint is in it."""
        worst: float | None = None
        for number in wanted:
            own = disjunct == number
            values = found[own]
            if np.any(values > 0) or np.any((values >= 0) & strict[own]):
                continue
            if not values.size:
                return None, "a disjunct has no constraint to refute it with"
            best = float(self._arithmetic.floats_down(np.asarray([max(values.tolist())]))[0])
            worst = best if worst is None else min(worst, best)
        if worst is None:
            return None, None
        return -worst, "its bound does not exclude the unsafe set"


def _repeated(template: _Template, times: int) -> Rows:
    """The template's rows for each of several domains."""
    count = template.disjunct.size
    entries = {}
    for tensor, (row, entry, value) in template.entries.items():
        shift = np.repeat(np.arange(times) * count, row.size)
        entries[tensor] = (
            np.tile(row, times) + shift,
            np.tile(entry, times),
            np.tile(value, times),
        )
    owner = np.repeat(np.arange(times), count)
    return Rows(owner, np.tile(template.constant, times), entries)
