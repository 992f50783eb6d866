"""Maps of single faults over a region: every memory cell benign, critical or undecided.

A cell is *critical* when its failure makes the property false at some input of the region: there
is a witness.  It is *benign* when a proof covers it.  All benign cells have one theorem and one
proof: that of the question whose ``except`` lists all others.  The search:

1. points of the region, at which the exact maps of :mod:`verifier.faults.maps` show critical cells;
2. words in groups, the channel of an operator's result each, that are bounded together; of every
   group, the cells that move least, as many as a bound allows (the larger the step, the worse);
3. runs of few words, and single words, where cells of a group are left open, likewise;
4. the kernel's check of what comes of it.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from proofs.check import Checked, check_proof
from proofs.draft import Node
from proofs.proof import Proof
from proofs.tables import Substitution
from proofs.tree import DeadlineError
from specs.enclosure import FloatArray
from specs.errors import InputError, QuestionError
from specs.faults.formats import BoolArray, IndexArray
from specs.faults.models import BitFlips, StuckAt
from specs.faults.struck import WordFaults
from specs.property import Property
from specs.query import Query
from verifier.faults.bounding import Kernel, Site
from verifier.faults.branching import channel_bounds
from verifier.faults.candidates import (
    BENIGN,
    CRITICAL,
    FARTHEST,
    NO_NUMBER,
    UNDECIDED,
    Candidates,
    candidates,
    spared,
)
from verifier.faults.closing import MARGIN, Closer
from verifier.faults.region_attack import Found, RegionAttack
from verifier.faults.written import Closing, Writer, one_case

TOGETHER = 256
"""Domains that are bounded at a time."""

RUN, RUN_ROUNDS = 16, 3
"""Words of a group that are bounded together once the whole group is not, and tries."""

ROUNDS = 6
"""Tries of how many cells of a group can be covered."""

CHECKS = 4
"""Checks of the proof, from which sites that fail are taken out."""


@dataclass(frozen=True)
class Settings:
    """How to search.

    Attributes:
        seconds: from the start; the check of the proof may take longer.
        rounds: tries of how many cells of a group, or of a word, a bound covers.
        words: how many single words are looked at, those with most cells left open; 0: none.
        points: how many points of the region are tried, beside its centre and worst points.
        seed: of random numbers.
    """

    seconds: float = math.inf
    rounds: int = ROUNDS
    words: int = 512
    points: int = 16
    seed: int = 0


@dataclass(frozen=True, eq=False)
class RegionMap:
    """What is known of every cell of a fault model over a region.

    Attributes:
        cells: by parameter; their ``state`` is one of those of ``candidates``.
        unchanged: how many cells of the model a fault does not change; they are benign.
        witnesses: of critical cells: by parameter, entry and bit, the input.
        query: the question whose faults are all benign ones; ``None``: nothing was proved.
        proof: of it, and ``checked``: what the kernel said.
        leaves: of the proof.
        seconds: by part of the work.
        reason: why nothing was proved.
    """

    cells: Mapping[str, Candidates]
    unchanged: int
    witnesses: Mapping[tuple[str, int, int], FloatArray]
    query: Query | None
    proof: Proof | None
    checked: Checked | None
    seconds: Mapping[str, float]
    reason: str = ""

    @property
    def totals(self) -> dict[str, int]:
        """How many cells are benign, critical, no number, undecided."""
        names = {BENIGN: "benign", CRITICAL: "critical", NO_NUMBER: "not a number"}
        found = dict.fromkeys(("cells", *names.values(), "undecided"), 0)
        for table in self.cells.values():
            found["cells"] += table.state.size
            for code, name in {**names, UNDECIDED: "undecided"}.items():
                found[name] += int(np.count_nonzero(table.state == code))
        found["cells"] += self.unchanged
        found["benign"] += self.unchanged if self.query is not None else 0
        found["undecided"] += self.unchanged if self.query is None else 0
        return found

    @property
    def decided(self) -> float:
        """The share of cells that are not undecided."""
        totals = self.totals
        return 1.0 - totals["undecided"] / max(1, totals["cells"])


@dataclass(eq=False)
class _Site:
    """A range of words, and how its domain is closed as far as that is known.

    Attributes:
        cells: ``(n,)`` numbers of its candidates, the least reach first.
        kept: how many of them are covered; ``low``, ``high``: between which the search is.
        hints: that close the domain with those ``kept``; ``None``: it was not closed.
        worth: margins without faults, and with those tried last.
    """

    site: Site
    cells: IndexArray
    high: int
    kept: int = 0
    hints: Sequence[Substitution | None] | None = None
    tried: int = 0
    margin: float = -math.inf


def map_region(
    faults: WordFaults,
    region: Property,
    settings: Settings | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> RegionMap:
    """Decide every single fault over a region, as far as possible.

    Args:
        faults: bit faults, of which single ones are looked at.
        region: one case, which says what must hold.
        settings: how to search.
        progress: called with what is done, how far it is, and of how much.

    Raises:
        InputError: the faults are of another kind, or the property has several cases.
    """
    return _Search(faults, region, settings or Settings(), progress).run()


class _Search:
    def __init__(
        self,
        faults: WordFaults,
        region: Property,
        settings: Settings,
        progress: Callable[[str, int, int], None],
    ) -> None:
        if not isinstance(faults.model, BitFlips | StuckAt) or faults.cells is None:
            raise InputError("maps of single faults are of bit_flips and stuck_at")
        if len(region.cases) != 1:
            raise InputError(f"a map is over one region, not over {len(region.cases)}")
        self._model = replace(faults.model, k=1, per_word=False)
        self._placed = faults.placed
        self._faults = WordFaults(faults.placed, self._model)
        self._region, self._settings, self._progress = region, settings, progress
        self._deadline = time.monotonic() + settings.seconds
        self._seconds: dict[str, float] = {}

    def run(self) -> RegionMap:
        """All of it."""
        query, found = self._query(self._faults), self._faults.cells
        assert found is not None
        self._words = sum(self._placed.parameters[n].size for n in self._faults.parameters)
        began = time.monotonic()
        self._closer = Closer(self._faults, self._region.cases[0], self._deadline)
        kernel = Kernel.of(query, 0, self._words, math.inf)  # short, and nothing goes without
        sizes = kernel.multipliers(kernel.intact([]))
        multipliers = {
            name: sizes[first : first + self._placed.parameters[name].size]
            for name, first in self._faults.first_words.items()
        }
        self._tables = candidates(self._faults, found, multipliers)
        self._near = np.concatenate([t.reach <= FARTHEST for t in self._tables.values()])
        if self._near.any():
            if not self._near.all():  # intervals of all faults would be too large to pay for
                kernel = Kernel.of(self._asked(self._all_near()), 0, self._words, math.inf)
            self._closer.prepare(kernel)
        self._unchanged = found.count - sum(t.state.size for t in self._tables.values())
        self._spent("intact", began)
        attack = RegionAttack(self._faults, self._region, self._settings.seed)
        began = time.monotonic()
        witnesses = self._attacked(attack)
        self._spent("attack", began)
        if self._closer.intact <= MARGIN:
            return self._result(witnesses, None, "the network without faults is not proved")
        began = time.monotonic()
        try:
            sites = self._grown(self._groups())
            self._spent("groups", began)
            began = time.monotonic()
            if self._settings.words:
                sites = self._run_by_run(sites)
                sites = self._parted(sites)
        except DeadlineError:
            sites = self._sites
        self._spent("words", began)
        began = time.monotonic()
        found_proof = self._proved(sites)
        self._spent("check", began)
        return self._result(witnesses, found_proof, "the kernel did not accept the proof")

    # The question for some cells.

    def _query(self, faults: WordFaults) -> Query:
        models = (self._placed.model,)
        return Query(faults.network, self._region, models, self._region.digest, (faults,))

    def _kernel(self, query: Query) -> Kernel:
        return Kernel.of(query, 0, self._words, self._deadline)

    def _asked(self, kept: Mapping[str, BoolArray]) -> Query:
        """The question about the cells kept.

        Raises:
            QuestionError: none is.
        """
        left = spared(self._tables, self._model.spared, kept)
        return self._query(WordFaults(self._placed, replace(self._model, spared=left)))

    def _kept(self, sites: Sequence[_Site], tried: bool) -> dict[str, BoolArray]:
        """By parameter, which cells are covered by sites, or are to be tried."""
        every = np.zeros(self._cell_count, dtype=np.bool_)
        for site in sites:
            every[site.cells[: site.tried if tried else site.kept]] = True
        found, start = {}, 0
        for name, table in self._tables.items():
            found[name] = every[start : start + table.state.size]
            start += table.state.size
        return found

    def _all_near(self) -> dict[str, BoolArray]:
        """By parameter, which cells move what can be bounded at all."""
        ends = np.cumsum([table.state.size for table in self._tables.values()])
        return dict(zip(self._tables, np.split(self._near, ends[:-1]), strict=True))

    @property
    def _cell_count(self) -> int:
        return sum(table.state.size for table in self._tables.values())

    # Groups and words.

    def _groups(self) -> list[_Site]:
        """Runs of words of one channel, with their open cells."""
        bounds = channel_bounds(self._faults, self._words)
        return self._made([(a, b) for a, b in itertools.pairwise(bounds) if a < b])

    def _made(self, ranges: Sequence[Site]) -> list[_Site]:
        """Sites with their candidates that are neither critical nor no numbers."""
        words = np.concatenate([table.words for table in self._tables.values()])
        reach = np.concatenate([table.reach for table in self._tables.values()])
        state = np.concatenate([table.state for table in self._tables.values()])
        open_ = np.flatnonzero((state == UNDECIDED) & self._near)
        order = open_[np.lexsort((open_, reach[open_]))]
        starts = np.array([first for first, _ in ranges])
        where = np.searchsorted(starts, words[order], side="right") - 1
        by = np.argsort(where, kind="stable")
        ends = np.searchsorted(where[by], np.arange(len(ranges) + 1))
        self._reach = reach
        return [
            _Site(site, order[by[ends[k] : ends[k + 1]]], int(ends[k + 1] - ends[k]))
            for k, site in enumerate(ranges)
        ]

    def _grown(self, sites: list[_Site]) -> list[_Site]:
        """Cover as many cells of each site as bounds allow."""
        self._sites = sites
        active = list(sites)
        for site in sites:
            site.tried = site.high
        for number in range(self._settings.rounds):
            self._progress(
                "groups" if len(sites[0].cells) > 8 else "words", number, self._settings.rounds
            )
            self._round(active)
            active = [site for site in active if self._next(site, number)]
            if not active:
                break
        return sites

    def _round(self, active: list[_Site]) -> None:
        """Bound sites with the cells that are to be tried."""
        filled = [site for site in active if site.tried]
        for site in active:
            if not site.tried:
                site.hints, site.kept, site.margin = self._closer.apart, 0, math.inf
        if not filled:
            return
        kernel = self._kernel(self._asked(self._kept(filled, tried=True)))
        for start in range(0, len(filled), TOGETHER):
            some = filled[start : start + TOGETHER]
            batch = kernel.bounds([site.site for site in some], self._closer.steps)
            margins, hints = self._closer.closed(kernel, batch)
            for site, margin, own in zip(some, margins, hints, strict=True):
                site.margin = float(margin)
                if margin > MARGIN:
                    site.kept, site.hints = site.tried, own

    def _next(self, site: _Site, number: int) -> bool:
        """How many cells to try next; whether there is anything to try."""
        if site.kept == site.high:
            return False
        if site.margin <= MARGIN:
            site.high = site.tried - 1
        low, high = site.kept, site.high
        if low >= high:
            return False
        site.tried = (low + high + 1) // 2
        return True

    def _run_by_run(self, sites: list[_Site]) -> list[_Site]:
        """Runs of few words of the groups that have open cells, each bounded alone."""
        words = np.concatenate([table.words for table in self._tables.values()])
        made: list[_Site] = []
        active: list[_Site] = []
        for site in sites:
            first, last = site.site
            if site.kept == site.cells.size or last - first <= RUN:
                made.append(site)
                continue
            covered = site.cells[: site.kept]
            for start in range(first, last, RUN):
                run = _between((start, min(last, start + RUN)), covered, words, site.hints)
                own = words[site.cells]
                run.cells = site.cells[(own >= run.site[0]) & (own < run.site[1])]
                run.high = run.tried = run.cells.size
                made.append(run)
                active += [run] if run.kept < run.high else []
        self._sites = made
        for number in range(RUN_ROUNDS):
            self._progress("runs", number, RUN_ROUNDS)
            self._round(active)
            active = [site for site in active if self._next(site, number)]
            if not active:
                break
        return made

    def _parted(self, sites: list[_Site]) -> list[_Site]:
        """Words that have open cells, alone; the words between them stay together."""
        words = np.concatenate([table.words for table in self._tables.values()])
        left = np.concatenate([words[:0], *(words[site.cells[site.kept :]] for site in sites)])
        open_, counts = np.unique(left, return_counts=True)
        some = set(open_[np.lexsort((open_, -counts))][: self._settings.words].tolist())
        made: list[_Site] = []
        alone: list[_Site] = []
        for site in sites:
            left = site.cells[site.kept :]
            if some.isdisjoint(words[left].tolist()):
                made.append(site)
                continue
            covered = site.cells[: site.kept]
            start = site.site[0]
            for word in sorted(some.intersection(words[left].tolist())):
                if start < word:
                    made.append(_between((start, word), covered, words, site.hints))
                own = site.cells[words[site.cells] == word]
                single = _Site((word, word + 1), own, own.size)
                # What the group's bound covers, the word's bound covers.
                single.kept = int(np.count_nonzero(words[covered] == word))
                single.hints = site.hints
                single.tried = own.size
                alone.append(single)
                made.append(single)
                start = word + 1
            if start < site.site[1]:
                made.append(_between((start, site.site[1]), covered, words, site.hints))
        self._sites = made
        active = alone
        for number in range(3):
            self._progress("words", number, 3)
            self._round(active)
            active = [site for site in active if self._next(site, number)]
            if not active:
                break
        return made

    # Attack, proof, result.

    def _attacked(self, attack: RegionAttack) -> dict[tuple[str, int, int], FloatArray]:
        points = attack.points(self._settings.points)
        witnesses: dict[tuple[str, int, int], FloatArray] = {}
        for found in attack.critical(self._tables, points):
            _note(self._tables, witnesses, found)
        return witnesses

    def _proved(self, sites: list[_Site]) -> tuple[Query, Proof, Checked] | None:
        """The question about all that is covered, and its proof; what fails is taken out."""
        for _ in range(CHECKS):
            for site in sites:
                if site.hints is None:
                    site.hints, site.kept = self._closer.apart, 0
            try:
                query = self._asked(self._kept(sites, tried=False))
            except QuestionError:
                return None
            kernel = self._kernel(query)
            writer = Writer(self._closer.steps, kernel.first, kernel.numbers)
            closings = [Closing(site.site, site.hints or ()) for site in sites]
            root, nodes = writer.single(closings)
            proof, listed = one_case(query, root)
            checked = check_proof(query, proof, processes=1)
            if checked.verdict == "valid unsat":
                return query, proof, checked
            failed = [listed[r.node] for r in checked.rejected if r.node is not None]
            if not failed:
                return None
            _taken_out(sites, nodes, failed)
        return None

    def _result(
        self,
        witnesses: Mapping[tuple[str, int, int], FloatArray],
        found: tuple[Query, Proof, Checked] | None,
        reason: str,
    ) -> RegionMap:
        query, proof, checked = found or (None, None, None)
        if found is not None:
            kept = self._kept(self._sites, tried=False)
            for name, table in self._tables.items():
                table.state[kept[name] & (table.state == UNDECIDED)] = BENIGN
        return RegionMap(
            self._tables,
            self._unchanged,
            witnesses,
            query,
            proof,
            checked,
            dict(self._seconds),
            "" if found is not None else reason,
        )

    def _spent(self, what: str, began: float) -> None:
        self._seconds[what] = self._seconds.get(what, 0.0) + time.monotonic() - began


def _between(
    site: Site,
    covered: IndexArray,
    words: IndexArray,
    hints: Sequence[Substitution | None] | None,
) -> _Site:
    """The words of a group between others, with what its bound covers."""
    own = covered[(words[covered] >= site[0]) & (words[covered] < site[1])]
    made = _Site(site, own, own.size)
    made.kept, made.hints = own.size, hints
    return made


def _taken_out(sites: Sequence[_Site], nodes: Sequence[Node], failed: Sequence[Node]) -> None:
    """Leave the cells of sites out whose leaves were rejected."""
    wrong = {id(node) for node in failed}
    for site, root in zip(sites, nodes, strict=True):
        if any(id(node) in wrong for node in root):
            site.kept, site.hints = 0, None


def _note(
    tables: Mapping[str, Candidates],
    witnesses: dict[tuple[str, int, int], FloatArray],
    found: Found,
) -> None:
    table = tables[found.tensor]
    table.state[found.cells] = CRITICAL
    for cell, point in zip(found.cells.tolist(), found.points, strict=True):
        entry, bit = int(table.faults.entry[cell]), int(table.faults.bit[cell])
        witnesses.setdefault((found.tensor, entry, bit), point)
