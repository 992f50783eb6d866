"""Running a configuration: every task once, each result kept as soon as it is there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from verifier.certify.config import Config
from verifier.certify.section import (
    CONTRADICTED,
    PROVED,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Answer,
    Judged,
    Part,
    Record,
    Task,
)
from verifier.certify.store import Store
from verifier.progress import Progress

REPORTED = "reported"
"""The outcome where no threshold was stated."""

EXIT_CODES = {PROVED: 0, SUPPORTED: 0, REPORTED: 0, REFUTED: 1, CONTRADICTED: 1, UNDECIDED: 2}
WORST_FIRST = (REFUTED, CONTRADICTED, UNDECIDED, SUPPORTED, PROVED)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a configuration comes to.

    Attributes:
        title: of the configuration.
        parts: by section.
        done, found: tasks that were done now, and whose results were found.
        seconds: it took.
    """

    title: str
    parts: Mapping[str, Sequence[Part]]
    done: int
    found: int
    seconds: float

    @property
    def judged(self) -> tuple[Judged, ...]:
        """All thresholds."""
        return tuple(each for own in self.parts.values() for part in own for each in part.judged)

    @property
    def verdict(self) -> str:
        """``"proved"``: all thresholds are; ``"refuted"``: one is; otherwise ``"undecided"``.

        What was sampled is never called so: where such thresholds decide, ``"supported"`` or
        ``"contradicted"``.  ``"reported"``: there are none.
        """
        verdicts = {each.verdict for each in self.judged}
        if not verdicts:
            return REPORTED
        return next(v for v in WORST_FIRST if v in verdicts)


def certify(config: Config, store: Store, progress: Progress | None = None) -> Outcome:
    """Do what is not done yet, and conclude.

    Interrupted, it leaves the results that are there; the next run goes on from them.

    Raises:
        InputError: data and model do not fit.
    """
    start = time.perf_counter()
    run = _Run(store, progress or Progress(enabled=False))
    try:
        parts = {
            name: [run.part(answer) for answer in answers]
            for name, answers in config.answers.items()
        }
    finally:
        run.progress.clear()
    seconds = time.perf_counter() - start
    return Outcome(config.title, parts, run.done, run.found, seconds)


class _Run:
    def __init__(self, store: Store, progress: Progress) -> None:
        self.store = store
        self.progress = progress
        self.done = self.found = 0
        self._known: dict[str, Record] = {}

    def part(self, answer: Answer) -> Part:
        """What one answer comes to."""
        return answer.conclude([self._record(task) for task in answer.tasks()])

    def _record(self, task: Task) -> Record:
        known = self._known.get(task.digest)
        if known is not None:
            return known
        record = self.store.load(task)
        if record is None:
            self.progress.stage(task.name)
            record = task.run(self.store.place(task, self.progress))
            self.store.save(task, record)
            self.done += 1
        else:
            self.found += 1
        self._known[task.digest] = record
        return record
