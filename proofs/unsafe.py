"""The unsafe set as rows to substitute back, and the rule Close, which refutes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Arithmetic, Numbers
from proofs.domain import Path
from proofs.facts import Facts
from proofs.forms import ONE, Form, combine
from proofs.frame import Batch, Frame, IndexArray, Relaxations, Rows, Stop
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
    stop: Stop | None


@dataclass(frozen=True, eq=False)
class _Template:
    """The constraints of some disjuncts of a case, each alone."""

    constant: Numbers
    entries: dict[int, tuple[IndexArray, IndexArray, Numbers]]
    disjunct: IndexArray
    strict: npt.NDArray[np.bool_]


TEMPLATES = 1 << 12
"""Kept at a time: a property may have many thousand cases."""

_Key = tuple[int, tuple[int, ...]]


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
        paths: Sequence[Path],
        hints: Sequence[Substitution | None],
        batch: Batch,
        most: int | None = None,
    ) -> Iterator[Group]:
        """Rows for every domain of a batch that is not empty.

        Args:
            paths: of the domains of the batch.
            hints: with weights, a disjunct's rows are their one combination; ``None``, or
                plain: each constraint alone, with default slopes.
            batch: the bounds.
            most: rows in a group, unless a single domain has more.
        """
        hinted: dict[Stop | None, list[int]] = {}
        plain: dict[Stop | None, dict[_Key, list[int]]] = {}
        for place, (path, own) in enumerate(zip(paths, hints, strict=True)):
            if batch.empty[place]:
                continue
            stop = None if own is None else own.stop
            if own is None or own.plain:
                alike = plain.setdefault(stop, {})
                alike.setdefault((path.case, path.disjuncts), []).append(place)
            else:
                hinted.setdefault(stop, []).append(place)
        for stop, keyed in plain.items():
            for some in _parcels(
                [(key, place) for key, places in keyed.items() for place in places],
                [self._template(*k).disjunct.size for k, places in keyed.items() for _ in places],
                most,
            ):
                yield self._plain(some, batch, stop)
        for stop, places in hinted.items():
            size = self._facts.at_once([own for p in places if (own := hints[p]) is not None])
            if most is not None:
                rows = max(self._facts.count(paths[p]) for p in places)
                size = max(1, min(size, most // max(1, rows)))
            for start in range(0, len(places), size):
                yield self._hinted(places[start : start + size], paths, hints, batch, stop)

    def _plain(self, keyed: list[tuple[_Key, int]], batch: Batch, stop: Stop | None) -> Group:
        """Each constraint alone, for domains listed with their case and disjuncts."""
        chosen = np.array([place for _, place in keyed], dtype=np.int64)
        whole = np.array_equal(chosen, np.arange(len(batch.empty)))
        sub = batch if whole else batch.pick(chosen)
        runs = [
            (self._template(*key), len(list(run))) for key, run in groupby(keyed, itemgetter(0))
        ]
        rows = [_repeated(template, times) for template, times in runs]
        return Group(
            chosen,
            sub,
            _stacked(rows, [times for _, times in runs]),
            np.concatenate([np.tile(t.disjunct, times) for t, times in runs]),
            np.concatenate([np.tile(t.strict, times) for t, times in runs]),
            Relaxations(self._frame, sub),
            stop,
        )

    def _hinted(
        self,
        places: list[int],
        paths: Sequence[Path],
        hints: Sequence[Substitution | None],
        batch: Batch,
        stop: Stop | None,
    ) -> Group:
        forms: list[Form] = []
        owner: list[int] = []
        disjunct: list[int] = []
        used = [own for p in places if (own := hints[p]) is not None]
        for position, (place, own) in enumerate(zip(places, used, strict=True)):
            path = paths[place]
            facts = self._facts.added(path, batch.bounds, place, own)
            for number in path.disjuncts:
                for form in self._facts.combinations(path.case, number, own.weights):
                    both = [(ONE, form), (ONE, facts)]
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
        found = self._templates.get((case, disjuncts))
        if found is None:
            if len(self._templates) >= TEMPLATES:
                self._templates.clear()
            numbered = [(d, form) for d in disjuncts for form in self._facts.constraints(case, d)]
            forms = [form for _, form in numbered]
            rows = self._facts.rows(forms, np.zeros(len(forms), dtype=np.int64))
            found = self._templates[case, disjuncts] = _Template(
                rows.constant,
                dict(rows.entries),
                np.array([d for d, _ in numbered], dtype=np.int64),
                np.array([form.strict for form in forms], dtype=bool),
            )
        return found


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
        self, paths: Sequence[Path], hints: Sequence[Substitution | None], batch: Batch
    ) -> Iterator[tuple[int, float | None, str | None]]:
        """Try to refute every remaining disjunct of the domains that are not empty.

        Yields:
            Position, shortfall and why it does not close; ``None``, ``None`` where it does.
        """
        for group in self._unsafe.groups(paths, hints, batch):
            found = substitute(
                self._frame, group.batch, group.relaxations, group.rows, group.stop, self._tick
            )
            order = np.argsort(group.rows.owner, kind="stable")
            ends = np.searchsorted(group.rows.owner[order], np.arange(len(group.places) + 1))
            for position, place in enumerate(group.places.tolist()):
                own = order[ends[position] : ends[position + 1]]
                judged = self._judge(
                    paths[place].disjuncts, found[own], group.disjunct[own], group.strict[own]
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


def _parcels(
    listed: list[tuple[_Key, int]], sizes: list[int], most: int | None
) -> Iterator[list[tuple[_Key, int]]]:
    """Consecutive parts of a list whose sizes add up to at most ``most``, or are single."""
    start, total = 0, 0
    for end, size in enumerate(sizes):
        if most is not None and end > start and total + size > most:
            yield listed[start:end]
            start, total = end, 0
        total += size
    if listed[start:]:
        yield listed[start:]


def _stacked(parts: Sequence[Rows], domains: Sequence[int]) -> Rows:
    """Rows of different domains one after the other; ``domains``: how many each part has."""
    if len(parts) == 1:
        return parts[0]
    row = np.cumsum([0, *(part.owner.size for part in parts)])
    owner = np.cumsum([0, *domains])
    entries = {}
    for tensor in sorted({t for part in parts for t in part.entries}):
        held = [(k, part.entries[tensor]) for k, part in enumerate(parts) if tensor in part.entries]
        entries[tensor] = (
            np.concatenate([place[0] + row[k] for k, place in held]),
            np.concatenate([place[1] for _, place in held]),
            np.concatenate([place[2] for _, place in held]),
        )
    return Rows(
        np.concatenate([part.owner + owner[k] for k, part in enumerate(parts)]),
        np.concatenate([part.constant for part in parts]),
        entries,
    )


def _repeated(template: _Template, times: int) -> Rows:
    """The template's rows for each of several domains."""
    count = template.disjunct.size
    if times == 1:
        return Rows(np.zeros(count, dtype=np.int64), template.constant, template.entries)
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
