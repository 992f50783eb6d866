"""Worker processes on one machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from specs.errors import FarkasError, InputError
from verifier.certify.divided import Dividing
from verifier.certify.workbench import ATTEMPTS, SPLIT_AFTER, Agenda, Workbench, alone
from verifier.memory import ran_out

RETIRE = 1.5e9
"""Bytes; a process that holds more than its first task left it with, and this, is replaced."""


class Processes:
    """Some processes; each does one task at a time.

    Args:
        config: the file of the configuration.
        out: the folder of results.
        count: how many.
        after: seconds of branch and bound after which a question is divided among them.
    """

    def __init__(self, config: Path, out: Path, count: int, after: float = SPLIT_AFTER) -> None:
        self._arguments = (config.resolve(), out.resolve(), Dividing(after, count))
        self._count = count
        self._crew: dict[Connection, _Process] = {}

    @property
    def pids(self) -> list[int]:
        """Of the processes there are."""
        return [each.pid for each in self._crew.values()]

    def run(self, digests: Iterable[str]) -> Iterator[str]:
        """See :class:`verifier.certify.workbench.Crew`."""
        agenda = Agenda(digests)
        begun: dict[str, int] = {}
        self._hand_out(agenda, begun)
        while busy := [pipe for pipe, each in self._crew.items() if each.digest]:
            for pipe in wait(busy):
                if not isinstance(pipe, Connection):
                    continue
                process = self._crew[pipe]
                digest = process.digest
                try:
                    fault, portions, size = pipe.recv()
                except (EOFError, OSError):
                    process.close()
                    del self._crew[pipe]
                    if begun[digest] >= ATTEMPTS:
                        code = process.exit_code
                        raise FarkasError(
                            f"a worker process ended {ATTEMPTS} times while it did the same task "
                            f"(exit status {code}; -9 is often a lack of memory)"
                        ) from None
                    agenda.again(digest)
                    continue
                process.digest = ""
                del begun[digest]
                if fault is not None:
                    raise fault
                if agenda.ended(digest, portions):
                    yield digest
                if process.grown(size):
                    process.close()
                    del self._crew[pipe]
            self._hand_out(agenda, begun)

    def close(self) -> None:
        """End the processes, whatever they do."""
        for each in self._crew.values():
            each.close()
        self._crew.clear()

    def _hand_out(self, agenda: Agenda, begun: dict[str, int]) -> None:
        idle = [each for each in self._crew.values() if not each.digest]
        while idle or len(self._crew) < self._count:
            digest = agenda.take()
            if digest is None:
                return
            if idle:
                process = idle.pop()
            else:
                process = _Process(self._arguments, self._count)
                self._crew[process.pipe] = process
            begun[digest] = begun.get(digest, 0) + 1
            process.begin(digest)


class _Process:
    """One of them.

    Attributes:
        pipe: to it.
        digest: of the task that it does; empty: none.
    """

    def __init__(self, arguments: tuple[Path, Path, Dividing], count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.digest = ""
        self._size: int | None = None
        threads = max(1, len(os.sched_getaffinity(0)) // count)
        given = (theirs, threads, *arguments)
        self._process = context.Process(target=_serve, args=given, daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid or 0

    @property
    def exit_code(self) -> int | None:
        """Of one that has ended."""
        return self._process.exitcode

    def begin(self, digest: str) -> None:
        """Have a task done."""
        self.digest = digest
        with suppress(OSError):  # it has ended; whoever waits for an answer finds out
            self.pipe.send(digest)

    def grown(self, size: int) -> bool:
        """Whether it holds far more memory than after its first task."""
        if self._size is None:
            self._size = size
        return size > self._size + RETIRE

    def close(self) -> None:
        """End it."""
        self.pipe.close()
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, threads: int, config: Path, out: Path, dividing: Dividing) -> None:
    """The main loop: digests in; faults or nothing, portions, and bytes that are held, out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks ends this one
    alone(threads)
    tasks: SimpleQueue[str] = SimpleQueue()
    Thread(target=_receive, args=(pipe, tasks), daemon=True).start()
    bench: Workbench | None = None
    while True:
        digest = tasks.get()
        fault: FarkasError | None = None
        portions: tuple[str, ...] = ()
        try:
            bench = Workbench(config, out, dividing) if bench is None else bench
            portions = bench.do(digest)
        except InputError as error:
            fault = InputError(str(error))
        except FarkasError as error:
            fault = FarkasError(str(error))
        except Exception as error:
            fault = FarkasError(f"internal error ({type(error).__name__}: {error})")
            if ran_out(error):
                fault = FarkasError("a worker process ran out of memory")
        pipe.send((fault, portions, resident()))


def _receive(pipe: Connection, tasks: SimpleQueue[str]) -> None:
    while True:
        try:
            tasks.put(pipe.recv())
        except (EOFError, OSError):
            os._exit(0)  # who asks has ended, however that came


def resident(pid: int | None = None) -> int:
    """Bytes of memory that a process holds; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid or 'self'}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[1]) * int(os.sysconf("SC_PAGE_SIZE"))
