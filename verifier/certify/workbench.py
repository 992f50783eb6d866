"""Where tasks of a configuration are done by other processes than the one that concludes.

Tasks go by their digests: each process reads the configuration itself, and results go through
the store.  So a process may end at any time; what it had finished is there, and what it had not
is done by another.
"""

from __future__ import annotations

import importlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from specs.errors import InputError
from verifier.certify.config import load_config
from verifier.certify.divided import Dividing, NotYetError, do_portion
from verifier.certify.section import Task
from verifier.certify.store import Store
from verifier.progress import Progress

ATTEMPTS = 3
"""How often a task is begun whose process ends before it does."""

SPLIT_AFTER = 5.0
"""Seconds of branch and bound after which a question is divided."""


class Crew(Protocol):
    """Other processes."""

    def run(self, digests: Iterable[str]) -> Iterator[str]:
        """Have tasks done; gives the digest of each as soon as its result is in the store.

        Raises:
            FarkasError: a task failed, or ends its process again and again.
        """
        ...

    def close(self) -> None:
        """End the processes."""
        ...


class Workbench:
    """Does tasks of a configuration.

    Args:
        config: the file.
        out: the folder of results.
        dividing: when hard questions are divided; ``None``: they are not.
    """

    def __init__(self, config: Path, out: Path, dividing: Dividing | None = None) -> None:
        self._store, self._dividing = Store(out), dividing
        answers = load_config(config).answers
        self._tasks: dict[str, Task] = {
            task.digest: task for own in answers.values() for each in own for task in each.tasks()
        }

    def do(self, digest: str) -> tuple[str, ...]:
        """Do a task or a portion, unless its result is there already.

        Returns:
            The portions that have to be done before the task is begun again; none: it is done.

        Raises:
            InputError: the configuration, or what it names, has no such task any more.
        """
        if "/" in digest:
            do_portion(digest, self._store.evidence, self._store.folder / "scratch")
            return ()
        task = self._tasks.get(digest)
        if task is None:
            raise InputError(
                "the configuration, a model or a data set has changed while tasks were done; "
                "run farkas certify again"
            )
        if self._store.load(task) is None:
            place = self._store.place(task, Progress(enabled=False))
            try:
                record = task.run(replace(place, dividing=self._dividing))
            except NotYetError as later:
                return later.portions
            self._store.save(task, record)
        return ()


class Agenda:
    """What processes are to begin: tasks, and before them the portions that tasks wait for.

    Args:
        digests: of the tasks.
    """

    def __init__(self, digests: Iterable[str]) -> None:
        self._later = iter(digests)
        self._now: deque[str] = deque()
        self._left: dict[str, int] = {}
        self._owner: dict[str, str] = {}

    def take(self) -> str | None:
        """What to begin; ``None``: nothing at the moment."""
        return self._now.popleft() if self._now else next(self._later, None)

    def again(self, digest: str) -> None:
        """Have something begun again whose process has ended."""
        self._now.appendleft(digest)

    def ended(self, digest: str, portions: Sequence[str]) -> bool:
        """Note that something has ended; whether it is a task, with its result.

        Args:
            digest: of it.
            portions: as of :meth:`Workbench.do`.
        """
        if portions:
            self._left[digest] = len(portions)
            self._owner |= dict.fromkeys(portions, digest)
            self._now.extend(portions)
            return False
        owner = self._owner.pop(digest, None)
        if owner is None:
            return True
        self._left[owner] -= 1
        if not self._left[owner]:
            self._now.appendleft(owner)
        return False


def alone(threads: int) -> None:
    """Before anything is imported: how many threads the libraries of this process may start."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    importlib.import_module("verifier.threads").settle()
