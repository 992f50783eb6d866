"""Where tasks of a configuration are done by other processes than the one that concludes.

Tasks go by their digests: each process reads the configuration itself, and results go through
the store.  So a process may end at any time; what it had finished is there, and what it had not
is done by another.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from specs.errors import InputError
from verifier.certify.config import load_config
from verifier.certify.section import Task
from verifier.certify.store import Store
from verifier.progress import Progress

ATTEMPTS = 3
"""How often a task is begun whose process ends before it does."""


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
    """

    def __init__(self, config: Path, out: Path) -> None:
        self._store = Store(out)
        answers = load_config(config).answers
        self._tasks: dict[str, Task] = {
            task.digest: task for own in answers.values() for each in own for task in each.tasks()
        }

    def do(self, digest: str) -> None:
        """Do a task, unless its result is there already.

        Raises:
            InputError: the configuration, or what it names, has no such task any more.
        """
        task = self._tasks.get(digest)
        if task is None:
            raise InputError(
                "the configuration, a model or a data set has changed while tasks were done; "
                "run farkas certify again"
            )
        if self._store.load(task) is None:
            place = self._store.place(task, Progress(enabled=False))
            self._store.save(task, task.run(place))


def alone(threads: int) -> None:
    """Before anything is imported: how many threads the libraries of this process may start."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    importlib.import_module("verifier.threads").settle()
