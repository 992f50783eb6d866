"""Running a configuration: every task once, each result kept as soon as it is there."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specs.errors import FarkasError
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
    digest_of,
)
from verifier.certify.store import Store
from verifier.certify.workbench import Crew
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
        digest: of the tasks and all of their results; empty: not known.
    """

    title: str
    parts: Mapping[str, Sequence[Part]]
    done: int
    found: int
    seconds: float
    digest: str = ""

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


def certify(
    config: Config, store: Store, progress: Progress | None = None, crew: Crew | None = None
) -> Outcome:
    """Do what is not done yet, and conclude.

    Interrupted, it leaves the results that are there; the next run goes on from them.

    Args:
        config: what is asked.
        store: of results.
        progress: where to report.
        crew: other processes that do the tasks; ``None``: this one does.  It is closed.

    Raises:
        InputError: data and model do not fit.
    """
    start = time.perf_counter()
    run = _Run(store, progress or Progress(enabled=False))
    try:
        if crew is not None:
            run.ahead(crew, [each for own in config.answers.values() for each in own])
        parts = {
            name: [run.part(answer) for answer in answers]
            for name, answers in config.answers.items()
        }
    finally:
        run.progress.clear()
        if crew is not None:
            crew.close()
    store.tidy()
    seconds = time.perf_counter() - start
    return Outcome(config.title, parts, run.done, run.found, seconds, run.digest(config))


class _Run:
    def __init__(self, store: Store, progress: Progress) -> None:
        self.store = store
        self.progress = progress
        self.done = self.found = 0
        self._known: dict[str, Record] = {}

    def digest(self, config: Config) -> str:
        """Of all that the outcome follows from, but for the clock."""
        found = hashlib.sha256(config.setting.document.source.text.encode())
        for digest, record in sorted(self._known.items()):
            found.update(f"{digest} {json.dumps(record.values, sort_keys=True)}".encode())
            for name, array in sorted(record.arrays.items()):
                found.update(f" {name} {digest_of(array)}".encode())
        return found.hexdigest()

    def part(self, answer: Answer) -> Part:
        """What one answer comes to."""
        return answer.conclude([self._record(task) for task in answer.tasks()])

    def ahead(self, crew: Crew, answers: Sequence[Answer]) -> None:
        """Have all tasks done that are not yet.

        Raises:
            FarkasError: a task failed.
        """
        tasks = {task.digest: task for answer in answers for task in answer.tasks()}
        left = {}
        for digest, task in tasks.items():
            record = self.store.load(task)
            if record is None:
                left[digest] = task
            else:
                self._known[digest] = record
        self.found += len(tasks) - len(left)
        for count, digest in enumerate(crew.run(left) if left else (), start=1):
            record = self.store.load(left[digest])
            if record is None:
                raise FarkasError(
                    f"{left[digest].name}: it is done, but {self.store.folder} has no result of it"
                )
            self._known[digest] = record
            self.done += 1
            self.progress.count("tasks", count, len(left))

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
