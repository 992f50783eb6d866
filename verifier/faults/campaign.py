"""Campaigns of random injections: what cannot be proved, counted, with exact intervals.

One trial is one random pattern of faults and one test point, both drawn independently of all
other trials, so that the counts are binomial.  Trial ``i`` depends on the seed and on ``i``
alone: a campaign that was interrupted goes on where it stopped and ends with the same counts.
Every trial is decided like a map's faults: in float64 with a rigorous bound, then in rationals.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from proofs.format import replacing
from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.faults.formats import Words
from specs.faults.memory import Memory
from specs.faults.models import StuckAt
from specs.faults.placed import image
from specs.faults.sites import Cells, ones
from specs.linear import IndexArray
from specs.network import Linear
from verifier.faults.judge import Judge
from verifier.progress import Progress
from verifier.resumed import KeptError
from verifier.statistics.intervals import clopper_pearson

EVERY = 256
"""Trials between two writings of the file that a campaign is resumed from."""


@dataclass(frozen=True)
class Plan:
    """What is injected, and how often.

    Attributes:
        trials: how many.
        rate: every exposed cell fails with this probability, independently; or
        k: so many distinct cells fail, drawn uniformly.
        seed: of the random numbers.

    Raises:
        InputError: neither or both of rate and k are given, or one makes no sense.
    """

    trials: int
    rate: float | None = None
    k: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trials < 1 or self.seed < 0:
            raise InputError(f"{self.trials} trials with seed {self.seed}")
        if (self.rate is None) == (self.k is None):
            raise InputError("a campaign needs a bit error rate or a number of faults, not both")
        if self.rate is not None and not 0.0 <= self.rate <= 1.0:
            raise InputError(f"bit error rate {self.rate}")
        if self.k is not None and self.k < 1:
            raise InputError(f"{self.k} faults")


@dataclass(frozen=True)
class Outcomes:
    """Counts over the trials that were made.

    Attributes:
        trials: made so far.
        sdc: silent data corruption: the fault-free prediction no longer exceeds every other
            output.
        due: detectable: a stored word became Inf or NaN, or the network has no real value
            there; that the platform notices is an assumption.
        undecided: left open by enclosures; neither of these.
        correct: trials whose true label exceeds every other output; -1: no labels.
        clean: trials without any changed bit.
    """

    trials: int = 0
    sdc: int = 0
    due: int = 0
    undecided: int = 0
    correct: int = 0
    clean: int = 0

    def interval(self, what: str, confidence: float = 0.95) -> tuple[float, float]:
        """The exact interval of a share; undecided trials may or may not be of its kind.

        Args:
            what: ``"sdc"``, ``"due"`` or ``"correct"``.
            confidence: of the interval.

        Raises:
            ValueError: there is no such share, or it was not counted.
        """
        if what not in ("sdc", "due", "correct") or getattr(self, what) < 0:
            raise ValueError(f"no share '{what}' was counted")
        hits = getattr(self, what)
        more = self.undecided if what != "due" else 0
        lower = clopper_pearson(hits, self.trials, confidence)[0]
        return lower, clopper_pearson(min(hits + more, self.trials), self.trials, confidence)[1]


@dataclass(frozen=True, eq=False)
class Pattern:
    """The faults of one trial.

    Attributes:
        point: number of the test point.
        entries: by parameter, the entries with a changed word.
        words: their words.
    """

    point: int
    entries: Mapping[str, IndexArray]
    words: Mapping[str, Words]


@dataclass(eq=False)
class Campaign:
    """Random injections into a network at test points.

    Attributes:
        cells: which memory cells may fail, and how.
        plan: what is injected, and how often.
        points: ``(P, input_size)``.
        labels: ``(P,)`` the true labels, for accuracy; ``None``: not counted.
        file: where the counts are kept for resuming; ``None``: nowhere.
    """

    cells: Cells
    plan: Plan
    points: FloatArray
    labels: IndexArray | None = None
    file: Path | None = None
    progress: Progress = field(default_factory=lambda: Progress(enabled=False))

    def __post_init__(self) -> None:
        self.points = np.asarray(self.points, dtype=np.float64)
        if self.labels is not None:
            self.labels = np.asarray(self.labels, dtype=np.int64)
            size = self.memory.network.output_size
            if self.labels.shape != (len(self.points),) or not len(self.labels):
                raise InputError(f"{self.labels.shape} labels for {len(self.points)} points")
            if not 0 <= self.labels.min() <= self.labels.max() < size:
                raise InputError(f"labels outside 0 to {size - 1}")
        if (self.plan.k or 0) > self.cells.count:
            raise InputError(f"{self.plan.k} faults in {self.cells.count} cells")

    @property
    def memory(self) -> Memory:
        """The stored parameters."""
        return self.cells.memory

    @cached_property
    def judge(self) -> Judge:
        """The fault-free network at the points."""
        return Judge(self.memory, self.points)

    def run(self) -> Outcomes:
        """Make all trials that were not made yet.

        Raises:
            InputError: no prediction is certain at a point.
            KeptError: the file is damaged or of another campaign.
        """
        counted = self._resumed()
        for index in range(counted.trials, self.plan.trials):
            self.progress.count("injections", index, self.plan.trials)
            counted = self._after(counted, self.pattern(index))
            if (index + 1) % EVERY == 0:
                self._keep(counted)
        self._keep(counted)
        self.progress.clear()
        return counted

    def pattern(self, index: int) -> Pattern:
        """The faults and the point of a trial."""
        rng = np.random.default_rng((self.plan.seed, index))
        point = int(rng.integers(len(self.points)))
        count = self.cells.count
        rate, number = self.plan.rate, self.plan.k or 0
        if rate is not None:
            number = int(rng.binomial(count, rate))
        cells = rng.choice(count, size=number, replace=False, shuffle=False)
        reads = rng.integers(2, size=number)
        entries, words = {}, {}
        for name, (first, starts) in self._starts.items():
            own = (cells >= first) & (cells < first + starts[-1])
            if not own.any():
                continue
            entry = np.searchsorted(starts, cells[own] - first, side="right") - 1
            rank = cells[own] - first - starts[entry]
            bit = _bit_of(self.cells.exposed[name][entry], rank)
            stored = self.memory.stored[name].words
            after = self._struck(stored, entry, bit, reads[own])
            changed = np.unique(entry[after[entry] != stored[entry]])
            if changed.size:
                entries[name], words[name] = changed, after[changed]
        return Pattern(point, entries, words)

    def _struck(
        self,
        stored: Words,
        entry: IndexArray,
        bit: IndexArray,
        reads: IndexArray,
    ) -> Words:
        """The words of a parameter after some of its cells failed."""
        after, model = stored.copy(), self.cells.model
        place = np.uint32(1) << bit.astype(np.uint32)
        if not isinstance(model, StuckAt):
            np.bitwise_xor.at(after, entry, place)
            return after
        high = (
            reads.astype(np.bool_) if model.reads is None else np.full(bit.shape, model.reads == 1)
        )
        np.bitwise_or.at(after, entry[high], place[high])
        np.bitwise_and.at(after, entry[~high], ~place[~high])
        return after

    @cached_property
    def _starts(self) -> dict[str, tuple[int, IndexArray]]:
        """By parameter the number of its first cell, and how many lie before each word."""
        found, first = {}, 0
        for name, words in self.cells.exposed.items():
            starts = np.concatenate([[0], np.cumsum(ones(words))])
            found[name] = (first, starts)
            first += int(starts[-1])
        return found

    def _after(self, counted: Outcomes, pattern: Pattern) -> Outcomes:
        """The counts with one more trial."""
        label = int(self.judge.labels[pattern.point])
        truth = label if self.labels is None else int(self.labels[pattern.point])
        nodes = self._nodes(pattern)
        add = {"trials": 1, "clean": int(not pattern.entries)}
        if nodes is None:
            add["due"] = 1
        elif not nodes:
            add["correct"] = int(truth == label)
        else:
            tensors, point = self.judge.at(pattern.point), pattern.point
            kept = right = self.judge.verdict(tensors, nodes, point, label)
            if truth != label:
                right = self.judge.verdict(tensors, nodes, point, truth)
            add["sdc"] = int(kept is False)
            add["undecided"] = int(kept is None or right is None)
            add["correct"] = int(right is True)
        if self.labels is None:
            add["correct"] = -1 if counted.trials == 0 else 0
        return Outcomes(**{k: v + add.get(k, 0) for k, v in asdict(counted).items()})

    def _nodes(self, pattern: Pattern) -> dict[int, Linear] | None:
        """The nodes with other constants; ``None``: some word is no number there."""
        placed, changed = self.memory.placed, {}
        for name, entries in pattern.entries.items():
            value, number = self.memory.stored[name].decode(entries, pattern.words[name])
            if not np.all(number):
                return None
            if not all(np.all(image(place, value)[1]) for place in placed.of[name]):
                return None
            changed[name] = (entries, value)
        return placed.struck(self.memory.network, changed)

    @cached_property
    def _digest(self) -> str:
        parts = [self.cells.model.text, repr(asdict(self.plan) | {"trials": 0})]
        digest = hashlib.sha256("\n".join(parts).encode())
        for name, stored in self.memory.stored.items():
            digest.update(f"{name} {stored.format.text}".encode() + stored.words.tobytes())
        digest.update(self.memory.placed.model.content)
        digest.update(self.points.tobytes())
        digest.update(b"" if self.labels is None else self.labels.tobytes())
        return digest.hexdigest()

    def _resumed(self) -> Outcomes:
        if self.file is None or not self.file.exists():
            return Outcomes()
        try:
            kept = json.loads(self.file.read_text())
            counted = Outcomes(**{name: int(n) for name, n in kept["outcomes"].items()})
            digest = kept["campaign"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise KeptError(f"{self.file}: no file of a campaign ({error})") from None
        if digest != self._digest:
            raise KeptError(f"{self.file}: of another campaign; name another file")
        return counted

    def _keep(self, counted: Outcomes) -> None:
        if self.file is None:
            return
        text = json.dumps({"campaign": self._digest, "outcomes": asdict(counted)}, indent=1)
        with replacing(self.file) as stream:
            stream.write(text.encode())


def _bit_of(words: Words, rank: IndexArray) -> IndexArray:
    """The position of the set bit of each word that ``rank`` set bits lie below."""
    bits = (words[:, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    below = np.cumsum(bits, axis=1) - bits
    found: IndexArray = np.argmax((bits == 1) & (below == rank[:, None]), axis=1)
    return found
