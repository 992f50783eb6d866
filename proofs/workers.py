"""Other processes that help with a check.

Each starts anew with what it is sent, as any program would that computes the same thing:
nothing is shared, and an answer that does not come is an error.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from specs.errors import FarkasError

if TYPE_CHECKING:
    from proofs.domain import Domains
    from proofs.tree import Found, Setting

START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from proofs.workers import serve; serve()"
)


def cpu_seconds() -> float:
    """Processor time of this process so far, and of those that it started and that ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def answers(setting: Setting, parcels: Sequence[list[Domains]], count: int) -> Iterator[Found]:
    """What walkers in ``count`` processes find below each parcel, in their order.

    Raises:
        FarkasError: a process ended early; or what it has raised itself.
        MemoryError: it ran short of memory.
    """
    sent = pickle.dumps(setting)
    started: list[subprocess.Popen[bytes]] = []
    idle: SimpleQueue[tuple[subprocess.Popen[bytes], bool]] = SimpleQueue()

    def ask(parcel: list[Domains]) -> Found:
        process, fresh = idle.get()
        try:
            if fresh:
                _send(process, sent)
            _send(process, pickle.dumps(parcel))
            answer = _answer(process)
        finally:  # whoever waits for it must see that it has ended
            idle.put((process, False))
        if isinstance(answer, Exception):
            raise answer
        return answer

    with ThreadPoolExecutor(count) as pool:
        try:
            for _ in range(count):
                started.append(_start())
                idle.put((started[-1], True))
            yield from pool.map(ask, parcels)
        finally:
            for process in started:
                process.kill()
                process.wait()


def _start() -> subprocess.Popen[bytes]:
    """A process that waits for a setting; what it prints goes to standard error."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", START, json.dumps(sys.path)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment)


def _send(process: subprocess.Popen[bytes], message: bytes) -> None:
    if process.stdin is None:
        raise FarkasError("a process that helps with a check cannot be reached")
    try:
        process.stdin.write(message)
        process.stdin.flush()
    except OSError as error:
        raise FarkasError("a process that helps with a check ended early") from error


def _answer(process: subprocess.Popen[bytes]) -> Found | Exception:
    if process.stdout is None:
        raise FarkasError("a process that helps with a check cannot be reached")
    try:
        answer: Found | Exception = pickle.load(process.stdout)
    except (EOFError, pickle.UnpicklingError) as error:
        raise FarkasError("a process that helps with a check ended early") from error
    return answer


def serve() -> None:
    """Answer parcels from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks ends this one
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    setting: Setting = pickle.load(source)
    with np.errstate(all="ignore"):
        walker = setting.walker()
        while True:
            try:
                parcel: list[Domains] = pickle.load(source)
            except EOFError:
                return
            answer: Found | Exception
            try:
                answer = walker.finish(parcel)
            except FarkasError as error:
                answer = error
            except MemoryError as error:
                answer = MemoryError(str(error))
            pickle.dump(answer, sink)
            sink.flush()
